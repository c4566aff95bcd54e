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


def merged(context: Any, parameter: Any, value: Sequence[str] | None) -> list[str] | None:
    """The pairs of an option from the settings file and from the command line; for each name the last one holds."""
    filed = (context.default_map or {}).get(parameter.name) or []
    pairs = {pair.partition("=")[0].strip(): pair for pair in [*filed, *(value or ())]}
    return list(pairs.values()) or None
