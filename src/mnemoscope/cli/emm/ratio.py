"""The command that measures how much of generated images is copied from training images."""

from typing import Annotated

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.command import command
from mnemoscope.cli.emm.group import emm

Generated = Annotated[str, typer.Argument(help="Images: folder, zip, npz, any source of measure; a run of emm train.")]
References = Annotated[str | None, opt.of(opt.COMPARISON, "The training images, read alike; a training's own if none.")]


@command(emm)
def ratio(
    generated: Generated,
    out: opt.Out,
    references: References = None,
    held_out: Annotated[str | None, opt.of(opt.COMPARISON, "Images the model never saw, as a control.")] = None,
    pool: Annotated[
        str | None, opt.of(opt.COMPARISON, "Images whose usual distance is the unit of the second criterion.")
    ] = None,
    threshold: Annotated[float, opt.of(opt.METHOD, "Nearest over second distance below which it is a copy.")] = 1 / 3,
    features: Annotated[str, opt.of(opt.COMPARISON, "pixels, or features: sscd, clip, dino, network.")] = "pixels",
    preset: opt.Preset = None,
    weights: opt.Weights = None,
    resolution: Annotated[int | None, opt.of(opt.INPUT, "Cut and resize all images to it.", min=1)] = None,
    limit: opt.Limit = None,
    snapshots: Annotated[bool, opt.of(opt.INPUT, "Each folder or file in it is a snapshot.", "--snapshots")] = False,
    samples: Annotated[int, opt.of(opt.SAMPLING, "Images drawn from each snapshot of a training.", min=1)] = 1000,
    seed: opt.Seed = 0,
    num_inference_steps: opt.Steps = 18,
    ema: Annotated[str | None, opt.of(opt.SAMPLING, "Average of the weights to draw from; the first if none.")] = None,
    batch_size: Annotated[int, opt.of(opt.RUN, "Images drawn at a time.", min=1)] = 256,
    gallery: opt.Gallery = 24,
    device: opt.Device = "auto",
    overwrite: opt.Overwrite = False,
) -> None:
    """Measure which share of generated images is much closer to one training image than to any other."""
    from mnemoscope.emm.ratio.command import Asked, measure_ratio
    from mnemoscope.emm.ratio.drawn_sets import Drawing
    from mnemoscope.emm.ratio.run import RatioOptions
    from mnemoscope.emm.sampling.options import Sampling
    from mnemoscope.emm.training.sources import Weights

    sampling, own = Sampling(num_inference_steps), Weights(ema)
    drawing = Drawing(samples, seed, batch_size=batch_size, sampling=sampling, weights=own, device=device)
    measure_ratio(
        Asked(generated, references, held_out, pool, resolution, limit, snapshots),
        out,
        RatioOptions(threshold, features, gallery),
        drawing,
        preset=preset,
        weights=weights,
        overwrite=overwrite,
    )
    opt.show(out, 0)
