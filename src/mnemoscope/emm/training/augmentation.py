"""Augmentations of training images that a network is told of, so that its samples do not show them."""

from collections.abc import Callable
from dataclasses import dataclass
from math import log, pi

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Augmentation = Callable[[Float[Tensor, "B C H W"], torch.Generator], tuple[Tensor, Float[Tensor, "B 9"]]]
"""What a training takes: images and a CPU generator to images and 9 numbers each, zeros where nothing was done."""

SCALE_STD, ANISOTROPY_STD, TRANSLATION_STD = 0.2, 0.2, 0.125


def x_flip(images: Float[Tensor, "B C H W"], generator: torch.Generator) -> Float[Tensor, "B C H W"]:
    """Mirror half of the images, drawn from a CPU generator; no network is told, so samples are mirrored too."""
    flipped = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(flipped.to(images.device)[:, None, None, None], images.flip(-1), images)


@dataclass(frozen=True)
class NonLeaking:
    """Flips, scale, rotation, anisotropy and translation, and the 9 numbers that tell a network what was done.

    The horizontal flip is drawn for every image (half are flipped), each other change with probability `probability`.
    Numbers: x-flip, y-flip, log2 of the scale, cos - 1 and sin of the rotation, log2 of the anisotropy times cos and
    sin of its direction (within a quarter turn to either side, so that no two changes have the same numbers),
    translation in x and y in image sizes over 0.125. Flips alone are exact; all else is one bicubic resampling with
    reflected borders. At sampling the network is given zeros (or None). Karras et al. 2022, appendix F.2.
    """

    probability: float | int = 0.12

    def __call__(
        self, images: Float[Tensor, "B C H W"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B 9"]]:
        """The changed images and their numbers, both on the device of the images."""
        told, matrix = self._draw(len(images), generator)
        told, matrix = told.to(images.device), matrix.to(images)
        for place, axis in ((0, -1), (1, -2)):
            images = torch.where(told[:, place, None, None, None] > 0, images.flip(axis), images)
        moved = told[:, 2:].abs().sum(1) > 0
        if moved.any():
            grid = F.affine_grid(matrix[moved], list(images[moved].shape), align_corners=False)
            images = images.clone()
            images[moved] = F.grid_sample(
                images[moved], grid, mode="bicubic", padding_mode="reflection", align_corners=False
            )
        return images, told

    def _draw(self, count: int, generator: torch.Generator) -> tuple[Float[Tensor, "B 9"], Float[Tensor, "B 2 3"]]:
        """The numbers, and the map from a place in the changed image to one in the original (-1..1 each way)."""

        def uniform() -> Tensor:
            return torch.rand(count, generator=generator)

        def normal() -> Tensor:
            return torch.randn(count, generator=generator)

        def sometimes(value: Tensor) -> Tensor:
            chosen = uniform() < self.probability
            return torch.where(chosen.reshape(-1, *[1] * (value.ndim - 1)), value, torch.zeros_like(value))

        x_flip, y_flip = (uniform() < 0.5).float(), sometimes((uniform() < 0.5).float())
        scale = sometimes(normal() * SCALE_STD)
        angle = sometimes((uniform() * 2 - 1) * pi)
        direction, stretch = (uniform() - 0.5) * pi, sometimes(normal() * ANISOTROPY_STD)
        shift = sometimes(torch.stack([normal(), normal()], dim=1))
        told = [x_flip, y_flip, scale, angle.cos() - 1, angle.sin()]
        told += [stretch * direction.cos(), stretch * direction.sin(), *shift.unbind(1)]
        linear = _rotation(direction) @ _scaling(stretch, -stretch) @ _rotation(-direction)
        linear = linear @ _rotation(angle) @ _scaling(scale, scale)
        back = torch.linalg.inv(linear)
        offset = -back @ (2 * TRANSLATION_STD * shift)[:, :, None]
        return torch.stack(told, dim=1), torch.cat([back, offset], dim=2)


def _rotation(angle: Float[Tensor, " B"]) -> Float[Tensor, "B 2 2"]:
    return torch.stack([torch.stack([angle.cos(), -angle.sin()], 1), torch.stack([angle.sin(), angle.cos()], 1)], 1)


def _scaling(x: Float[Tensor, " B"], y: Float[Tensor, " B"]) -> Float[Tensor, "B 2 2"]:
    return torch.diag_embed(torch.stack([x, y], dim=1).mul(log(2)).exp())
