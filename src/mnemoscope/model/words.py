"""Tokens of prompts, with the characters they stand for, and the words that they make up."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from mnemoscope.model.families import Family
from mnemoscope.model.spans import Token, is_sign, letters_of
from mnemoscope.run.rows import Word

# Accents and vowel signs that are characters of their own, as in decomposed text or in Hindi, end no word.
SIGNS = "".join(filter(is_sign, map(chr, range(0x300, 0x20000))))
LETTERS = rf"\w[\w{SIGNS}]*"
WORD = re.compile(rf"{LETTERS}(?:['’]{LETTERS})*|[^\w\s]+")  # with inner apostrophes, or a run of other marks
END = "</w>"  # what CLIP's vocabulary ends the last piece of a word with


def content(family: Family, prompts: Sequence[str]) -> list[list[Token]]:
    """Tokens of each prompt's own words, without begin, end and padding, in the order of their characters.

    Raises `UsageError` for a model without tokens.
    """
    return family.spans(prompts)


def aligned(prompt: str, pieces: Sequence[str]) -> list[Token] | None:
    """Where lower-case pieces stand in a prompt, one after the other; None if they do not spell it out."""
    letters = letters_of(prompt)
    text, spans, at = "".join(low for low, *_ in letters), [], 0
    for piece in pieces:
        name = unicodedata.normalize("NFKC", piece.removesuffix(END).strip()).lower()
        start = at + len(text[at:]) - len(text[at:].lstrip())
        if not name or not text.startswith(name, start):
            return None
        at = start + len(name)
        spans.append(Token(piece.removesuffix(END).strip(), letters[start][1], letters[at - 1][2]))
    return spans


def merged(prompt: str, tokens: Sequence[Token], scores: Sequence[int | float]) -> list[Word]:
    """The words of a prompt as it spells them, each with the sum and the maximum of its tokens' scores.

    A word is a run of letters, digits and inner apostrophes; other marks stand by themselves; a word that comes twice
    is there twice. `first` and `last` are the word's tokens, counted from 0.
    """
    spans = word_spans(prompt, tokens)
    return _grouped(len(tokens), spans.__getitem__, lambda a, b: prompt[tokens[a].start : tokens[b].end], scores)


def word_spans(prompt: str, tokens: Sequence[Token]) -> list[tuple[int, int]]:
    """The characters of the word that each token is of; its own where it is of none."""
    words = [m.span() for m in WORD.finditer(prompt)]
    return [next(((a, b) for a, b in words if a <= t.start < b), (t.start, t.end)) for t in tokens]


def joined(pieces: Sequence[str], scores: Sequence[int | float]) -> list[Word]:
    """Words of pieces alone, as `merged` gives them: a word ends with "</w>"; without such ends each piece is one."""
    ends = any(piece.endswith(END) for piece in pieces)

    def word_of(k: int) -> int:
        return sum(piece.endswith(END) for piece in pieces[:k]) if ends else k

    return _grouped(len(pieces), word_of, lambda a, b: "".join(pieces[a : b + 1]).removesuffix(END), scores)


def _grouped(
    count: int, word_of: Callable[[int], Any], text: Callable[[int, int], str], scores: Sequence[int | float]
) -> list[Word]:
    groups = [list(group) for _, group in groupby(range(count), key=word_of)]
    return [
        {
            "word": text(tokens_of[0], tokens_of[-1]),
            "sum": sum(scores[k] for k in tokens_of),
            "max": max(scores[k] for k in tokens_of),
            "first": tokens_of[0],
            "last": tokens_of[-1],
        }
        for tokens_of in groups
    ]
