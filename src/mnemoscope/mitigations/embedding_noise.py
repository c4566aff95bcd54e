"""Somepalli et al.: Gaussian noise on the prompt's embedding."""

import random
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.cond import Cond
from mnemoscope.model.start import Start
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
    padding. Raises `UsageError` for a model without a text embedding.
    """
    key = start.model.family.texts[0]
    if key not in start.cond:
        raise UsageError("embedding_noise changes a text embedding, and this model has none.")
    noise = scale * drawn(start)
    ends = None if tokens == "all" else start.ends()
    cond, null = _noisy(start.cond, key, noise[:, 0], ends), None
    if scope == "both":
        null = start.null_rows()
        empty = None if ends is None else torch.tensor(start.model.family.ends([""] * len(start)))
        null = _noisy(null, key, noise[:, 1], empty)
    start.change(cond=cond, null=null)


def drawn(start: Start) -> Float[Tensor, "B 2 L D"]:
    """Standard noise for both branches of each sample, from a generator keyed by its seed."""
    shape = (2, *start.cond[start.model.family.texts[0]].shape[1:])
    keys = (random.Random(f"embedding_noise|{seed}").getrandbits(63) for seed in start.seeds)
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(key)) for key in keys])


def _noisy(cond: Cond, key: str, noise: Tensor, ends: Tensor | None) -> Cond:
    if ends is not None:
        place = torch.arange(noise.shape[1])
        noise = noise * ((place > 0) & (place <= ends[:, None]))[..., None]
    hidden = cond[key]
    return {**cond, key: (hidden.float() + noise.to(hidden.device)).to(hidden.dtype)}
