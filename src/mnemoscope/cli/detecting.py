"""The commands that score prompts."""

from pathlib import Path
from typing import Annotated

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app
from mnemoscope.errors import UsageError


@app.command()
def detect(
    model: opt.Model,
    prompts: opt.Prompts,
    out: opt.Out,
    negatives: opt.Negatives = None,
    method: Annotated[str, typer.Option(help="Detection method; see mnemoscope list.")] = "noise_norm",
    param: Annotated[list[str] | None, typer.Option(help="A parameter of the method, name=value.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds that a prompt's score is averaged over.")] = 1,
    threshold: Annotated[Path | None, typer.Option(help="summary.json of an earlier run, to flag with.")] = None,
    column: opt.Column = None,
    limit: opt.Limit = None,
    fpr: opt.Fpr = 0.01,
    num_inference_steps: opt.Steps = 50,
    guidance_scale: opt.Guidance = 7.5,
    seed: opt.Seed = 0,
    batch_size: opt.Batch = "auto",
    unet: opt.Unet = None,
    lora: opt.Lora = None,
    scheduler: opt.Scheduler = "own",
    device: opt.Device = "auto",
    dtype: opt.Dtype = "auto",
    format: Annotated[str, typer.Option(help="mnemoscope, or wen to write wen.jsonl as well.")] = "mnemoscope",
    overwrite: opt.Overwrite = False,
    config: opt.ConfigOption = None,
) -> None:
    """Score prompts by how much the model seems to have memorized of them."""
    from mnemoscope.detection.formats import export_wen
    from mnemoscope.detection.run import Detection, run_detection
    from mnemoscope.run.settings import one_of, parameters

    one_of("--format", format, ("mnemoscope", "wen"))
    if format == "wen" and method != "noise_norm":
        raise UsageError(f"--format wen holds noise_norm; leave out --method {method} or the format.")
    loaded = opt.load_model(model, unet, lora, scheduler, device, dtype)
    companions = ("uncond_norm",) if format == "wen" else ()
    summary = run_detection(
        loaded,
        opt.load_prompts(loaded, prompts, column, limit, seed),
        out,
        Detection(method, parameters(param), seed, seeds, num_inference_steps, guidance_scale, companions),
        negatives=opt.load_prompts(loaded, negatives, column, None, seed) if negatives else (),
        fpr=fpr,
        threshold=threshold,
        batch=batch_size,
        overwrite=overwrite,
        asked=opt.asked_for(
            prompts=prompts,
            negatives=negatives,
            column=column,
            limit=limit,
            unet=unet,
            lora=lora,
            scheduler=scheduler,
            dtype=dtype,
        ),
    )
    if format == "wen":
        export_wen(out)
    opt.show(out, summary["failed"])


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="Results of another code.")],
    out: opt.Out,
    negatives: Annotated[Path | None, typer.Option(help="Results on ordinary prompts, in the same format.")] = None,
    format: Annotated[
        str, typer.Option(help="wen: JSONL of detect_mem.py; layer6: JSON of token attributions; nemo: CSV of neurons.")
    ] = "wen",
    first_step: Annotated[int, typer.Option(min=0, help="First step that counts.")] = 0,
    end_step: Annotated[int | None, typer.Option(min=1, help="Step before which to stop; all if not given.")] = None,
    fpr: opt.Fpr = 0.01,
    overwrite: opt.Overwrite = False,
) -> None:
    """Make a run of another code's results, with its calibration and report."""
    from mnemoscope.detection.run import import_detection
    from mnemoscope.explanation.run import import_explanation
    from mnemoscope.localization.run import import_localization
    from mnemoscope.run.settings import one_of

    if one_of("--format", format, ("wen", "layer6", "nemo")) != "wen":
        if negatives or first_step or end_step:
            raise UsageError(f"--format {format} has no negatives and no steps; leave those options out.")
        made = {"layer6": import_explanation, "nemo": import_localization}[format]
        summary = made(file, out, overwrite=overwrite)
    else:
        steps = (first_step, end_step)
        summary = import_detection(file, out, negatives=negatives, steps=steps, fpr=fpr, overwrite=overwrite)
    opt.show(out, summary["failed"])
