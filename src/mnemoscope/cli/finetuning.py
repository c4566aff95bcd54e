"""The audit of a fine-tune: its options, and the models that it compares."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from mnemoscope.cli import options as opt
from mnemoscope.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mnemoscope.audit.finetune import Finetune
    from mnemoscope.audit.run import Examination
    from mnemoscope.model.denoiser import Denoiser
    from mnemoscope.prompts.prompt import Prompt

OWN = ("base", "repaired", "extrapolate")  # options of the audit of a fine-tune alone
Source = Annotated[str | None, opt.of(opt.INPUT, opt.SOURCES)]
PUT_IN = ("unet", "text_encoder", "lora", "embedding")


@dataclass(frozen=True, kw_only=True)
class AuditedPrompts(opt.TestedPrompts):
    """The prompts of an audit: given as such, or as the captions of what a fine-tune was trained on."""

    PANEL: ClassVar = opt.INPUT
    prompts: Source = None  # type: ignore[assignment]
    data: Annotated[
        str | None,
        opt.of(opt.INPUT, "What a fine-tune was trained on: captions are the prompts, pictures the references."),
    ] = None
    base: Annotated[
        str | None, opt.of(opt.MODEL, "The model that MODEL was fine-tuned from, where that is no --lora or --unet.")
    ] = None
    repaired: Annotated[
        list[str] | None,
        opt.of(opt.MODEL, "LoRA to audit in the place of --lora, as repair writes one; repeat it for several."),
    ] = None
    extrapolate: Annotated[
        str | None,
        opt.of(opt.SAMPLING, "Draw beyond the fine-tune as well, away from its base: WEIGHT[:guided|uncond|cond]."),
    ] = None

    def compared_with(self, references: str | None) -> str | None:
        """The training images; raises `UsageError` for options that do not go together."""
        if self.data is None:
            if given := next((name for name in OWN if getattr(self, name) is not None), None):
                raise UsageError(f"--{given} is of the audit of a fine-tune; give --data, what it was trained on.")
            if self.prompts is None:
                raise UsageError("An audit needs --prompts, or --data with what a fine-tune was trained on.")
            return references
        names = {"prompts": self.prompts, "references": references, "only": self.only, "seed-column": self.seed_column}
        if given := next((name for name, value in names.items() if value is not None), None):
            raise UsageError(f"--data gives prompts and references; leave out --{given}.")
        return self.data


def audit_finetune(
    models: "Finetune",
    prompts: AuditedPrompts,
    captions: Path | None,
    out: Path,
    asked: "Examination",
    negatives: "Sequence[Prompt]",
) -> int:
    """Audit a fine-tune and its base; returns how many prompts or images failed."""
    from mnemoscope.audit.finetune import run_finetune_audit
    from mnemoscope.audit.training_set import controls_of, training_pictures

    assert prompts.data is not None
    where: dict[str, Any] = {"captions": captions, "column": prompts.column}
    data = training_pictures(prompts.data, **where, start=prompts.start, limit=prompts.limit)
    controls = controls_of(data, negatives, fpr=asked.fpr, seed=asked.detection.seed)
    return run_finetune_audit(models, data, controls, out, asked)


def finetune(model: opt.Model, prompts: AuditedPrompts) -> "Finetune":
    """The fine-tuned model, its base, and the repaired one; raises `UsageError` where there is no base."""
    from mnemoscope.audit.finetune import Beyond, Finetune

    if prompts.base is None and not any(getattr(model, name) for name in PUT_IN):
        raise UsageError(
            "The audit of a fine-tune compares it with its base; give --lora or --unet, or the model that MODEL was "
            "fine-tuned from as --base."
        )
    if prompts.repaired and not model.lora:
        raise UsageError("--repaired takes the place of --lora, and there is none; give the LoRA that was repaired.")
    beyond = Beyond.of(prompts.extrapolate) if prompts.extrapolate else None
    tuned = model.load()
    plain: dict[str, Any] = dict.fromkeys(PUT_IN)
    base = alike(model, tuned, **plain, model=prompts.base or model.model)
    repaired = alike(model, tuned, lora=prompts.repaired) if prompts.repaired else None
    return Finetune(tuned, base, repaired, beyond)


def alike(asked: opt.Model, tuned: "Denoiser", **parts: Any) -> "Denoiser":
    """The model that was asked for with other parts, drawing images of the fine-tuned one's size."""
    return asked.load(**parts, size="x".join(map(str, tuned.size)))
