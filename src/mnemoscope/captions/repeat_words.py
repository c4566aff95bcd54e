"""Words of the caption said again."""

import random

from mnemoscope.errors import UsageError
from mnemoscope.registry import caption


@caption(paper="arXiv:2305.20086", strength=("count", (1, 2, 4, 8, 16)))
def repeat_words(caption: str, rng: random.Random, *, count: int = 4) -> str:
    """The caption with some of its own words said again at random places.

    `count` words of the original caption, drawn with replacement, each put at a uniformly random one of the gaps, those
    at both ends included. A caption without words stays as it is. Raises `UsageError` for a count below 1.
    """
    if count < 1:
        raise UsageError(f"repeat_words got count={count}; give 1 or more.")
    original = caption.split()
    words = list(original)
    for _ in range(count if original else 0):
        words.insert(rng.randrange(len(words) + 1), rng.choice(original))
    return " ".join(words)
