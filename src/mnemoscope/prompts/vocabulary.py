"""Words out of nowhere: random tokens of a tokenizer as text, or random letters where there is none."""

import random
import string
from collections.abc import Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class Tokenizer(Protocol):
    """What is needed of a tokenizer, such as the model's own."""

    all_special_ids: Sequence[int]

    def decode(self, token_ids: Sequence[int]) -> str: ...

    def __len__(self) -> int: ...


def random_token(rng: random.Random, tokenizer: Tokenizer) -> int:
    """The number of a random token that is text by itself: no special token, no broken character, no space."""
    while True:
        number = rng.randrange(len(tokenizer))
        word = tokenizer.decode([number]).strip()
        if word and "\ufffd" not in word and number not in tokenizer.all_special_ids:
            return number


def random_letters(rng: random.Random) -> str:
    """3 to 8 random letters."""
    return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(3, 8)))
