"""Inner products of noisy images with training images, and weighted sums of those, to the precision of float64.

Training images are bytes, so int8 products of them are exact: a float64 vector is a sum of a few vectors of int8
digits, each is multiplied exactly, and the sum of the digits' products is the product. Where the processor has no such
products, and on a GPU, float64 products take their place, with float32 where no more than the best are looked for.
"""

from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float, Float64, Int8
from torch import Tensor

BASE = 254  # of the digits, from -127 to 127
COARSE_DIGITS, MOST_DIGITS = 2, 7  # beyond 7 float64 has no more
ROUNDING = 2.0**-24  # of float32
WIDEST = 2**17  # values of an image below which a sum of products of two bytes fits int32


@dataclass(frozen=True)
class Query:
    """Vectors made ready for products, and the length of what was left out of each."""

    parts: Tensor
    scales: Float64[Tensor, "digits B"]
    rest: Float64[Tensor, " B"]

    def __getitem__(self, rows: Tensor) -> "Query":
        return Query(self.parts[:, rows], self.scales[:, rows], self.rest[rows])


class IntegerProducts:
    """Products by digits: exact, but for the digits left out. Training images are rows of bytes less 128, as int8."""

    def prepare(self, x: Float64[Tensor, "B P"], allowed: Float64[Tensor, ""] | None) -> Query:
        """Vectors ready for products; `allowed` is the length that may be left out, None for what is quick."""
        return digits(x, COARSE_DIGITS, x.new_zeros(())) if allowed is None else digits(x, MOST_DIGITS, allowed)

    def load(self, images: Int8[Tensor, "n P"], query: Query) -> Int8[Tensor, "n P"]:
        """A block of training images ready for products with a query, and for sums."""
        return images

    def inner(self, query: Query, images: Int8[Tensor, "n P"]) -> Float64[Tensor, "B n"]:
        """x . y of each vector and each training image."""
        return _joined(query, images.T)

    def mix(
        self, weights: Float64[Tensor, "B n"], images: Int8[Tensor, "n P"], allowed: Float64[Tensor, " B"]
    ) -> Float64[Tensor, "B P"]:
        """Sums of training images, with weights from 0 to 1, of which a length of `allowed` may be left out."""
        return _joined(digits(weights, MOST_DIGITS, allowed), images)


class FloatProducts:
    """The same in float64, or in float32 where quick ones do."""

    def prepare(self, x: Float64[Tensor, "B P"], allowed: Float64[Tensor, ""] | None) -> Query:
        single = allowed is None and torch.get_float32_matmul_precision() == "highest"
        rest = x.norm(dim=1) * ((x.shape[1] + 8) * ROUNDING if single else 0.0)
        return Query((x.float() if single else x)[None], x.new_ones(1, len(x)), rest)

    def load(self, images: Int8[Tensor, "n P"], query: Query) -> Float[Tensor, "n P"]:
        return images.to(query.parts.dtype)

    def inner(self, query: Query, images: Float[Tensor, "n P"]) -> Float64[Tensor, "B n"]:
        return (query.parts[0] @ images.T).double()

    def mix(
        self, weights: Float64[Tensor, "B n"], images: Float64[Tensor, "n P"], allowed: Float64[Tensor, " B"]
    ) -> Float64[Tensor, "B P"]:
        return weights @ images


Products = IntegerProducts | FloatProducts


def digits(values: Float64[Tensor, "B n"], most: int, allowed: Float64[Tensor, "*rows"]) -> Query:
    """Vectors as sums of int8 digits times the scales of the digits, until no more than `allowed` is left of any."""
    scale = values.abs().amax(dim=1).clamp(min=1e-300) / (BASE // 2)
    rest = values / scale[:, None]
    parts = torch.empty(most, *values.shape, dtype=torch.int8, device=values.device)
    scales = scale * BASE ** -torch.arange(most, dtype=scale.dtype, device=scale.device)[:, None]
    for count in range(1, most + 1):
        whole = rest.round()
        parts[count - 1] = whole
        left = rest.sub_(whole).norm(dim=1) * scales[count - 1]
        if bool((left <= allowed).all()):
            break
        rest.mul_(BASE)
    return Query(parts[:count], scales[:count], left)


def _joined(query: Query, images: Int8[Tensor, "K n"]) -> Float64[Tensor, "B n"]:
    count, rows, width = query.parts.shape
    exact = torch._int_mm(query.parts.reshape(count * rows, width), images).view(count, rows, -1)
    total = exact[-1].double()
    for part in exact[:-1].flip(0):
        total.mul_(1 / BASE).add_(part.double())
    return total.mul_(query.scales[0, :, None])


@cache
def integers_are_exact() -> bool:
    """Whether the processor's int8 products are there and right, whichever way the second matrix lies."""
    random = torch.Generator().manual_seed(0)
    x, y = (torch.randint(-128, 128, (65, 528), dtype=torch.int8, generator=random) for _ in range(2))
    x[:4], y[:4] = torch.tensor([[-128], [127], [-128], [127]]), torch.tensor([[-128], [127], [127], [-128]])
    try:
        across = torch.equal(torch._int_mm(x, y.T), x.int() @ y.T.int())
        return across and torch.equal(torch._int_mm(x, y.T.contiguous()), x.int() @ y.T.int())
    except (AttributeError, RuntimeError):
        return False
