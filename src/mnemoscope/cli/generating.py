"""The commands that draw images."""

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
    Unet,
    asked_for,
    load_model,
    load_prompts,
    show,
)


@app.command()
def generate(
    model: Model,
    prompts: Prompts,
    out: Out,
    images: Annotated[int, typer.Option(min=1, help="Images of each prompt.")] = 4,
    references: Annotated[Path | None, typer.Option(help="Folder of training images to compare with.")] = None,
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
    """Draw images for prompts, the same seeds for each."""
    from mnemoscope.generation import Generation, run_generation
    from mnemoscope.references import read_references

    loaded = load_model(model, unet, lora, scheduler, device, dtype)
    summary = run_generation(
        loaded,
        load_prompts(loaded, prompts, column, limit, seed),
        out,
        Generation(images, seed, num_inference_steps, guidance_scale),
        references=read_references(references) if references else None,
        batch=batch_size,
        overwrite=overwrite,
        asked=asked_for(
            prompts=prompts,
            references=references,
            column=column,
            limit=limit,
            unet=unet,
            lora=lora,
            scheduler=scheduler,
            dtype=dtype,
        ),
    )
    show(out, summary["failed"])
