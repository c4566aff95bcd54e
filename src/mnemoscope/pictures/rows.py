"""Rows of text tables: CSV with any usual separator, JSON lines, plain lines; malformed ones are named by place."""

import codecs
import csv
import io
import json
import reprlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from mnemoscope.errors import UsageError
from mnemoscope.pictures.columns import CAPTION_COLUMNS, find, settings_lines, short
from mnemoscope.run.reading import Json

SourceRow = tuple[str, Json]  # where it was read ("a.csv, line 3"), its columns


def unreadable(where: str, problem: str) -> UsageError:
    """The error that says what is wrong where, on one line."""
    return UsageError(" ".join(f"{where}: {problem}.".splitlines()))


def decode(data: bytes, where: str) -> str:
    """The text of UTF-8 data; raises `UsageError` with the line of what is none."""
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problem = f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise unreadable(f"{where}, line {line}", problem) from None
    if (nul := text.find("\0")) >= 0:
        raise unreadable(f"{where}, line {text.count(chr(10), 0, nul) + 1}", "a NUL byte is not text; give a text file")
    return text


def lines(data: bytes, where: str) -> Iterator[tuple[int, str]]:
    """Lines with text, and their numbers."""
    for number, line in enumerate(io.StringIO(decode(data, where), newline=None), 1):
        if line.strip():
            yield number, line.strip()


def text_rows(data: bytes, where: str) -> Iterator[SourceRow]:
    """One prompt a line; lines of settings, as web interfaces write them beneath a prompt, are rows without one."""
    numbered = list(lines(data, where))
    settings = settings_lines(numbered)
    for number, line in numbered:
        if number in settings:
            yield f"{where}, line {number} (settings of a web interface)", {"prompt": None}
        else:
            yield f"{where}, line {number}", {"prompt": line}


def csv_rows(
    data: bytes, where: str, delimiters: str = ",;\t", wanted: Sequence[Sequence[str]] = (CAPTION_COLUMNS,)
) -> Iterator[SourceRow]:
    """Rows of a table; its separator is the one by which its header has most of the wanted columns, then most."""
    text = decode(data, where)
    delimiter = max(delimiters, key=lambda mark: _header_quality(text, mark, wanted))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        rows = (row for row in reader if row)
        header = distinct([name.strip() for name in next(rows, [])], where)
        for row in rows:
            here = f"{where}, line {reader.line_num}"
            if len(row) != len(header):
                problem = f"{len(row)} fields where the header has {len(header)}"
                raise unreadable(here, f"{problem}; quote the captions that contain {delimiter!r}")
            yield here, {name: value for name, value in zip(header, row, strict=True) if name}
    except csv.Error as error:
        raise unreadable(f"{where}, line {reader.line_num}", f"malformed table ({error}); check its quotes") from None


def _header_quality(text: str, delimiter: str, wanted: Sequence[Sequence[str]]) -> tuple[int, int]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next((row for row in reader if row), [])]
    except csv.Error:
        return 0, 0
    return sum(bool(find(header, names)) for names in wanted), len(header)


def distinct(names: list[str], where: str) -> list[str]:
    """Names of columns; raises `UsageError` where two are the same."""
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise unreadable(where, f"several columns are called {short(twice[0])!r}; rename all but one")
    return names


def jsonl_rows(data: bytes, where: str) -> Iterator[SourceRow]:
    """One row a line of JSON."""
    for number, line in lines(data, where):
        yield json_row(parsed(line, where, number), f"{where}, line {number}")


def parsed(text: str, where: str, line: int = 1) -> Any:
    """A value from JSON; raises `UsageError` with the line of what is malformed."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line, reason = line + error.lineno - 1, error.msg
    except RecursionError:
        reason = "nested too deeply"
    except ValueError:
        reason = "a number has too many digits"
    raise unreadable(f"{where}, line {line}", f"malformed JSON ({reason}); correct it")


def json_row(item: object, where: str) -> SourceRow:
    """An object as a row, a text as one with a prompt; raises `UsageError` for anything else."""
    if isinstance(item, dict):
        return where, item
    if isinstance(item, str):
        return where, {"prompt": item}
    raise unreadable(where, f"{reprlib.repr(item)} is neither a string nor an object; give one of them")
