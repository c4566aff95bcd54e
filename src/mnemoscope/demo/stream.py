"""The order of training: which view of what stands at a step and a position, with exact numbers of views.

Views of an entry are spread evenly: one falls into each of as many equal parts of the training as it has views.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mnemoscope.demo import drawing
from mnemoscope.demo.entries import GradedPicture, entries
from mnemoscope.demo.scenes import Emoji, Sample
from mnemoscope.errors import UsageError


class Place(NamedTuple):
    """What stands at a step and a position: a view of an entry, or (None) an ordinary picture, by its number."""

    entry: GradedPicture | None
    number: int


class Stream:
    """All places of a training of so many steps; a function of its arguments alone."""

    def __init__(self, seed: int, steps: int, size: int, among: Sequence[GradedPicture] | None = None) -> None:
        self.seed, self.steps, self.size = seed, steps, size
        self.trained = [e for e in (entries() if among is None else among) if e.views]
        counts = np.array([e.views for e in self.trained], int)
        rest = steps * size - counts.sum()
        if rest < counts.sum():
            raise UsageError(
                f"{steps} steps of {size} pictures were given; the {counts.sum()} views of known number are to be less "
                f"than half of them: take {-(-2 * counts.sum() // size)} steps or more."
            )
        counts = np.append(counts, rest)
        which = np.repeat(np.arange(len(counts)), counts)
        number = np.concatenate([np.arange(n) for n in counts])
        time = (number + np.random.default_rng([23, seed]).random(len(which))) / counts[which]
        order = np.argsort(time, kind="stable")
        self._which, self._number = which[order], number[order]

    def place(self, step: int, position: int) -> Place:
        """What stands there."""
        k = step * self.size + position
        which = self._which[k]
        return Place(self.trained[which] if which < len(self.trained) else None, int(self._number[k]))

    def sample(self, emoji: Emoji, step: int, position: int) -> Sample:
        """The training pair that stands there."""
        entry, number = self.place(step, position)
        return drawing.ordinary(emoji, self.seed, number) if entry is None else drawing.view(emoji, entry, number)

    def seen(self) -> dict[str, tuple[int, int]]:
        """First and last step at which each trained entry is seen, by its key."""
        first = np.full(len(self.trained) + 1, self.steps)
        last = np.zeros_like(first)
        step = np.arange(len(self._which)) // self.size
        np.minimum.at(first, self._which, step)
        np.maximum.at(last, self._which, step)
        return {e.key: (int(first[k]), int(last[k])) for k, e in enumerate(self.trained)}
