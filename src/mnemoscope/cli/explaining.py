"""The command that explains scores."""

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
def explain(
    model: Model,
    prompts: Prompts,
    out: Out,
    method: Annotated[str, typer.Option(help="Explanation method; see mnemoscope list.")] = "token_gradients",
    param: Annotated[list[str] | None, typer.Option(help="A parameter of the method, name=value.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds that a prompt's values are averaged over.")] = 1,
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
    format: Annotated[str, typer.Option(help="mnemoscope, or layer6 for attributions.json too.")] = "mnemoscope",
    overwrite: Overwrite = False,
    config: ConfigOption = None,
) -> None:
    """Say which words of each prompt a score depends on."""
    from mnemoscope.attributions import export_layer6
    from mnemoscope.explanation import Explanation, run_explanation
    from mnemoscope.settings import one_of, parameters

    one_of("--format", format, ("mnemoscope", "layer6"))
    loaded = load_model(model, unet, lora, scheduler, device, dtype)
    summary = run_explanation(
        loaded,
        load_prompts(loaded, prompts, column, limit, seed),
        out,
        Explanation(method, parameters(param), seed, seeds, num_inference_steps, guidance_scale),
        batch=batch_size,
        overwrite=overwrite,
        asked=asked_for(
            prompts=prompts,
            column=column,
            limit=limit,
            unet=unet,
            lora=lora,
            scheduler=scheduler,
            dtype=dtype,
        ),
    )
    if format == "layer6":
        export_layer6(out)
    show(out, summary["failed"])
