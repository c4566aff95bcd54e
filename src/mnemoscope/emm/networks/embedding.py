"""What a network is told beside the image: noise level, label, augmentation."""

from math import log, pi, sqrt

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.emm.networks.layers import Linear
from mnemoscope.emm.networks.options import NetworkOptions
from mnemoscope.errors import UsageError

CONDITIONS = 9
"""Numbers that tell what an augmentation did."""
USUAL_CLASSES = 10
"""The number of classes whose strength a constant label scale has."""


class Positional(nn.Module):
    """Sines and cosines of the noise level at frequencies from 1 to 1/10000.

    Song's networks include the last frequency and have the sines first; `is_adm` is the other way round in both.
    """

    def __init__(self, channels: int, is_adm: bool) -> None:
        super().__init__()
        self.is_adm, self.count = is_adm, channels // 2
        self.steps = self.count - (0 if is_adm else 1)

    def forward(self, noise: Float[Tensor, " B"]) -> Float[Tensor, "B F"]:
        places = torch.arange(self.count, device=noise.device, dtype=noise.dtype)
        angles = noise[:, None] * torch.exp(places * (-log(10000) / self.steps))
        parts = [angles.cos(), angles.sin()] if self.is_adm else [angles.sin(), angles.cos()]
        return torch.cat(parts, dim=1)


class Fourier(nn.Module):
    """Sines and cosines of the noise level at fixed frequencies drawn from N(0, 16^2)."""

    frequencies: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.empty(channels // 2))

    def forward(self, noise: Float[Tensor, " B"]) -> Float[Tensor, "B F"]:
        angles = noise[:, None] * self.frequencies.to(noise) * (2 * pi)
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class Label(nn.Module):
    """A row of a table for each label: what a linear map gives of one-hot rows times sqrt(C).

    In adm it is what a map without a bias gives of the one-hot rows themselves.
    """

    def __init__(self, options: NetworkOptions, classes: int, channels: int) -> None:
        super().__init__()
        self.is_adm = options.architecture == "adm"
        self.classes = classes if options.label_scale == "classes" else USUAL_CLASSES
        self.weight = nn.Parameter(torch.empty(classes, channels))
        self.bias = None if self.is_adm else nn.Parameter(torch.empty(channels))

    def forward(self, labels: Int[Tensor, " B"]) -> Float[Tensor, "B F"]:
        rows = F.embedding(labels, self.weight)
        return rows if self.bias is None else rows * sqrt(self.classes) + self.bias


class Conditioning(nn.Module):
    """One vector a sample, four times the width: noise level, label and augmentation through two layers.

    Song's networks add label and augmentation to the noise features, adm adds the label after the second layer.
    """

    def __init__(self, options: NetworkOptions, classes: int) -> None:
        super().__init__()
        self.late = options.architecture == "adm"
        features, self.channels = options.width * options.style.noise_factor, 4 * options.width
        self.noise = Fourier(features) if options.embedding == "fourier" else Positional(features, self.late)
        label_channels = self.channels if self.late else features
        self.label = Label(options, classes, label_channels) if classes else None
        self.augment = Linear(CONDITIONS, features, bias=False) if options.augmentation else None
        if self.augment is not None and self.late:
            self.augment.gain = 0
        self.first, self.second = Linear(features, self.channels), Linear(self.channels, self.channels)

    def forward(
        self, noise: Float[Tensor, " B"], labels: Int[Tensor, " B"] | None, augment: Float[Tensor, "B 9"] | None
    ) -> Float[Tensor, "B E"]:
        vector = self.noise(noise).to(self.first.weight.dtype)
        label = self._label(labels)
        if augment is not None:
            vector = vector + self._augment(augment.to(vector))
        if label is not None and not self.late:
            vector = vector + label
        vector = self.second(F.silu(self.first(vector)))
        return F.silu(vector if label is None or not self.late else vector + label)

    def _label(self, labels: Int[Tensor, " B"] | None) -> Tensor | None:
        if (labels is None) != (self.label is None):
            raise UsageError(
                "This network is conditional; give a label for each image."
                if labels is None
                else "This network knows no labels; give none."
            )
        return None if self.label is None else self.label(labels)

    def _augment(self, augment: Float[Tensor, "B 9"]) -> Tensor:
        if self.augment is None:
            raise UsageError("This network was built without augmentation; build it with augmentation=True.")
        return self.augment(augment)
