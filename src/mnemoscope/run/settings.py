"""Options from a settings file and from name=value pairs."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mnemoscope.errors import UsageError, likely
from mnemoscope.registry import Parameters
from mnemoscope.run.yaml_values import read_yaml, yaml_value

Settings = dict[str, Any]  # options by name, as somebody wrote them: what takes them says which there are


def read_settings(file: Path, known: Iterable[str], several: Iterable[str] = (), flags: Iterable[str] = ()) -> Settings:
    """Options by name from a YAML file; those in `several` are lists of texts, those in `flags` true or false.

    Another option that is given several values is a list, too. Raises `UsageError` for a name that the command does not
    have, and for a value that its option cannot have.
    """
    values = read_yaml(file)
    if not isinstance(values, dict):
        raise UsageError(f"{file} holds no options; write one a line, name: value.")
    settings = {str(k).replace("-", "_"): v for k, v in values.items()}
    if len(settings) < len(values):
        twice = next(k for k in values if str(k).replace("-", "_") != str(k) and str(k).replace("-", "_") in values)
        raise UsageError(f"{file} sets '{twice}' twice, with - and with _; set it once.")
    names = set(known)
    for name in settings:
        if name not in names:
            has = f"it has: {', '.join(sorted(names))}.{likely(name, names)}"
            raise UsageError(f"{file} sets '{name}', which this command does not have; {has}")
    listed, switches = set(several), set(flags)
    return {n: _option(file, n, v, n in listed or n == "param", n in switches) for n, v in settings.items()}


def _option(file: Path, name: str, value: Any, is_listed: bool, is_flag: bool) -> Any:
    """A value as the command line would give it: text, but for flags and for lists."""
    if value is None:
        return None
    if is_flag != isinstance(value, bool):
        wanted = "true or false" if is_flag else "a value that is no truth value, or quote it"
        raise UsageError(f"{file} gives '{name}' {json.dumps(value, default=str)}; give it {wanted}.")
    if isinstance(value, dict) and is_listed:
        return [f"{key}={_pair(name, each)}" for key, each in value.items()]
    if isinstance(value, dict) or (isinstance(value, list) and not is_listed and not all(map(_is_plain, value))):
        raise UsageError(f"{file} gives '{name}' more than one value; give it one.")
    if isinstance(value, list) and (value or is_listed):
        return [str(each) for each in value]
    if is_flag:
        return value
    return [str(value)] if is_listed else str(value)


def _pair(option: str, value: Any) -> str:
    """The value of a name=value pair; several values of anything but a parameter stand with commas between."""
    if isinstance(value, list) and option != "param":
        return ",".join(_pair(option, each) for each in value)
    is_plain = isinstance(value, str) and "," not in value and _reads_as_itself(value)
    return value if is_plain else json.dumps(value)


def _reads_as_itself(text: str) -> bool:
    try:
        return bool(yaml_value(text, "a value") == text)
    except UsageError:
        return False


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def parameters(pairs: Sequence[str] | None) -> Parameters:
    """Method parameters from name=value pairs, the values read as YAML: 1, 0.5, all, [0, 10, 20]."""
    values = {}
    for pair in pairs or ():
        name, equals, value = pair.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"--param '{pair}' is not a parameter; write name=value, for instance steps=1.")
        try:
            values[name.strip()] = yaml_value(value, f"--param '{pair[:60]}'")
        except UsageError as e:
            raise UsageError(f"{str(e).rstrip('.')}; write for instance steps=[0,10,20].") from e
    return values


def one_of(option: str, value: str, known: Sequence[str]) -> str:
    """The value, if it is among the known ones; raises `UsageError` otherwise."""
    if value not in known:
        choices = " or ".join(filter(None, (", ".join(known[:-1]), *known[-1:])))
        raise UsageError(f"{option} {value} is not known; give {choices}.")
    return value
