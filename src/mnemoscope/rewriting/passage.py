"""A prompt with the places in it that are to be rewritten."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from mnemoscope.model.words import WORD

Span = tuple[int, int]


class NotRewritten(Exception):
    """Why there is no rewrite; it becomes the reason of a failed row."""


@dataclass(frozen=True)
class Passage:
    """A prompt and the spans of its chosen words, in characters, in order and apart from one another."""

    prompt: str
    spans: tuple[Span, ...]

    def marked(self, left: str = "[[", right: str = "]]") -> str:
        """The prompt with marks around each chosen word."""
        return self.replaced(lambda before, word, after: f"{left}{word}{right}")

    def replaced(self, change: Callable[[str, str, str], str]) -> str:
        """The prompt with each chosen word changed, the last one first; `change` sees what stands around the word."""
        text = self.prompt
        for start, end in reversed(self.spans):
            text = text[:start] + change(text[:start], text[start:end], text[end:]) + text[end:]
        return text


def passage(prompt: str, words: Sequence[str], chosen: Sequence[int]) -> Passage:
    """The chosen words, given by their positions among an explanation's words, as places in its prompt.

    A piece of a word, as imported attributions have them, stands for the whole word. Raises `NotRewritten` if a chosen
    word is not found.
    """
    places, whole = list(locate(prompt, words)), [m.span() for m in WORD.finditer(prompt)]
    spans = set()
    for index in chosen:
        if (place := places[index]) is None:
            raise NotRewritten(f"the word {words[index]!r} of the explanation is not in the prompt")
        spans.add(next((s for s in whole if s[0] <= place[0] < s[1]), place))
    return Passage(prompt, tuple(sorted(spans)))


def locate(text: str, words: Sequence[str]) -> Iterator[Span | None]:
    """Where each word stands in a text, one after the other, whatever their case; None for a word that is not there."""
    lowered, origin = [], []
    for index, letter in enumerate(text):
        for low in letter.lower():
            lowered.append(low)
            origin.append(index)
    low, cursor = "".join(lowered), 0
    for word in words:
        wanted = word.strip().lower()
        start = low.find(wanted, cursor) if wanted else -1
        if start < 0:
            yield None
            continue
        cursor = start + len(wanted)
        yield origin[start], origin[cursor - 1] + 1


def tidy(text: str) -> str:
    """The text with single spaces, and none before a comma, full stop or the like."""
    return re.sub(r" +(?=[,.;:!?])", "", " ".join(text.split()))


def same(one: str, other: str) -> bool:
    """Whether two captions differ in nothing but case and spaces."""
    return "".join(one.casefold().split()) == "".join(other.casefold().split())
