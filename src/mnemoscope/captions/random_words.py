"""Words out of nowhere between the words."""

import random
import string
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from mnemoscope.errors import UsageError
from mnemoscope.registry import caption


@runtime_checkable
class Tokenizer(Protocol):
    """What is needed of a tokenizer, such as the model's own."""

    all_special_ids: Sequence[int]

    def decode(self, token_ids: Sequence[int]) -> str: ...

    def __len__(self) -> int: ...


@caption(paper="arXiv:2305.20086", strength=("count", (1, 2, 4, 8, 16)))
def random_words(caption: str, rng: random.Random, *, count: int = 4, tokenizer: Tokenizer | None = None) -> str:
    """The caption with random words put between its words.

    `count` words, each at a uniformly random one of the gaps, those at both ends included. A word is a random token of
    `tokenizer` as text, special tokens and broken characters excepted; a mitigation gives it the model's tokenizer, and
    without one a word is 3 to 8 random letters. Raises `UsageError` for a count below 1.
    """
    if count < 1:
        raise UsageError(f"random_words got count={count}; give 1 or more.")
    words = caption.split()
    for _ in range(count):
        word = _letters(rng) if tokenizer is None else _token(rng, tokenizer)
        words.insert(rng.randrange(len(words) + 1), word)
    return " ".join(words)


def _letters(rng: random.Random) -> str:
    return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(3, 8)))


def _token(rng: random.Random, tokenizer: Tokenizer) -> str:
    while True:
        number = rng.randrange(len(tokenizer))
        word = tokenizer.decode([number]).strip()
        if word and "\ufffd" not in word and number not in tokenizer.all_special_ids:
            return word
