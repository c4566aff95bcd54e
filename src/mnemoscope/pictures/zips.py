"""Members of zip files, as many bytes as their size makes likely: no member is a bomb, a link is what it leads to."""

import posixpath
import stat
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mnemoscope.pictures.captions import Reader
from mnemoscope.pictures.files import LARGEST
from mnemoscope.pictures.picture import Missing, Unreadable

RATIO, ROOM = 100, 2**24  # bytes out for each byte in, and bytes that any member may have
LINKS = 8  # one behind the other
TARGET = 4096  # bytes of a link


@dataclass(frozen=True)
class Zip:
    """Members of a zip file; `name` is what the source calls it."""

    path: Path
    name: str

    @property
    def prefix(self) -> str:
        return self.name + ":"

    @property
    def root(self) -> str:
        return self.path.stem

    def sizes(self) -> dict[str, int]:
        """Bytes of each member by its name; raises `BadZipFile` for members that share bytes, as bombs have them."""
        with zipfile.ZipFile(self.path) as archive:
            members = archive.infolist()
        if sum(m.compress_size for m in members) > self.path.stat().st_size:
            raise zipfile.BadZipFile("its members lie over one another")
        return {m.filename: m.file_size for m in members if not m.is_dir() and not _hidden(m.filename)}

    def reader(self) -> Reader:
        return ZipReader(self.path)


class ZipReader:
    """The bytes of a member by its name; in another process the file is opened anew."""

    def __init__(self, path: Path) -> None:
        self.path, self._archive = path, zipfile.ZipFile(path)

    def __call__(self, name: str) -> bytes:
        return _read(self._archive, name)

    def __reduce__(self) -> "tuple[type[ZipReader], tuple[Path]]":
        return ZipReader, (self.path,)


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts if part not in (".", ".."))


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        for _ in range(LINKS):
            member = archive.getinfo(name)
            if not stat.S_ISLNK(member.external_attr >> 16):
                return _unpacked(archive, member)
            with archive.open(member) as f:
                target = f.read(TARGET).decode("utf-8", "replace")
            name = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
            if name not in archive.NameToInfo:
                raise Missing(f"a link to {target[:200]!r}, which is not in its zip file")
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, KeyError, ValueError) as e:
        raise Unreadable(f"damaged in its zip file ({type(e).__name__})") from e
    raise Unreadable("a link that leads to no file")


def _unpacked(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    most = min(LARGEST, ROOM + RATIO * member.compress_size)
    with archive.open(member) as f:
        data = f.read(most + 1)
    if len(data) > most:
        reason = f"more than {most >> 20} MiB"
        raise Unreadable(reason if most == LARGEST else f"{reason}, {RATIO} times what its zip file holds of it")
    return data
