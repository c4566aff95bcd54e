"""The command that runs an experiment of a file."""

from pathlib import Path
from typing import Annotated

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app


@app.command()
def experiment(
    file: Annotated[Path, typer.Argument(help="YAML file of an experiment.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
    seeds: Annotated[int, typer.Option(help="How often everything is done, each time with other random numbers.")] = 3,
    arms: Annotated[str | None, typer.Option(help="Names of arms with commas between; the baseline comes too.")] = None,
    size: Annotated[str, typer.Option(help="cpu, or gpu for the settings that the file has for one.")] = "cpu",
    device: opt.Device = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file and say what it would cost.")] = False,
    overwrite: opt.Overwrite = False,
) -> None:
    """Train the arms of an experiment on the same random numbers, and say which of them copies more."""
    from mnemoscope.errors import UsageError
    from mnemoscope.experiments.experiment import read_experiment
    from mnemoscope.model.loading import quiet, settle_threads
    from mnemoscope.run.settings import one_of

    quiet()
    settle_threads()
    asked = read_experiment(file, one_of("--size", size, ("cpu", "gpu")))  # type: ignore[arg-type]
    named = [name.strip() for name in arms.split(",")] if arms else []
    if dry_run:
        from mnemoscope.experiments.planning import plan

        for line in plan(asked, seeds=seeds, arms=named):
            typer.echo(line)
        return
    if out is None:
        raise UsageError("No --out was given; give the folder of the run, or --dry-run.")
    from mnemoscope.experiments.running import run_experiment

    run_experiment(asked, out, seeds=seeds, arms=named, device=device, overwrite=overwrite)
    opt.show(out, 0)
