"""The command that sweeps a factor."""

from pathlib import Path
from typing import Annotated

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.command import command
from mnemoscope.cli.emm.group import emm


@command(emm)
def sweep(
    file: Annotated[Path, typer.Argument(help="YAML file of a sweep.")],
    out: opt.Out,
    seeds: Annotated[int, opt.of(opt.RUN, "How often everything is done, with other random numbers.", min=1)] = 3,
    levels: Annotated[str | None, opt.of(opt.RUN, "Names of levels with commas between; the baseline too.")] = None,
    adaptive: Annotated[bool, opt.of(opt.RUN, "Train only what tells where a level falls.", "--adaptive")] = False,
    cache: Annotated[Path | None, opt.of(opt.RUN, "Folder of trainings that sweeps share.")] = None,
    full: Annotated[bool, opt.of(opt.METHOD, "The original size: what the file has under full.", "--full")] = False,
    runner: opt.Runner = "local",
    gpus: opt.Gpus = 0.0,
    device: opt.Device = "auto",
    dry_run: Annotated[bool, opt.of(opt.RUN, "Check the file and say what it would cost.", "--dry-run")] = False,
    overwrite: opt.Overwrite = False,
) -> None:
    """Train every level of a factor on sets of several sizes, and say how much each of them can memorize."""
    from mnemoscope.emm.sweeps.file import read_sweep
    from mnemoscope.emm.sweeps.running import chosen_levels, run_sweep
    from mnemoscope.run.settings import one_of

    opt.prepare()
    asked = read_sweep(file, full=full)
    named = [name.strip() for name in levels.split(",")] if levels else []
    if dry_run:
        from mnemoscope.emm.sweeps.planning import plan

        for line in plan(asked, chosen_levels(asked, named), seeds=seeds, cache=cache):
            typer.echo(line)
        return
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
