"""Text embeddings while the text encoder does not change: each caption encoded once, as long as there is room."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch

from mnemoscope.model.cond import Cond, concatenate


class Texts:
    """Conditioning of captions, kept by the caption up to so many bytes; those used longest ago give way.

    `encode` is what makes it of a list of captions, such as `Denoiser.encode`, of a text encoder that stays as it is.
    Each caption is encoded by itself, so that its embedding does not depend on what was encoded before or beside it: a
    training that was resumed, with nothing kept, gets the same numbers.
    """

    def __init__(self, encode: Callable[[list[str]], Cond], limit: int = 2**30) -> None:
        self.encode, self.limit = encode, limit
        self.held = 0
        self.encoded = 0
        self._kept: OrderedDict[str, Cond] = OrderedDict()

    @torch.no_grad()
    def __call__(self, captions: Sequence[str]) -> Cond:
        """The conditioning of captions, batch first."""
        return concatenate(*(self._one(caption) for caption in captions))

    def _one(self, caption: str) -> Cond:
        if caption in self._kept:
            self._kept.move_to_end(caption)
            return self._kept[caption]
        found = self._kept[caption] = self.encode([caption])
        self.encoded += 1
        self.held += _bytes(found)
        while self.held > self.limit and len(self._kept) > 1:
            self.held -= _bytes(self._kept.popitem(last=False)[1])
        return found


def _bytes(cond: Cond) -> int:
    return sum(value.numel() * value.element_size() for value in cond.values())
