"""Options of one subject as a dataclass, and each of its fields as an option of the command line."""

import inspect
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import ParameterInfo

NoneType = type(None)


@dataclass(frozen=True)
class Given:
    """Marks a parameter of a command that takes, as a dictionary, the fields of a dataclass that were given."""

    kind: type


@dataclass(frozen=True)
class OptionGroup:
    """The options of one dataclass; `partial` where only those that were given are wanted, whatever the defaults."""

    kind: type
    partial: bool = False

    def parameters(self) -> Iterator[inspect.Parameter]:
        """One keyword parameter for each field, as typer takes it."""
        hints = get_type_hints(self.kind, include_extras=True)
        for field in fields(self.kind):
            if field.init and not field.metadata.get("internal"):
                default = None if self.partial else _default(field, hints[field.name])
                hint = _option(field, hints[field.name], getattr(self.kind, "PANEL", None), self.partial)
                yield inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, default=default)

    def made(self, settings: Mapping[str, Any]) -> Any:
        """The dataclass of these settings; lists become tuples where it wants them, and no list is its default."""
        hints = get_type_hints(self.kind)
        values = {
            field.name: tuple(value) if isinstance(value, list) and _listed(hints[field.name]) else value
            for field in fields(self.kind)
            if field.name in settings and not field.metadata.get("internal")
            for value in (settings[field.name],)
            if value is not None or (not self.partial and not _listed(hints[field.name]))
        }
        return values if self.partial else self.kind(**values)


def group_of(hint: Any) -> OptionGroup | None:
    """The options that a parameter of this type stands for, or None for a parameter that is one option."""
    if is_dataclass(hint) and isinstance(hint, type):
        return OptionGroup(hint)
    marks = [each for each in get_args(hint) if isinstance(each, Given)] if get_origin(hint) is Annotated else []
    return OptionGroup(marks[0].kind, partial=True) if marks else None


def _default(field: "Field[Any]", hint: Any) -> Any:
    if _listed(hint):
        return None
    if field.default_factory is not MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is MISSING else field.default


def _option(field: "Field[Any]", hint: Any, panel: str | None, partial: bool) -> Any:
    """The type of a field with what the command line says of it."""
    if get_origin(hint) is Annotated:
        plain, *marks = get_args(hint)
        info = copy(next(each for each in marks if isinstance(each, ParameterInfo)))
        info.rich_help_panel = info.rich_help_panel or panel
        return Annotated[plain, info]
    about = dict(field.metadata)
    info = typer.Option(
        *about.get("flags", ()),
        help=about.get("help"),
        rich_help_panel=about.get("panel", panel),
        metavar=about.get("metavar"),
    )
    if about.get("commas"):  # a list that is one text, with commas between
        return Annotated[str | None, info]
    return Annotated[plain_type(hint, optional=partial), info]


def plain_type(hint: Any, *, optional: bool = False) -> Any:
    """The type that the command line reads a field as: text for a choice, a list for a tuple, float for any number."""
    parts = [each for each in _parts(hint) if each is not NoneType]
    optional = optional or NoneType in _parts(hint)
    if _listed(hint):
        (element,) = {plain_type(each) for each in get_args(parts[0]) if each is not Ellipsis}
        return list[element] | None  # type: ignore[valid-type]
    kinds = {str if get_origin(each) is Literal else each for each in parts}
    kind = _one_of(kinds)
    return kind | None if optional else kind


def _one_of(kinds: set[Any]) -> Any:
    """The type that reads each of them: itself where it is the only one, float for any number, else text."""
    if kinds == {int, float}:
        return float
    return next(iter(kinds)) if len(kinds) == 1 else str


def _parts(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _listed(hint: Any) -> bool:
    """Whether a field is a tuple, which is given by repeating its option."""
    return any(get_origin(each) is tuple for each in _parts(hint))
