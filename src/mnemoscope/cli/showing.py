"""The commands that only read."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mnemoscope import registry
from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app
from mnemoscope.cli.command import command


def _known(incomplete: str) -> list[str]:
    names = [*registry.PACKAGES, *(name for kind in registry.PACKAGES for name in registry.names(kind))]
    return [name for name in names if name.startswith(incomplete)]


@command(app)
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs; several detections are compared.")],
    out: Annotated[Path | None, opt.of(opt.RUN, "HTML file to write; by default in the first run.")] = None,
) -> None:
    """Write one HTML page about one or more runs."""
    from rich.console import Console

    from mnemoscope.report import write
    from mnemoscope.report.terminal import print_run
    from mnemoscope.run.progress import waiting

    with waiting("report"):
        page = write(runs, out)
    for run in runs:
        print_run(run, Console())
    typer.echo(page)


@command(app, "list")
def list_(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[KIND|NAME]", help="A kind of methods, or a method.", autocompletion=_known),
    ] = None,
) -> "list[dict[str, Any]]":
    """Show the methods there are, those of a kind, or one with its parameters, its cost and its paper."""
    from mnemoscope.cli.listing import listing, plain

    methods, text = listing(name)
    typer.echo(text)
    return plain(methods)
