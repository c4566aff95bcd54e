"""The commands that do everything at once."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app
from mnemoscope.cli.command import command
from mnemoscope.cli.detecting import NOISE_NORM, Detectors, one_method
from mnemoscope.cli.finetuning import AuditedPrompts, audit_finetune, finetune
from mnemoscope.errors import UsageError

if TYPE_CHECKING:
    from mnemoscope.audit.run import Examination
    from mnemoscope.features.alignment import Aligner
    from mnemoscope.model.denoiser import Denoiser


@command(app)
def demo(
    out: opt.Out = Path("demo-report"),
    overwrite: opt.Overwrite = False,
    batch_size: opt.Batch = "auto",
    export: Annotated[
        Path | None, opt.of(opt.RUN, "Write its prompts, ordinary prompts and training pictures there, and stop.")
    ] = None,
) -> dict[str, Any] | None:
    """Audit the bundled model, which has memorized some of its training images, and write a report."""
    from mnemoscope.audit.tour import NEXT, export_data, run_demo

    if export is not None:
        written = export_data(export, overwrite=overwrite)
        typer.echo("{prompts} prompts, {negatives} ordinary ones and {references} pictures: {folder}".format(**written))
        return written
    opt.prepare()
    failed = run_demo(out, batch=batch_size, overwrite=overwrite)
    opt.show(out, failed)
    typer.echo("\n".join(["What next?", *(f"  # {what}\n  {line}" for what, line in NEXT)]))
    return None


@dataclass(frozen=True, kw_only=True)
class AuditReferences:
    """The training images that an audit compares with, and what judges whether images show their prompt."""

    PANEL: ClassVar = opt.COMPARISON
    references: opt.References = None
    captions: opt.ReferenceCaptions = None
    alignment: opt.Alignment = None


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """What an audit does with prompts, and with those that are flagged."""

    PANEL: ClassVar = opt.METHOD
    method: Detectors = field(default_factory=lambda: list(NOISE_NORM))
    param: opt.Param = None
    seeds: opt.Seeds = 4
    images: Annotated[int, opt.of(opt.SAMPLING, "Images drawn for each prompt shown.", min=1)] = 4
    explain: Annotated[str, opt.of(opt.METHOD, "How to explain what is flagged, or none.")] = "token_occlusion"
    mitigate: Annotated[str, opt.of(opt.METHOD, "How to mitigate what is flagged, or none.")] = "embedding_descent"
    most: Annotated[int, opt.of(opt.METHOD, "How many of the highest-scoring prompts are drawn.", min=1)] = 24
    threshold: opt.Flagging = None
    fpr: opt.Fpr = 0.01

    def examination(self, sampling: opt.SamplingOptions) -> "Examination":
        """They as an audit takes them, checked before any work."""
        from mnemoscope import registry
        from mnemoscope.audit.run import Examination
        from mnemoscope.detection.scoring import Detection
        from mnemoscope.explanation.run import Explanation
        from mnemoscope.generation.run import Generation
        from mnemoscope.mitigation.chosen import Mitigation
        from mnemoscope.run.settings import parameters

        drawing = {"seed": sampling.seed, **sampling.settings}
        explanation, mitigation = None, None
        if self.explain != "none":
            words = {"unit": "word"} if "unit" in registry.get("explain", self.explain).parameters else {}
            explanation = Explanation(self.explain, words, **drawing)
        if self.mitigate != "none":
            mitigation = Mitigation(self.mitigate)
            mitigation.check()
        return Examination(
            Detection(one_method(self.method), parameters(self.param), seeds=self.seeds, **drawing),
            Generation(images=self.images, **drawing),
            explanation=explanation,
            mitigation=mitigation,
            most=self.most,
            fpr=self.fpr,
            threshold=self.threshold,
        )


def _aligner(alignment: str | None, model: "Denoiser", *, has_own_prompts: bool) -> "Aligner | None":
    """What judges whether an image shows its prompt; for prompts of the bundled model its own where none is given."""
    from mnemoscope.features.alignment import CONCEPTS, aligner

    name = alignment or (CONCEPTS if has_own_prompts and model.source == "demo" else None)
    return aligner(name, str(model.device)) if name else None


@command(app, spreads=True)
def audit(
    model: opt.Model,
    prompts: AuditedPrompts,
    sampling: opt.SamplingOptions,
    features: opt.PixelFeatures,
    references: AuditReferences,
    options: AuditOptions,
    out: opt.Out,
    policy: Annotated[Path | None, opt.of(opt.RUN, "YAML file with limits that the audit must keep; see gate.")] = None,
    batch_size: opt.Batch = "auto",
    overwrite: opt.Overwrite = False,
) -> None:
    """Detect, draw what is flagged beside its nearest training images, explain it, mitigate it; one report.

    With --data, of a fine-tune: its training captions are drawn with it and with its base.
    """
    from mnemoscope.audit.run import Copying, run_audit
    from mnemoscope.features.references import read_references
    from mnemoscope.gate.policy import read_policy

    if options.threshold is not None and prompts.data:
        raise UsageError("--threshold is one model's, and with --data each model gets its own; leave it out.")
    limits = read_policy(policy) if policy else None  # a mistake in it is told before the work
    compared = prompts.compared_with(references.references)
    asked = replace(options.examination(sampling), batch=batch_size, overwrite=overwrite)
    models = finetune(model, prompts) if prompts.data else None
    loaded = models.tuned if models else model.load()
    if compared:
        column = prompts.column if prompts.data else None  # else it is that of the prompts
        judge = _aligner(references.alignment, loaded, has_own_prompts=models is None)
        by, captions = features.descriptor(model.device), references.captions
        copying = Copying(compared, by, captions=captions, column=column, aligner=judge)
        read = read_references(compared, captions=captions, column=column)
        asked = replace(asked, references=read, copying=copying)
    negatives = prompts.read_negatives(loaded, sampling.seed)
    if models:
        failed = audit_finetune(models, prompts, references.captions, out, asked, negatives)
    else:
        failed = run_audit(loaded, prompts.read(loaded, sampling.seed), out, **vars(asked), negatives=negatives)
    _told(out, limits, failed)


def _told(out: Path, limits: Any, failed: int) -> None:
    """Hold the audit against its policy if it has one, write its report, say both, and leave as they ask for."""
    from mnemoscope.cli.gating import held, show

    if not limits:
        return opt.show(out, failed)
    verdict, code = held([out], limits)  # first, as the report begins with it
    opt.show(out, 0)
    show(verdict, out / "gate")
    if code or failed:
        raise typer.Exit(code or 1)
    return None
