"""Convolutions and linear maps that know the gain of their start, group norms, and resampling by a fixed filter."""

from math import prod
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.errors import UsageError

Resample = Literal["up", "down"]


class Conv(nn.Conv2d):
    """A convolution that keeps the size of its input; `gain` multiplies its weights at the start."""

    def __init__(self, c_in: int, c_out: int, kernel: int, gain: float | int = 1) -> None:
        super().__init__(c_in, c_out, kernel, padding=kernel // 2)
        self.gain = gain


class Linear(nn.Linear):
    """A linear map whose weights are drawn by the network's scheme."""

    gain: float | int = 1


class Norm(nn.GroupNorm):
    """Group norm with groups of at least four channels, at most 32 of them."""

    def __init__(self, channels: int, epsilon: float) -> None:
        groups = min(32, channels // 4)
        if channels % groups:
            raise UsageError(
                f"These widths join to {channels} channels, which {groups} groups do not divide; "
                "use a width that is a multiple of 32, or one below 16 times the multipliers."
            )
        super().__init__(groups, channels, eps=epsilon)


class Resampler(nn.Module):
    """Twice or half the resolution by a separable filter: taps (1, 1) repeat pixels, or average two by two."""

    kernel: Tensor

    def __init__(self, direction: Resample, taps: tuple[int, ...]) -> None:
        super().__init__()
        self.direction, self.taps = direction, taps
        self.register_buffer("kernel", torch.empty(1, 1, len(taps), len(taps)), persistent=False)
        self.fill()

    @torch.no_grad()
    def fill(self) -> None:
        """Compute the filter: it is no weight, and no file has it."""
        line = torch.tensor(self.taps, dtype=torch.float32, device="cpu") / sum(self.taps)
        self.kernel.copy_(line.outer(line) * (4 if self.direction == "up" else 1))

    @property
    def repeats(self) -> bool:
        """Whether this repeats pixels and does nothing else."""
        return self.taps == (1, 1) and self.direction == "up"

    @property
    def margin(self) -> int:
        """Pixels beside an image that the filter reaches."""
        return len(self.taps) // 2 - 1

    def forward(self, x: Float[Tensor, "B C h w"], *, has_margin: bool = False) -> Float[Tensor, "B C H W"]:
        """The image at the other resolution; with `has_margin` its margin is there and need not be put around it."""
        if self.taps == (1, 1):
            return F.avg_pool2d(x, 2) if self.direction == "down" else F.interpolate(x, scale_factor=2)
        channels, padding = x.shape[1], 0 if has_margin else self.margin
        kernel = self.kernel.to(x).expand(channels, -1, -1, -1)
        resample = F.conv2d if self.direction == "down" else F.conv_transpose2d
        return resample(x, kernel, stride=2, padding=padding, groups=channels)


class ConvThenHalve(Conv):
    """A convolution whose output is then halved by a filter: the filter sees the convolution beyond the edge too."""

    def __init__(self, c_in: int, c_out: int, kernel: int, taps: tuple[int, ...]) -> None:
        super().__init__(c_in, c_out, kernel)
        self.resample = Resampler("down", taps)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K h w"]:
        padding = self.kernel_size[0] // 2 + self.resample.margin
        return self.resample(F.conv2d(x, self.weight, self.bias, padding=padding), has_margin=True)


def fans(weight: Tensor) -> tuple[int, int]:
    """How many inputs an output of a weight sees, and how many outputs an input."""
    area = prod(weight.shape[2:])
    return weight.shape[1] * area, weight.shape[0] * area
