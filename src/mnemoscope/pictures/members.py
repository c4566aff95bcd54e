"""Members of a tar file by its headers: where their bytes are, links as what they lead to, and what is neither."""

import os
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from mnemoscope.pictures.files import LARGEST
from mnemoscope.pictures.packed import TarBytes
from mnemoscope.pictures.picture import Unreadable

LINKS = 40  # one behind the other, as the system has it
Place = tuple[int, int]  # where a member's data begin, and how long they are


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a tar: its place, or why it has none."""

    name: str
    place: Place | None = None
    lacking: str | None = None  # it is not there
    refused: str | None = None  # it is nothing to be read


def members(tar: TarBytes) -> tuple[list[Member], str | None]:
    """Files of a tar in its order, hidden ones left out, and what is wrong with the tar, if anything is."""
    infos: list[tarfile.TarInfo] = []
    problem = None
    try:
        with tar.opened() as file:
            for member in _headers(file):
                infos.append(member)  # what was found before any damage is kept
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as e:
        problem = f"the tar file is damaged: {e}"
    problem = f"the tar file is damaged: {tar.problem}" if tar.problem else problem
    files = {posixpath.normpath(m.name): m for m in infos}
    kept = [m for m in infos if not m.isdir() and not _hidden(m.name)]
    kept = [m for m in kept if not (m.issym() and _is_folder(m, files))]
    return [_member(m, files) if m is files[posixpath.normpath(m.name)] else _replaced(m) for m in kept], problem


def read_place(tar: TarBytes, start: int, size: int) -> bytes:
    """Bytes of a tar from one place on; raises `Unreadable` where there are fewer, or too many."""
    if size > LARGEST:
        raise Unreadable(f"more than {LARGEST >> 20} MiB")
    with tar.opened() as file:
        file.seek(start)
        data = file.read(size)
    if len(data) < size:
        raise Unreadable("cut off by the end of its tar file")
    return data


def _headers(file: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    """All headers, of every tar where several stand one behind the other in a file."""
    is_more = True
    while is_more:
        start = file.tell()
        with tarfile.open(fileobj=file, mode="r:") as archive:
            yield from _onwards(archive)
            file.seek(archive.offset)
        is_more = _behind_zeros(file)
        if is_more and file.tell() == start:
            raise tarfile.ReadError("what stands at its end, or behind a damaged header, is no tar")


def _behind_zeros(file: IO[bytes]) -> bool:
    """Go on to the next block that is not empty; whether there is one."""
    while block := file.read(tarfile.BLOCKSIZE):
        if block.strip(b"\0"):
            file.seek(-len(block), os.SEEK_CUR)
            return True
    return False


def _onwards(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """All headers; one that leads backwards would be read for ever."""
    last = -1
    for member in archive:
        if member.offset <= last or member.size < 0:
            raise tarfile.ReadError("a header leads backwards")
        last = member.offset
        yield member


def _member(member: tarfile.TarInfo, files: dict[str, tarfile.TarInfo]) -> Member:
    name, at = member.name, member
    for _ in range(LINKS):
        if at.isfile():
            if at.sparse is not None:
                return Member(name, refused="a sparse file, which is not read from a tar")
            return Member(name, (at.offset_data, at.size))
        if not (at.issym() or at.islnk()):
            return Member(name, refused="not a regular file")
        target = _target(at)
        if target not in files:
            return Member(name, lacking=f"a link to {target[:200]!r}, which is not in its tar file")
        at = files[target]
    return Member(name, lacking="a link that leads to no file")


def _replaced(member: tarfile.TarInfo) -> Member:
    return Member(member.name, refused="another file of this name comes later in the tar and takes its place")


def _target(link: tarfile.TarInfo) -> str:
    """The name that a link leads to: a hard link from the top of the tar, a symbolic one from its own folder."""
    within = posixpath.dirname(link.name) if link.issym() else ""
    return posixpath.normpath(posixpath.join(within, link.linkname))


def _is_folder(link: tarfile.TarInfo, files: dict[str, tarfile.TarInfo]) -> bool:
    target = _target(link)
    return (target in files and files[target].isdir()) or any(name.startswith(target + "/") for name in files)


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts if part not in (".", ".."))
