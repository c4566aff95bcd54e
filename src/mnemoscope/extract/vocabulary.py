"""Tokens that a search may write prompts of, and the texts that rows of them are."""

import random
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from mnemoscope.errors import UsageError


class Vocabulary:
    """The tokens of a tokenizer that are text by themselves: no special ones, no broken characters, no spaces.

    Raises `UsageError` where there is no tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        if tokenizer is None:
            raise UsageError("This model has no tokenizer to write prompts of; give a model of text.")
        self.tokenizer = tokenizer
        special = set(tokenizer.all_special_ids)
        self._all = [n for n in range(len(tokenizer)) if n not in special]

    @cached_property
    def ids(self) -> list[int]:
        """Numbers of the tokens, in order."""
        texts = {n: self.tokenizer.decode([n]).strip() for n in self._all}
        return [n for n, text in texts.items() if any(c.isalnum() for c in text) and "\ufffd" not in text]

    def text(self, ids: Sequence[int]) -> str:
        """The prompt that some tokens spell."""
        return " ".join(self.tokenizer.decode(list(ids)).split())

    def of(self, text: str) -> list[int]:
        """The tokens of a text, without those of its ends."""
        special = set(self.tokenizer.all_special_ids)
        return [n for n in self.tokenizer(text, verbose=False).input_ids if n not in special]

    def random(self, rng: random.Random, count: int) -> list[int]:
        """Tokens drawn alike."""
        return rng.choices(self.ids, k=count)
