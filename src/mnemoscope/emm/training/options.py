"""What a training from scratch is asked for: budget, optimizer, averages, snapshots and their scores, early stops."""

from dataclasses import asdict, dataclass
from typing import Any

from mnemoscope.emm.training.averaging import Average
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
    *("inference_steps", "score_batch", "checkpoint_every", "patience"),
)
NOT_NEGATIVE = ("ramp_up", "ramp_up_epochs", "weight_decay", "samples", "sample_seed", "seed")
SHARES = ("momentum", "adam_beta1", "adam_beta2", "augment", "flat_from", "stop_at")
# what may differ from one session of a training to the next: it changes no weight and no row
FREE = ("accumulation", "score_batch", "checkpoint_every", "device", "trackers", "project")


@dataclass(frozen=True)
class EmmTrainOptions:
    """Settings of a training from scratch; each field is the command-line option of the same name.

    The budget is `steps` updates of the weights, or so many `epochs`. `batch_size` is of one update, over all processes
    and `accumulation` passes. `ema` names the averages of the weights that are kept and scored, the first of which the
    summary is about. At `snapshots` moments of the budget, or at the fractions `snapshot_at`, `samples` images of each
    average are scored.
    """

    steps: int | None = None
    epochs: int | float | None = None
    batch_size: int = 64
    accumulation: int = 1
    learning_rate: int | float = 1e-3
    ramp_up: int = 200
    ramp_up_epochs: int | float | None = None
    optimizer: str = "adam"
    adam_beta1: int | float = 0.9
    adam_beta2: int | float = 0.999
    adam_epsilon: int | float = 1e-8
    momentum: int | float = 0.9
    weight_decay: int | float = 0
    ema: tuple[str, ...] = ("0.999",)
    order: str = "shuffle"
    x_flip: bool = False
    augment: int | float = 0
    snapshots: int = 4
    spacing: str = "linear"
    snapshot_at: tuple[int | float, ...] = ()
    keep: str = "all"
    samples: int = 500
    sample_seed: int = 0
    inference_steps: int = 18
    threshold: int | float = 1 / 3
    score_batch: int = 256
    stop_at: int | float | None = None
    patience: int | None = None
    flat_from: int | float = 0.05
    mixed_precision: str = "no"
    tf32: bool = False
    checkpoint_every: int = 1000
    seed: int = 0
    device: str = "auto"
    trackers: tuple[str, ...] = ()
    project: str = "mnemoscope"

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
        return {name: value for name, value in asdict(self).items() if name not in FREE}

    def free(self) -> dict[str, Any]:
        """What may differ when a training goes on."""
        return {name: value for name, value in asdict(self).items() if name in FREE}
