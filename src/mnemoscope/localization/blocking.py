"""What blocking a set of neurons does to a prompt's noise differences, each set and seed computed at most once."""

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.job.batching import chunks
from mnemoscope.localization.differences import Differences
from mnemoscope.localization.space import Blocked, Space
from mnemoscope.model.likeness import Likeness

Accept = Callable[[float, int], bool]  # a similarity and the seed's place -> whether that seed agrees


class Blocking:
    """Similarities of the blocked differences to the plain ones, by set and seed.

    A set is good if every seed agrees. The seed that last disagreed is asked first, so that most sets that are not good
    cost one evaluation, whatever the number of seeds; the answer is the same. `batch` is the number of samples, of any
    sets and seeds, in one forward pass.
    """

    def __init__(
        self, differences: Differences, space: Space, likeness: Likeness, batch: int, factor: int | float = 0.0
    ) -> None:
        self.differences, self.space, self.likeness = differences, space, likeness
        self.batch, self.factor = batch, factor
        self.seeds: list[int] = list(range(len(differences.plain)))
        self._known: dict[Blocked, dict[int, float]] = {}

    def keep(self, seeds: Sequence[int]) -> None:
        """Look at these seeds only."""
        self.seeds = list(seeds)
        self._known = {frozenset(): dict.fromkeys(seeds, 1.0)}  # with nothing blocked both are the same

    def values(self, blocked: Blocked) -> dict[int, float]:
        """The similarity of each seed."""
        self.fetch((blocked, seed) for seed in self.seeds)
        return {seed: self._known[blocked][seed] for seed in sorted(self.seeds)}

    def highest(self, blocked: Blocked) -> float:
        """The greatest similarity over the seeds."""
        return max(self.values(blocked).values())

    def glance(self, sets: Iterable[Blocked], accept: Accept) -> list[bool]:
        """Whether the seed that is the likeliest to disagree agrees to each set, in as few passes as there can be."""
        sets = list(sets)
        first = self.seeds if self.likeness.coupled else self.seeds[:1]
        self.fetch((blocked, seed) for blocked in sets for seed in first)
        return [self._refuting(blocked, accept) is None for blocked in sets]

    def good(self, blocked: Blocked, accept: Accept) -> bool:
        """Whether every seed agrees."""
        self.glance([blocked], accept)
        if (seed := self._refuting(blocked, accept)) is None:
            self.fetch((blocked, s) for s in self.seeds)
            seed = self._refuting(blocked, accept)
        if seed is not None:
            self.seeds = [seed, *(s for s in self.seeds if s != seed)]
        return seed is None

    def _refuting(self, blocked: Blocked, accept: Accept) -> int | None:
        known = self._known.get(blocked, {})
        return next((s for s in self.seeds if s in known and not accept(known[s], s)), None)

    def fetch(self, pairs: Iterable[tuple[Blocked, int]]) -> None:
        """Compute what is not known yet of these sets and seeds."""
        missing = [(b, s) for b, s in dict.fromkeys(pairs) if s not in self._known.get(b, {})]
        if self.likeness.coupled:
            missing = [(b, s) for b in dict.fromkeys(b for b, _ in missing) for s in sorted(self.seeds)]
        parts = [self._differences(part) for part in chunks(missing, self.batch)]
        if parts:
            self._compare(missing, torch.cat(parts))

    def _differences(self, pairs: Sequence[tuple[Blocked, int]]) -> Float[Tensor, "B C h w"]:
        gain = self.space.gain([blocked for blocked, _ in pairs], self.factor)
        return self.differences.of([seed for _, seed in pairs], gain)

    def _compare(self, pairs: Sequence[tuple[Blocked, int]], blocked: Float[Tensor, "B C h w"]) -> None:
        size = len(self.seeds) if self.likeness.coupled else len(pairs)
        plain = self.differences.plain[[seed for _, seed in pairs]]
        values = [self.likeness(*part) for part in zip(plain.split(size), blocked.split(size), strict=True)]
        for (b, seed), value in zip(pairs, torch.cat(values).tolist(), strict=True):
            self._known.setdefault(b, {})[seed] = value
