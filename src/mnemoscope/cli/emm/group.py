"""The group of commands on how much a model can memorize."""

import typer

from mnemoscope.cli.application import app

emm = typer.Typer(help="How many images a model can memorize: the optimum, training, the memorization ratio, sweeps.")
app.add_typer(emm, name="emm", no_args_is_help=True)
