"""What a training from scratch is asked for: budget, optimizer, averages, snapshots and their scores, early stops."""

from dataclasses import asdict, dataclass

from mnemoscope.emm.training.average import Average
from mnemoscope.errors import UsageError
from mnemoscope.run.options import check, option
from mnemoscope.run.settings import Settings
from mnemoscope.training.options import PRECISIONS

STEPS = 3000
OPTIMIZERS = ("adam", "sgd")
ORDERS = ("shuffle", "fixed", "replacement")
SPACINGS = ("linear", "log")
KEPT = ("all", "best")
LATER = ("ema_half_life", "transfer")  # options that trainings of an earlier version do not have, None for these
TRAINING, SCORING, RUNNING = "Training", "Snapshots and scores", "Run"
# what may differ from one session of a training to the next: it changes no weight and no row
FREE = ("accumulation", "score_batch", "checkpoint_every", "device", "trackers", "project")


@dataclass(frozen=True)
class EmmTrainOptions:
    """Settings of a training from scratch; each field is the command-line option of the same name.

    The budget is `steps` updates of the weights, or so many `epochs`. `batch_size` is of one update, over all processes
    and `accumulation` passes. `ema` names the averages of the weights that are kept and scored, the first of which the
    summary is about. At `snapshots` moments of the budget, or at the fractions `snapshot_at`, `samples` images of each
    average are scored. `ema_half_life` takes the place of the 500,000 images of the modes. `transfer` is where the
    first weights come from; averages then have no ramp-up.
    """

    steps: int | None = option(None, "Updates of the weights.", TRAINING, above=0)
    epochs: int | float | None = option(None, "Epochs, in place of steps.", TRAINING, above=0)
    batch_size: int = option(64, "Images of one update, over all processes.", TRAINING, above=0)
    learning_rate: int | float = option(1e-3, "Of the weights.", TRAINING, above=0)
    ramp_up: int = option(200, "Updates in which the learning rate rises from 0.", TRAINING, least=0)
    ramp_up_epochs: int | float | None = option(None, "The same in epochs.", TRAINING, least=0)
    optimizer: str = option("adam", "adam or sgd.", TRAINING, known=OPTIMIZERS)
    adam_beta1: int | float = option(0.9, "Decay of the mean gradient.", TRAINING, least=0, most=1)
    adam_beta2: int | float = option(0.999, "Decay of the mean squared gradient.", TRAINING, least=0, most=1)
    adam_epsilon: int | float = option(1e-8, "Added to the divisor.", TRAINING, above=0)
    momentum: int | float = option(0.9, "Of sgd.", TRAINING, least=0, most=1)
    weight_decay: int | float = option(0, "Times the weights, added to the gradient.", TRAINING, least=0)
    ema: tuple[str, ...] = option(
        ("0.999",), "Average of the weights: mode1, mode2, mode3 or a decay; repeat it.", TRAINING
    )
    ema_half_life: int | None = option(
        None, "Half-life of averages in images, of a set of 50,000; 500,000.", TRAINING, above=0
    )
    transfer: str | None = option(None, "Begin with the weights of a run of emm train or a file.", TRAINING)
    order: str = option("shuffle", "shuffle, fixed or replacement.", TRAINING, known=ORDERS)
    x_flip: bool = option(False, "Mirror half of the views.", TRAINING)
    augment: int | float = option(0, "Probability of changes that the network is told of.", TRAINING, least=0, most=1)
    snapshots: int = option(4, "Snapshots in the whole training.", SCORING, above=0)
    spacing: str = option("linear", "linear or log.", SCORING, known=SPACINGS)
    snapshot_at: tuple[int | float, ...] = option((), "A share of the budget; repeat it.", SCORING)
    keep: str = option("all", "Snapshots that stay: all, or best.", SCORING, known=KEPT)
    samples: int = option(500, "Images drawn of each snapshot and average; 0 for none.", SCORING, least=0)
    sample_seed: int = option(0, "Seed of the first image.", SCORING, least=0)
    inference_steps: int = option(18, "Sampling steps.", SCORING, above=0)
    threshold: int | float = option(1 / 3, "Nearest over second distance below which it is a copy.", SCORING, above=0)
    stop_at: int | float | None = option(None, "Stop when the ratio is surely as high.", SCORING, least=0, most=1)
    patience: int | None = option(None, "Stop when it has not risen for so many snapshots.", SCORING, above=0)
    flat_from: int | float = option(0.05, "The ratio from which not rising counts.", SCORING, least=0, most=1)
    accumulation: int = option(1, "Passes of a process in one update.", RUNNING, above=0)
    score_batch: int = option(256, "Images drawn at a time.", RUNNING, above=0)
    mixed_precision: str = option("no", "no, fp16 or bf16.", RUNNING, known=PRECISIONS)
    tf32: bool = option(False, "TF32 on an NVIDIA GPU.", RUNNING)
    checkpoint_every: int = option(1000, "Steps from checkpoint to checkpoint.", RUNNING, above=0)
    seed: int = option(0, "Of all that is drawn at random.", RUNNING, least=0)
    device: str = option("auto", "auto, cpu, cuda, cuda:1, mps.", RUNNING)
    trackers: tuple[str, ...] = option((), "tensorboard, wandb, trackio ...; repeat it.", RUNNING)
    project: str = option("mnemoscope", "Name of the project in the trackers.", RUNNING)

    def __post_init__(self) -> None:
        check(self)
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

    def fixed(self) -> Settings:
        """What must be the same when a training goes on."""
        settings = {name: value for name, value in asdict(self).items() if name not in FREE}
        return {name: value for name, value in settings.items() if value is not None or name not in LATER}

    def free(self) -> Settings:
        """What may differ when a training goes on."""
        return {name: value for name, value in asdict(self).items() if name in FREE}
