"""JSON and its lines from files that anyone may have edited: understood within a budget, or refused in one sentence."""

import json
import stat
import sys
from pathlib import Path
from typing import Any

from mnemoscope.errors import UsageError

Json = dict[str, Any]  # a JSON object: what a file of a run holds, or will hold

MOST = 2**28  # bytes of one file that is read as a whole
ADVICE = "it was edited or damaged: put the file back, or give the command again with --overwrite or another --out."


def read_bytes(file: Path, most: int = MOST) -> bytes:
    """The bytes of a plain file; raises `UsageError` for what is none, such as a pipe or a device, and for too many.

    A file that is not there, or may not be read, raises `OSError`.
    """
    if not stat.S_ISREG(file.stat().st_mode):  # before it is opened: that of a pipe waits for its other end
        raise UsageError(f"{file} is no plain file but a folder, a pipe or a device; give a file.")
    with file.open("rb") as opened:
        held = opened.read(min(file.stat().st_size, most) + 1)  # memory is taken for as much as is asked for
    if len(held) > most:
        raise UsageError(f"{file} has more than {most:,} bytes, which no such file needs; give another.")
    return held


def parsed(text: str | bytes) -> Any:
    """A JSON value; NaN and infinities, which JSON has not, are null. Raises `ValueError` for anything else."""
    try:
        return json.loads(text, parse_constant=lambda name: None)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


class Malformed(Exception):
    """Bytes that are no JSON in UTF-8."""


def read_value(file: Path) -> Any:
    """The JSON value of a file; raises `Malformed` for what is none, and else as `read_bytes` does."""
    held = read_bytes(file)
    try:
        return parsed(held.decode("utf-8"))
    except ValueError as e:
        raise Malformed(reason(e)) from e


def read_json(file: Path) -> Json:
    """A JSON object; raises `UsageError` if there is none."""
    try:
        value = read_value(file)
    except (OSError, Malformed) as e:
        raise UsageError(f"{file} is not a readable JSON file: {reason(e)}; {ADVICE}") from e
    if not isinstance(value, dict):
        raise UsageError(f"{file} holds no JSON object; {ADVICE}")
    return value


def read_table(file: Path) -> list[Json]:
    """The objects of a file with one on each line; none where there is no file, a torn last line is left out.

    Raises `UsageError` for a line that is no object.
    """
    table = []
    for number, line in enumerate(lines(file), 1):
        try:
            value = parsed(line)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise UsageError(f"{file}, line {number} is no JSON object; {ADVICE}")
        table.append(value)
    return table


def lines(file: Path) -> list[str]:
    """The whole lines of a file; none where there is no file, and not what stands behind the last end of a line."""
    if not file.exists():
        return []
    held = read_bytes(file, 2**34).rpartition(b"\n")[0]
    return held.decode("utf-8", "replace").split("\n") if held else []


def is_torn(file: Path) -> bool:
    """Whether the last line of a file has no end, as a crash leaves it."""
    with file.open("rb") as opened:
        opened.seek(0, 2)
        if not opened.tell():
            return False
        opened.seek(-1, 2)
        return opened.read(1) != b"\n"


def reason(error: Exception) -> str:
    """Why a file could not be read, in one line without the file's name."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0][:200]


def is_number(value: object) -> bool:
    """Whether a value is a finite number that a float can hold, and no truth value."""
    largest = sys.float_info.max
    return isinstance(value, int | float) and not isinstance(value, bool) and -largest <= value <= largest
