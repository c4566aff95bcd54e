"""The command that measures how much was copied."""

from pathlib import Path
from typing import Annotated

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app
from mnemoscope.cli.command import command


@command(app)
def measure(
    generated: Annotated[str, typer.Argument(help="A run of generate, or images: folder, zip, tars, parquet, hub:.")],
    features: opt.Features,
    out: opt.Out,
    references: Annotated[str | None, opt.of(opt.COMPARISON, "Training images, read alike, or an index.")] = None,
    metrics: Annotated[
        list[str] | None,
        opt.of(opt.METHOD, "A measure; repeat it. All that can be if none.", autocompletion=opt.methods("measure")),
    ] = None,
    param: opt.Param = None,
    threshold: Annotated[
        float | None, opt.of(opt.METHOD, "Similarity above which an image is a copy; the features' own if none.")
    ] = None,
    top_k: Annotated[int, opt.of(opt.METHOD, "References kept for each image.", min=1)] = 10,
    prompts: Annotated[str | None, opt.of(opt.INPUT, "What was asked for, where the images do not say it.")] = None,
    captions: opt.ReferenceCaptions = None,
    column: opt.Column = None,
    unmitigated: Annotated[str | None, opt.of(opt.COMPARISON, "The same images drawn without mitigation.")] = None,
    held_out: Annotated[str | None, opt.of(opt.COMPARISON, "Images the model never saw, as a control.")] = None,
    duplicates: Annotated[
        Path | None, opt.of(opt.COMPARISON, "Run of index duplicates or of train: how often references occur.")
    ] = None,
    alignment: opt.Alignment = None,
    network: Annotated[Path | None, opt.of(opt.METHOD, "TorchScript network whose features judge quality.")] = None,
    network_preset: Annotated[str | None, opt.of(opt.METHOD, "Geometry of that network, by name.")] = None,
    gallery: opt.Gallery = 200,
    cache: Annotated[Path | None, opt.of(opt.RUN, "Folder of vectors that runs share; in --out if not given.")] = None,
    limit: opt.Limit = None,
    seed: Annotated[int, opt.of(opt.METHOD, "Seed of the bootstrap and of all that is drawn at random.", min=0)] = 0,
    device: opt.Device = "auto",
    trackers: Annotated[
        list[str] | None, opt.of(opt.RUN, "Trackers that the numbers go to as well: tensorboard, wandb; repeat it.")
    ] = None,
    project: Annotated[str, opt.of(opt.RUN, "Name of the project in the trackers.")] = "mnemoscope",
    overwrite: opt.Overwrite = False,
) -> None:
    """Compare generated images with training images: copies, variety, alignment, quality, with a gallery."""
    from mnemoscope.features import descriptor
    from mnemoscope.features.alignment import aligner
    from mnemoscope.measuring.generated import read_generated
    from mnemoscope.measuring.measurement import Measurement, run_measurement
    from mnemoscope.measuring.sides import Sources
    from mnemoscope.prompts.prompt import read_prompts
    from mnemoscope.run.settings import parameters

    wanted = read_prompts(prompts, column=column) if prompts else ()
    read = read_generated(generated, prompts=wanted, unmitigated=unmitigated, limit=limit)
    names = tuple(name.strip() for each in metrics or () for name in each.split(",") if name.strip())
    sources = Sources(
        references=references,
        captions=captions,
        column=column,
        held_out=held_out,
        duplicates=duplicates,
        aligner=aligner(alignment, device) if alignment else None,
        network=descriptor("network", preset=network_preset, weights=network, device=device) if network else None,
    )
    summary = run_measurement(
        read,
        out,
        features.descriptor(device),
        Measurement(names, parameters(param), threshold, top_k, seed, gallery, tuple(trackers or ()), project),
        sources,
        cache=cache,
        overwrite=overwrite,
    )
    opt.show(out, summary["failed"])
