"""The command that compares mitigations."""

from pathlib import Path
from typing import Annotated

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app


@app.command()
def sweep(
    model: opt.Model,
    prompts: opt.Prompts,
    references: Annotated[Path, typer.Option(help="Folder of training images, with their captions.")],
    out: opt.Out,
    mitigate: Annotated[list[str] | None, typer.Option(help="A mitigation; repeat it. All if not given.")] = None,
    param: Annotated[list[str] | None, typer.Option(help="A parameter of a mitigation, name=value.")] = None,
    strength: Annotated[list[str] | None, typer.Option(help="A strength to try; repeat it. Usual ones if not.")] = None,
    threshold: opt.Threshold = None,
    images: Annotated[int, typer.Option(min=1, help="Images of each prompt.")] = 1,
    alignment: Annotated[str | None, typer.Option(help="concepts (bundled model), or CLIP weights.")] = None,
    replication_threshold: Annotated[float, typer.Option(help="Similarity from which an image is a copy.")] = 0.8,
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
    """Draw the same images under mitigations of growing strength, and opt.show what each takes and costs."""
    import yaml

    from mnemoscope import registry
    from mnemoscope.features.alignment import aligner
    from mnemoscope.features.references import read_references
    from mnemoscope.generation.run import Generation
    from mnemoscope.mitigation.chosen import chosen, readable
    from mnemoscope.run.settings import parameters
    from mnemoscope.sweep.curves import points
    from mnemoscope.sweep.run import run_sweep

    given, every = parameters(param), [*registry.names("mitigate"), *registry.names("caption")]
    said = {key.rpartition(".")[2] for key in given}
    names = mitigate or [name for name in every if not registry.missing(registry.stopping(name), said)]
    tried = points(chosen(names, given), [yaml.safe_load(s) for s in strength or []])
    limit_score = readable(threshold)
    loaded = opt.load_model(model, unet, lora, scheduler, device, dtype)
    summary = run_sweep(
        loaded,
        opt.load_prompts(loaded, prompts, column, limit, seed),
        out,
        Generation(images, seed, num_inference_steps, guidance_scale, threshold=limit_score),
        tried,
        read_references(references),
        alignment=aligner(alignment) if alignment else None,
        replication_threshold=replication_threshold,
        batch=batch_size,
        overwrite=overwrite,
        asked=opt.asked_for(
            prompts=prompts,
            references=references,
            alignment=alignment,
            column=column,
            limit=limit,
            unet=unet,
            lora=lora,
        ),
    )
    opt.show(out, summary["failed"])
