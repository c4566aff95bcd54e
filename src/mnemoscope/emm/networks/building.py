"""A new network from its options and a seed."""

from math import sqrt

import torch
from torch import nn

from mnemoscope.emm.networks.block import NEARLY_ZERO
from mnemoscope.emm.networks.embedding import Fourier, Label
from mnemoscope.emm.networks.layers import Conv, Linear, Norm, Resampler, fans
from mnemoscope.emm.networks.options import NetworkOptions
from mnemoscope.emm.networks.preconditioning import Preconditioned
from mnemoscope.emm.networks.unet import UNet
from mnemoscope.errors import UsageError

FOURIER_SCALE = 16


def build(
    options: NetworkOptions, *, channels: int, resolution: int, num_classes: int = 0, seed: int = 0
) -> Preconditioned:
    """A new denoiser on the CPU; a seed gives the same weights wherever it is built.

    channels and resolution are those of the images, num_classes is 0 for a network without labels.
    Raises `UsageError` where options and images do not fit.
    """
    if channels < 1 or num_classes < 0:
        raise UsageError(f"{channels} channels and {num_classes} classes were given; give at least 1 and 0.")
    with torch.device("meta"):
        network = UNet(options, channels=channels, resolution=resolution, num_classes=num_classes)
    start(network.to_empty(device="cpu"), options, seed)
    return Preconditioned(
        network,
        options.preconditioning,
        channels=channels,
        resolution=resolution,
        num_classes=num_classes,
        noise_input=options.noise_input,
    )


@torch.no_grad()
def start(network: UNet, options: NetworkOptions, seed: int) -> None:
    """Draw the weights: Xavier uniform times each gain, biases 0.

    For adm weights and biases are uniform up to 1/sqrt(inputs), and 0 where the gain is small.
    """
    generator = torch.Generator().manual_seed(seed)
    kaiming = options.architecture == "adm"
    for module in network.modules():
        if isinstance(module, Conv | Linear):
            _draw(module, kaiming, generator)
        elif isinstance(module, Label):
            _draw_label(module, kaiming, generator)
        elif isinstance(module, Fourier):
            module.frequencies.normal_(generator=generator).mul_(FOURIER_SCALE)
        elif isinstance(module, Resampler):
            module.fill()
        elif isinstance(module, Norm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def _draw(module: Conv | Linear, kaiming: bool, generator: torch.Generator) -> None:
    seen, fed = fans(module.weight)
    limit = sqrt(1 / seen) if kaiming else sqrt(6 / (seen + fed))
    gain = float(module.gain > NEARLY_ZERO) if kaiming else module.gain
    module.weight.uniform_(-limit, limit, generator=generator).mul_(gain)
    if module.bias is not None and kaiming:
        module.bias.uniform_(-limit, limit, generator=generator).mul_(gain)
    elif module.bias is not None:
        module.bias.zero_()


def _draw_label(module: Label, kaiming: bool, generator: torch.Generator) -> None:
    channels = module.weight.shape[1]
    if kaiming:
        module.weight.normal_(generator=generator)
    else:
        limit = sqrt(6 / (module.classes + channels))
        module.weight.uniform_(-limit, limit, generator=generator)
    if module.bias is not None:
        module.bias.zero_()
