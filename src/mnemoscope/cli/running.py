"""Carrying out a command: its folder, its record, its dry run, one run for each of several values, what it prints."""

import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

import typer

from mnemoscope.cli.asking import Asked
from mnemoscope.cli.trying import try_all
from mnemoscope.errors import UsageError

Call = Callable[[Mapping[str, Any]], Any]


class Answered(typer.Exit):
    """The end of a command with a code that is not 0 and an answer, which `--json` prints."""

    def __init__(self, code: int, answer: Any) -> None:
        super().__init__(code)
        self.answer = answer


def carry_out(asked: Asked, call: Call, *, makes_run: bool, plans: bool) -> Any:
    """Do what was asked for: `call` with the values. `plans` says that it does something of its own in a dry run.

    Raises `typer.Exit` with the code of the command where that is not 0, and `UsageError`.
    """
    values = dict(asked.values)
    with printing(quiet=values["quiet"], as_json=values["as_json"]) as result:
        if values["dry_run"]:
            result.append(asked.record())
            _look_ahead(values)
            typer.echo(asked.settings())
            if plans and makes_run and values["out"] is None:
                values["out"] = default_folder(asked)
            return call(values) if plans else None
        if not makes_run:
            if values.get("sweep"):
                raise UsageError(f"--sweep makes runs, and {asked.command} makes none; leave it out.")
            result.append(call(values))
            return result[-1]
        if values["out"] is None:
            values["out"] = default_folder(asked)
            typer.echo(f"Folder of the run: {values['out']}")
        result.append(values["out"])
        made = _run(asked, values, call)
        result += [] if made is None else [made]
        return made


def _look_ahead(values: Mapping[str, Any]) -> None:
    """Raise `UsageError` in a dry run for a solver that the run would refuse."""
    if values.get("scheduler") and values.get("model"):
        from mnemoscope.cli.options import prepare
        from mnemoscope.model.weights.folders import foresee_solver

        prepare()
        foresee_solver(values["model"], values["scheduler"], values.get("num_inference_steps"))


def _run(asked: Asked, values: Mapping[str, Any], call: Call) -> Any:
    from mnemoscope.run.asked import recorded
    from mnemoscope.run.progress import waiting

    if values["sweep"]:
        return try_all(asked, values["out"])
    with recorded(asked.record(), values["out"]), waiting("loading"):
        return call(values)


def default_folder(asked: Asked) -> Path:
    """Where a run goes that was not told: runs/COMMAND-MODEL-TIME.

    Raises `UsageError` where several processes make one run, which would each name another folder.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("No --out was given to several processes of one run; give the folder of the run.")
    first = next((p.name for p in asked.context.command.params if p.param_type_name == "argument"), "")
    subject = asked.values.get("model") or asked.values.get(first) or asked.values.get("data")
    name = re.sub(r"[^\w.-]+", "-", Path(str(subject)).stem if subject else "").strip("-.")
    parts = [asked.command.replace(" ", "-"), name[:40], time.strftime("%Y%m%d-%H%M%S")]
    return Path("runs") / "-".join(filter(None, parts))


@contextmanager
def printing(*, quiet: bool, as_json: bool) -> Iterator[list[Any]]:
    """Let a block print as asked: as ever, nothing, or only JSON of the last thing that it puts in the list.

    A folder stands for the summary of its run; the JSON comes also where the block ends with an exit code.
    """
    result: list[Any] = []
    if not quiet and not as_json:
        yield result
        return
    from mnemoscope.run.progress import hushed

    elsewhere = io.StringIO() if quiet else sys.stderr
    try:
        with redirect_stdout(elsewhere), hushed() if quiet else nullcontext():
            yield result
    except typer.Exit as left:
        result += [left.answer] if isinstance(left, Answered) else []
        _print_json(result if as_json else [])
        raise
    _print_json(result if as_json else [])


def _print_json(result: list[Any]) -> None:
    for value in result[-1:]:
        file = value / "summary.json" if isinstance(value, Path) else None
        printed = json.loads(file.read_text(encoding="utf-8")) if file is not None and file.is_file() else {}
        typer.echo(json.dumps({"run": str(value), **printed} if isinstance(value, Path) else value, default=str))
