"""The commands that only read."""

from pathlib import Path
from typing import Annotated

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app
from mnemoscope.cli.command import command


@command(app)
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs; several detections are compared.")],
    out: Annotated[Path | None, opt.of(opt.RUN, "HTML file to write; by default in the first run.")] = None,
) -> None:
    """Write one HTML page about one or more runs."""
    from rich.console import Console

    from mnemoscope.report import write
    from mnemoscope.report.terminal import print_run

    page = write(runs, out)
    for run in runs:
        print_run(run, Console())
    typer.echo(page)


@command(app, "list")
def list_() -> None:
    """Show every method with its parameters, its cost and the paper that it comes from."""
    from rich.console import Console

    from mnemoscope.cli.listing import methods_table

    Console().print(methods_table())
