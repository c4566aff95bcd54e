"""The commands that do everything at once."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app
from mnemoscope.cli.command import command


@command(app)
def demo(
    out: opt.Out = Path("demo-report"),
    overwrite: opt.Overwrite = False,
    batch_size: opt.Batch = "auto",
) -> None:
    """Audit the bundled model, which has memorized some of its training images, and write a report."""
    from mnemoscope.audit.tour import run_demo

    opt.prepare()
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


def _copying(references: str, captions: Path | None, descriptor: Any, alignment: str | None, model: Any) -> Any:
    """What images are compared with; the bundled model's own alignment where none is given for it."""
    from mnemoscope.audit.run import Copying
    from mnemoscope.features.alignment import CONCEPTS, aligner

    name = alignment or (CONCEPTS if model.source == "demo" else None)
    return Copying(
        references, descriptor, captions=captions, aligner=aligner(name, str(model.device)) if name else None
    )


@command(app)
def audit(
    model: opt.Model,
    prompts: opt.TestedPrompts,
    sampling: opt.Sampling,
    features: opt.PixelFeatures,
    out: opt.Out,
    references: opt.References = None,
    captions: opt.ReferenceCaptions = None,
    method: opt.Detector = "noise_norm",
    param: opt.Param = None,
    seeds: opt.Seeds = 4,
    images: Annotated[int, opt.of(opt.SAMPLING, "Images drawn for each prompt shown.", min=1)] = 4,
    alignment: opt.Alignment = None,
    explain: Annotated[str, opt.of(opt.METHOD, "How to explain what is flagged, or none.")] = "token_occlusion",
    mitigate: Annotated[str, opt.of(opt.METHOD, "How to mitigate what is flagged, or none.")] = "embedding_descent",
    most: Annotated[int, opt.of(opt.METHOD, "How many of the highest-scoring prompts are drawn.", min=1)] = 24,
    fpr: opt.Fpr = 0.01,
    policy: Annotated[Path | None, opt.of(opt.RUN, "YAML file with limits that the audit must keep; see gate.")] = None,
    batch_size: opt.Batch = "auto",
    overwrite: opt.Overwrite = False,
) -> None:
    """Detect, draw what is flagged beside its nearest training images, explain it, mitigate it; one report."""
    from mnemoscope.audit.run import run_audit
    from mnemoscope.cli.gating import held
    from mnemoscope.detection.run import Detection
    from mnemoscope.features.references import read_references
    from mnemoscope.gate.policy import read_policy
    from mnemoscope.generation.run import Generation
    from mnemoscope.run.settings import parameters

    limits = read_policy(policy) if policy else None  # a mistake in it is told before the work
    drawing: dict[str, Any] = {"seed": sampling.seed, **sampling.settings}
    afterwards = _afterwards(explain, mitigate, **drawing)
    loaded = model.load()
    failed = run_audit(
        loaded,
        prompts.read(loaded, sampling.seed),
        out,
        Detection(method, parameters(param), seeds=seeds, **drawing),
        Generation(images=images, **drawing),
        **afterwards,
        negatives=prompts.read_negatives(loaded, sampling.seed),
        references=read_references(references, captions=captions) if references else None,
        copying=_copying(references, captions, features.descriptor(model.device), alignment, loaded)
        if references
        else None,
        most=most,
        fpr=fpr,
        batch=batch_size,
        overwrite=overwrite,
    )
    code = held([out], limits)[1] if limits else 0  # first, as the report begins with the verdict
    opt.show(out, 0 if code else failed)
    if code:
        raise typer.Exit(code)
