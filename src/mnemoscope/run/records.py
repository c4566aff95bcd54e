"""What is read from a run's folder: its record and its rows, checked; and how two records differ."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, overload

from mnemoscope.errors import UsageError
from mnemoscope.run import schema
from mnemoscope.run.reading import ADVICE, Json, lines, parsed, read_json
from mnemoscope.run.rows import AnyRow, Kind, R


def read_record(folder: Path) -> Json:
    """What `run.json` says; raises `UsageError` where that is no record of a run, or of a newer program's."""
    record = read_json(folder / "run.json")
    if not (isinstance(record.get("command"), str) and isinstance(record.get("settings", {}), dict)):
        raise UsageError(f"{folder / 'run.json'} is no record of a run; {ADVICE}")
    version = record.get("schema", 1)
    if not isinstance(version, int) or version > schema.VERSION:
        raise UsageError(f"{folder} was written by a newer mnemoscope (schema {version}); install that to read it.")
    return record


@overload
def read_rows(folder: Path) -> list[AnyRow]: ...
@overload
def read_rows(folder: Path, kind: Kind[R]) -> list[R]: ...
def read_rows(folder: Path, kind: Kind[Any] = AnyRow) -> list[Any]:
    """Rows of a run, each checked by the type of its kind; a last line without its end, torn by a crash, is left out.

    `kind` is what the caller takes them for: the type of their command's rows, or one that it is a kind of. Raises
    `UsageError` for a line that is no row.
    """
    has_record = (folder / "run.json").is_file()
    return rows_of(folder, read_record(folder)["command"] if has_record else "", kind)


def rows_of(folder: Path, command: str, taken_for: Kind[R]) -> list[R]:
    """The rows of a run's folder, each checked against the type of the command that made it."""
    rows: list[R] = []
    kind = schema.row_type(command)
    for number, line in enumerate(lines(folder / "rows.jsonl"), 1):
        try:
            row = parsed(line)
            why = schema.misfit(row, kind)
        except ValueError:
            why = "it is no JSON"
        if why:
            raise UsageError(f"{folder / 'rows.jsonl'}, line {number} is no row ({why}); {ADVICE}")
        rows.append(cast(R, row))
    return rows


def refuse_infinite(value: Any, name: str = "") -> None:
    """Raise `UsageError` for a setting that is NaN or infinite: nothing compares with it, and JSON cannot hold it."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"The {name.replace('_', ' ') or 'setting'} is {value}; give a finite number.")
    if isinstance(value, Mapping):
        for key, each in value.items():
            refuse_infinite(each, str(key))
    elif isinstance(value, list | tuple):
        for each in value:
            refuse_infinite(each, name)


def differing(there: Any, here: Any, name: str = "") -> str:
    """The first setting that is not the same in two records, with both values; an empty text if all are the same."""
    if there == here:
        return ""
    if isinstance(there, dict) and isinstance(here, dict):
        deeper = (differing(there.get(k), here.get(k), f"{name}.{k}".lstrip(".")) for k in {**there, **here})
        return next(filter(None, deeper), "")
    return f"{name} {_short(there)} there, {_short(here)} here".lstrip()


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
