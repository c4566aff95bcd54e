"""The command that compares mitigations."""

from pathlib import Path
from typing import Annotated

import typer

from mnemoscope.cli.application import app
from mnemoscope.cli.options import (
    Batch,
    Column,
    ConfigOption,
    Device,
    Dtype,
    Guidance,
    Limit,
    Lora,
    Model,
    Out,
    Overwrite,
    Prompts,
    Scheduler,
    Seed,
    Steps,
    Threshold,
    Unet,
    asked_for,
    load_model,
    load_prompts,
    show,
)


@app.command()
def sweep(
    model: Model,
    prompts: Prompts,
    references: Annotated[Path, typer.Option(help="Folder of training images, with their captions.")],
    out: Out,
    mitigate: Annotated[list[str] | None, typer.Option(help="A mitigation; repeat it. All if not given.")] = None,
    param: Annotated[list[str] | None, typer.Option(help="A parameter of a mitigation, name=value.")] = None,
    strength: Annotated[list[str] | None, typer.Option(help="A strength to try; repeat it. Usual ones if not.")] = None,
    threshold: Threshold = None,
    images: Annotated[int, typer.Option(min=1, help="Images of each prompt.")] = 1,
    alignment: Annotated[str | None, typer.Option(help="concepts (bundled model), or CLIP weights.")] = None,
    replication_threshold: Annotated[float, typer.Option(help="Similarity from which an image is a copy.")] = 0.8,
    column: Column = None,
    limit: Limit = None,
    num_inference_steps: Steps = 50,
    guidance_scale: Guidance = 7.5,
    seed: Seed = 0,
    batch_size: Batch = "auto",
    unet: Unet = None,
    lora: Lora = None,
    scheduler: Scheduler = "own",
    device: Device = "auto",
    dtype: Dtype = "auto",
    overwrite: Overwrite = False,
    config: ConfigOption = None,
) -> None:
    """Draw the same images under mitigations of growing strength, and show what each takes and costs."""
    import yaml

    from mnemoscope import registry
    from mnemoscope.alignment import aligner
    from mnemoscope.curves import points
    from mnemoscope.generation import Generation
    from mnemoscope.mitigating import chosen, readable
    from mnemoscope.references import read_references
    from mnemoscope.settings import parameters
    from mnemoscope.sweep import run_sweep

    names = mitigate or [*registry.names("mitigate"), *registry.names("caption")]
    tried = points(chosen(names, parameters(param)), [yaml.safe_load(s) for s in strength or []])
    limit_score = readable(threshold)
    loaded = load_model(model, unet, lora, scheduler, device, dtype)
    summary = run_sweep(
        loaded,
        load_prompts(loaded, prompts, column, limit, seed),
        out,
        Generation(images, seed, num_inference_steps, guidance_scale, threshold=limit_score),
        tried,
        read_references(references),
        alignment=aligner(alignment) if alignment else None,
        replication_threshold=replication_threshold,
        batch=batch_size,
        overwrite=overwrite,
        asked=asked_for(
            prompts=prompts,
            references=references,
            alignment=alignment,
            column=column,
            limit=limit,
            unet=unet,
            lora=lora,
        ),
    )
    show(out, summary["failed"])
