"""The command-line application that the commands register with."""

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any

import typer

from mnemoscope.cli.helping import CommandGroup


def _print_version(asked: bool) -> bool:
    if asked:
        from importlib.metadata import version

        typer.echo(f"mnemoscope {version('mnemoscope')}")
        raise typer.Exit
    return asked


app = typer.Typer(
    cls=CommandGroup,
    help="Find out what an image diffusion model has memorized from its training data.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"max_content_width": 120, "help_option_names": ["-h", "--help"]},
)


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """Find out what an image diffusion model has memorized from its training data."""


def group(name: str, text: str, cls: type[CommandGroup] = CommandGroup, **how: object) -> typer.Typer:
    """A group of commands under one word of the command line."""
    typer_group = typer.Typer(cls=cls, help=text, no_args_is_help=True, rich_markup_mode=None, **how)  # type: ignore[arg-type]
    app.add_typer(typer_group, name=name)
    return typer_group


@cache
def whole() -> Callable[..., Any]:
    """The command line with all that registered, put together once."""
    return typer.main.get_command(app)
