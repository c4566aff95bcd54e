"""Encodings of prompts, each computed once and by itself."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from mnemoscope.model.cond import Cond, joined, rows
from mnemoscope.model.device import working_on
from mnemoscope.model.kept import Kept


class Encodings:
    """What encodes prompts, and keeps what it encoded as long as there is room."""

    pipe: Any
    negative_prompt: str | None

    def __init__(self) -> None:
        self.kept = Kept()

    @property
    def network(self) -> Any:
        """The network that predicts."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return working_on(self.network)

    def encode(self, prompts: Sequence[str], shape: Sequence[int]) -> Cond:
        """Conditioning of prompts for latents of a shape, encoded now and together."""
        raise NotImplementedError

    def null(self, count: int, shape: Sequence[int]) -> Cond:
        """The conditioning of the unconditional branch, encoded now, as the family's pipeline makes it."""
        raise NotImplementedError

    def encoded(self, prompts: Sequence[str], shape: Sequence[int]) -> Cond:
        """Conditioning of each prompt, computed once and by itself, so that none depends on its neighbours."""
        about = (*shape[-2:], *self.state())
        return joined([self.kept(("cond", p, *about), partial(self.encode, [p], shape)) for p in prompts])

    def encoded_null(self, count: int, shape: Sequence[int]) -> Cond:
        """The conditioning of the unconditional branch, computed once."""
        key = ("null", self.negative_prompt, *shape[-2:], *self.state())
        return rows(self.kept(key, lambda: self.null(1, shape)), torch.zeros(count, dtype=torch.long))

    def state(self) -> tuple[Any, ...]:
        """What an encoding depends on beside its prompt: dtype, device, the text encoders and their weights."""
        encoders = [v for k, v in self.pipe.components.items() if k.startswith("text_encoder")]
        networks = [each for each in encoders if isinstance(each, nn.Module)]
        return self.network.dtype, self.device, *map(id, encoders), *map(_weights, networks)


def _weights(network: nn.Module) -> tuple[Any, ...]:
    """How often the weights were changed, and an element of each: edits of `.data` are not counted by torch."""
    known = [p.detach() for p in network.parameters() if p.numel() and not p.is_meta]
    elements = torch.stack([p[(0,) * p.ndim].float().cpu() for p in known]).tolist() if known else []
    return sum(1 + p._version + p.numel() for p in network.parameters()), tuple(elements)
