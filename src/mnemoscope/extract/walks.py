"""Walks through the vocabulary: prompts of which one token at a time is exchanged (Hong et al., arXiv:2407.17095)."""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mnemoscope.extract.proposals import Proposes, Worth

TEMPERATURE = 0.25  # of the choice among candidates, in deviations of random prompts' scores


@dataclass(frozen=True)
class Scored:
    """A prompt with its score and the direction of its push, where that was worth keeping."""

    text: str
    score: float
    sketch: tuple[float, ...] | None = None


@dataclass
class Drawn:
    """Directions of the prompts that were drawn, each with the score up to which others of it are left alone."""

    same: float
    sketches: list[tuple[float, ...]] = field(default_factory=list)
    limits: list[float] = field(default_factory=list)

    def add(self, one: Scored, limit: float = math.inf) -> None:
        """Leave alone what is like a prompt, up to a score."""
        if one.sketch is not None:
            self.sketches.append(one.sketch)
            self.limits.append(limit)

    def has(self, one: Scored) -> bool:
        """Whether a prompt is to be left alone."""
        if one.sketch is None or not self.sketches:
            return False
        like = np.array(self.sketches) @ np.array(one.sketch) > self.same
        return bool((like & (one.score <= np.array(self.limits))).any())


class Walk:
    """One prompt on its way up; `best` is the best that it has seen, and which nothing was drawn of before."""

    def __init__(self, name: str, ids: Sequence[int]) -> None:
        self.rng, self.ids = random.Random(name), list(ids)
        self.best: Scored | None = None
        self.unimproved = 0  # exchanges since
        self._order: list[int] = []
        self.place, self.tokens = 0, [self.ids[0]]

    def ask(self, propose: Proposes, count: int) -> list[list[int]]:
        """The prompts to score next: one place, with other tokens in it, and with its own."""
        if not self._order:
            self._order = self.rng.sample(range(len(self.ids)), len(self.ids))
        self.place = self._order.pop()
        proposed = propose(self.rng, self.ids, self.place, count)
        self.tokens = list(dict.fromkeys([self.ids[self.place], *proposed]))
        return [[*self.ids[: self.place], token, *self.ids[self.place + 1 :]] for token in self.tokens]

    def tell(self, scored: Sequence[Scored], drawn: Drawn, scale: float, worth: Worth) -> None:
        """Go to one of the prompts that were asked for, drawn by the exponential of its score."""
        values = [s.score if not drawn.has(s) else -math.inf for s in scored]
        finite = [v for v in values if v > -math.inf]
        middle = float(np.median(finite)) if finite else 0.0
        worth.saw(self.tokens, [(v - middle) / scale if v > -math.inf else 0.0 for v in values])
        if not finite:
            self.unimproved += 1
            return
        top = max(values)
        weights = [math.exp((v - top) / (TEMPERATURE * scale)) for v in values]
        self.ids[self.place] = self.rng.choices(self.tokens, weights=weights)[0]
        leader = scored[values.index(top)]
        if self.best is None or leader.score > self.best.score or drawn.has(self.best):
            self.best, self.unimproved = leader, 0
        else:
            self.unimproved += 1


def scored_of(texts: Sequence[str], known: Mapping[str, Scored]) -> list[Scored]:
    """What is known of texts; one that failed has no chance."""
    return [known.get(text) or Scored(text, -math.inf) for text in texts]
