"""The command that draws images from a trained network."""

from typing import Annotated

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.command import command
from mnemoscope.cli.emm.group import emm
from mnemoscope.emm.generation.options import Drawing
from mnemoscope.emm.sampling.options import Sampling
from mnemoscope.emm.training.sources import Weights

Network = Annotated[str, typer.Argument(help="A run of emm train, or a .safetensors file of weights.")]


@command(emm)
def generate(
    network: Network,
    weights: Weights,
    drawing: Drawing,
    sampling: Sampling,
    out: opt.Out,
    device: opt.Device = "auto",
    overwrite: opt.Overwrite = False,
) -> None:
    """Draw images from a network that was trained here or elsewhere, each from a seed of its own."""
    from mnemoscope.emm.generation.run import draw_images

    opt.prepare()
    summary = draw_images(network, out, drawing, sampling, weights, device=device, overwrite=overwrite)
    if summary:  # on the first process
        opt.show(out, 0)
