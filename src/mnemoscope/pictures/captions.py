"""What files beside images say of them: captions JSON, JSONL and CSV, metadata of imagefolders, class labels."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from mnemoscope.errors import UsageError
from mnemoscope.pictures.columns import CAPTION_COLUMNS, find, short, storable, without_settings
from mnemoscope.pictures.decoding import Unreadable
from mnemoscope.pictures.names import SUFFIXES, suffix
from mnemoscope.pictures.parquet import read_whole
from mnemoscope.pictures.rows import SourceRow, csv_rows, decode, jsonl_rows, parsed
from mnemoscope.pictures.shapes import FILE_COLUMNS, KNOWN, rows_of, seen
from mnemoscope.run.reading import Json
from mnemoscope.run.rows import ReadRow

LABELS = "dataset.json"
FILES = ("captions.jsonl", "captions.json", "metadata.jsonl", "metadata.csv", LABELS)
NAMED = re.compile(
    r"(captions.*\.(jsonl?|ndjson|csv|tsv))|(metadata.*\.(jsonl|ndjson|csv|tsv|parquet))|captions\.txt|(meta_(cap|clean|lat)\w*|part-\d{6})\.json",
    re.I,
)
SAID_COLUMNS = ("url", "kind", "class", "label", "seed")
NUMBERED = 0x7FFFFFFF
COUNTER = re.compile(r"#\d+$")  # behind a name: image.jpg#0, image.jpg#1
Reader = Callable[[str], bytes]  # of a file, by its name


@dataclass(frozen=True, slots=True)
class Said:
    """What a source says of a picture."""

    captions: tuple[str, ...] = ()
    url: str | None = None
    kind: str | None = None
    label: bool | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """What a file of captions says, by the picture's name as the file spells it; `empty` rows have no text."""

    said: Mapping[str, Said] = field(default_factory=dict)
    empty: int = 0


def said_of(row: ReadRow, column: str | None = None) -> Said:
    """A picture's captions, address, kind, label and seed from the columns of these names, as far as they hold any."""
    captions = row.get(column or find(row, CAPTION_COLUMNS))
    texts = captions if isinstance(captions, list | tuple) else [captions]
    named = (("url",), ("kind", "class"), ("label",), ("seed",))
    url, kind, label, seed = (row.get(find(row, names)) for names in named)
    return Said(
        tuple(dict.fromkeys(storable(told) for t in texts if isinstance(t, str) and (told := without_settings(t)))),
        storable(url) if isinstance(url, str) else None,
        storable(kind) if isinstance(kind, str) and kind else None,
        label if isinstance(label, bool) else None,
        seed if isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed <= NUMBERED else None,
    )


def merged(several: Iterable[Said]) -> Said:
    """All captions in order, each once; of the rest what is said first."""
    each_said = list(several)

    def first(name: str) -> Any:
        return next((value for said in each_said if (value := getattr(said, name)) is not None), None)

    captions = tuple(dict.fromkeys(text for said in each_said for text in said.captions))
    return Said(captions, *(first(f.name) for f in fields(Said) if f.name != "captions"))


def is_captions(name: str) -> bool:
    """Whether a file has the name of a file of captions; those that are called otherwise are given by name."""
    base = PurePosixPath(name).name.lower()
    return base in FILES or NAMED.fullmatch(base) is not None


def read_captions(
    name: str, data: bytes, column: str | None = None, numbered: Mapping[int, Sequence[str]] | None = None
) -> Told:
    """What a captions file says of pictures, all rows of one together.

    JSON is an object {name: caption or list of captions}, the `dataset.json` of class-conditional training
    ({"labels": [[name, label], ...]}), whose labels are captions as class-conditional models take them, COCO's images
    and annotations, or a list of objects. JSONL and tables have a row for each caption or picture, with its name as
    `file` or `file_name` and the caption under a usual name or `column`; a table without a header has both in this
    order. Where no column names a picture, `numbered`, pictures by the number in their names, says which are of a row,
    counted from 0. Raises `UsageError` for anything else.
    """
    try:
        rows = list(_json_rows(data, name) if suffix(name) == ".json" else _table_rows(data, name, column))
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise UsageError(f"{name} is no file of captions ({short(e)}); write {KNOWN}.") from e
    if numbered and rows and not any(find(row, FILE_COLUMNS) for _, row in rows):
        each = [
            (where, row, numbered.get(k, (where.removeprefix(f"{name}, "),))) for k, (where, row) in enumerate(rows)
        ]
        rows = [(where, {**row, "file": file}) for where, row, files in each for file in files]
    _require_captions(name, [row for _, row in rows], column)
    said: dict[str, list[Said]] = {}
    empty = 0
    for where, row in rows:
        found, spelled = said_of(row, column), row.get(find(row, FILE_COLUMNS))
        empty += not found.captions and (column or find(row, CAPTION_COLUMNS)) in row
        key = storable(spelled) if isinstance(spelled, str) and spelled.strip() else f"{where}: no name"
        said.setdefault(key, []).append(found)
    return Told({key: merged(several) for key, several in said.items()}, empty)


def told_by(reader: Reader) -> Reader:
    """The reader for files that say something of many pictures, none of which may be passed over."""

    def read(name: str) -> bytes:
        try:
            return reader(name)
        except (Unreadable, OSError) as e:
            raise UsageError(f"{name} cannot be read: {e}; mend or remove it.") from e

    return read


def _json_rows(data: bytes, name: str) -> Iterable[SourceRow]:
    document = parsed(decode(data, name), name)
    if isinstance(document, dict) and isinstance(document.get("labels", 0), list | None):
        return [(name, {"file": each, "caption": str(label)}) for each, label in document["labels"] or ()]
    rows = rows_of(document)
    is_plain = isinstance(document, dict) and not find(document, FILE_COLUMNS)
    if rows is None and is_plain and all(map(_is_text, document.values())):  # names without ending
        rows = [{"file": each, "caption": captions} for each, captions in document.items()]
    if rows is None and is_plain and all(isinstance(v, dict) and find(v, CAPTION_COLUMNS) for v in document.values()):
        rows = [{**value, "file": each} for each, value in document.items()]
    if rows is None and document:
        raise ValueError(f"it holds {seen(document)}")
    return [(f"{name}, item {k}", row) for k, row in enumerate(rows or (), 1)]


def _is_text(value: object) -> bool:
    return all(isinstance(each, str | None) for each in (value if isinstance(value, list) else [value]))


def _table_rows(data: bytes, name: str, column: str | None) -> Iterable[SourceRow]:
    if suffix(name) in (".jsonl", ".ndjson"):
        return list(jsonl_rows(data, name))
    if suffix(name) == ".parquet":
        table = read_whole(pa.BufferReader(data)).to_pylist()
        return [(f"{name}, row {k}", row) for k, row in enumerate(table, 1)]
    delimiters = "\t,;|" if suffix(name) in (".tsv", ".txt") else ",;\t|"
    wanted = (FILE_COLUMNS, (column.casefold(),) if column else CAPTION_COLUMNS)
    if first := _without_header(decode(data, name), delimiters):
        data = f"file{first}caption\n".encode() + data.removeprefix(b"\xef\xbb\xbf")
        plain = [(where, row) for where, row in csv_rows(data, name, first)]
        return [(where, {**row, "file": COUNTER.sub("", row["file"])}) for where, row in plain]
    return list(csv_rows(data, name, delimiters, wanted))


def _without_header(text: str, delimiters: str) -> str:
    """What stands between a picture's name and its caption in the first line, if these are there in place of titles."""
    line = text.lstrip().partition("\n")[0]
    for mark in delimiters:
        if suffix(COUNTER.sub("", line.partition(mark)[0].strip().strip('"'))) in SUFFIXES and mark in line:
            return mark
    return ""


def _require_captions(name: str, rows: list[Json], column: str | None) -> None:
    """Refuse rows that name no picture, and rows whose text is in a column that is not known to hold any."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    listed = short(", ".join(map(str, columns)))
    if not rows:
        return
    if not (file := find(columns, FILE_COLUMNS)):
        raise UsageError(f"{name} is no file of captions: no column names a picture (file_name) among {listed}.")
    if (column in columns) if column else find(columns, CAPTION_COLUMNS):
        return
    others = [c for c in columns if c != file and c.casefold() not in SAID_COLUMNS]
    is_named = others and PurePosixPath(name).name.casefold().startswith("captions")
    if (
        column
        or is_named
        or any(isinstance(row.get(c), str) and " " in row[c].strip() for c in others for row in rows[:100])
    ):
        wanted = column or f"caption ({', '.join(CAPTION_COLUMNS)})"
        raise UsageError(f"{name} has no column {wanted} among {listed}; name the one with captions by --column.")
