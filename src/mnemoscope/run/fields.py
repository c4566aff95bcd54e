"""Options of a file as the dataclasses that take them: names, kinds of value and ranges checked, one sentence each."""

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from mnemoscope.errors import UsageError
from mnemoscope.run.settings import Settings

T = TypeVar("T")
PLAIN = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def made(kind: type[T], where: str, given: Mapping[str, Any], **more: Any) -> T:
    """A dataclass from what a file gives it; raises `UsageError` for unknown names and values of other kinds."""
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind) if field.name not in more]  # type: ignore[arg-type]
    known_in(where, given, names)
    values = {name: _value(f"{where}: {name}", value, hints[name]) for name, value in given.items()}
    for field in fields(kind):  # type: ignore[arg-type]
        if field.default is field.default_factory is MISSING and field.name not in {**values, **more}:
            raise UsageError(f"{where} lacks {field.name}; write it below {where}.")
    try:
        return kind(**values, **more)
    except UsageError as e:
        raise UsageError(f"{where}: {e}") from e


def known_in(where: str, given: Any, names: list[str] | tuple[str, ...]) -> Settings:
    """A mapping with no other names than these; raises `UsageError` for anything else."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise UsageError(f"{where} is {given!r}; write its settings below it, name: value.")
    for name in given:
        if name not in names:
            raise UsageError(f"{where} has '{name}', which there is not; it takes {', '.join(names)}.")
    return dict(given)


def _value(name: str, value: Any, hint: Any) -> Any:
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if isinstance(value, str) and float in kinds and str not in kinds:
        value = _number(value)  # YAML takes 1e-4 for a text
    if isinstance(value, list | str) and (inner := next((k for k in kinds if get_origin(k) is tuple), None)):
        items = value if isinstance(value, list) else [value]
        return tuple(_value(name, item, get_args(inner)[0]) for item in items)
    if any(_fits(value, kind) for kind in kinds):
        return value
    kinds_said = dict.fromkeys(_said(kind) for kind in kinds if kind is not type(None))
    raise UsageError(f"{name} is {value!r}; give {' or '.join(kinds_said)}.")


def _number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind is Any:
        return True
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, get_origin(kind) or kind)


def _said(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    return PLAIN.get(kind, "a list" if get_origin(kind) is tuple else "settings, name: value")
