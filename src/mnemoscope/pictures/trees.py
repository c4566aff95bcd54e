"""Pictures that are files of a folder or a zip: pairs with texts, captions files, runs of `mnemoscope generate`."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from mnemoscope.errors import UsageError
from mnemoscope.pictures.beside import described
from mnemoscope.pictures.captions import Reader, Said, is_captions, said_of, told_by
from mnemoscope.pictures.columns import storable
from mnemoscope.pictures.files import read_file
from mnemoscope.pictures.ground_truth import ground_truth
from mnemoscope.pictures.links import read_links
from mnemoscope.pictures.names import SUFFIXES, labels, natural, suffix
from mnemoscope.pictures.picture import Picture, missing, unreadable
from mnemoscope.pictures.told import Read, beside, captions_files
from mnemoscope.pictures.zips import Zip
from mnemoscope.run.rows import ReadRow
from mnemoscope.run.run import read_json, read_rows

TABLES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".txt", ".caption")


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
        """Bytes of each file by its name, -1 for what is no regular file."""
        return self.looked_at()[0]

    def looked_at(self) -> tuple[dict[str, int], dict[str, str]]:
        """Bytes of each file, and why folders cannot be entered; links to folders are followed, each folder once."""
        sizes: dict[str, int] = {}
        closed: dict[str, str] = {}
        seen, waiting = set(), [""]
        while waiting:
            here = waiting.pop()
            try:
                place = os.stat(self.path / here)
                if (place.st_dev, place.st_ino) in seen:
                    continue
                seen.add((place.st_dev, place.st_ino))
                with os.scandir(self.path / here) as opened:
                    entries = sorted((e for e in opened if not e.name.startswith(".")), key=lambda e: e.name)
            except OSError as e:
                closed[here or "."] = f"the folder cannot be read: {e.strerror or e}"
                continue
            names = {f"{here}/{e.name}" if here else e.name: e for e in entries}
            within = [name for name, e in names.items() if _is_folder(e)]
            sizes |= {name: _size(e) for name, e in names.items() if name not in set(within)}
            waiting += reversed(within)
        return sizes, closed

    def reader(self) -> Reader:
        return lambda name: read_file(self.path / name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _size(entry: os.DirEntry[str]) -> int:
    try:
        status = entry.stat()
    except OSError:
        return -1
    return status.st_size if stat.S_ISREG(status.st_mode) else -1


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that is a picture: what is said of it, texts beside it, or why it is missing or must not be read."""

    name: str
    said: Said = Said()
    texts: tuple[str, ...] = ()
    lacking: str | None = None
    refused: str | None = None


@dataclass(frozen=True)
class Files:
    """Pictures of a tree that are files, in natural order.

    `unmatched` are names in files of captions, and texts, that fit no picture; `empty` counts rows without any text.
    """

    tree: Folder | Zip
    entries: Sequence[Entry]
    sizes: Sequence[int] = ()  # of each file and its texts, which with names and captions are what they are known by
    unmatched: tuple[str, ...] = ()
    empty: int = 0
    column: str | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Picture]:
        reader = self.tree.reader()
        for entry in self.entries:
            captions = described(reader, entry.texts, entry.said, self.column) if entry.texts else entry.said
            key = storable(self.tree.prefix + entry.name)
            yield Picture(
                key,
                _read_of(entry, reader),
                captions.captions,
                captions.url,
                captions.kind,
                captions.label,
                captions.seed,
            )

    def cut(self, places: Sequence[int]) -> "Files":
        return Files(self.tree, [self.entries[place] for place in places], column=self.column)

    def listing(self) -> list[str]:
        sizes = self.sizes or [0] * len(self.entries)
        return [f"{self.tree.prefix}{e.name} {size} {e.said}" for e, size in zip(self.entries, sizes, strict=True)]


def _read_of(entry: Entry, reader: Reader) -> Callable[[], bytes]:
    if entry.refused:
        return unreadable(entry.refused)
    return missing(entry.lacking) if entry.lacking else partial(reader, entry.name)


def files_of(tree: Folder | Zip, sizes: dict[str, int], captions: Path | None, column: str | None) -> Files:
    """The images among the files of a tree, with what captions files and texts of the same name say of them."""
    images = [n for n in sizes if suffix(n) in SUFFIXES]
    beside_others = labels(images)
    images = [n for n in images if n not in beside_others]
    links, dead = _links(tree, sizes, images) if isinstance(tree, Folder) else ({}, {})
    true, lost = ground_truth(told_by(tree.reader()), sizes, images, tree.root, column)
    dead |= lost
    names = sorted([*images, *dead], key=natural)
    read = Read.of(tree.reader(), captions_files(sizes), names, column)
    if captions is not None:
        read = read.with_given(captions, names, column, str(tree.path))
    told = links | true | read.said
    texts = beside(names, sizes)
    entries = [Entry(n, told.get(n, Said()), texts.get(n, ()), dead.get(n)) for n in names]
    used = {text for each in texts.values() for text in each}
    unmatched = (*read.unmatched, *_left(sizes, used, is_captioned=bool(used or told or captions)))
    whole = [sizes.get(e.name, -1) + sum(sizes[text] for text in e.texts) for e in entries]
    return Files(tree, entries, whole, unmatched, read.empty, column)


def _left(sizes: Iterable[str], used: set[str], *, is_captioned: bool) -> list[str]:
    """Texts of no picture; tables that may hold captions under another name where nothing else does."""
    endings = (".txt", ".caption") if used else () if is_captioned else TABLES
    return [n for n in sizes if suffix(n) in endings and n not in used and not is_captions(n)]


def run_of(folder: Path) -> Files | None:
    """The images of a run that drew some, with their prompts, seeds and labels; None for a folder that is no run."""
    if not (folder / "run.json").is_file() or "command" not in (info := read_json(folder / "run.json")):
        return None
    if info["command"] not in ("generate", "sweep"):
        parts = [name for name in ("generate", "mitigate") if (folder / name / "run.json").is_file()]
        instead = " or ".join(str(folder / name) for name in parts) or "a run of mnemoscope generate"
        raise UsageError(f"{folder} is a run of {info['command']}, which holds no images of its own; give {instead}.")
    rows = read_rows(folder)
    return Files(Folder(folder), [_drawn(row) for row in rows])


def _drawn(row: ReadRow) -> Entry:
    name = row.get("file") or f"images/{row['id']}.png"
    if not isinstance(name, str) or not is_inside(name):
        return Entry(str(row["id"]), said_of(row), refused="its row names a file outside of the run")
    lacking = f"not drawn: {row['error']}" if row.get("error") else None
    return Entry(name, said_of(row), lacking=lacking)


def is_inside(name: str) -> bool:
    """Whether a name that somebody wrote leads to a file below the folder that it is relative to."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return bool(parts) and not name.startswith(("/", "\\")) and ".." not in parts and ":" not in parts[0]


def _links(tree: Folder, sizes: dict[str, int], images: list[str]) -> tuple[dict[str, Said], dict[str, str]]:
    """What img2dataset's table of a folder, `00000.parquet` beside `00000/`, says of its links; why some are dead."""
    links: dict[str, Said] = {}
    dead: dict[str, str] = {}
    stems = {PurePosixPath(n).with_suffix("").as_posix(): n for n in images}
    folders = {PurePosixPath(n).parent.as_posix() for n in images}
    for table in (n for n in sizes if suffix(n) == ".parquet" and n[:-8] in folders):
        for key, link in read_links(tree.path / table).items():
            name = stems.get(f"{table[:-8]}/{key}", f"{table[:-8]}/{key}.jpg")
            links[name] = link.said
            if name not in sizes:
                dead[name] = link.problem or "not in its folder"
    return links, dead
