"""The command that explains scores."""

from typing import Annotated

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app


@app.command()
def explain(
    model: opt.Model,
    prompts: opt.Prompts,
    out: opt.Out,
    method: Annotated[str, typer.Option(help="Explanation method; see mnemoscope list.")] = "token_gradients",
    param: Annotated[list[str] | None, typer.Option(help="A parameter of the method, name=value.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds that words' values are averaged over; a map for each.")] = 1,
    masks: Annotated[str | None, typer.Option(help="True regions: a folder of PNG masks, or demo.")] = None,
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
    format: Annotated[str, typer.Option(help="mnemoscope, or layer6 for attributions.json too.")] = "mnemoscope",
    overwrite: opt.Overwrite = False,
    config: opt.ConfigOption = None,
) -> None:
    """Say which words of each prompt a score depends on, or which regions of its images are memorized."""
    from mnemoscope import registry
    from mnemoscope.errors import UsageError
    from mnemoscope.explanation.attributions import export_layer6
    from mnemoscope.explanation.masks import read_masks
    from mnemoscope.explanation.run import Explanation, run_explanation
    from mnemoscope.run.settings import one_of, parameters

    one_of("--format", format, ("mnemoscope", "layer6"))
    if format == "layer6" and registry.get("explain", method).gives == "regions":
        raise UsageError(f"layer6's format holds words, and {method} gives regions; leave out --format.")
    loaded = opt.load_model(model, unet, lora, scheduler, device, dtype)
    listed = opt.load_prompts(loaded, prompts, column, limit, seed)
    summary = run_explanation(
        loaded,
        listed,
        out,
        Explanation(method, parameters(param), seed, seeds, num_inference_steps, guidance_scale),
        batch=batch_size,
        overwrite=overwrite,
        asked=opt.asked_for(
            prompts=prompts,
            column=column,
            limit=limit,
            unet=unet,
            lora=lora,
            scheduler=scheduler,
            dtype=dtype,
            masks=masks,
        ),
        masks=None if masks is None else read_masks(masks, listed),
    )
    if format == "layer6":
        export_layer6(out)
    opt.show(out, summary["failed"])
