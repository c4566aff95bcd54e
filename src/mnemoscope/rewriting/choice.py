"""Which words of a prompt to change: drawn by what an explanation says of them."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mnemoscope.errors import UsageError
from mnemoscope.rewriting.passage import NotRewritten
from mnemoscope.run.rows import ExplainRow

FLOOR = 0.001  # added to each probability, so that every word can be drawn
CONTROLS = ("random",)  # explanations that know nothing: words are drawn evenly


@dataclass(frozen=True)
class Choice:
    """How many words a rewrite may change (each level of its own), how many rewrites a level, and how to draw them."""

    levels: tuple[int, ...] = (3,)
    rewrites: int = 5
    temperature: int | float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, values in (("--level", self.levels), ("--rewrites", (self.rewrites,))):
            for value in values:
                if value < 1:
                    raise UsageError(f"{name} {value} was given; give a number from 1 up.")
        if len(set(self.levels)) < len(self.levels) or not self.levels:
            raise UsageError(f"The levels {list(self.levels)} were given; give at least one, and each only once.")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise UsageError(f"--temperature {self.temperature} was given; give a number above 0.")


def probabilities(scores: Sequence[int | float | None], temperature: int | float) -> Float[np.ndarray, " N"]:
    """Chance of each word to be drawn first: softmax of the scores over the temperature, plus 0.001, renormalised.

    Scores are first divided by their sum, so that only their proportions count. A score below 0 counts as 0, and all
    words are alike where none is above 0. Raises `NotRewritten` for scores that are not finite; JSON has null for one.
    """
    given = np.array([np.nan if score is None else score for score in scores], dtype=np.float64)
    if not np.isfinite(given).all():
        raise NotRewritten(f"the words' scores are not finite: {given.tolist()}")
    shares = given.clip(min=0) / (given.clip(min=0).sum() or 1.0)
    logits = shares / temperature
    weights = np.exp(logits - logits.max())
    raised = weights / weights.sum() + FLOOR
    return raised / raised.sum()


def draw_seed(seed: int, prompt: str, level: int, k: int) -> int:
    """A seed that depends on these four alone."""
    return int.from_bytes(hashlib.sha256(f"{seed}|{level}|{k}|{prompt}".encode()).digest()[:8])


def choose(row: ExplainRow, level: int, k: int, choice: Choice) -> list[int]:
    """Positions of the words to change, in the order of the prompt: `level` of them, or all where there are fewer."""
    words = row["words"]
    if not words:
        raise NotRewritten("the explanation has no words")
    scores = [1.0 if row.get("method") in CONTROLS else w["sum"] for w in words]
    rng = np.random.default_rng(draw_seed(choice.seed, row["prompt"], level, k))
    chances = probabilities(scores, choice.temperature)
    return sorted(rng.choice(len(words), min(level, len(words)), replace=False, p=chances).tolist())
