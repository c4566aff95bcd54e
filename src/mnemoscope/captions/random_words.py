"""Words out of nowhere between the words."""

import random

from mnemoscope.errors import UsageError
from mnemoscope.prompts.vocabulary import Tokenizer, random_letters, random_token
from mnemoscope.registry import caption


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
        word = random_letters(rng) if tokenizer is None else tokenizer.decode([random_token(rng, tokenizer)]).strip()
        words.insert(rng.randrange(len(words) + 1), word)
    return " ".join(words)
