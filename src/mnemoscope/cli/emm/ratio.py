"""The command that measures how much of generated images is copied from training images."""

from dataclasses import replace
from typing import Annotated

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.command import command
from mnemoscope.cli.emm.group import emm
from mnemoscope.emm.ratio.options import AskedRatio, RatioOptions, SnapshotDrawing
from mnemoscope.emm.sampling.options import Sampling
from mnemoscope.emm.training.sources import Weights

Generated = Annotated[
    str, typer.Argument(help="Images: folder, zip, npz, any source of measure; or a run of emm train, or its like.")
]


@command(emm)
def ratio(
    generated: Generated,
    asked: AskedRatio,
    options: RatioOptions,
    drawing: SnapshotDrawing,
    own: Weights,
    sampling: Sampling,
    out: opt.Out,
    preset: opt.Preset = None,
    weights: opt.Weights = None,
    device: opt.Device = "auto",
    overwrite: opt.Overwrite = False,
) -> None:
    """Measure which share of generated images is much closer to one training image than to any other."""
    from mnemoscope.emm.ratio.command import measure_ratio

    asked = replace(asked, generated=generated)
    drawing = replace(drawing, weights=own, sampling=sampling, device=device)
    if measure_ratio(asked, out, options, drawing, preset=preset, weights=weights, overwrite=overwrite):
        opt.show(out, 0)  # on the first process
