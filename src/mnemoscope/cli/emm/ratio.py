"""The command that measures how much of generated images is copied from training images."""

from typing import Annotated

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.emm.group import emm

Generated = Annotated[str, typer.Argument(help="Images: folder, zip, npz, any source of measure; a run of emm train.")]
References = Annotated[str | None, typer.Option(help="The training images, read alike; those of a run of emm train.")]


@emm.command()
def ratio(
    generated: Generated,
    out: opt.Out,
    references: References = None,
    held_out: Annotated[str | None, typer.Option(help="Images the model never saw, as a control.")] = None,
    pool: Annotated[
        str | None, typer.Option(help="Images whose usual distance is the unit of the second criterion.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="Nearest over second distance below which it is a copy.")] = 1 / 3,
    features: Annotated[str, typer.Option(help="pixels, or features: sscd, clip, dino, network.")] = "pixels",
    preset: opt.Preset = None,
    weights: opt.Weights = None,
    resolution: Annotated[int | None, typer.Option(min=1, help="Cut and resize all images to it.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only the first N generated images.")] = None,
    snapshots: Annotated[bool, typer.Option("--snapshots", help="Each folder or file in it is a snapshot.")] = False,
    samples: Annotated[int, typer.Option(min=1, help="Images drawn from each snapshot of a training.")] = 1000,
    seed: opt.Seed = 0,
    num_inference_steps: opt.Steps = 18,
    ema: Annotated[str | None, typer.Option(help="Average of the weights to draw from; the first if none.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images drawn at a time.")] = 256,
    gallery: Annotated[int, typer.Option(min=0, help="Images shown beside their nearest references.")] = 24,
    device: opt.Device = "auto",
    overwrite: opt.Overwrite = False,
    config: opt.ConfigOption = None,
) -> None:
    """Measure which share of generated images is much closer to one training image than to any other."""
    from mnemoscope.emm.ratio.command import Asked, measure_ratio
    from mnemoscope.emm.ratio.drawn_sets import Drawing
    from mnemoscope.emm.ratio.run import RatioOptions

    measure_ratio(
        Asked(generated, references, held_out, pool, resolution, limit, snapshots),
        out,
        RatioOptions(threshold, features, gallery),
        Drawing(samples, seed, num_inference_steps, ema, batch_size, device),
        preset=preset,
        weights=weights,
        overwrite=overwrite,
    )
    opt.show(out, 0)
