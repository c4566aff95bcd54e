"""Options from a settings file and from name=value pairs."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from mnemoscope.errors import UsageError


def read_settings(file: Path, known: Iterable[str]) -> dict[str, Any]:
    """Options by name from a YAML file; raises `UsageError` for a name that the command does not have."""
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
    param = settings.get("param")
    if isinstance(param, dict):
        settings["param"] = [f"{name}={json.dumps(value)}" for name, value in param.items()]
    return settings


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
