"""Tokens of a prompt with the characters they stand for and where their embeddings are."""

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

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


def located(
    prompt: str, ids: Sequence[int], decode: Callable[[list[int]], str], unknown: int | None = None
) -> list[tuple[int, int]]:
    """The characters that each of a text's ids stands for; ids that only together are a character share it.

    Case, white space and accents that the tokenizer leaves out may differ, and ids for what the tokenizer does not know
    stand for what lies between their neighbours. White space by itself stands before what follows it. Raises
    `ValueError` where the ids spell another text than the prompt.
    """
    pieces, letters = [*_pieces(ids, decode, unknown)], letters_of(prompt)
    said = [piece for _, piece in pieces if piece]
    found = _matched(said, letters) or _matched([_bare(piece) for piece in said], [*_bare_letters(letters)])
    if found is None:
        first = next(k for k in range(len(said)) if _matched(said[: k + 1], letters) is None)
        raise ValueError(f"its pipeline rewrites the prompt: '{said[first]}' is not what comes next in it")
    spans: list[tuple[int, int]] = []
    after = (len(prompt), len(prompt))
    for count, piece in reversed(pieces):
        span = found.pop() if piece else (after[0], after[0])
        spans, after = [span] * count + spans, span
    return spans


UNKNOWN = "\0"  # a piece that stands for any characters


def _pieces(ids: Sequence[int], decode: Callable[[list[int]], str], unknown: int | None) -> Iterator[tuple[int, str]]:
    """Runs of ids that are whole characters together: how many, and their text as tokenizers compare it."""
    before: list[int] = []
    waiting: list[int] = []
    for number in ids:
        waiting.append(number)
        if waiting == [unknown]:
            yield 1, UNKNOWN
            before, waiting = [], []
            continue
        begun, whole = decode(before), decode(before + waiting)  # pieces of a word are spelt out after its beginning
        piece = whole[len(begun) :] if whole.startswith(begun) else decode(waiting)
        if "\ufffd" not in piece:
            yield len(waiting), unicodedata.normalize("NFKC", piece).strip().lower()
            before, waiting = waiting, []
    if waiting:
        yield len(waiting), ""  # a character that was cut in two


def _matched(pieces: Sequence[str], letters: Sequence[tuple[str, int, int]]) -> list[tuple[int, int]] | None:
    """The characters of each of these pieces if the letters begin with them, in this order."""
    last = len(pieces) - 1

    def pattern(k: int, piece: str) -> str:
        if piece != UNKNOWN:
            return r"\s+".join(re.escape(part) for part in piece.split())
        return r"\S+" if k == last else r"\S+?"

    patterns = [pattern(k, piece) for k, piece in enumerate(pieces)]
    found = re.match("".join(rf"\s*({pattern})" for pattern in patterns), "".join(low for low, *_ in letters))
    if found is None:
        return None
    places = [found.span(k + 1) for k in range(len(pieces))]
    return [(letters[a][1], letters[b - 1][2]) for a, b in places]


def _bare(text: str) -> str:
    """Text without accents and other signs, as some tokenizers have it."""
    return "".join(char for char in unicodedata.normalize("NFD", text) if unicodedata.category(char) != "Mn")


def _bare_letters(letters: Sequence[tuple[str, int, int]]) -> Iterator[tuple[str, int, int]]:
    return ((char, a, b) for low, a, b in letters for char in _bare(low))


def tokens_of(
    prompt: str, ids: Sequence[int], empty: Sequence[int], encoded: Encoded, pipe: Any, length: int, offset: int
) -> list[Token]:
    """Tokens that one encoder makes of a prompt, in the order of the text; those without an embedding are left out.

    `length` is that of the embedding's axis, and `offset` where it begins among the positions of all texts.
    """
    tokenizer = getattr(pipe, encoded.tokenizer)
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        tokenizer = tokenizer.tokenizer  # of a processor
    begin, end = own_part(ids, empty, tokenizer.pad_token_id)
    spans = located(prompt, ids[begin:end], tokenizer.decode, tokenizer.unk_token_id)
    tokens = []
    for k, (start, stop) in enumerate(spans, start=begin):
        place = encoded.place(k, len(ids), length, pipe)
        if 0 <= place < length:
            tokens.append(Token(tokenizer.decode([ids[k]]).strip(), start, stop, offset + place))
    return tokens
