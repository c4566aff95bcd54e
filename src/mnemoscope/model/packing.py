"""Between the core's latents, [B, C, h, w], and what a network takes: patches as tokens, lists of frames."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

Pack = Callable[[Float[Tensor, "B C h w"]], Any]
Unpack = Callable[[Any, Sequence[int]], Float[Tensor, "B C h w"]]
Shape = Callable[[Any, Mapping[str, Any]], tuple[int, int, int]]


@dataclass(frozen=True)
class Packing:
    """How a network's input is made of latents, latents of its output, and their shape read off a call of it.

    `shape(x, arguments)` is (C, h, w) of the input `x` among the call's arguments. Solvers are elementwise, so that
    the core never sees packed latents.
    """

    pack: Pack
    unpack: Unpack
    shape: Shape


def _squares(x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B N D"]:
    """Patches of 2 x 2 as tokens of four times the channels."""
    count, channels, height, width = x.shape
    patches = x.view(count, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(count, -1, 4 * channels)


def _unsquared(tokens: Float[Tensor, "B N D"], shape: Sequence[int]) -> Float[Tensor, "B C h w"]:
    channels, height, width = shape[-3:]
    patches = tokens.view(len(tokens), height // 2, width // 2, channels, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(len(tokens), channels, height, width)


def _by_ids(x: Tensor, arguments: Mapping[str, Any]) -> tuple[int, int, int]:
    rows, columns = (int(arguments["img_ids"][..., k].max()) + 1 for k in (1, 2))
    return x.shape[-1] // 4, 2 * rows, 2 * columns


def _by_shapes(x: Tensor, arguments: Mapping[str, Any]) -> tuple[int, int, int]:
    rows, columns = arguments["img_shapes"][0][0][1:]
    return x.shape[-1] // 4, 2 * rows, 2 * columns


def _flat(x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B N C"]:
    return x.flatten(2).mT.contiguous()


def _unflat(tokens: Float[Tensor, "B N C"], shape: Sequence[int]) -> Float[Tensor, "B C h w"]:
    return tokens.mT.unflatten(2, tuple(shape[-2:])).contiguous()


def _flat_by_ids(x: Tensor, arguments: Mapping[str, Any]) -> tuple[int, int, int]:
    rows, columns = (int(arguments["img_ids"][..., k].max()) + 1 for k in (1, 2))
    return x.shape[-1], rows, columns


def _flat_by_name(x: Tensor, arguments: Mapping[str, Any]) -> tuple[int, int, int]:
    return x.shape[-1], arguments["height"], arguments["width"]


PLAIN = Packing(lambda x: x, lambda y, shape: y, lambda x, given: tuple(x.shape[1:]))
SQUARES = Packing(_squares, _unsquared, _by_ids)  # FLUX.1, Chroma
SHAPED = Packing(_squares, _unsquared, _by_shapes)  # Qwen-Image
FLAT = Packing(_flat, _unflat, _flat_by_ids)  # FLUX.2, whose latents are patches already
VIDEO = Packing(_flat, _unflat, _flat_by_name)  # LTX, one frame
FRAME = Packing(lambda x: x[:, :, None], lambda y, shape: y[:, :, 0], lambda x, given: (x.shape[1], *x.shape[-2:]))
FRAMES = Packing(  # Z-Image: a list of samples
    lambda x: list(x[:, :, None].unbind()),
    lambda y, shape: torch.stack(list(y)).squeeze(2),
    lambda x, given: (x[0].shape[0], *x[0].shape[-2:]),
)
