"""Numbers between the words."""

import random

from mnemoscope.errors import UsageError
from mnemoscope.registry import caption


@caption(paper="arXiv:2305.20086", strength=("count", (1, 2, 4, 8, 16)))
def random_numbers(caption: str, rng: random.Random, *, count: int = 4) -> str:
    """The caption with random numbers below 100000 put between its words.

    `count` numbers, each at a uniformly random one of the gaps, those at both ends included. Raises `UsageError` for a
    count below 1.
    """
    if count < 1:
        raise UsageError(f"random_numbers got count={count}; give 1 or more.")
    words = caption.split()
    for _ in range(count):
        words.insert(rng.randrange(len(words) + 1), str(rng.randrange(100_000)))
    return " ".join(words)
