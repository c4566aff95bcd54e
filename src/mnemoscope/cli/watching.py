"""The command that follows the checkpoints of a training."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app
from mnemoscope.cli.command import command
from mnemoscope.run.training_rows import WatchRow
from mnemoscope.training.watching.options import WatchOptions


@command(app)
def watch(
    checkpoints: Annotated[Path, typer.Argument(help="Folder that a trainer writes checkpoints or LoRAs into.")],
    data: Annotated[str, opt.of(opt.INPUT, "What it trains on: pictures with captions, in any layout of train.")],
    model: Annotated[str, opt.of(opt.MODEL, "What the training began from.")],
    watching: WatchOptions,
    out: opt.Out,
    captions: opt.Captions = None,
    column: opt.Column = None,
    variant: opt.Variant = None,
    device: opt.Device = "auto",
    dtype: Annotated[str, opt.of(opt.MODEL, "auto, float32, float16 or bfloat16.")] = "auto",
    overwrite: opt.Overwrite = False,
) -> None:
    """Look at each checkpoint as it comes: which pictures come back, and when to stop (exit code 3)."""
    from mnemoscope.model.denoiser import Denoiser
    from mnemoscope.report import write
    from mnemoscope.training.data.options import DataOptions
    from mnemoscope.training.watching.following import run_watch

    opt.prepare()
    load = partial(Denoiser.from_pretrained, variant=variant, device=device, dtype=dtype)
    asked = DataOptions(data, captions=None if captions is None else str(captions), column=column)

    def told(run: Path, rows: list[WatchRow]) -> None:
        for line in _lines(rows):
            typer.echo(line)
        write([run])

    summary = run_watch(model, checkpoints, asked, out, watching, load=load, told=told, overwrite=overwrite)
    if summary["stop"]:
        typer.echo(summary["stop"])
        if kept := summary["last_without_copies"]:
            typer.echo(f"The last checkpoint from which no picture comes back: {kept}")
    opt.show(out, summary["failed"])
    if summary["stop"]:
        raise typer.Exit(3)


def _lines(rows: list[WatchRow]) -> list[str]:
    """A checkpoint in a line, and below it the pictures that come back."""
    from mnemoscope.errors import plain

    if not rows:
        return []
    back = {row["probe"]: row["picture"] or row["prompt"] for row in rows if row["returning"]}
    count = len({row["probe"] for row in rows})
    return [
        plain(f"{rows[0]['checkpoint']}: {len(back)} of {count} come back"),
        *(plain(f"  {b}") for b in back.values()),
    ]
