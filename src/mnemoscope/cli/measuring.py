"""The command that measures how much was copied."""

from pathlib import Path
from typing import Annotated

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app


@app.command()
def measure(
    generated: Annotated[str, typer.Argument(help="A run of generate, or images: folder, zip, tars, parquet, hub:.")],
    out: opt.Out,
    references: Annotated[str | None, typer.Option(help="Training images, read alike, or an index of them.")] = None,
    features: opt.Features = "sscd",
    preset: opt.Preset = None,
    weights: opt.Weights = None,
    metrics: Annotated[list[str] | None, typer.Option(help="A measure; repeat it. All that can be if none.")] = None,
    param: Annotated[list[str] | None, typer.Option(help="A parameter of a measure, measure.name=value.")] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Similarity above which an image is a copy; the features' own if not given.")
    ] = None,
    top_k: Annotated[int, typer.Option(min=1, help="References kept for each image.")] = 10,
    prompts: Annotated[str | None, typer.Option(help="What was asked for, where the images do not say it.")] = None,
    captions: Annotated[Path | None, typer.Option(help="File of the references' captions.")] = None,
    column: opt.Column = None,
    unmitigated: Annotated[str | None, typer.Option(help="The same images drawn without mitigation.")] = None,
    held_out: Annotated[str | None, typer.Option(help="Images the model never saw, as a control.")] = None,
    duplicates: Annotated[
        Path | None, typer.Option(help="Run of index duplicates: how often each reference occurs.")
    ] = None,
    alignment: Annotated[str | None, typer.Option(help="concepts (bundled model), or CLIP weights.")] = None,
    network: Annotated[Path | None, typer.Option(help="TorchScript network whose features judge quality.")] = None,
    network_preset: Annotated[str | None, typer.Option(help="Geometry of that network, by name.")] = None,
    gallery: Annotated[int, typer.Option(min=0, help="Images shown beside their nearest references.")] = 200,
    cache: Annotated[
        Path | None, typer.Option(help="Folder of vectors that runs share; in --out if not given.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Take only the first N generated images.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap and of all that is drawn at random.")] = 0,
    device: opt.Device = "auto",
    overwrite: opt.Overwrite = False,
    config: opt.ConfigOption = None,
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
    found = read_generated(generated, prompts=wanted, unmitigated=unmitigated, limit=limit)
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
    asked = opt.asked_for(generated=generated, references=references, weights=weights, prompts=prompts, limit=limit)
    asked |= opt.asked_for(captions=captions, column=column, unmitigated=unmitigated, held_out=held_out)
    asked |= opt.asked_for(duplicates=duplicates, alignment=alignment, network=network, network_preset=network_preset)
    summary = run_measurement(
        found,
        out,
        descriptor(features, preset=preset, weights=weights, device=device),
        Measurement(names, parameters(param), threshold, top_k, seed, gallery),
        sources,
        cache=cache,
        overwrite=overwrite,
        asked=asked,
    )
    opt.show(out, summary["failed"])
