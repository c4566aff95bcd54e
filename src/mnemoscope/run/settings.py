"""Options from a settings file and from name=value pairs."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from mnemoscope.errors import UsageError


def read_settings(file: Path, known: Iterable[str], several: Iterable[str] = ()) -> dict[str, Any]:
    """Options by name from a YAML file; those in `several` may have a list of values.

    Raises `UsageError` for a name that the command does not have.
    """
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        raise UsageError(f"{file} could not be read as YAML: {str(e).splitlines()[0]}") from e
    if not isinstance(values, dict):
        raise UsageError(f"{file} holds no options; write one a line, name: value.")
    settings = {str(k).replace("-", "_"): v for k, v in values.items()}
    names = set(known)
    for name in settings:
        if name not in names:
            has = ", ".join(sorted(names))
            raise UsageError(f"{file} sets '{name}', which this command does not have; it has: {has}.")
    listed = set(several)
    return {name: _option(file, name, value, name in listed) for name, value in settings.items()}


def _option(file: Path, name: str, value: Any, may_be_listed: bool) -> Any:
    """A value as the command line would give it: text, but for flags and for lists."""
    if name == "param" and isinstance(value, dict):
        return [f"{key}={json.dumps(each)}" for key, each in value.items()]
    if name == "param":
        return [str(each) for each in value] if isinstance(value, list) else [str(value)]
    if may_be_listed and value is not None:
        return [str(each) for each in value] if isinstance(value, list) else [str(value)]
    if isinstance(value, list | dict):
        raise UsageError(f"{file} gives '{name}' more than one value; give it one.")
    return value if value is None or isinstance(value, bool) else str(value)


def parameters(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Method parameters from name=value pairs, the values read as YAML: 1, 0.5, all, [0, 10, 20]."""
    found = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"--param '{pair}' is not a parameter; write name=value, for instance steps=1.")
        try:
            found[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as e:
            raise UsageError(f"--param '{pair}' has no readable value; write for instance steps=[0,10,20].") from e
    return found


def one_of(option: str, value: str, known: Sequence[str]) -> str:
    """The value, if it is among the known ones; raises `UsageError` otherwise."""
    if value not in known:
        raise UsageError(f"{option} {value} is not known; give {' or '.join(known)}.")
    return value
