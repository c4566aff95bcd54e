"""What a training is asked for: networks, steps, optimizer, averages, checkpoints, previews."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mnemoscope.errors import UsageError

TRAIN = ("unet", "unet+text", "lora", "scratch")
SCHEDULES = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial")
PRECISIONS = ("no", "fp16", "bf16")
OPTIMIZERS = ("adamw", "adamw8bit")
POSITIVE = (
    *("steps", "batch_size", "accumulation", "learning_rate", "adam_epsilon", "max_grad_norm", "lora_rank"),
    *("checkpoint_every", "keep", "preview_images", "preview_inference_steps"),
)
NOT_NEGATIVE = ("warmup", "weight_decay", "preview_every", "seed")
# what may differ from one session of a training to the next: it changes no weight
FREE = (
    *("checkpoint_every", "keep", "trackers", "project", "resume", "device"),
    *("preview_every", "preview_prompts", "preview_images", "preview_inference_steps", "preview_guidance"),
)


@dataclass(frozen=True)
class TrainOptions:
    """Settings of a training; each field is the command-line option of the same name.

    `batch_size` is of one process and one of its `accumulation` micro-batches. `steps` and `warmup` count updates of
    the weights, whatever the number of processes. `ema` is one decay for each average that is kept of the weights.
    """

    train: str = "unet"
    steps: int = 1000
    batch_size: int = 4
    accumulation: int = 1
    learning_rate: int | float = 1e-5
    scale_lr: bool = False
    lr_scheduler: str = "constant"
    warmup: int = 0
    optimizer: str = "adamw"
    adam_beta1: int | float = 0.9
    adam_beta2: int | float = 0.999
    adam_epsilon: int | float = 1e-8
    weight_decay: int | float = 1e-2
    max_grad_norm: int | float = 1.0
    ema: tuple[float, ...] = ()
    mixed_precision: str = "no"
    gradient_checkpointing: bool = False
    tf32: bool = False
    compile: bool = False
    lora_rank: int = 4
    lora_alpha: int | float | None = None
    unet_config: str | None = None
    seed: int = 0
    device: str = "auto"
    checkpoint_every: int = 500
    keep: int | None = None
    resume: str = "auto"
    preview_every: int = 0
    preview_prompts: tuple[str, ...] = ()
    preview_images: int = 4
    preview_inference_steps: int = 50
    preview_guidance: int | float = 7.5
    trackers: tuple[str, ...] = ()
    project: str = "mnemoscope"

    def __post_init__(self) -> None:
        for name, known in (("train", TRAIN), ("lr_scheduler", SCHEDULES), ("mixed_precision", PRECISIONS)):
            require_known(name, getattr(self, name), known)
        require_known("optimizer", self.optimizer, OPTIMIZERS)
        require_positive(self, POSITIVE)
        require_not_negative(self, NOT_NEGATIVE)
        for name in ("adam_beta1", "adam_beta2"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise UsageError(f"{_option(name)} {value} was given; give a number from 0 to below 1.")
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
        if len(set(self.ema)) < len(self.ema):
            raise UsageError("--ema was given one decay twice; give each once.")

    def fixed(self) -> dict[str, Any]:
        """What must be the same when a training goes on."""
        return {name: value for name, value in asdict(self).items() if name not in FREE}

    def free(self) -> dict[str, Any]:
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


def require_positive(options: Any, names: Iterable[str]) -> None:
    """Raises `UsageError` unless each of these fields is None or above 0."""
    for name in names:
        if (value := getattr(options, name)) is not None and not value > 0:
            raise UsageError(f"{_option(name)} {value} was given; give a number above 0.")


def require_not_negative(options: Any, names: Iterable[str]) -> None:
    """Raises `UsageError` unless each of these fields is None, or 0 or more."""
    for name in names:
        if (value := getattr(options, name)) is not None and not value >= 0:
            raise UsageError(f"{_option(name)} {value} was given; give 0 or more.")


def require_known(name: str, value: str, known: tuple[str, ...]) -> None:
    """Raises `UsageError` unless a field has one of the known values."""
    if value not in known:
        raise UsageError(f"{_option(name)} {value} is not known; give {', '.join(known[:-1])} or {known[-1]}.")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
