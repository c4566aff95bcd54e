"""How long a training is, in updates: its end, its snapshots, its learning rate, the steps that are logged."""

import math
from dataclasses import dataclass

from mnemoscope.emm.training.options import STEPS, EmmTrainOptions
from mnemoscope.errors import UsageError

LOGGED = 200  # means of the loss in a whole training


@dataclass(frozen=True)
class Budget:
    """The length of a training on so many images."""

    options: EmmTrainOptions
    images: int

    def __post_init__(self) -> None:
        if self.images < 1:
            raise UsageError("There is no image to train on; give --data with one or more.")
        if self.options.patience is not None and self.options.patience >= len(self.snapshots):
            raise UsageError(
                f"--patience {self.options.patience} needs more snapshots than that, and there are "
                f"{len(self.snapshots)}; give more --snapshots."
            )

    @property
    def steps(self) -> int:
        """Updates of the weights."""
        if self.options.epochs is None:
            return STEPS if self.options.steps is None else self.options.steps
        return self._updates(self.options.epochs)

    @property
    def ramp_up(self) -> int:
        """Updates in which the learning rate rises from 0."""
        if self.options.ramp_up_epochs is None:
            return self.options.ramp_up
        return self._updates(self.options.ramp_up_epochs)

    @property
    def snapshots(self) -> tuple[int, ...]:
        """The updates after which there is a snapshot, the last one among them.

        Linear: equally far from one another. Log: each as many times later than the one before, the first after 1 % of
        the budget.
        """
        count = self.options.snapshots
        shares = [(k + 1) / count for k in range(count)]
        if self.options.spacing == "log":
            shares = [10 ** (-2 * (1 - k / (count - 1))) for k in range(count)] if count > 1 else [1.0]
        shares = [*(self.options.snapshot_at or shares), 1.0]
        return tuple(sorted({max(1, round(share * self.steps)) for share in shares}))

    @property
    def log_every(self) -> int:
        """Updates that one logged loss is the mean of."""
        return max(1, self.steps // LOGGED)

    def rate(self, step: int) -> float:
        """The learning rate of the update after so many."""
        base = float(self.options.learning_rate)
        return base * min(1.0, step / self.ramp_up) if self.ramp_up else base

    def seen(self, step: int) -> int:
        """Images shown in so many updates, each as often as it was shown."""
        return step * self.options.batch_size

    def epochs(self, step: int) -> float:
        """Epochs in so many updates."""
        return self.seen(step) / self.images

    def _updates(self, epochs: int | float) -> int:
        return max(1, math.ceil(epochs * self.images / self.options.batch_size - 1e-9))
