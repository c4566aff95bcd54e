"""Rewriting without a language model: numbers, punctuation, and words put into others that a source names."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from mnemoscope.rewriting.passage import NotRewritten, Passage, same, tidy

Alternatives = Callable[[str, str, str], Sequence[str]]  # text before, word, text after -> words to put in its place
LONGEST_NUMBER = 15
STEPS = (-3, -2, -1, 1, 2, 3)


@runtime_checkable
class Rewriter(Protocol):
    """Whatever turns a passage into another prompt; raises `NotRewritten` where it cannot."""

    name: str

    def __call__(self, passage: Passage, seed: int) -> str: ...


class Offline:
    """Changes each chosen word by itself: drawn from its alternatives, kept where there are none.

    A number becomes one at most 3 away, punctuation is left out. The draw depends on the seed alone.
    """

    def __init__(self, name: str, alternatives: Alternatives) -> None:
        self.name = name
        self.alternatives = alternatives

    def __call__(self, passage: Passage, seed: int) -> str:
        rng = np.random.default_rng(seed)
        text = tidy(passage.replaced(lambda before, word, after: self._changed(rng, before, word, after)))
        if not text or same(text, passage.prompt):
            raise NotRewritten("no rewrite found")
        return text

    def _changed(self, rng: np.random.Generator, before: str, word: str, after: str) -> str:
        if word.isascii() and word.isdecimal() and len(word) <= LONGEST_NUMBER:
            return nearby(word, int(rng.choice(STEPS)))
        if not any(letter.isalnum() for letter in word) or word[0] in "'’":  # punctuation, or the 's of a name
            return ""
        others = [a for a in self.alternatives(before, word, after) if not same(a, word)]
        return in_case_of(word, others[int(rng.integers(len(others)))]) if others else word


def nearby(number: str, step: int) -> str:
    """A number so many steps away, never below 0, and as long if it begins with 0."""
    value = int(number) + step
    return str(value if value >= 0 else int(number) - step).zfill(len(number) if number[0] == "0" else 1)


def in_case_of(word: str, other: str) -> str:
    """The other word in capitals, or with a capital, if the word is."""
    if len(word) > 1 and word.isupper():
        return other.upper()
    return other[:1].upper() + other[1:] if word[:1].isupper() else other
