"""The U-Net: an encoder whose outputs are skip connections, and a decoder that is given those the mask keeps."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from mnemoscope.emm.networks.block import NEARLY_ZERO, Block
from mnemoscope.emm.networks.embedding import Conditioning
from mnemoscope.emm.networks.layers import Conv, ConvThenHalve, Norm
from mnemoscope.emm.networks.options import NetworkOptions, resolutions


class Encoder(nn.Module):
    """Input convolution, then blocks level by level; every output in order is a skip connection.

    The residual pyramid of ncsnpp takes the image down beside the blocks and is added after each down-sampling.
    """

    def __init__(self, options: NetworkOptions, channels: int, resolution: int, conditioning: int) -> None:
        super().__init__()
        style, self.scale = options.style, options.style.scale
        self.input, self.widths = Conv(channels, options.width, 3), [options.width]
        self.downs, self.pyramid, self.levels = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        c, image = options.width, channels
        for level, size in enumerate(resolutions(options, resolution)):
            if level:
                self.downs.append(Block(c, c, conditioning, style, dropout=options.dropout, resample="down"))
                self.widths.append(c)
                if style.pyramid:
                    self.pyramid.append(ConvThenHalve(image, c, 3, style.taps))
                image = c
            blocks = nn.ModuleList()
            for _ in range(options.blocks):
                c_in, c = c, options.width * options.multipliers[level]
                attends = size in options.attention
                blocks.append(Block(c_in, c, conditioning, style, dropout=options.dropout, attention=attends))
                self.widths.append(c)
            self.levels.append(blocks)

    def forward(self, x: Float[Tensor, "B C H W"], vector: Float[Tensor, "B E"]) -> list[Tensor]:
        image, x = x, self.input(x)
        outputs = [x]
        for level, blocks in enumerate(self.levels):
            if level:
                x = self.downs[level - 1](x, vector)
                if len(self.pyramid):
                    image = x = (x + self.pyramid[level - 1](image)) * self.scale
                outputs.append(x)
            for block in cast(nn.ModuleList, blocks):
                x = block(x, vector)
                outputs.append(x)
        return outputs


class Decoder(nn.Module):
    """Two blocks at the lowest resolution, then blocks level by level, each given the last skip not yet used."""

    def __init__(
        self, options: NetworkOptions, channels: int, resolution: int, conditioning: int, skips: Sequence[int]
    ) -> None:
        super().__init__()
        style, left = options.style, list(skips)
        shared: dict[str, Any] = {"dropout": options.dropout}
        self.keep = options.skips or (1,) * options.skip_count
        self.ups, self.levels, c = nn.ModuleList(), nn.ModuleList(), left[-1]
        self.middle = nn.ModuleList(
            [
                Block(c, c, conditioning, style, attention=bool(options.attention), **shared),
                Block(c, c, conditioning, style, **shared),
            ]
        )
        sizes = resolutions(options, resolution)
        for level in reversed(range(len(sizes))):
            if level < len(sizes) - 1:
                self.ups.append(Block(c, c, conditioning, style, resample="up", **shared))
            blocks = nn.ModuleList()
            for place in range(options.blocks + 1):
                c_in, c = c + left.pop(), options.width * options.multipliers[level]
                attends = style.every_decoder_block_attends or place == options.blocks
                attends = attends and sizes[level] in options.attention
                blocks.append(Block(c_in, c, conditioning, style, attention=attends, **shared))
            self.levels.append(blocks)
        self.norm, self.output = Norm(c, style.epsilon), Conv(c, channels, 3, gain=NEARLY_ZERO)

    def forward(self, outputs: list[Tensor], vector: Float[Tensor, "B E"]) -> Float[Tensor, "B C H W"]:
        x = outputs[-1]
        left = [skip if kept else torch.zeros_like(skip) for skip, kept in zip(outputs, self.keep, strict=True)]
        for block in self.middle:
            x = block(x, vector)
        for level, blocks in enumerate(self.levels):
            if level:
                x = self.ups[level - 1](x, vector)
            for block in cast(nn.ModuleList, blocks):
                x = block(torch.cat([x, left.pop()], dim=1), vector)
        return self.output(F.silu(self.norm(x)))


class UNet(nn.Module):
    """A network of image, noise level, label and augmentation; its output has the shape of the image."""

    def __init__(self, options: NetworkOptions, *, channels: int, resolution: int, num_classes: int = 0) -> None:
        super().__init__()
        self.conditioning = Conditioning(options, num_classes)
        self.encoder = Encoder(options, channels, resolution, self.conditioning.channels)
        self.decoder = Decoder(options, channels, resolution, self.conditioning.channels, self.encoder.widths)

    def forward(
        self,
        x: Float[Tensor, "B C H W"],
        noise: Float[Tensor, " B"],
        labels: Int[Tensor, " B"] | None = None,
        augment: Float[Tensor, "B 9"] | None = None,
    ) -> Float[Tensor, "B C H W"]:
        vector = self.conditioning(noise, labels, augment)
        return self.decoder(self.encoder(x.to(self.encoder.input.weight.dtype), vector), vector)
