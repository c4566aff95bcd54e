"""The networks of a pipeline that train, the loss of a batch as their forward pass, and their files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from jaxtyping import Float
from torch import Tensor, nn

from mnemoscope.errors import UsageError
from mnemoscope.model.cond import Cond
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.weights.size import make_own, own_size
from mnemoscope.training import adapters
from mnemoscope.training.data.texts import Texts
from mnemoscope.training.noise import Draws
from mnemoscope.training.objective import Objective, ObjectiveOptions, loss
from mnemoscope.training.options import TrainOptions
from mnemoscope.training.scratch import new_unet

FAMILIES = ("stable-diffusion", "stable-diffusion-xl", "unconditional")
ADAPTED = ("stable-diffusion-3", "flux")  # of which a LoRA is trained, as diffusers' own scripts do


@dataclass(frozen=True)
class TrainingBatch:
    """Samples of one process and one micro-batch."""

    latents: Float[Tensor, "B C h w"]
    captions: Sequence[str]
    groups: Sequence[str]
    draws: Draws


class Networks(nn.Module):
    """What trains of a pipeline; called with a batch it gives its `Objective`.

    Raises `UsageError` for a pipeline of another family, or a part that the pipeline does not have.
    """

    def __init__(self, pipe: DiffusionPipeline, options: TrainOptions, objective: ObjectiveOptions) -> None:
        super().__init__()
        self.pipe, self.options, self.objective = pipe, options, objective
        if options.train == "scratch":
            size = own_size(pipe)
            pipe.register_modules(unet=new_unet(pipe, options))
            if size is not None:
                make_own(pipe, size)
        if objective.prediction_type is not None:
            pipe.scheduler.register_to_config(prediction_type=objective.prediction_type)
        denoiser = Denoiser(pipe)
        self.family = denoiser.family
        _check(self.family, options)
        self.unet = denoiser.network  # or the transformer in its place
        self.text_encoder = pipe.text_encoder if options.train == "unet+text" else None
        self.texts = Texts(lambda captions: self.family.encode(captions, self.family.latent_shape))
        self._null: Cond | None = None
        self._prepare()

    def _prepare(self) -> None:
        """Let gradients reach what trains, and nothing else."""
        if self.options.train == "lora":
            adapters.add(self.unet, self.options)
        for module in self.trained if self.options.train != "lora" else ():
            module.requires_grad_(True)
        if self.options.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
            if self.text_encoder is not None:
                _saving(self.text_encoder)()
        if self.options.compile:
            self.unet.compile()
        for module in self.trained:
            module.train()

    @property
    def trained(self) -> list[nn.Module]:
        """The networks that train, whole or by an adapter."""
        return [m for m in (self.unet, self.text_encoder) if m is not None]

    @property
    def parameters_trained(self) -> list[nn.Parameter]:
        """The parameters that the optimizer changes, in a fixed order."""
        return [p for module in self.trained for p in module.parameters() if p.requires_grad]

    def forward(self, batch: TrainingBatch) -> Objective:
        null = self.null(len(batch.captions)) if self.objective.hard_threshold is not None else None
        cond = self.conditions(batch.captions)
        scheduler = self.pipe.scheduler
        return loss(self.predict, batch.latents, cond, scheduler, batch.draws, self.objective, null=null)

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        return self.family.predict(x_t, t, cond)

    def conditions(self, captions: Sequence[str]) -> Cond:
        """Conditioning of captions; of a frozen text encoder each is computed once, by itself, in full precision."""
        if not self.family.has_tokens:
            return {}
        if self.text_encoder is not None:
            return self.family.encode(captions, self.family.latent_shape)
        with torch.autocast(self.unet.device.type, enabled=False):
            return self.texts(captions)

    @torch.no_grad()
    def null(self, count: int) -> Cond | None:
        """Conditioning of no caption; None for a family that has none."""
        if self.family.unguided:
            return None
        if self._null is None or self.text_encoder is not None:
            self._null = self.family.null(1, self.family.latent_shape)
        return {name: value.expand(count, *value.shape[1:]) for name, value in self._null.items()}

    def write(self, folder: Path, suffix: str = "") -> None:
        """Write what trains into `unet/`, `text_encoder/` or `lora/`, with a suffix to the name."""
        if self.options.train == "lora":
            adapters.write(self.pipe, folder / f"lora{suffix}")
            return
        self.unet.save_pretrained(folder / f"unet{suffix}")
        if self.text_encoder is not None:
            self.text_encoder.save_pretrained(folder / f"text_encoder{suffix}")

    def read(self, folder: Path, suffix: str = "") -> None:
        """Take the weights that `write` wrote."""
        if self.options.train == "lora":
            adapters.read(self.pipe, folder / f"lora{suffix}")
            return
        for name, module in (("unet", self.unet), ("text_encoder", self.text_encoder)):
            if module is not None:
                saved = type(module).from_pretrained(folder / f"{name}{suffix}", use_safetensors=True)
                module.load_state_dict(saved.state_dict())


def _saving(module: Any) -> Any:
    """What makes a transformers network compute activations anew, by the name that its version has for it."""
    return getattr(module, "activation_checkpointing_enable", None) or module.gradient_checkpointing_enable


def _check(family: Any, options: TrainOptions) -> None:
    if family.name in ADAPTED and options.train != "lora":
        raise UsageError(f"Of a {family.name} model a LoRA is trained here, and not all of it; use --train lora.")
    if family.name not in (*FAMILIES, *ADAPTED):
        raise UsageError(
            f"A {family.name} model cannot be trained here; those of {', '.join(FAMILIES)} can, and a LoRA of "
            f"{' and '.join(ADAPTED)}."
        )
    if family.name != "unconditional" and family.unguided:
        raise UsageError("This model cannot be trained here: its guidance is distilled into the network.")
    if options.train == "unet+text" and family.name != "stable-diffusion":
        raise UsageError(f"The text encoder of a {family.name} model is not trained here; use --train unet or lora.")
    if options.train == "lora" and not hasattr(family.pipe, "save_lora_weights"):
        raise UsageError(f"{type(family.pipe).__name__} takes no LoRA; use --train unet.")
