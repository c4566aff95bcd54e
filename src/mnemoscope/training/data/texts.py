"""Text embeddings while the text encoder does not change: each caption encoded once, as long as there is room."""

from collections.abc import Callable, Sequence
from functools import partial

import torch

from mnemoscope.model.cond import Cond, concatenate
from mnemoscope.model.kept import ROOM, Kept


class Texts:
    """Conditioning of captions, kept by the caption up to so many bytes; those used longest ago give way.

    `encode` is what makes it of a list of captions, such as `Denoiser.encode`, of a text encoder that stays as it is.
    Each caption is encoded by itself, so that its embedding does not depend on what was encoded before or beside it: a
    training that was resumed, with nothing kept, gets the same numbers.
    """

    def __init__(self, encode: Callable[[list[str]], Cond], limit: int = ROOM) -> None:
        self.encode, self.kept = encode, Kept(limit)

    @torch.no_grad()
    def __call__(self, captions: Sequence[str]) -> Cond:
        """The conditioning of captions, batch first."""
        return concatenate(*(self.kept(caption, partial(self.encode, [caption])) for caption in captions))

    @property
    def held(self) -> int:
        """Bytes that are kept."""
        return self.kept.held

    @property
    def encoded(self) -> int:
        """Captions that were encoded."""
        return self.kept.made
