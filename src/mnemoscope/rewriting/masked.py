"""Alternatives of a word from a local masked language model, which reads the words around it."""

from collections.abc import Sequence
from pathlib import Path

import torch

from mnemoscope.prompts.masked import masked_language_model
from mnemoscope.rewriting.offline import Offline

LIKELIEST = 5
LOOKED_AT = 50  # of the vocabulary, before pieces of words and punctuation are left out
CONTEXT = 600  # characters on each side of the word


def masked(folder: Path) -> Offline:
    """A rewriter that hides a word from a masked language model and draws from the 5 likeliest words for its place.

    They fit the sentence and may mean something else. Raises `UsageError` for a folder that holds no such model.
    """
    tokenizer, network = masked_language_model(folder)

    @torch.no_grad()
    def alternatives(before: str, word: str, after: str) -> Sequence[str]:
        text = f"{before[-CONTEXT:]}{tokenizer.mask_token}{after[:CONTEXT]}"
        given = tokenizer(text, return_tensors="pt")
        place = (given["input_ids"][0] == tokenizer.mask_token_id).nonzero()[0, 0]
        likely = network(**given).logits[0, place].float().topk(min(LOOKED_AT, len(tokenizer))).indices.tolist()
        words = [tokenizer.convert_ids_to_tokens(i).strip("Ġ▁") for i in likely]
        return [w for w in words if w.isalpha() and w.casefold() != word.casefold()][:LIKELIEST]

    return Offline(f"masked-lm:{folder.name}", alternatives)
