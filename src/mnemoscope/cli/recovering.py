"""The command that asks whether an edit removed anything."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app
from mnemoscope.cli.command import command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mnemoscope.model.denoiser import Denoiser
    from mnemoscope.prompts.prompt import Prompt
    from mnemoscope.recovery.run import Edit, Recovery


@dataclass(frozen=True, kw_only=True)
class EditOptions:
    """The edit that is attacked: a mitigation, or other parts of the model."""

    PANEL: ClassVar = opt.METHOD
    edit: Annotated[list[str] | None, opt.of(opt.METHOD, "neuron_ablation, weight_pruning or another mitigation.")] = (
        None
    )
    param: opt.Param = None
    edited_lora: Annotated[
        list[str] | None, opt.of(opt.MODEL, "LoRA in the place of --lora, as repair writes one; repeat it for several.")
    ] = None
    edited_unet: Annotated[Path | None, opt.of(opt.MODEL, "Folder of a U-Net that was edited elsewhere.")] = None

    def applied(self, model: "Denoiser", prompts: "Sequence[Prompt]", neutral: "Sequence[Prompt]") -> "Edit":
        """The mitigations, as a context on the model; none changes nothing."""
        from mnemoscope.recovery.editing import edited_by
        from mnemoscope.run.settings import parameters

        texts, ordinary = [p.text for p in prompts], [p.text for p in neutral]
        return edited_by(model, self.edit or [], parameters(self.param), texts, ordinary)

    def loaded(self, model: opt.Model) -> "Denoiser | None":
        """The model with the edited parts, where there are some."""
        given = {"unet": self.edited_unet, "lora": self.edited_lora}
        parts = {name: value for name, value in given.items() if value}
        return model.load(**parts) if parts else None


@dataclass(frozen=True, kw_only=True)
class AttackOptions:
    """How embeddings are searched that bring the images back."""

    PANEL: ClassVar = opt.METHOD
    threshold: Annotated[float, opt.of(opt.COMPARISON, "Similarity above which the image is back.")] = 0.7
    images: opt.Images = 4
    attack_steps: Annotated[int, opt.of(opt.METHOD, "Steps of the search for an embedding.", min=1)] = 50
    attack_batch: Annotated[int, opt.of(opt.METHOD, "Noises in each step of it.", min=1)] = 8
    lr: Annotated[float, opt.of(opt.METHOD, "Learning rate of the search.", min=0.0)] = 0.1
    begin: Annotated[str, opt.of(opt.METHOD, "Where it begins: prompt, random, or any text.")] = "prompt"

    def recovery(self, sampling: opt.SamplingOptions) -> "Recovery":
        """They as a recovery takes them; each option is the field of its name."""
        from mnemoscope.recovery.run import Recovery

        return Recovery(**vars(self), seed=sampling.seed, **sampling.settings)


@command(app, spreads=True)
def recover(
    model: opt.Model,
    prompts: opt.TestedPrompts,
    sampling: opt.SamplingOptions,
    features: opt.Features,
    references: Annotated[str, opt.of(opt.COMPARISON, "Training images, with the prompts as their captions.")],
    edit: EditOptions,
    attack: AttackOptions,
    out: opt.Out,
    captions: opt.ReferenceCaptions = None,
    controls: Annotated[str | None, opt.of(opt.COMPARISON, "Captioned images that were never memorized.")] = None,
    batch_size: opt.Batch = "auto",
    overwrite: opt.Overwrite = False,
) -> None:
    """Search embeddings that bring memorized images back from an edited model."""
    from mnemoscope.prompts.prompt import Prompts, left_out
    from mnemoscope.recovery.run import run_recovery
    from mnemoscope.recovery.targets import targets_of

    loaded = model.load()
    listed, neutral = prompts.read(loaded, sampling.seed), prompts.read_negatives(loaded, sampling.seed)
    targets, told = targets_of(listed, references, controls, captions)
    summary = run_recovery(
        loaded,
        targets,
        out,
        attack.recovery(sampling),
        features.descriptor(model.device),
        edit=edit.applied(loaded, listed, neutral),
        edited=edit.loaded(model),
        batch=batch_size,
        overwrite=overwrite,
        told={**told, **left_out(Prompts.of(listed, listed, neutral))},
    )
    opt.show(out, summary["failed"])
