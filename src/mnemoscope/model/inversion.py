"""Prompts with the tokens of a textual inversion: what the pipeline encodes in their place, and where that came from.

A learnt concept may be several vectors: diffusers then encodes "<cat> <cat>_1 <cat>_2" for "<cat>", so that positions
are those of the longer text, and characters those of the prompt.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from mnemoscope.errors import UsageError
from mnemoscope.model.spans import clusters


class Spelt(NamedTuple):
    """A text as the encoder is given it, with the place in the prompt that each of its characters stands for."""

    text: str
    places: tuple[tuple[int, int], ...]  # start and end in the prompt, one a character

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The characters of the prompt that some characters of the text stand for."""
        if places := self.places[start:end]:
            return places[0][0], places[-1][1]
        ends = [place[1] for place in self.places[:start]]
        at = ([place[0] for place in self.places[start : start + 1]] or ends[-1:] or [0])[0]
        return at, at


def spelt(pipe: Any, prompts: Sequence[str], tokenizer: Any = None) -> list[Spelt]:
    """Each prompt as its pipeline encodes it; the prompt itself where there is no inversion of several vectors.

    Raises `UsageError` where the pipeline makes another text of it than its tokens' names say.
    """
    tokenizer = getattr(pipe, "tokenizer", None) if tokenizer is None else tokenizer
    several = _several(tokenizer)
    present = [set(tokenizer.tokenize(prompt)) if several else () for prompt in prompts]
    longer_names = [{token: longer for token, longer in several.items() if token in there} for there in present]
    prompts_spelt = [_replaced(prompt, each) for prompt, each in zip(prompts, longer_names, strict=True)]
    if several and hasattr(pipe, "maybe_convert_prompt"):
        theirs = pipe.maybe_convert_prompt(list(prompts), tokenizer)
        for prompt, ours, encoded in zip(prompts, prompts_spelt, theirs, strict=True):
            if ours.text != encoded:
                raise UsageError(f"'{prompt[:60]}' is encoded as '{encoded[:60]}', whose places in it are not known.")
    return prompts_spelt


def encoded_texts(pipe: Any, prompts: Sequence[str], tokenizer: Any = None) -> list[str]:
    """The texts that the pipeline's tokenizer is given for prompts."""
    return [each.text for each in spelt(pipe, prompts, tokenizer)]


def _several(tokenizer: Any) -> dict[str, str]:
    """What stands in the place of each token that has more than one vector."""
    added = set(getattr(tokenizer, "added_tokens_encoder", {}))
    tokens = {}
    for token in added:
        names = [token]
        while f"{token}_{len(names)}" in added:
            names.append(f"{token}_{len(names)}")
        if len(names) > 1:
            tokens[token] = " ".join(names)
    return tokens


def _replaced(prompt: str, several: dict[str, str]) -> Spelt:
    text, places = prompt, [(k, end) for start, end in clusters(prompt) for k in range(start, end)]
    for token, longer in several.items():
        at = text.find(token)
        while at >= 0:
            end = at + len(token)
            span = (places[at][0], places[end - 1][1])
            text = text[:at] + longer + text[end:]
            places[at:end] = [span] * len(longer)
            at = text.find(token, at + len(longer))
    return Spelt(text, tuple(places))
