"""Files and folders written whole: after a kill or on a full disk there is the old one or the new one, never a half.

What a kill leaves beside a file has a name that begins with a dot and ends with `.partial`; the next session of the
run clears it away, and so does the next command that writes it.
"""

import csv
import errno
import glob
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import psutil

PARTIAL = ".partial"
OLD_NAMES = ("run.json.partial", "meta.json.partial", "build.json.partial")  # of earlier versions
Content = bytes | str | Callable[[IO[bytes]], object]


def write_whole(file: Path, content: Content) -> None:
    """Write a file from its bytes, its text, or a function that writes them; on the disk when this returns."""
    with whole(file) as partial, partial.open("wb") as opened:
        if callable(content):
            content(opened)
        else:
            opened.write(utf8(content) if isinstance(content, str) else content)


def write_csv(
    file: Path, columns: Sequence[str], rows: Iterable[Mapping[str, object]], *, end_of_line: str = "\n"
) -> None:
    """Write these columns of rows as comma-separated values; what a row lacks is empty."""
    with whole(file) as partial, partial.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, columns, extrasaction="ignore", lineterminator=end_of_line)
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def whole(place: Path) -> Iterator[Path]:
    """A path to write a file or a folder at, which takes `place` when the block ends well and goes when it does not."""
    partial = place.with_name(f".{place.name}.{os.getpid()}{PARTIAL}")
    remove(partial)
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        try:
            yield partial
        except Exception as e:
            if full := disk_error(e, place):
                raise full from e
            raise
        flush(partial)
        if partial.is_dir() and place.is_dir():
            retire(place)
        os.replace(partial, place)
        _flush_one(place.parent)
    finally:
        remove(partial)


def disk_error(error: Exception, place: Path) -> OSError | None:
    """What the disk said, where a library tells it in words of its own (safetensors: "... (os error 28)")."""
    matched = None if isinstance(error, OSError) else re.search(r"os error (\d+)\)", str(error))
    return OSError(int(matched[1]), os.strerror(int(matched[1])), str(place)) if matched else None


def retire(folder: Path) -> None:
    """Delete a folder so that no half of it is ever taken for the whole."""
    gone = folder.with_name(f".{folder.name}.old{PARTIAL}")
    remove(gone)
    os.replace(folder, gone)
    shutil.rmtree(gone)


def append_lines(file: Path, lines: list[str]) -> None:
    """Append whole lines, on the disk when this returns; a kill tears at most the last of them."""
    with file.open("ab") as opened:
        opened.write(utf8("".join(line + "\n" for line in lines)))
        opened.flush()
        os.fsync(opened.fileno())


def clean(folder: Path) -> None:
    """Delete what a kill left half written in a folder, and in its folders that are no runs of their own."""
    for here, folders, files in os.walk(folder):
        place = Path(here)
        for name in [n for n in (*folders, *files) if is_partial(n)]:
            remove(place / name)
        folders[:] = [n for n in folders if not is_partial(n) and not (place / n / "run.json").exists()]


def clean_beside(*places: Path) -> None:
    """Delete what a kill left of files and folders that are in no run; not what a living process is about to write."""
    for place in places:
        for left in place.parent.glob(f".{glob.escape(place.name)}.*{PARTIAL}"):
            process = left.name.removesuffix(PARTIAL).rpartition(".")[2]
            if not (process.isdecimal() and psutil.pid_exists(int(process[:9]))):
                remove(left)


def is_partial(name: str) -> bool:
    """Whether a file is one that was being written beside its place."""
    return name.startswith(".") and name.endswith(PARTIAL) or name in OLD_NAMES


def remove(path: Path) -> None:
    """Delete a file, or a folder with all that it holds, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Have the disk hold a file, or all files of a folder, before a name says that they are whole."""
    if not path.is_dir():
        _flush_one(path)
        return
    for here, _, files in os.walk(path):
        for name in files:
            _flush_one(Path(here) / name)
        _flush_one(Path(here))


def sha256_of(file: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    if file.exists() and not file.is_file():  # a pipe would be waited for, and a device has no end
        raise OSError(errno.EINVAL, "it is no plain file", str(file))
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def utf8(text: str) -> bytes:
    """Text in UTF-8, in which half a character, which UTF-8 cannot hold, is written as JSON's escape for it."""
    return text.encode("utf-8", "backslashreplace")


def _flush_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
