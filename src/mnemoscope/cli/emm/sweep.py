"""The command that sweeps a factor."""

from pathlib import Path
from typing import Annotated

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.emm.group import emm


@emm.command()
def sweep(
    file: Annotated[Path, typer.Argument(help="YAML file of a sweep.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the run.")] = None,
    seeds: Annotated[int, typer.Option(help="How often everything is done, each time with other random numbers.")] = 3,
    levels: Annotated[str | None, typer.Option(help="Names of levels with commas between; the baseline too.")] = None,
    adaptive: Annotated[bool, typer.Option("--adaptive", help="Train only what tells where each level falls.")] = False,
    cache: Annotated[Path | None, typer.Option(help="Folder of trainings that sweeps share.")] = None,
    full: Annotated[bool, typer.Option("--full", help="The original size: what the file has under full.")] = False,
    runner: Annotated[str, typer.Option(help="local, or ray for the machines of a Ray cluster.")] = "local",
    gpus: Annotated[float, typer.Option(min=0.0, help="Share of a GPU for each worker of Ray.")] = 0.0,
    device: opt.Device = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file and say what it would cost.")] = False,
    overwrite: opt.Overwrite = False,
) -> None:
    """Train every level of a factor on sets of several sizes, and say how much each of them can memorize."""
    from mnemoscope.emm.sweeps.file import read_sweep
    from mnemoscope.emm.sweeps.running import chosen_levels, run_sweep
    from mnemoscope.errors import UsageError
    from mnemoscope.model.loading import quiet, settle_threads
    from mnemoscope.run.settings import one_of

    quiet()
    settle_threads()
    asked = read_sweep(file, full=full)
    named = [name.strip() for name in levels.split(",")] if levels else []
    if dry_run:
        from mnemoscope.emm.sweeps.planning import plan

        for line in plan(asked, chosen_levels(asked, named), seeds=seeds, cache=cache):
            typer.echo(line)
        return
    if out is None:
        raise UsageError("No --out was given; give the folder of the run, or --dry-run.")
    run_sweep(
        asked,
        out,
        seeds=seeds,
        levels=named,
        adaptive=adaptive,
        cache=cache,
        runner=one_of("--runner", runner, ("local", "ray")),  # type: ignore[arg-type]
        gpus=gpus,
        device=device,
        overwrite=overwrite,
        tell=typer.echo,
    )
    opt.show(out, 0)
