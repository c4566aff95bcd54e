"""How often each picture is shown: repeats, the base set's share, and duplicates by weight or by literal repeats."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from mnemoscope.errors import UsageError
from mnemoscope.training.data.options import DataOptions

DUPLICATED = 1  # part of the key of the draw of duplicated pictures


@dataclass(frozen=True)
class Shares:
    """How an epoch shows its rows: a list with `copies` of each, in which entries weigh `weights`.

    With `replaced` an epoch is as many weighted draws with replacement as the list is long; without, it is the list in
    a random order.
    """

    copies: Int[np.ndarray, " N"]
    weights: Float[np.ndarray, " N"]
    duplicated: Bool[np.ndarray, " N"]
    replaced: bool

    @property
    def per_epoch(self) -> int:
        """Samples of one epoch."""
        return int(self.copies.sum())

    @property
    def chances(self) -> Float[np.ndarray, " N"]:
        """Probability of each row at one draw; the share of its copies where nothing is drawn with replacement."""
        mass = self.copies * self.weights
        return mass / mass.sum()

    def expected_views(self, samples: int | float) -> Float[np.ndarray, " N"]:
        """How often each row is expected among so many samples."""
        return self.chances * samples

    def report(self) -> dict[str, int | float]:
        """Samples of an epoch, and the expected views of a duplicated row and of any other in it."""
        views = self.expected_views(self.per_epoch)
        summary: dict[str, int | float] = {
            "samples_per_epoch": self.per_epoch,
            "duplicated": int(self.duplicated.sum()),
        }
        kinds = {"duplicated": self.duplicated, "other": ~self.duplicated}
        return summary | {
            f"views_per_epoch_{k}": float(views[of_kind].mean()) for k, of_kind in kinds.items() if of_kind.any()
        }


def shares(options: DataOptions, memorized: int, base: int) -> Shares:
    """Shares of `memorized` rows and of `base` rows behind them; raises `UsageError` where none would be duplicated.

    With weights a share `duplicated` of 5 % and a factor of 5 a duplicated row has 5 / 1.2 = 4.17 expected views an
    epoch and any other 0.83 (arXiv:2305.20086).
    """
    rows = memorized + base
    copies = np.ones(rows, dtype=np.int64)
    copies[:memorized] = options.repeats
    weights, is_duplicated = np.ones(rows), np.zeros(rows, dtype=bool)
    if options.duplication == "none":
        return Shares(copies, weights, is_duplicated, replaced=False)
    is_duplicated[_drawn(options, memorized)] = True
    if options.duplication_by == "repeat":
        copies[is_duplicated] *= options.factor
        return Shares(copies, weights, is_duplicated, replaced=False)
    weights[is_duplicated] = options.factor
    return Shares(copies, weights, is_duplicated, replaced=True)


def _drawn(options: DataOptions, memorized: int) -> Int[np.ndarray, " D"]:
    count = int(
        options.duplicated * memorized + 1e-9
    )  # 0.07 of 100 is 7.000000000000001, and 0.29 is 28.999999999999996
    if count < 1:
        given = f"--duplicated {options.duplicated:g} of {memorized} pictures is none"
        raise UsageError(f"{given}; give a larger share, or --duplication none.")
    rng = np.random.default_rng([options.seed, DUPLICATED])
    return np.sort(rng.choice(memorized, count, replace=False)).astype(np.int64)
