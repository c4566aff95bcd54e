"""Pictures that are files of a folder or a zip: pairs with texts, captions files, runs of `mnemoscope generate`."""

import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from mnemoscope.errors import UsageError
from mnemoscope.pictures.captions import FILES, Reader, Said, fitted, read_captions, said_of, told_by
from mnemoscope.pictures.ground_truth import ground_truth
from mnemoscope.pictures.links import read_links
from mnemoscope.pictures.picture import LARGEST, Picture, Unreadable, missing
from mnemoscope.run.run import read_json, read_rows

SUFFIXES = tuple(".png .jpg .jpeg .jpe .jfif .webp .gif .bmp .tif .tiff .ppm .pgm .avif .jp2 .heic .heif .svg".split())


def natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """A key to sort names by, numbers in them by their value, however long they are."""
    texts = [part.lstrip("0") if k % 2 else part for k, part in enumerate(re.split(r"(\d+)", name))]
    return [(len(part) if k % 2 else 0, part) for k, part in enumerate(texts)], name


def suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


@dataclass(frozen=True)
class Folder:
    """Files below a folder; what begins with a dot is none of them."""

    path: Path

    @property
    def prefix(self) -> str:
        """What stands before a file's name in a picture's key."""
        return ""

    @property
    def root(self) -> str:
        return self.path.resolve().name

    def sizes(self) -> dict[str, int]:
        """Bytes of each file by its name; links to folders are followed, each folder once."""
        found: dict[str, int] = {}
        seen = set()
        for here, folders, files in os.walk(self.path, followlinks=True):
            place = os.stat(here)
            if (place.st_dev, place.st_ino) in seen:
                folders.clear()
                continue
            seen.add((place.st_dev, place.st_ino))
            folders[:] = sorted(f for f in folders if not f.startswith("."))
            for file in (Path(here, f) for f in files if not f.startswith(".")):
                found[file.relative_to(self.path).as_posix()] = file.stat().st_size if file.is_file() else -1
        return found

    def reader(self) -> Reader:
        return lambda name: _read_file(self.path / name)


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
        with zipfile.ZipFile(self.path) as archive:
            return {m.filename: m.file_size for m in archive.infolist() if not m.is_dir() and not _hidden(m.filename)}

    def reader(self) -> Reader:
        return partial(_read_member, zipfile.ZipFile(self.path))


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that is a picture: what is said of it, the text file that has its caption, or why it cannot be read."""

    name: str
    said: Said = Said()
    text: str | None = None
    lacking: str | None = None


@dataclass(frozen=True)
class Files:
    """Pictures of a tree that are files, in natural order."""

    tree: Folder | Zip
    entries: Sequence[Entry]
    sizes: Sequence[int] = ()  # of each file and its text, which with names and captions are what they are known by

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Picture]:
        reader = self.tree.reader()
        for entry in self.entries:
            said = entry.said
            if entry.text is not None and not said.captions:
                said = replace(said, captions=_text(reader, entry.text))
            read = missing(entry.lacking) if entry.lacking else partial(reader, entry.name)
            yield Picture(
                self.tree.prefix + entry.name, read, said.captions, said.url, said.kind, said.label, said.seed
            )

    def cut(self, places: Sequence[int]) -> "Files":
        return Files(self.tree, [self.entries[place] for place in places])

    def listing(self) -> list[str]:
        sizes = self.sizes or [0] * len(self.entries)
        return [f"{self.tree.prefix}{e.name} {size} {e.said}" for e, size in zip(self.entries, sizes, strict=True)]


def files_of(tree: Folder | Zip, sizes: dict[str, int], captions: Path | None, column: str | None) -> Files:
    """The images among the files of a tree, with what captions files and text files of the same name say of them."""
    images = [n for n in sizes if suffix(n) in SUFFIXES]
    links, dead = _links(tree, sizes, images) if isinstance(tree, Folder) else ({}, {})
    true, lost = ground_truth(told_by(tree.reader()), sizes, images, tree.root, column)
    dead |= lost
    names = sorted([*images, *dead], key=natural)
    said = links | true | _said(tree, sizes, names, captions, column)
    entries = [Entry(n, said.get(n, Said()), _beside(n, sizes), dead.get(n)) for n in names]
    return Files(tree, entries, [sizes.get(e.name, -1) + sizes.get(e.text or "", 0) for e in entries])


def run_of(folder: Path) -> Files | None:
    """The images of a run that drew some, with their prompts, seeds and labels; None for a folder that is no run."""
    if not (folder / "run.json").is_file() or "command" not in (info := read_json(folder / "run.json")):
        return None
    if info["command"] not in ("generate", "sweep"):
        parts = [name for name in ("generate", "mitigate") if (folder / name / "run.json").is_file()]
        instead = " or ".join(str(folder / name) for name in parts) or "a run of mnemoscope generate"
        raise UsageError(f"{folder} is a run of {info['command']}, which holds no images of its own; give {instead}.")
    rows = read_rows(folder)
    entries = [
        Entry(r.get("file") or f"images/{r['id']}.png", said_of(r), None, r.get("error") and f"not drawn: {r['error']}")
        for r in rows
    ]
    return Files(Folder(folder), entries)


def _links(tree: Folder, sizes: dict[str, int], images: list[str]) -> tuple[dict[str, Said], dict[str, str]]:
    """What img2dataset's table of a folder, `00000.parquet` beside `00000/`, says of its links; why some are dead."""
    said: dict[str, Said] = {}
    dead: dict[str, str] = {}
    stems = {PurePosixPath(n).with_suffix("").as_posix(): n for n in images}
    folders = {PurePosixPath(n).parent.as_posix() for n in images}
    for table in (n for n in sizes if suffix(n) == ".parquet" and n[:-8] in folders):
        for key, link in read_links(tree.path / table).items():
            name = stems.get(f"{table[:-8]}/{key}", f"{table[:-8]}/{key}.jpg")
            said[name] = link.said
            if name not in sizes:
                dead[name] = link.problem or "not in its folder"
    return said, dead


def _said(
    tree: Folder | Zip, sizes: dict[str, int], names: list[str], captions: Path | None, column: str | None
) -> dict[str, Said]:
    said: dict[str, Said] = {}
    reader = told_by(tree.reader())
    for file in sorted((n for n in sizes if PurePosixPath(n).name in FILES), key=natural):
        folder = PurePosixPath(file).parent.as_posix()
        said |= fitted(read_captions(file, reader(file), column), names, "" if folder == "." else folder)
    if captions is not None:
        given = read_captions(str(captions), told_by(lambda name: _read_file(Path(name)))(str(captions)), column)
        fit = fitted(given, names)
        if not fit:
            raise UsageError(f"{captions} names no picture of {tree.path}; write paths relative to it.")
        said |= fit
    return said


def _beside(name: str, sizes: dict[str, int]) -> str | None:
    """The text file of the same name, of which only the suffix differs."""
    stem = name.removesuffix(PurePosixPath(name).suffix)
    return next((stem + end for end in (".txt", ".caption") if stem + end in sizes), None)


def _text(reader: Reader, name: str) -> tuple[str, ...]:
    try:
        text = reader(name).decode("utf-8-sig", "replace").strip()
    except (Unreadable, OSError):
        return ()  # the picture itself has a row, which says that it has no caption
    return (text,) if text else ()


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(name).parts if part != "..")


def _read_file(file: Path) -> bytes:
    if not stat.S_ISREG(file.stat().st_mode):
        raise Unreadable("not a regular file")
    with file.open("rb") as f:
        return _limited(f.read(LARGEST + 1))


def _read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        with archive.open(name) as f:
            return _limited(f.read(LARGEST + 1))
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, KeyError) as e:
        raise Unreadable(f"damaged in its zip file ({type(e).__name__})") from e


def _limited(data: bytes) -> bytes:
    if len(data) > LARGEST:
        raise Unreadable(f"more than {LARGEST >> 20} MiB")
    return data
