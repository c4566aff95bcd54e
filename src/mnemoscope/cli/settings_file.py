"""A settings file in the place of options: read before the command line, which wins."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PAIRS = "NAME=VALUE"  # what the value of an option is called that is merged pair by pair
NAMES = "METHOD"  # and that of an option that is one name, or several
UNFILED = ("config", "dry_run", "as_json")  # what a settings file does not say


def configured(context: Any, file: Path | None) -> Path | None:  # typer gives a context that is no typer.Context
    """Take the options of a settings file as a command's defaults; several values of one option become a sweep."""
    from mnemoscope.run.settings import read_settings

    if file is not None:
        parameters = [parameter for parameter in context.command.params if parameter.name not in UNFILED]
        several = {p.name for p in parameters if getattr(p, "multiple", False) or p.nargs == -1}
        flags = {p.name for p in parameters if getattr(p, "is_flag", False)}
        values = read_settings(file, [p.name for p in parameters], several=several, flags=flags)
        swept = {name: value for name, value in values.items() if isinstance(value, list) and name not in several}
        for name, listed in swept.items():
            values[name] = listed[0]
            values.setdefault("sweep", []).append(f"{name}={','.join(map(json.dumps, listed))}")
        context.default_map = {**(context.default_map or {}), **values}
    return file


def is_pairs(parameter: Any) -> bool:
    """Whether an option is given as name=value pairs."""
    return getattr(parameter, "multiple", False) and parameter.metavar == PAIRS


def is_names(parameter: Any) -> bool:
    """Whether an option is one name, or several where it is given several times."""
    return getattr(parameter, "multiple", False) and parameter.metavar == NAMES


def swept(context: Any, value: Sequence[str] | None) -> list[str] | None:
    """The sweeps of the settings file and of the command line, but for what the command line sets or sweeps itself."""
    from_line = _is_typed(context, "sweep")
    names = {sweep_name(text) for text in value or ()} if from_line else set()
    filed = (context.default_map or {}).get("sweep") or []
    kept = [each for each in filed if sweep_name(each) not in names and not _is_typed(context, sweep_name(each))]
    return [*kept, *((value or ()) if from_line else ())] or None


def sweep_name(text: str) -> str:
    """What the values of `NAME=A,B` are of, as an option or a parameter is called."""
    return text.partition("=")[0].strip().replace("-", "_").removeprefix("param.")


def _is_typed(context: Any, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def merged(context: Any, parameter: Any, value: Sequence[str] | None) -> list[str] | None:
    """The pairs of an option from the settings file and from the command line; for each name the last one holds."""
    from mnemoscope.errors import UsageError

    filed = (context.default_map or {}).get(parameter.name) or []
    typed = (value or ()) if _is_typed(context, parameter.name) else ()
    for pairs in (filed, typed):
        names = [_name(pair) for pair in pairs]
        if twice := next((name for name in names if names.count(name) > 1), None):
            given = " and ".join(pair for pair in pairs if _name(pair) == twice)
            raise UsageError(f"--{parameter.name} gives '{twice}' more than once ({given}); give it once.")
    return list({_name(pair): pair for pair in [*filed, *typed]}.values()) or None


def _name(pair: str) -> str:
    return pair.partition("=")[0].strip()
