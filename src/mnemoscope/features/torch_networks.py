"""Networks in torch, evaluated so that an image's vector does not depend on the images beside it."""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from mnemoscope.errors import UsageError
from mnemoscope.features.descriptors import by_shape

BATCH = 32  # on an accelerator; on the CPU one at a time, where more are hardly faster

SCALES = (0.5**0.5, 0.5)  # of an image beside itself

Network = Callable[[Tensor], Tensor]


def evaluated(
    network: Network, arrays: Sequence[np.ndarray], device: torch.device, *, batch: int | None = None
) -> Float[np.ndarray, "N *D"]:
    """What a network gives for each array, in order, in float32 and without TF32.

    Arrays of one shape go together, `batch` at a time (None: one on the CPU); the last ones are filled up to that
    size, so that the same kernels run whatever else is asked for.
    """
    size = batch or (1 if device.type == "cpu" else BATCH)
    outputs: dict[int, np.ndarray] = {}
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        for some in by_shape(arrays, size):
            filled = (some + [some[-1]] * size)[:size]
            out = network(torch.from_numpy(np.stack([arrays[k] for k in filled])).to(device)).float().cpu().numpy()
            outputs |= dict(zip(some, out, strict=False))
    return np.stack([outputs[k] for k in range(len(arrays))])


def multiscaled(network: Network) -> Network:
    """The mean of what a network gives for images at scales 1, 1/sqrt(2) and 1/2, bilinear, before unit length.

    As in DINO's retrieval code (arXiv:2104.14294), which Somepalli et al. (arXiv:2305.20086) take over.
    """

    def mean(batch: Tensor) -> Tensor:
        small = [functional.interpolate(batch, scale_factor=s, mode="bilinear", align_corners=False) for s in SCALES]
        return torch.stack([network(each) for each in (batch, *small)]).mean(0)

    return mean


def load_script(file: Path, device: torch.device) -> Any:
    """A TorchScript network in float32; raises `UsageError` for a file that is absent or holds something else."""
    if not file.is_file():
        raise UsageError(
            f"There is no TorchScript file at '{file}'; give the path of a downloaded .torchscript.pt file."
        )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning)  # published weights have no other format
            network = torch.jit.load(file, map_location=device)
    except RuntimeError as e:
        first = str(e).strip().splitlines()[0][:200]
        raise UsageError(f"{file} is not a TorchScript file (weights alone are not enough): {first}") from e
    return network.float().eval()


def dimension_of(network: Network, side: int, device: torch.device, file: Path) -> int:
    """Length of the vector that a network gives for a square image; raises `UsageError` if it gives no vector."""
    grey = np.zeros((3, side, side), dtype=np.float32)
    try:
        out = evaluated(network, [grey], device)
    except (RuntimeError, AttributeError, TypeError) as e:
        why = str(e).strip().splitlines()[-1][:200]
        raise UsageError(f"{file} does not take images of {side} x {side} pixels: {why}") from e
    if out.ndim != 2:
        raise UsageError(
            f"{file} gives an array of shape {list(out.shape[1:])} for an image, where a vector is needed."
        )
    return out.shape[1]
