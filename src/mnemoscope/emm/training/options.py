"""What a training from scratch is asked for: budget, optimizer, averages, snapshots and their scores, early stops."""

from dataclasses import asdict, dataclass, field
from typing import Any

from mnemoscope.emm.training.average import Average
from mnemoscope.errors import UsageError
from mnemoscope.run.options import require_known, require_not_negative, require_positive
from mnemoscope.training.options import PRECISIONS

STEPS = 3000
OPTIMIZERS = ("adam", "sgd")
ORDERS = ("shuffle", "fixed", "replacement")
SPACINGS = ("linear", "log")
KEPT = ("all", "best")
POSITIVE = (
    *("steps", "epochs", "batch_size", "accumulation", "learning_rate", "adam_epsilon", "snapshots", "threshold"),
    *("inference_steps", "score_batch", "checkpoint_every", "patience", "ema_half_life"),
)
NOT_NEGATIVE = ("ramp_up", "ramp_up_epochs", "weight_decay", "samples", "sample_seed", "seed")
SHARES = ("momentum", "adam_beta1", "adam_beta2", "augment", "flat_from", "stop_at")
LATER = ("ema_half_life", "transfer")  # options that trainings of an earlier version do not have, None for these
TRAINING, SCORING, RUNNING = "Training", "Snapshots and scores", "Run"
# what may differ from one session of a training to the next: it changes no weight and no row
FREE = ("accumulation", "score_batch", "checkpoint_every", "device", "trackers", "project")


def _of(default: Any, panel: str, text: str) -> Any:
    return field(default=default, metadata={"help": text, "panel": panel})


@dataclass(frozen=True)
class EmmTrainOptions:
    """Settings of a training from scratch; each field is the command-line option of the same name.

    The budget is `steps` updates of the weights, or so many `epochs`. `batch_size` is of one update, over all processes
    and `accumulation` passes. `ema` names the averages of the weights that are kept and scored, the first of which the
    summary is about. At `snapshots` moments of the budget, or at the fractions `snapshot_at`, `samples` images of each
    average are scored. `ema_half_life` takes the place of the 500,000 images of the modes. `transfer` is where the
    first weights come from; averages then have no ramp-up.
    """

    steps: int | None = _of(None, TRAINING, "Updates of the weights.")
    epochs: int | float | None = _of(None, TRAINING, "Epochs, in place of steps.")
    batch_size: int = _of(64, TRAINING, "Images of one update, over all processes.")
    learning_rate: int | float = _of(1e-3, TRAINING, "Of the weights.")
    ramp_up: int = _of(200, TRAINING, "Updates in which the learning rate rises from 0.")
    ramp_up_epochs: int | float | None = _of(None, TRAINING, "The same in epochs.")
    optimizer: str = _of("adam", TRAINING, "adam or sgd.")
    adam_beta1: int | float = _of(0.9, TRAINING, "Decay of the mean gradient.")
    adam_beta2: int | float = _of(0.999, TRAINING, "Decay of the mean squared gradient.")
    adam_epsilon: int | float = _of(1e-8, TRAINING, "Added to the divisor.")
    momentum: int | float = _of(0.9, TRAINING, "Of sgd.")
    weight_decay: int | float = _of(0, TRAINING, "Times the weights, added to the gradient.")
    ema: tuple[str, ...] = _of(
        ("0.999",), TRAINING, "Average of the weights: mode1, mode2, mode3 or a decay; repeat it."
    )
    ema_half_life: int | None = _of(None, TRAINING, "Half-life of averages in images, of a set of 50,000; 500,000.")
    transfer: str | None = _of(None, TRAINING, "Begin with the weights of a run of emm train or a .safetensors file.")
    order: str = _of("shuffle", TRAINING, "shuffle, fixed or replacement.")
    x_flip: bool = _of(False, TRAINING, "Mirror half of the views.")
    augment: int | float = _of(0, TRAINING, "Probability of changes that the network is told of.")
    snapshots: int = _of(4, SCORING, "Snapshots in the whole training.")
    spacing: str = _of("linear", SCORING, "linear or log.")
    snapshot_at: tuple[int | float, ...] = _of((), SCORING, "A share of the budget; repeat it.")
    keep: str = _of("all", SCORING, "Snapshots that stay: all, or best.")
    samples: int = _of(500, SCORING, "Images drawn of each snapshot and average; 0 for none.")
    sample_seed: int = _of(0, SCORING, "Seed of the first image.")
    inference_steps: int = _of(18, SCORING, "Sampling steps.")
    threshold: int | float = _of(1 / 3, SCORING, "Nearest over second distance below which it is a copy.")
    stop_at: int | float | None = _of(None, SCORING, "Stop when the ratio is surely as high.")
    patience: int | None = _of(None, SCORING, "Stop when it has not risen for so many snapshots.")
    flat_from: int | float = _of(0.05, SCORING, "The ratio from which not rising counts.")
    accumulation: int = _of(1, RUNNING, "Passes of a process in one update.")
    score_batch: int = _of(256, RUNNING, "Images drawn at a time.")
    mixed_precision: str = _of("no", RUNNING, "no, fp16 or bf16.")
    tf32: bool = _of(False, RUNNING, "TF32 on an NVIDIA GPU.")
    checkpoint_every: int = _of(1000, RUNNING, "Steps from checkpoint to checkpoint.")
    seed: int = _of(0, RUNNING, "Of all that is drawn at random.")
    device: str = _of("auto", RUNNING, "auto, cpu, cuda, cuda:1, mps.")
    trackers: tuple[str, ...] = _of((), RUNNING, "tensorboard, wandb, trackio ...; repeat it.")
    project: str = _of("mnemoscope", RUNNING, "Name of the project in the trackers.")

    def __post_init__(self) -> None:
        known = {"optimizer": OPTIMIZERS, "order": ORDERS, "spacing": SPACINGS, "keep": KEPT}
        for name, values in {**known, "mixed_precision": PRECISIONS}.items():
            require_known(name, getattr(self, name), values)
        require_positive(self, POSITIVE)
        require_not_negative(self, NOT_NEGATIVE)
        for name in SHARES:
            if (value := getattr(self, name)) is not None and not 0 <= value <= 1:
                raise UsageError(f"--{name.replace('_', '-')} {value} was given; give a number from 0 to 1.")
        for share in self.snapshot_at:
            if not 0 < share <= 1:
                raise UsageError(f"--snapshot-at {share} is no share of the budget; give a number above 0, up to 1.")
        self._check_together()

    def _check_together(self) -> None:
        if self.steps is not None and self.epochs is not None:
            raise UsageError("The budget is given by --steps and by --epochs; give one of them.")
        if not self.ema or len({Average.of(name) for name in self.ema}) < len(self.ema):
            raise UsageError(
                "--ema needs one or more averages of the weights, each once; give 0 for the weights alone."
            )
        if not self.samples and (self.stop_at is not None or self.patience is not None):
            raise UsageError("--stop-at and --patience look at the scored snapshots; give --samples above 0.")

    @property
    def averages(self) -> tuple[Average, ...]:
        """The averages that are kept."""
        return tuple(Average.of(name) for name in self.ema)

    def fixed(self) -> dict[str, Any]:
        """What must be the same when a training goes on."""
        own = {name: value for name, value in asdict(self).items() if name not in FREE}
        return {name: value for name, value in own.items() if value is not None or name not in LATER}

    def free(self) -> dict[str, Any]:
        """What may differ when a training goes on."""
        return {name: value for name, value in asdict(self).items() if name in FREE}
