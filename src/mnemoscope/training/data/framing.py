"""From a picture to the square that is trained on: resized, cropped, flipped, as (seed, epoch, index) decide."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mnemoscope.features.geometry import HALF, centre_crop, middle, normalised, short_side

FRAMED = 4  # part of the key of crops and flips


@dataclass(frozen=True)
class Framing:
    """How pictures become squares of `side` pixels."""

    side: int
    center_crop: bool
    random_flip: bool
    seed: int

    def is_flipped(self, epoch: int, index: int) -> bool:
        """Whether this view of a row is seen in a mirror."""
        return self.random_flip and bool(self._draws(epoch, index)[0] < 0.5)

    def view(self, image: Image.Image, epoch: int, index: int) -> Float[Tensor, "3 side side"]:
        """Pixels of one view of a row, in [-1, 1]."""
        _, across, down = self._draws(epoch, index)
        return self.pixels(image, self.is_flipped(epoch, index), across, down)

    def pixels(
        self, image: Image.Image, flipped: bool, across: float = 0.5, down: float = 0.5
    ) -> Float[Tensor, "3 side side"]:
        """Pixels in [-1, 1] of a picture with its shorter side resized, cropped in the middle or elsewhere.

        `across` and `down` are where the crop lies, from 0 to below 1, each of its places as likely.
        """
        resized = short_side(middle(image), self.side)
        if self.center_crop:
            cropped = centre_crop(resized, self.side)
        else:
            left, top = (int(s * (n - self.side + 1)) for s, n in zip((across, down), resized.size, strict=True))
            cropped = resized.crop((left, top, left + self.side, top + self.side))
        turned = cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flipped else cropped
        return torch.from_numpy(normalised(np.asarray(turned), HALF))

    def _draws(self, epoch: int, index: int) -> tuple[float, float, float]:
        """Three numbers in [0, 1) of this view alone: for the flip, and for where the crop lies."""
        flip, across, down = np.random.default_rng([self.seed, FRAMED, epoch, index]).random(3)
        return float(flip), float(across), float(down)
