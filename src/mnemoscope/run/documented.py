"""The tables of `docs/runs.md`, made from the types of rows: `python -m mnemoscope.run.documented docs/runs.md`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from mnemoscope.run.row_kinds import KINDS
from mnemoscope.run.rows import AnyRow
from mnemoscope.run.writing import write_whole

BEGIN, END = "<!-- rows: made from the types -->\n", "<!-- end of rows -->\n"
NAMES = {str: "text", int: "whole number", float: "number", bool: "true or false", NoneType: "null", Any: "any"}


def tables() -> str:
    """One table a kind of run: each column, its type and what it means."""
    every: dict[str, type] = {"every run": AnyRow, **KINDS}
    return "\n".join(line for command, kind in every.items() for line in _table(command, kind)) + "\n"


def inserted(page: str) -> str:
    """The page with the tables between its two marks."""
    before, _, rest = page.partition(BEGIN)
    return before + BEGIN + "\n" + tables() + "\n" + END + rest.partition(END)[2]


def _table(command: str, kind: type) -> Iterator[str]:
    yield f"**{command}**: {str(kind.__doc__).strip()}\n"
    yield "| column | type | meaning |\n|---|---|---|"
    common = () if kind is AnyRow else AnyRow.__annotations__
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if name in common:
            continue
        optional, bare = (", may lack", get_args(hint)[0]) if get_origin(hint) is NotRequired else ("", hint)
        inner, meaning = get_args(bare)
        yield f"| `{name}` | {_named(inner)}{optional} | {meaning} |"
    yield ""


def _named(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _named(arguments[0])
    if origin in (Union, UnionType):
        kinds = [each for each in arguments if not (each is int and float in arguments)]
        return " or ".join(map(_named, kinds))
    if origin is list:
        return f"list of {_named(arguments[0])}"
    if origin is dict:
        return "object" if arguments[1] is Any else f"object of {_named(arguments[1])}"
    if is_typeddict(hint):
        return f"object with {', '.join(f'`{name}`' for name in get_type_hints(hint))}"
    return NAMES[hint]


if __name__ == "__main__":
    place = Path(sys.argv[1])
    write_whole(place, inserted(place.read_text(encoding="utf-8")))
