"""Options as fields of a dataclass: what the command line says of each, and which values it may have."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, field, fields
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from mnemoscope.errors import UsageError

LARGEST = 2**63  # what a number of an option is below: more is no count, and neither is NaN
REQUIRED: Any = MISSING  # the default of an option that has none


def option(default: Any, text: str, panel: str | None = None, *flags: str, **limits: Any) -> Any:
    """A field that is an option of the command line under its own name, in a panel of the help.

    `limits` are the `known` values, or for numbers the `least` and the `most` that they may be, what they must be
    `above` and what `below`; `check` looks at them. `flags` are the option's names where they are not the field's.
    """
    return field(default=default, metadata={"help": text, "panel": panel, "flags": flags, "limits": limits})


def check(options: Any) -> None:
    """Raises `UsageError` for the first field of a dataclass of options whose value it cannot have.

    None is a value that was not given; of several values each is looked at. The values of a `Literal` are those known,
    and numbers are finite.
    """
    check_given(type(options), {each.name: getattr(options, each.name) for each in fields(options)})


def check_given(kind: type, given: Mapping[str, Any]) -> None:
    """The same for values by name, of which those that are no fields of the dataclass are left out."""
    hints = get_type_hints(kind)
    for each in fields(kind):
        limits = dict(each.metadata.get("limits", {}))
        if choices := [c for part in _parts(hints[each.name]) if get_origin(part) is Literal for c in get_args(part)]:
            limits.setdefault("known", choices)
        value = given.get(each.name)
        for one in value if isinstance(value, tuple) else (value,):
            if one is not None:
                _check_one(named(each.name), one, limits, may_lack=each.default is None)


def named(field: str) -> str:
    """What an option is called on the command line."""
    return "--" + field.replace("_", "-")


def _check_one(name: str, value: Any, limits: Mapping[str, Any], *, may_lack: bool) -> None:
    if "known" in limits:
        if value not in limits["known"]:
            raise UsageError(f"{name} {value} is not known; give {either(limits['known'])}.")
        return
    if not isinstance(value, int | float):
        return
    fits = {
        "least": lambda low: value >= low,
        "above": lambda low: value > low,
        "most": lambda high: value <= high,
        "below": lambda high: value < high,
    }
    if not -LARGEST < value < LARGEST or not all(fits[kind](limit) for kind, limit in limits.items()):
        raise UsageError(f"{name} {value} was given; give {_said(limits)}{', or leave it out' if may_lack else ''}.")


def _said(limits: Mapping[str, Any]) -> str:
    """The numbers within the limits, in words."""
    if set(limits) == {"least"}:
        return f"{limits['least']} or more"
    words = {"least": "from", "above": "above", "most": "to", "below": "to below"}
    return "a number " + " ".join(f"{words[name]} {limits[name]}" for name in words if name in limits)


def either(values: Iterable[Any]) -> str:
    """Values as a choice: a, b or c."""
    *others, last = map(str, values)
    return f"{', '.join(others)} or {last}" if others else last


def _parts(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def require_known(name: str, value: str, known: Iterable[Any]) -> None:
    """Raises `UsageError` unless a field has one of the known values."""
    _check_one(named(name), value, {"known": list(known)}, may_lack=False)
