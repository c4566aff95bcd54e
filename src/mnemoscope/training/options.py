"""What a training is asked for: networks, steps, optimizer, averages, checkpoints, previews."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from mnemoscope.errors import UsageError
from mnemoscope.run.options import check, option, require_known
from mnemoscope.run.settings import Settings

TRAIN = ("unet", "unet+text", "lora", "scratch")
SCHEDULES = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial")
PRECISIONS = ("no", "fp16", "bf16")
OPTIMIZERS = ("adamw", "adamw8bit")
LORA_LAYERS = ("attention", "all")
Mixup = Literal["batch", "sample"]
Form = Literal["joint", "element"]
WEIGHTINGS = ("none", "logit_normal", "mode", "sigma_sqrt", "cosmap")
DATA, OBJECTIVE, NETWORK = "Data", "Objective", "Network and optimizer"
RUNNING, WATCHING = "Run", "Watching"
# what may differ from one session of a training to the next: it changes no weight
FREE = (
    *("checkpoint_every", "keep", "save_every", "trackers", "project", "resume", "device"),
    *("preview_every", "preview_prompts", "preview_images", "preview_inference_steps", "preview_guidance"),
)


@dataclass(frozen=True)
class ObjectiveOptions:
    """What the network has to predict, from which noise, and which samples count how much.

    `prediction_type` replaces the scheduler's own, and is then to be saved with it. Raises `UsageError` for a value
    that is out of range.
    """

    prediction_type: str | None = option(None, "What is to be predicted, if not the model's own.", OBJECTIVE)
    snr_gamma: int | float | None = option(None, "Min-SNR weights with this gamma.", OBJECTIVE, above=0)
    noise_offset: int | float = option(0, "Noise that is constant over a channel.", OBJECTIVE, least=0)
    input_perturbation: int | float = option(0, "Further noise that is not predicted.", OBJECTIVE, least=0)
    embedding_noise: int | float = option(0, "Gaussian noise on the text embedding.", OBJECTIVE, least=0)
    embedding_mixup: int | float = option(0, "Mix captions' embeddings, Beta(value, 1).", OBJECTIVE, least=0)
    mixup: Mixup = option("batch", "One share a batch, or one a sample.", OBJECTIVE)
    hard_threshold: int | float | None = option(
        None, "Leave samples out whose text changes the prediction by this or more.", OBJECTIVE, above=0
    )
    threshold_form: Form = option("joint", "joint, or element for a size-free threshold.", OBJECTIVE)
    threshold_units: str | None = option(
        None, "eps or x0: what the threshold is in, if the model is not in eps.", OBJECTIVE
    )

    weighting: str | None = option(
        None, "Times and weights of a flow: none, logit_normal, mode, sigma_sqrt or cosmap.", OBJECTIVE
    )
    logit_mean: int | float = option(0, "Of the logit of the times, for logit_normal.", OBJECTIVE)
    logit_std: int | float = option(1, "Of the logit of the times, for logit_normal.", OBJECTIVE, above=0)
    mode_scale: int | float = option(1.29, "Of the times, for mode.", OBJECTIVE)
    precondition_outputs: bool = option(
        False,
        "Compare clean latents, not velocities of a flow.",
        OBJECTIVE,
        "--precondition-outputs/--no-precondition-outputs",
    )

    def __post_init__(self) -> None:
        check(self)
        if self.weighting is not None:
            require_known("weighting", self.weighting, WEIGHTINGS)
        if self.threshold_units is not None:
            require_known("threshold_units", self.threshold_units, ("eps", "x0"))
        if self.prediction_type is not None:
            from mnemoscope.model.schedule import PREDICTION_TYPES

            require_known("prediction_type", self.prediction_type, PREDICTION_TYPES)


@dataclass(frozen=True)
class TrainOptions:
    """Settings of a training; each field is the command-line option of the same name.

    `batch_size` is of one process and one of its `accumulation` micro-batches. `steps` and `warmup` count updates of
    the weights, whatever the number of processes. `ema` is one decay for each average that is kept of the weights.
    """

    train: str = option("unet", "unet, unet+text, lora or scratch.", NETWORK, known=TRAIN)
    steps: int = option(1000, "Updates of the weights.", NETWORK, above=0)
    batch_size: int = option(4, "Samples of a process in one pass.", NETWORK, above=0)
    accumulation: int = option(1, "Passes of a process in one update.", NETWORK, above=0)
    learning_rate: int | float = option(1e-5, "Of the weights.", NETWORK, above=0)
    scale_lr: bool = option(False, "Times the samples of an update.", NETWORK, "--scale-lr/--no-scale-lr")
    lr_scheduler: str = option(
        "constant",
        "constant, constant_with_warmup, linear, cosine, cosine_with_restarts, polynomial.",
        NETWORK,
        known=SCHEDULES,
    )
    warmup: int = option(0, "Updates in which the learning rate rises.", NETWORK, least=0)
    optimizer: str = option("adamw", "adamw or adamw8bit.", NETWORK, known=OPTIMIZERS)
    adam_beta1: int | float = option(0.9, "Decay of the mean gradient.", NETWORK, least=0, below=1)
    adam_beta2: int | float = option(0.999, "Decay of the mean squared gradient.", NETWORK, least=0, below=1)
    adam_epsilon: int | float = option(1e-8, "Added to the divisor.", NETWORK, above=0)
    weight_decay: int | float = option(1e-2, "Of the weights.", NETWORK, least=0)
    max_grad_norm: int | float = option(1.0, "Gradients are clipped at this norm.", NETWORK, above=0)
    ema: tuple[float, ...] = option((), "Decay of an average of the weights; repeat it.", NETWORK)
    mixed_precision: str = option("no", "no, fp16 or bf16.", RUNNING, known=PRECISIONS)
    gradient_checkpointing: bool = option(
        False, "Less memory for more time.", RUNNING, "--gradient-checkpointing/--no-gradient-checkpointing"
    )
    tf32: bool = option(False, "TF32 on an NVIDIA GPU.", RUNNING, "--tf32/--no-tf32")
    compile: bool = option(False, "Compile the U-Net.", RUNNING, "--compile/--no-compile")
    lora_rank: int = option(4, "Rank of the LoRA.", NETWORK, above=0)
    lora_alpha: int | float | None = option(None, "Scale of the LoRA; its rank if not given.", NETWORK)
    lora_layers: str = option(
        "attention", "attention, or all: the convolutions and other projections too.", NETWORK, known=LORA_LAYERS
    )
    unet_config: str | None = option(None, "JSON file of the U-Net from scratch.", NETWORK)
    seed: int = option(0, "Of all that is drawn at random.", RUNNING, least=0)
    device: str = option("auto", "auto, cpu, cuda, cuda:1, mps.", RUNNING)
    checkpoint_every: int = option(500, "Steps from checkpoint to checkpoint.", RUNNING, above=0)
    keep: int | None = option(None, "Checkpoints that are kept; all if not given.", RUNNING, above=0)
    save_every: int = option(0, "Steps from whole pipeline to whole pipeline; 0 for the last alone.", RUNNING, least=0)
    resume: str = option("auto", "auto, or a checkpoint of another run to begin from.", RUNNING)
    preview_every: int = option(0, "Steps from preview to preview; 0 for none.", WATCHING, least=0)
    preview_prompts: tuple[str, ...] = option((), "A prompt to draw; repeat it.", WATCHING)
    preview_images: int = option(4, "Images of each prompt.", WATCHING, above=0)
    preview_inference_steps: int = option(50, "Sampling steps of a preview.", WATCHING, above=0)
    preview_guidance: int | float = option(7.5, "Guidance of a preview.", WATCHING)
    trackers: tuple[str, ...] = option((), "tensorboard, wandb, trackio ...; repeat it.", WATCHING)
    project: str = option("mnemoscope", "Name of the project in the trackers.", WATCHING)

    def __post_init__(self) -> None:
        check(self)
        for decay in self.ema:
            if not 0 < decay < 1:
                raise UsageError(f"--ema {decay} is no decay; give a number between 0 and 1, for instance 0.9999.")
        self._check_together()

    def _check_together(self) -> None:
        if self.warmup and self.lr_scheduler == "constant":
            raise UsageError("The constant schedule has no warm-up; use --lr-scheduler constant_with_warmup.")
        if self.warmup >= self.steps:
            raise UsageError(f"--warmup {self.warmup} leaves none of {self.steps} steps; give fewer, or more --steps.")
        if self.unet_config is not None and self.train != "scratch":
            raise UsageError("--unet-config describes a new U-Net; give --train scratch with it.")
        if self.lora_alpha is not None and self.train != "lora":
            raise UsageError("--lora-alpha is a LoRA's; give --train lora with it.")
        if self.lora_layers != "attention" and self.train != "lora":
            raise UsageError("--lora-layers are a LoRA's; give --train lora with it.")
        if len(set(self.ema)) < len(self.ema):
            raise UsageError("--ema was given one decay twice; give each once.")

    def fixed(self) -> Settings:
        """What must be the same when a training goes on."""
        return {name: value for name, value in asdict(self).items() if name not in FREE}

    def free(self) -> Settings:
        """What may differ when a training goes on."""
        return {name: value for name, value in asdict(self).items() if name in FREE}


def suffix(decay: float) -> str:
    """What the weights averaged with a decay are called, behind the network's name."""
    return f"_ema_{decay}"


def chosen(kind: type, given: Mapping[str, Any]) -> Any:
    """Options of a kind from all that was given; lists become tuples, and None is what was not given."""
    names = [field.name for field in fields(kind)]
    values = {name: given[name] for name in names if given.get(name) is not None}
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def checkpoint_path(resume: str) -> Path | None:
    """The checkpoint of another run to begin from; raises `UsageError` if there is none."""
    if resume == "auto":
        return None
    if not (Path(resume) / "state.json").is_file():
        raise UsageError(f"{resume} is no checkpoint; give auto, or a folder step-N that a training wrote.")
    return Path(resume)
