"""The commands that draw images."""

from pathlib import Path
from typing import Annotated

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app
from mnemoscope.errors import UsageError


@app.command()
def generate(
    model: opt.Model,
    prompts: opt.Prompts,
    out: opt.Out,
    images: Annotated[int, typer.Option(min=1, help="Images of each prompt.")] = 4,
    mitigate: Annotated[list[str] | None, typer.Option(help="A mitigation; repeat it for several.")] = None,
    param: Annotated[list[str] | None, typer.Option(help="A parameter of a mitigation, name=value.")] = None,
    threshold: opt.Threshold = None,
    baseline: Annotated[bool, typer.Option("--baseline", help="Draw each image without mitigation as well.")] = False,
    references: Annotated[Path | None, typer.Option(help="Folder of training images to compare with.")] = None,
    column: opt.Column = None,
    limit: opt.Limit = None,
    num_inference_steps: opt.Steps = 50,
    guidance_scale: opt.Guidance = 7.5,
    seed: opt.Seed = 0,
    batch_size: opt.Batch = "auto",
    unet: opt.Unet = None,
    lora: opt.Lora = None,
    scheduler: opt.Scheduler = "own",
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    overwrite: opt.Overwrite = False,
    config: opt.ConfigOption = None,
) -> None:
    """Draw images for prompts, the same seeds for each, as they are or mitigated."""
    from mnemoscope.features.references import read_references
    from mnemoscope.generation.run import Generation, run_generation
    from mnemoscope.mitigation.chosen import chosen, readable
    from mnemoscope.run.settings import parameters

    if not mitigate and (threshold is not None or baseline):
        raise UsageError("--threshold and --baseline say how to mitigate; give --mitigate NAME with them.")
    mitigations = tuple(chosen(mitigate or [], parameters(param)))
    limit_score = readable(threshold)
    loaded = opt.load_model(model, unet, lora, scheduler, device, dtype)
    summary = run_generation(
        loaded,
        opt.load_prompts(loaded, prompts, column, limit, seed),
        out,
        Generation(images, seed, num_inference_steps, guidance_scale, mitigations, limit_score, baseline),
        references=read_references(references) if references else None,
        batch=batch_size,
        overwrite=overwrite,
        asked=opt.asked_for(
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
    opt.show(out, summary["failed"])
