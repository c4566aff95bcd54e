"""Somepalli et al.: Gaussian noise on the prompt's embedding."""

import random
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemoscope.model.cond import Cond
from mnemoscope.model.start import Start
from mnemoscope.model.text_embeddings import TextEmbeddings
from mnemoscope.registry import mitigation


@mitigation(
    paper="arXiv:2305.20086",
    cost="no evaluation more",
    strength=("scale", (0.1, 0.3, 0.5, 1.0, 1.5, 2.0, 3.0)),
)
def embedding_noise(
    start: Start,
    *,
    scale: int | float = 0.1,
    scope: Literal["cond", "both"] = "cond",
    tokens: Literal["all", "content+eos"] = "all",
) -> None:
    """Adds independent Gaussian noise of standard deviation `scale` to the embedding of each prompt.

    The noise depends on the sample's seed alone, not on the batch. `scope` says whether the unconditional branch gets
    noise of its own too, `tokens` whether all do or only the words and the end token, without the first token and the
    padding. For families known by a row `scale` is in units of the embedding's root mean square, all of several texts
    get noise, and positions padded with zeros none. Raises `UsageError` for a model without a text embedding.
    """
    family = start.model.family
    texts = TextEmbeddings(family, start.cond, "embedding_noise changes")
    ends = None if tokens == "all" else start.ends()
    noise = drawn(start, texts)
    cond, null = _noisy(texts, start.cond, scale * noise[:, 0], ends), None
    if scope == "both":
        null = start.null_rows()
        empty = None if ends is None else torch.tensor(family.ends([""] * len(start)))
        null = _noisy(TextEmbeddings(family, null, "embedding_noise changes"), null, scale * noise[:, 1], empty)
    start.change(cond=cond, null=null)


def drawn(start: Start, texts: TextEmbeddings) -> Float[Tensor, "B 2 N"]:
    """Standard noise for both branches of each sample, from a generator keyed by its seed."""
    keys = (random.Random(f"embedding_noise|{seed}").getrandbits(63) for seed in start.seeds)
    return torch.stack([_of_seed(torch.Generator().manual_seed(key), texts) for key in keys])


def _of_seed(generator: torch.Generator, texts: TextEmbeddings) -> Float[Tensor, "2 N"]:
    parts = [torch.randn((2, *shape), generator=generator) for shape in texts.shapes]
    return torch.cat([part.flatten(1) for part in parts], 1)


def _noisy(texts: TextEmbeddings, cond: Cond, noise: Float[Tensor, "B N"], ends: Int[Tensor, " B"] | None) -> Cond:
    if ends is not None:  # of a family with one text
        place = torch.arange(texts.length)
        noise = noise * texts.each_number((place > 0) & (place <= ends[:, None]))
    noise = noise.to(texts.plain.device)
    return texts.into(cond, texts.plain + texts.unit * torch.where(texts.there, noise, 0.0))
