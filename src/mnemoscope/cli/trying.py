"""A run of a command for each of several values of its options."""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from mnemoscope.cli.asking import RUNNING, Asked
from mnemoscope.cli.settings_file import sweep_name
from mnemoscope.errors import UsageError
from mnemoscope.run.yaml_values import yaml_value


def try_all(asked: Asked, out: Path) -> list[dict[str, Any]]:
    """Run the command once for each combination of the values under `--sweep`, in folders of `out`, with one report.

    The exit code is the highest of all the runs; what a run cannot be given ends all of them.
    """
    from mnemoscope.report import write

    _refuse_twice(asked.values["sweep"])
    swept = dict(values_of(text) for text in asked.values["sweep"])
    combinations = [dict(zip(swept, values, strict=True)) for values in itertools.product(*swept.values())]
    if len({folder_name(chosen) for chosen in combinations}) < len(combinations):
        raise UsageError("--sweep gives a value twice, or two that name one folder; give each once.")
    runs, codes = [], []
    for chosen in combinations:
        folder = out / folder_name(chosen)
        typer.echo(f"{', '.join(f'{k}={_text(v)}' for k, v in chosen.items())}: {folder}")
        codes.append(_run(with_values(asked, chosen), folder))
        runs.append({"run": str(folder), **chosen})
    page = write([Path(each["run"]) for each in runs], out / "report.html")
    typer.echo(f"All {len(runs)} runs side by side: {page}")
    if max(codes):
        raise typer.Exit(max(codes))
    return runs


def _refuse_twice(texts: Sequence[str]) -> None:
    names = [sweep_name(text) for text in texts]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--sweep gives '{name}' more than once; give all its values at once: {name}=A,B.")


def values_of(text: str) -> tuple[str, list[Any]]:
    """The name and the values of `NAME=A,B`, each value read as YAML; raises `UsageError` for fewer than one."""
    name, equals, listed = text.partition("=")
    try:
        values = yaml_value(f"[{listed}]", "--sweep")
    except UsageError:
        values = None
    if not equals or not name.strip() or not values:
        raise UsageError(f"--sweep '{text}' names no values; write NAME=A,B, for instance seeds=1,4.")
    return name.strip(), values


def with_values(asked: Asked, chosen: Mapping[str, Any]) -> Asked:
    """The command with these values: of its options where it has one of the name, else of its method's parameters."""
    options = {p.name: p for p in asked.context.command.params}
    for name, value in chosen.items():
        option = options.get(name.replace("-", "_"))
        if option is not None and option.name in RUNNING:
            raise UsageError(f"--sweep {name}: it changes no run; sweep an option that does.")
        if option is not None and isinstance(value, list | dict):
            raise UsageError(f"--sweep {name}={json.dumps(value)}: the option takes one value; write {name}=A,B.")
        if option is not None:
            given = [value] if option.multiple else value
            asked = asked.having(**{option.name: given})
        elif "param" in options:
            own = name.removeprefix("param.")
            others = [pair for pair in asked.values["param"] or () if pair.partition("=")[0].strip() != own]
            asked = asked.having(param=[*others, f"{own}={json.dumps(value)}"])
        else:
            raise UsageError(f"--sweep {name}: {asked.command} has no option and no parameter of that name.")
    return asked


def folder_name(chosen: Mapping[str, Any]) -> str:
    """What the folder of a run is called that tries these values."""
    return re.sub(r"[^\w.=,+-]+", "-", ",".join(f"{name}={_text(value)}" for name, value in chosen.items())).strip("-")


def _run(asked: Asked, folder: Path) -> int:
    """Run a command with its output in a folder; its exit code."""
    given = asked.context
    overwrite = ["--overwrite"] if asked.values.get("overwrite") else []
    words = [*asked.words(), "--out", str(folder), *overwrite]
    with given.command.make_context(given.info_name, words, parent=given.parent) as context:
        try:
            given.command.invoke(context)
        except typer.Exit as left:
            return int(left.exit_code)
    return 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
