"""Tokens of a prompt with the characters they stand for and where their embeddings are."""

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from mnemoscope.model.facts import Encoded


class Token(NamedTuple):
    """A token of a prompt as readable text, the characters `prompt[start:end]` of it, and its embedding's position."""

    text: str
    start: int
    end: int
    place: int = -1


def own_part(ids: Sequence[int], empty: Sequence[int], padding: int | None) -> tuple[int, int]:
    """Where the ids of a prompt differ from those of the empty prompt, the padding of both left out."""
    (low, high), (first, last) = _inner(ids, padding), _inner(empty, padding)
    given, none = ids[low:high], empty[first:last]
    most = min(len(given), len(none))
    begin = next((k for k in range(most) if given[k] != none[k]), most)
    tail = next((k for k in range(most - begin) if given[-1 - k] != none[-1 - k]), most - begin)
    return low + begin, high - tail


def _inner(ids: Sequence[int], padding: int | None) -> tuple[int, int]:
    """Where ids begin and end without the padding at both ends."""
    places = [k for k, number in enumerate(ids) if number != padding]
    return (places[0], places[-1] + 1) if places else (0, 0)


def clusters(text: str) -> Iterator[tuple[int, int]]:
    """Where each character begins and ends together with the accents and vowel signs that follow it."""
    start = 0
    for k in range(1, len(text) + 1) if text else ():
        if k == len(text) or not is_sign(text[k]):
            yield start, k
            start = k


def is_sign(character: str) -> bool:
    """Whether a character only marks the one before it, as in decomposed text or in the scripts of India."""
    return unicodedata.category(character).startswith("M")


def letters_of(text: str) -> list[tuple[str, int, int]]:
    """The letters of a text as tokenizers compare them, composed and in lower case, each with what it stands for."""
    return [(low, a, b) for a, b in clusters(text) for low in unicodedata.normalize("NFKC", text[a:b]).lower()]


def located(prompt: str, ids: Sequence[int], decode: Callable[[list[int]], str]) -> list[tuple[int, int]]:
    """The characters that each of a text's ids stands for; ids that only together are a character share it.

    Case and white space may differ. Raises `ValueError` where the ids spell another text than the prompt.
    """
    letters = letters_of(prompt)
    text, spans, at, waiting = "".join(low for low, *_ in letters), [], 0, []
    for number in ids:
        waiting.append(number)
        piece = decode(waiting)
        if "\ufffd" in piece:
            continue
        piece = unicodedata.normalize("NFKC", piece).strip().lower()
        start = at + len(text[at:]) - len(text[at:].lstrip()) if piece else at
        if not text.startswith(piece, start):
            raise ValueError(f"its pipeline rewrites the prompt: '{piece}' is not what comes next in it")
        at = start + len(piece)
        span = (letters[start][1], letters[at - 1][2]) if piece else (len(prompt), len(prompt))
        spans += [span] * len(waiting)
        waiting = []
    return spans + [(len(prompt), len(prompt))] * len(waiting)  # a character that was cut in two


def tokens_of(
    prompt: str, ids: Sequence[int], empty: Sequence[int], encoded: Encoded, pipe: Any, length: int, offset: int
) -> list[Token]:
    """Tokens that one encoder makes of a prompt, in the order of the text; those without an embedding are left out.

    `length` is that of the embedding's axis, and `offset` where it begins among the positions of all texts.
    """
    tokenizer = getattr(pipe, encoded.tokenizer)
    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)  # of a processor
    begin, end = own_part(ids, empty, tokenizer.pad_token_id)
    spans = located(prompt, ids[begin:end], tokenizer.decode)
    tokens = []
    for k, (start, stop) in enumerate(spans, start=begin):
        place = encoded.place(k, len(ids), length, pipe)
        if 0 <= place < length:
            tokens.append(Token(tokenizer.decode([ids[k]]).strip(), start, stop, offset + place))
    return tokens
