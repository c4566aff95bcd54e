"""The singular channels of an update, how far each lies in the base weight's principal subspace, and damping."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Matrix = Float[Tensor, "out in"]


@dataclass(frozen=True)
class Subspace:
    """Orthonormal bases of what a weight writes to and reads from most: its first singular vectors."""

    left: Float[Tensor, "out k"]
    right: Float[Tensor, "in k"]


@dataclass(frozen=True)
class Channels:
    """An update as a sum of channels s_i u_i v_i^T, the largest s_i first."""

    left: Float[Tensor, "out r"]
    values: Float[Tensor, " r"]
    right: Float[Tensor, "in r"]


def principal_subspace(weight: Matrix, energy: float) -> Subspace:
    """The fewest singular directions of a weight that hold a share `energy` of its squared Frobenius norm.

    In float64, for exact ties. A weight of zeros has none.
    """
    left, values, right = torch.linalg.svd(weight.double(), full_matrices=False)
    held = values.square().cumsum(0)
    count = int((held < energy * held[-1] * (1 - 1e-12)).sum()) + 1 if held[-1] > 0 else 0
    return Subspace(left[:, :count], right[:count].T)


def channels_of(up: Float[Tensor, "out r"], down: Float[Tensor, "r in"]) -> Channels:
    """The singular channels of up @ down, from the factors alone; those without any size are left out."""
    (left, one), (right, other) = torch.linalg.qr(up.double()), torch.linalg.qr(down.double().T)
    inner, values, outer = torch.linalg.svd(one @ other.T, full_matrices=False)
    kept = values > values.max() * 1e-10 if values.numel() else values > 0
    return Channels((left @ inner)[:, kept], values[kept], (right @ outer.T)[:, kept])


def alignments(channels: Channels, base: Subspace) -> Float[Tensor, " r"]:
    """How far each channel lies within the base's principal subspace: |P_left u_i| |P_right v_i|, from 0 to 1.

    1 for a channel that reads and writes only what the base weight reads and writes most, 0 for one that reads or
    writes nothing of it: the Frobenius norm of P_left u_i v_i^T P_right.
    """
    return ((base.left.T @ channels.left).norm(dim=0) * (base.right.T @ channels.right).norm(dim=0)).clamp(max=1)


def damped(up: Float[Tensor, "out r"], left: Float[Tensor, "out d"], factor: float) -> Float[Tensor, "out r"]:
    """The left factor of an update whose channels with these left vectors are multiplied by `factor`.

    up - (1 - factor) U U^T up: the right factor, and the other channels, stay as they are. Without a channel to damp it
    is the factor itself, bit for bit.
    """
    if not left.shape[1]:
        return up
    own = up.double()
    return (own - (1 - factor) * (left @ (left.T @ own))).to(up.dtype)
