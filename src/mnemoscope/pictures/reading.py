"""Sources of pictures: which kind a name is of, its parts in order, and stretches of them."""

import glob
import os
import re
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

import pyarrow as pa

from mnemoscope.errors import UsageError
from mnemoscope.pictures import tables, trees
from mnemoscope.pictures.beside import SIDECARS
from mnemoscope.pictures.columns import short, storable
from mnemoscope.pictures.indexed import Origin, Origins, origins
from mnemoscope.pictures.names import SUFFIXES, natural, stem, suffix
from mnemoscope.pictures.packed import TARS, packing
from mnemoscope.pictures.picture import Picture
from mnemoscope.pictures.source import Broken, Joined, PicturePart, Source
from mnemoscope.pictures.tars import Tar
from mnemoscope.pictures.zips import Zip

ARCHIVES = (".tar", ".zip", ".parquet")
FILES = 10**6  # that a pattern may stand for


def read_pictures(
    source: str | Path, *, captions: Path | None = None, column: str | None = None, limit: int | None = None
) -> Iterator[Picture]:
    """The first `limit` pictures of a source with what it says of them, in its natural order, read one at a time.

    `source` is a folder of images (with texts of the same name, captions.jsonl, captions.json, metadata.jsonl or
    metadata.csv), several true images of each prompt (`NAME/NAME.jsonl` and `NAME/gt_images/INDEX/`), a run of
    `mnemoscope generate`, an index (the pictures that it was made of), a .zip, a webdataset .tar (packed or not), a
    .parquet with encoded images, a folder of such files, several by a pattern ("set/{00000..00099}.tar", "set/*.tar"),
    a folder saved by datasets, or `hub:owner/name[:split]`. `captions` is a further file of captions for a folder or a
    zip, `column` the column that has them where its name is not a usual one. What cannot be read is a picture too,
    whose `image` raises `Unreadable`. Raises `UsageError` for a source that is none.
    """
    return iter(open_source(source, captions=captions, column=column, limit=limit))


def open_source(
    source: str | Path, *, captions: Path | None = None, column: str | None = None, limit: int | None = None
) -> Source:
    """A source as `read_pictures` takes it, which can be counted and cut; raises what that raises."""
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit} and must be at least 1; leave it out to read all pictures.")
    if captions is not None and not captions.is_file():
        raise UsageError(f"There is no captions file {captions}; give a .json, .jsonl or .csv file.")
    try:
        parts = _parts(str(source), captions, column)
    except UsageError:
        raise
    except (OSError, ValueError) as e:  # a name that the system refuses, a folder above that may not be entered
        raise UsageError(f"{storable(str(source))} cannot be read: {short(e)}; give a source that can.") from e
    if not any(not isinstance(part, trees.Files) or len(part) for part in parts):
        raise UsageError(f"{source} holds no image; give a source with at least one.")
    if captions is not None and not all(isinstance(part, trees.Files | Broken) for part in parts):
        raise UsageError(f"{source} has captions of its own; a captions file goes with a folder of images or a zip.")
    return Source(str(source), parts, limit)


def _parts(name: str, captions: Path | None, column: str | None) -> list[PicturePart]:
    path = Path(name)
    if name.startswith("hub:") or any((path / mark).is_file() for mark in ("state.json", "dataset_dict.json")):
        return [tables.dataset(name, column)]
    if path.is_dir():
        return _folder(path, captions, column)
    if path.is_file():
        return [_file(path, path.name, captions, column)]
    named = (Path(f) for each in _braces(name) for f in (glob.glob(each) if glob.has_magic(each) else [each]))
    files = list(islice(named, FILES + 1))
    if len(files) > FILES:
        raise UsageError(f"{name} stands for more than {FILES:,} files; give a narrower pattern.")
    if not any(file.is_file() for file in files):
        raise UsageError(
            f"There is nothing at {name}; give a folder, a .zip, .tar or .parquet file, or hub:owner/name."
        )
    above = os.path.commonpath([file.parent for file in files])
    return [
        _file(file, file.relative_to(above).as_posix(), captions, column)
        for file in sorted(files, key=lambda file: natural(file.as_posix()))
    ]


def _folder(path: Path, captions: Path | None, column: str | None) -> list[PicturePart]:
    if (run := trees.run_of(path)) is not None:
        return [run]
    if (made := origins(path)) is not None:
        return _indexed(path, made)
    sizes, closed = trees.Folder(path).looked_at()
    broken = [Broken(storable(name), problem) for name, problem in sorted(closed.items())]
    folders = {PurePosixPath(name).parent.as_posix() for name in sizes}
    kinds: dict[str, list[str]] = {end: [n for n in sizes if archive(n) == end] for end in ARCHIVES}
    kinds[".parquet"] = [
        n
        for n in kinds[".parquet"]
        if not any(n[:-8] + end in sizes for end in TARS) and n[:-8] not in folders and tables.holds_images(path / n)
    ]
    kinds = {end: names for end, names in kinds.items() if names}
    has_images = any(suffix(n) in SUFFIXES for n in sizes)
    if len(kinds) + has_images > 1:
        held = " and ".join([*(["images"] if has_images else []), *(f"{end} files" for end in kinds)])
        raise UsageError(f"{path} holds {held}; name one kind of them, as in '{path}/*{next(iter(kinds))}'.")
    if has_images:
        return [trees.files_of(trees.Folder(path), sizes, captions, column), *broken]
    for names in kinds.values():
        return [*(_file(path / n, n, captions, column) for n in sorted(names, key=natural)), *broken]
    if broken:
        raise UsageError(f"{path} holds no image that can be read: {broken[0].name}: {broken[0].problem}.")
    raise UsageError(f"{path} holds no image, and no .tar, .zip or .parquet file with images; give a folder that does.")


def archive(name: str) -> str:
    """The kind of archive that a file is by its name, packed tars among the tars; empty for another file."""
    kind = ".tar" if packing(name) else suffix(name)
    return kind if kind in ARCHIVES else ""


def _indexed(path: Path, made: Origins) -> list[PicturePart]:
    """The pictures that an index was made of, but for those that were removed from it."""
    sources = [_as_it_was(path, each) for each in made.sources]
    one = sources[0] if len(sources) == 1 else Source(str(path), [Joined(source) for source in sources])
    if not made.removed and one.limit is None:
        return list(one.parts)
    return one.cut([place for place in range(len(one)) if place not in made.removed])


def _as_it_was(path: Path, made: Origin) -> Source:
    if Path(made.source, "meta.json").is_file():
        raise UsageError(f"{path} is an index of an index; give the pictures themselves.")
    opened = open_source(made.source, captions=made.captions, column=made.column, limit=made.limit)
    if opened.content != made.content:
        raise UsageError(f"{made.source} has changed since {path} was made of it; index it again, or give it itself.")
    return opened


def _file(path: Path, name: str, captions: Path | None, column: str | None) -> PicturePart:
    """A file that holds pictures, or is one."""
    kind = archive(path.name) or path.suffix.lower()
    if kind not in (*ARCHIVES, *SUFFIXES):
        raise UsageError(f"{path} is no image and no .zip, .tar or .parquet file; give one of these, or a folder.")
    if not path.is_file():
        return Broken(name, "the file is not there")
    try:
        if kind == ".zip":
            tree = Zip(path, name)
            return trees.files_of(tree, tree.sizes(), captions, column)
        if kind == ".parquet":
            return tables.Parquet.of(path, name, column)
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, pa.ArrowException, OSError) as e:
        return Broken(name, f"the {kind[1:]} file cannot be read: {short(e)}")
    return Tar(path, name, column) if kind == ".tar" else _one(path, column)


def _one(path: Path, column: str | None) -> PicturePart:
    texts = tuple(n for end in SIDECARS if os.path.isfile(path.with_name(n := stem(path.name) + end)))
    return trees.Files(trees.Folder(path.parent), [trees.Entry(path.name, texts=texts)], column=column)


def _braces(name: str) -> Iterator[str]:
    matched = re.search(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}", name)
    if not matched:
        yield name
        return
    low, high, listed = matched.groups()
    if not listed and len(high) > 9:
        raise UsageError(f"{name} stands for more than {FILES:,} files; give a narrower pattern.")
    values = listed.split(",") if listed else (str(n).zfill(len(low)) for n in range(int(low), int(high) + 1))
    for value in values:
        yield from _braces(name[: matched.start()] + value + name[matched.end() :])
