"""Alternatives of a word from the audited model itself: the nearest words in its table of token embeddings."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import nn

from mnemoscope.errors import UsageError
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.rewriting.offline import Offline

NEAREST = 5
SHORTEST = 4  # letters: shorter entries of a vocabulary are mostly pieces of words
WORD_END = "</w>"


def neighbours(model: Denoiser) -> Offline:
    """A rewriter that puts a word into one of the 5 nearest ones of the model's own vocabulary, by cosine.

    What is near for a text encoder is what is used alike, so that the words are related and seldom synonyms; names are
    changed like other words. Raises `UsageError` for a model without a text encoder of whole words.
    """
    tokenizer: Any = getattr(model.pipe, "tokenizer", None)
    encoder: Any = getattr(model.pipe, "text_encoder", None)
    vocabulary = {} if tokenizer is None or encoder is None else tokenizer.get_vocab()
    known = {w.removesuffix(WORD_END): i for w, i in sorted(vocabulary.items()) if w.endswith(WORD_END)}
    words = [w for w in known if len(w) >= SHORTEST and w.isascii() and w.isalpha()]
    if len(words) < 2:
        raise UsageError(
            f"{model.source} has no vocabulary of words to take others from; give --masked-lm, --wordnet or --model."
        )
    table = encoder.get_input_embeddings().weight.detach().float().cpu()
    candidates = nn.functional.normalize(table[[known[w] for w in words]], dim=1)

    @cache
    def nearest(word: str) -> tuple[str, ...]:
        ids = tokenizer(word, add_special_tokens=False).input_ids
        if not ids:
            return ()
        near = (candidates @ nn.functional.normalize(table[ids].mean(0), dim=0)).sort(descending=True, stable=True)
        return tuple([w for i in near.indices[: NEAREST + 1].tolist() if (w := words[i]) != word][:NEAREST])

    def alternatives(before: str, word: str, after: str) -> Sequence[str]:
        with torch.no_grad():
            return nearest(word.lower())

    return Offline("neighbours", alternatives)
