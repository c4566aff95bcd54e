"""Nothing of the caption is left."""

import random

from mnemoscope.errors import UsageError
from mnemoscope.prompts.vocabulary import Tokenizer, random_letters, random_token
from mnemoscope.registry import caption


@caption(paper="arXiv:2305.20086")
def random_caption(caption: str, rng: random.Random, *, count: int = 4, tokenizer: Tokenizer | None = None) -> str:
    """Random words in the place of the whole caption.

    The text of `count` random tokens of `tokenizer`, special tokens and broken characters excepted; a mitigation and
    training give it the model's tokenizer, and without one it is `count` words of 3 to 8 random letters. Tokens may
    join to fewer words than `count`. Raises `UsageError` for a count below 1.
    """
    if count < 1:
        raise UsageError(f"random_caption got count={count}; give 1 or more.")
    if tokenizer is None:
        return " ".join(random_letters(rng) for _ in range(count))
    return tokenizer.decode([random_token(rng, tokenizer) for _ in range(count)]).strip()
