"""Which rows are in the batch of a step: a pure function of seed and step, so that going on needs no state."""

from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from mnemoscope.errors import UsageError
from mnemoscope.training.data.duplication import Shares

ORDERED = 2  # part of the key of an epoch's order

View = tuple[int, int]  # a row, and which of its views


@runtime_checkable
class Shown(Protocol):
    """A set of rows with their shares."""

    shares: Shares


class Order:
    """Batches of a set by the number of their step.

    `batch_size` is the number of samples of one step, over all processes and accumulated batches. Epochs follow one
    another without a gap, so that a batch may hold the end of one and the beginning of the next.
    """

    def __init__(self, shown: Shown, batch_size: int, seed: int) -> None:
        if batch_size < 1:
            raise UsageError(f"The batch size is {batch_size}; give 1 or more.")
        self.shares, self.batch_size, self.seed = shown.shares, batch_size, seed
        self._epoch = lru_cache(maxsize=4)(self._in_epoch)

    def batch(self, step: int, part: int = 0, parts: int = 1) -> list[View]:
        """Rows and their views in the batch of a step, or in one of the `parts` that processes have of it.

        A view counts how often a row was shown before; it is the epoch where no row is shown twice in one. The parts
        one after the other are the batch. Raises `UsageError` for a batch that has no such even parts.
        """
        if self.batch_size % parts:
            raise UsageError(f"A batch of {self.batch_size} cannot be cut into {parts} even parts; give a multiple.")
        size = self.batch_size // parts
        first = step * self.batch_size + part * size
        return [self.view(position) for position in range(first, first + size)]

    def view(self, position: int) -> View:
        """Row and view of a sample by its place in the whole training."""
        epoch, place = divmod(position, self.shares.per_epoch)
        rows, views = self._epoch(epoch)
        return int(rows[place]), int(views[place])

    def _in_epoch(self, epoch: int) -> tuple[Int[np.ndarray, " S"], Int[np.ndarray, " S"]]:
        rng = np.random.default_rng([self.seed, ORDERED, epoch])
        length, shares = self.shares.per_epoch, self.shares
        if shares.replaced:
            rows = rng.choice(len(shares.copies), length, p=shares.chances)
            return rows, epoch * length + _occurrence(rows)
        rows = rng.permutation(np.repeat(np.arange(len(shares.copies)), shares.copies))
        return rows, epoch * shares.copies[rows] + _occurrence(rows)


def _occurrence(rows: Int[np.ndarray, " S"]) -> Int[np.ndarray, " S"]:
    """How many of the places before each one hold the same row."""
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counts = np.arange(len(rows)) - np.repeat(starts, np.diff(np.r_[starts, len(rows)]))
    occurrence = np.empty_like(counts)
    occurrence[order] = counts
    return occurrence
