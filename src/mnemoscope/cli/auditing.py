"""The commands that do everything at once."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app


@app.command()
def demo(
    out: opt.Out = Path("demo-report"),
    overwrite: opt.Overwrite = False,
    batch_size: opt.Batch = "auto",
) -> None:
    """Audit the bundled model, which has memorized some of its training images, and write a report."""
    from mnemoscope.audit.tour import run_demo
    from mnemoscope.model.loading import quiet, settle_threads

    quiet()
    settle_threads()
    failed = run_demo(out, batch=batch_size, overwrite=overwrite)
    opt.show(out, failed)


def _afterwards(explain: str, mitigate: str, **sampling: Any) -> dict[str, Any]:
    """What an audit does with what is flagged, checked before any work."""
    from mnemoscope import registry
    from mnemoscope.explanation.run import Explanation
    from mnemoscope.mitigation.chosen import Mitigation

    found: dict[str, Any] = {}
    if explain != "none":
        words = {"unit": "word"} if "unit" in registry.get("explain", explain).parameters else {}
        found["explanation"] = Explanation(explain, words, **sampling)
    if mitigate != "none":
        found["mitigation"] = Mitigation(mitigate)
        found["mitigation"].check()
    return found


@app.command()
def audit(
    model: opt.Model,
    prompts: opt.Prompts,
    out: opt.Out,
    negatives: opt.Negatives = None,
    references: Annotated[Path | None, typer.Option(help="Folder of training images to compare with.")] = None,
    features: opt.Features = "pixels",
    preset: opt.Preset = None,
    weights: opt.Weights = None,
    method: Annotated[str, typer.Option(help="Detection method; see mnemoscope list.")] = "noise_norm",
    param: Annotated[list[str] | None, typer.Option(help="A parameter of the method, name=value.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds that a prompt's score is averaged over.")] = 4,
    images: Annotated[int, typer.Option(min=1, help="Images drawn for each prompt shown.")] = 4,
    explain: Annotated[str, typer.Option(help="How to explain what is flagged, or none.")] = "token_occlusion",
    mitigate: Annotated[str, typer.Option(help="How to mitigate what is flagged, or none.")] = "embedding_descent",
    most: Annotated[int, typer.Option(min=1, help="How many of the highest-scoring prompts are drawn.")] = 24,
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
    overwrite: opt.Overwrite = False,
    config: opt.ConfigOption = None,
) -> None:
    """Detect, draw what is flagged beside its nearest training images, explain it, mitigate it; one report."""
    from mnemoscope.audit.run import Copying, run_audit
    from mnemoscope.detection.run import Detection
    from mnemoscope.features import descriptor
    from mnemoscope.features.references import read_references
    from mnemoscope.generation.run import Generation
    from mnemoscope.run.settings import parameters

    sampling: dict[str, Any] = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
    afterwards = _afterwards(explain, mitigate, seed=seed, **sampling)
    loaded = opt.load_model(model, unet, lora, scheduler, device, dtype)
    failed = run_audit(
        loaded,
        opt.load_prompts(loaded, prompts, column, limit, seed),
        out,
        Detection(method, parameters(param), seed=seed, seeds=seeds, **sampling),
        Generation(images=images, seed=seed, **sampling),
        **afterwards,
        negatives=opt.load_prompts(loaded, negatives, column, None, seed) if negatives else (),
        references=read_references(references) if references else None,
        copying=Copying(str(references), descriptor(features, preset=preset, weights=weights)) if references else None,
        most=most,
        fpr=fpr,
        batch=batch_size,
        overwrite=overwrite,
        asked=opt.asked_for(prompts=prompts, negatives=negatives, references=references, column=column, limit=limit)
        | opt.asked_for(unet=unet, lora=lora),
    )
    opt.show(out, failed)
