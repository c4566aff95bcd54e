"""Whether what is read from a run is what was written: values checked against the types of `mnemoscope.rows`."""

from collections.abc import Callable
from functools import cache
from math import isfinite
from types import UnionType
from typing import Any, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from mnemoscope.run.reading import is_number
from mnemoscope.run.row_kinds import KINDS
from mnemoscope.run.rows import FILE, AnyRow, PromptRow, ReadRow

Fit = Callable[[Any], bool]
VERSION = 2  # of the files of a run, the newest that is read; raised where an older program would misread them
SINCE = {"detections": 2}  # kinds of run that older versions did not know


def version_of(command: str) -> int:
    """The version of the files of a command's runs: the first one that reads them."""
    return SINCE.get(command, 1)


def row_type(command: str) -> type:
    """The type of the rows of a command's runs."""
    return KINDS.get(command, AnyRow)


def misfit(row: Any, kind: type) -> str | None:
    """Why an object is no row of a kind, in a few words, or None. A failed row needs its prompt and no result."""
    if not isinstance(row, dict):
        return "it is no JSON object"
    is_failed = row.get("status") == "failed"
    if row.get("status") not in ("ok", "failed"):
        return f"its status is {_short(row.get('status'))}, not ok or failed"
    asked = PromptRow if "prompt" in getattr(kind, "__required_keys__", ()) else AnyRow
    return misfit_fields(row, asked if is_failed else kind)


def files_of(row: ReadRow, kind: type) -> list[str]:
    """The files of the run that a row names."""
    return [row[name] for name in _file_columns(kind) if isinstance(row.get(name), str)]


def misfit_fields(value: dict[str, Any], kind: type) -> str | None:
    """What is wrong with an object's fields, or None."""
    required: frozenset[str] = getattr(kind, "__required_keys__", frozenset())
    for name, fit in _fields(kind).items():
        if name not in value:
            if name in required:
                return f"it lacks {name}"
        elif not fit(value[name]):
            return f"its {name} is {_short(value[name])}"
    return None


def fits(value: Any, hint: Any) -> bool:
    """Whether a JSON value is of a type; numbers are finite, and a whole one counts as one with a fraction."""
    return _fit(hint)(value)


@cache
def _fields(kind: type) -> dict[str, Fit]:
    return {name: _fit(hint) for name, hint in get_type_hints(kind).items()}


@cache
def _fit(hint: Any) -> Fit:
    """What tells whether a value is of a type, made once a type: a run has many values, and lists of them."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda value: True
    if origin in (Union, UnionType):
        among = [_fit(each) for each in arguments]
        return lambda value: any(fit(value) for fit in among)
    if origin is list:
        of_item = _fit(arguments[0])
        return lambda value: isinstance(value, list) and all(map(of_item, value))
    if origin is dict:
        of_value = _fit(arguments[1])
        return lambda value: isinstance(value, dict) and all(map(of_value, value.values()))
    if is_typeddict(hint):
        return lambda value: isinstance(value, dict) and misfit_fields(value, hint) is None
    if hint is float:
        return lambda value: isfinite(value) if type(value) is float else is_number(value)
    if hint is int:
        return lambda value: isinstance(value, int) and is_number(value)
    return lambda value: isinstance(value, hint)


@cache
def _file_columns(kind: type) -> list[str]:
    hints = get_type_hints(kind, include_extras=True)
    bare = {k: get_args(v)[0] if get_origin(v) is NotRequired else v for k, v in hints.items()}
    return [name for name, hint in bare.items() if FILE in getattr(hint, "__metadata__", ())]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
