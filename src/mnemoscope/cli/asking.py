"""What a command was asked for, as its parameters were parsed, and the words that parse to the same again."""

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mnemoscope.cli.settings_file import is_names, is_pairs, merged, swept
from mnemoscope.run.settings import Settings
from mnemoscope.run.yaml_values import yaml_value

GIVEN = ("COMMANDLINE", "DEFAULT_MAP", "ENVIRONMENT")
HOW = ("Run", "Watching")  # the subjects whose options change no row: they may differ when a run goes on
RUNNING = ("out", "overwrite", "sweep", "config", "dry_run", "as_json", "quiet")  # where and how, but not what


@dataclass(frozen=True)
class Asked:
    """A command with a value for each of its parameters, and the names of those that were given."""

    context: Any
    values: Mapping[str, Any]
    given: frozenset[str]

    @property
    def command(self) -> str:
        """The words of the command itself, as in "index build"."""
        names, context = [], self.context
        while context.parent is not None:
            names.append(context.info_name)
            context = context.parent
        return " ".join(reversed(names))

    def having(self, **values: Any) -> "Asked":
        """The same command with some other values."""
        return replace(self, values={**self.values, **values}, given=self.given | set(values))

    def words(self, leave_out: Iterable[str] = RUNNING) -> list[str]:
        """The given parameters as words of a command line, which parses to the same values."""
        parameters = [p for p in self.context.command.params if p.name in self.given and p.name not in set(leave_out)]
        arguments = [
            word for p in parameters if p.param_type_name == "argument" for word in _listed(self.values[p.name])
        ]
        options = [
            word for p in parameters if p.param_type_name == "option" for word in _option(p, self.values[p.name])
        ]
        if any(word.startswith("-") and word != "-" for word in arguments):
            return [*options, "--", *arguments]
        return [*arguments, *options]

    def record(self) -> Settings:
        """What a run keeps of it: the command, the words that ask for the same, and every parameter's value.

        Those under `how` change no row, and may be others when the run goes on.
        """
        panels = {p.name: getattr(p, "rich_help_panel", None) for p in self.context.command.params}
        values = {name: self._plain(name) for name in self.values if name not in RUNNING}
        how = {name: value for name, value in values.items() if panels[name] in HOW}
        what = {name: value for name, value in values.items() if name not in how}
        words = [*self.command.split(), *self.words()]
        return {"command": self.command, "words": words, "parameters": what, "how": how}

    def _plain(self, name: str) -> Any:
        """A parameter's value as JSON has it; of one that may be several names the one where there is one."""
        value, named = _plain(self.values[name]), [p.name for p in self.context.command.params if is_names(p)]
        return value[0] if name in named and isinstance(value, list) and len(value) == 1 else value

    def settings(self) -> str:
        """Every parameter's value as a settings file, with a mark at those that nobody gave."""
        lines = [f"# mnemoscope {self.command}"]
        for parameter in self.context.command.params:
            value = self.values.get(parameter.name)
            if value is not None and parameter.name not in ("config", "dry_run", "as_json", "quiet"):
                shown = _mapping(value) if is_pairs(parameter) else self._plain(parameter.name)
                mark = self._beside(parameter.name) if parameter.name in self.given else "  # default"
                lines.append(f"{parameter.name}: {json.dumps(shown, ensure_ascii=False)}{mark}")
        return "\n".join(lines)

    def _beside(self, name: str) -> str:
        """What the settings file says of a parameter that the command line says otherwise."""
        filed, typed = (self.context.default_map or {}).get(name), self.context.get_parameter_source(name)
        if filed is None or typed is None or typed.name != "COMMANDLINE" or isinstance(filed, list):
            return ""
        return f"  # in place of the file's {json.dumps(filed, ensure_ascii=False)}"

    def line(self) -> str:
        """The command as it could be typed."""
        return shlex.join(["mnemoscope", *self.command.split(), *self.words(leave_out=("config", "dry_run"))])


def asked_of(context: Any, values: Mapping[str, Any]) -> Asked:
    """What was asked for, from the parameters that were parsed in this context."""
    values_of = dict(values)
    for parameter in context.command.params:
        if is_pairs(parameter):
            values_of[parameter.name] = merged(context, parameter, values_of[parameter.name])
    if "sweep" in values_of:
        values_of["sweep"] = swept(context, values_of["sweep"])
    sources = {name: context.get_parameter_source(name) for name in values_of}
    return Asked(context, values_of, frozenset(n for n, s in sources.items() if s is not None and s.name in GIVEN))


def _option(parameter: Any, value: Any) -> Iterator[str]:
    name = max(parameter.opts, key=len)
    if parameter.is_flag:
        if value or parameter.secondary_opts:
            yield name if value else max(parameter.secondary_opts, key=len)
        return
    for each in _listed(value):
        yield from (name, each)


def _listed(value: Any) -> list[str]:
    if value is None:
        return []
    return [_text(each) for each in value] if isinstance(value, list | tuple) else [_text(value)]


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str | Path) else json.dumps(value)


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _mapping(pairs: Iterable[str]) -> Settings:
    split = (pair.partition("=") for pair in pairs)
    return {name.strip(): yaml_value(value, name) for name, _, value in split}
