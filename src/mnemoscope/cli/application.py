"""The command-line application that the commands register with."""

import typer

app = typer.Typer(
    help="Find out what an image diffusion model has memorized from its training data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
