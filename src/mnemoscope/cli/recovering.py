"""The command that asks whether an edit removed anything."""

from pathlib import Path
from typing import Annotated

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app


@app.command()
def recover(
    model: opt.Model,
    prompts: opt.Prompts,
    references: Annotated[str, typer.Option(help="Training images, with the prompts as their captions.")],
    out: opt.Out,
    edit: Annotated[
        list[str] | None, typer.Option(help="neuron_ablation, weight_pruning or another mitigation.")
    ] = None,
    param: Annotated[list[str] | None, typer.Option(help="A parameter of the edit, name=value.")] = None,
    edited_unet: Annotated[Path | None, typer.Option(help="Folder of a U-Net that was edited elsewhere.")] = None,
    negatives: opt.Negatives = None,
    controls: Annotated[str | None, typer.Option(help="Captioned images that were never memorized.")] = None,
    features: opt.Features = "sscd",
    preset: opt.Preset = None,
    weights: opt.Weights = None,
    threshold: Annotated[float, typer.Option(help="Similarity above which the image is back.")] = 0.7,
    images: Annotated[int, typer.Option(min=1, help="Images of each prompt and stage.")] = 4,
    attack_steps: Annotated[int, typer.Option(min=1, help="Steps of the search for an embedding.")] = 50,
    attack_batch: Annotated[int, typer.Option(min=1, help="Noises in each step of it.")] = 8,
    lr: Annotated[float, typer.Option(min=0.0, help="Learning rate of the search.")] = 0.1,
    begin: Annotated[str, typer.Option(help="Where it begins: prompt, random, or any text.")] = "prompt",
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
    """Search embeddings that bring memorized images back from an edited model."""
    from mnemoscope.features import descriptor
    from mnemoscope.recovery.editing import edited_by
    from mnemoscope.recovery.run import Recovery, run_recovery
    from mnemoscope.recovery.targets import targets_of
    from mnemoscope.run.settings import parameters

    loaded = opt.load_model(model, unet, lora, scheduler, device, dtype)
    listed = opt.load_prompts(loaded, prompts, column, limit, seed)
    neutral = opt.load_prompts(loaded, negatives, column, None, seed) if negatives else []
    found = targets_of(listed, references, controls)
    recovery = Recovery(
        images, seed, num_inference_steps, guidance_scale, attack_steps, lr, attack_batch, begin, threshold
    )
    asked = opt.asked_for(prompts=prompts, references=references, edit=edit, params=parameters(param), limit=limit)
    asked |= opt.asked_for(edited_unet=edited_unet, negatives=negatives, controls=controls, column=column)
    asked |= opt.asked_for(unet=unet, lora=lora, scheduler=scheduler, dtype=dtype)
    summary = run_recovery(
        loaded,
        found,
        out,
        recovery,
        descriptor(features, preset=preset, weights=weights, device=device),
        edit=edited_by(loaded, edit or [], parameters(param), [p.text for p in listed], [p.text for p in neutral]),
        edited=opt.load_model(model, edited_unet, lora, scheduler, device, dtype) if edited_unet else None,
        batch=batch_size,
        overwrite=overwrite,
        asked=asked,
    )
    opt.show(out, summary["failed"])
