"""The command that runs an experiment of a file."""

from pathlib import Path
from typing import Annotated

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app
from mnemoscope.cli.command import command


@command(app, spreads=True)
def experiment(
    file: Annotated[Path, typer.Argument(help="YAML file of an experiment.")],
    out: opt.Out,
    seeds: Annotated[int, opt.of(opt.RUN, "How often everything is done, with other random numbers.", min=1)] = 3,
    arms: Annotated[str | None, opt.of(opt.RUN, "Names of arms with commas between; the baseline too.")] = None,
    size: Annotated[str, opt.of(opt.METHOD, "cpu, or gpu for the settings that the file has for one.")] = "cpu",
    device: opt.Device = "auto",
    dry_run: Annotated[bool, opt.of(opt.RUN, "Check the file and say what it would cost.", "--dry-run")] = False,
    overwrite: opt.Overwrite = False,
) -> None:
    """Train the arms of an experiment on the same random numbers, and say which of them copies more."""
    from mnemoscope.experiments.experiment import read_experiment
    from mnemoscope.run.settings import one_of

    opt.prepare()
    asked = read_experiment(file, one_of("--size", size, ("cpu", "gpu")))  # type: ignore[arg-type]
    named = [name.strip() for name in arms.split(",")] if arms else []
    if dry_run:
        from mnemoscope.experiments.planning import plan

        for line in plan(asked, seeds=seeds, arms=named):
            typer.echo(line)
        return
    from mnemoscope.experiments.running import run_experiment

    run_experiment(asked, out, seeds=seeds, arms=named, device=device, overwrite=overwrite)
    opt.show(out, 0)
