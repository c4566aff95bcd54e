"""What files beside images say of them: captions JSON, JSONL and CSV, metadata of imagefolders, class labels."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from mnemoscope.errors import UsageError
from mnemoscope.pictures.decoding import Unreadable
from mnemoscope.prompts.sources import CAPTION_COLUMNS, find, short

FILES = ("captions.jsonl", "captions.json", "metadata.jsonl", "metadata.csv", "dataset.json")
FILE_COLUMNS = ("file", "file_name", "filename", "image", "path")
NUMBERED = 0x7FFFFFFF
Reader = Callable[[str], bytes]  # of a file, by its name


@dataclass(frozen=True, slots=True)
class Said:
    """What a source says of a picture."""

    captions: tuple[str, ...] = ()
    url: str | None = None
    kind: str | None = None
    label: bool | None = None
    seed: int | None = None


def said_of(row: dict[str, Any], column: str | None = None) -> Said:
    """A picture's captions, address, kind, label and seed from the columns of these names, as far as they hold any."""
    captions = row.get(column or find(row, CAPTION_COLUMNS))
    texts = captions if isinstance(captions, list | tuple) else [captions]
    named = (("url",), ("kind", "class"), ("label",), ("seed",))
    url, kind, label, seed = (row.get(find(row, names)) for names in named)
    return Said(
        tuple(text.strip() for text in texts if isinstance(text, str) and text.strip()),
        url if isinstance(url, str) else None,
        kind if isinstance(kind, str) and kind else None,
        label if isinstance(label, bool) else None,
        seed if isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed <= NUMBERED else None,
    )


def read_captions(name: str, data: bytes, column: str | None = None) -> dict[str, Said]:
    """What a captions file says, by the picture's name as the file spells it.

    JSON is an object {name: caption or list of captions}, or the `dataset.json` of class-conditional training
    ({"labels": [[name, label], ...]}), whose labels are captions as class-conditional models take them. JSONL and CSV
    have a row for each picture, with its name as `file` or `file_name` and its caption under a usual name or `column`.
    Raises `UsageError` for anything else.
    """
    try:
        text = data.decode("utf-8-sig")
        if not name.lower().endswith(".json"):
            is_table = name.lower().endswith(".csv")
            rows = csv.DictReader(io.StringIO(text, newline=""), strict=True) if is_table else _json_lines(text)
            return {row[find(row, FILE_COLUMNS)]: said_of(row, column) for row in rows}
        held = json.loads(text)
        if set(held) == {"labels"}:
            return {each: Said((str(label),)) for each, label in held["labels"] or ()}
        return {each: said_of({"caption": captions}) for each, captions in held.items()}
    except (ValueError, KeyError, TypeError, AttributeError, csv.Error, RecursionError) as e:
        shape = "{path: [captions]}" if name.lower().endswith(".json") else "a file and a caption in each row"
        problem = short(f"{type(e).__name__}: {e}")
        raise UsageError(f"{name} is no file of captions ({problem}); write {shape}.") from e


def told_by(reader: Reader) -> Reader:
    """The reader for files that say something of many pictures, none of which may be passed over."""

    def read(name: str) -> bytes:
        try:
            return reader(name)
        except Unreadable as e:
            raise UsageError(f"{name} cannot be read: {e}; mend or remove it.") from e

    return read


def _json_lines(text: str) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in text.split("\n") if line.strip())


def fitted(said: dict[str, Said], names: Iterable[str], folder: str = "") -> dict[str, Said]:
    """What is said by the names that pictures have in their source.

    A file names pictures relative to the `folder` it lies in, or by a whole path of the machine where it was written,
    of which the longest end that is the name of a picture counts.
    """
    known = set(names)
    found = {}
    for spelled, each in said.items():
        parts = PurePosixPath(spelled.replace("\\", "/")).parts
        inside = PurePosixPath(folder, *(p for p in parts if p != ".")).as_posix()
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        if name := next((name for name in (inside, *ends) if name in known), None):
            found[name] = each
    return found
