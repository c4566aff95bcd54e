"""The training images as an optimal denoiser reads them: block by block, less 128 so that they fit int8."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float64, Int, Int8, Integer, UInt8
from torch import Tensor

from mnemoscope.emm.optimum.products import WIDEST, FloatProducts, IntegerProducts, Products, integers_are_exact

VALUES, FLOATS = 2**24, 2**20  # of a block, for products of bytes and of floats
PART = 64  # images squared at a time
WORD = 16  # bytes of which int8 products take whole ones
Places = Int[np.ndarray, " M"] | None  # of a part of the images; None for all of them


class Stored:
    """Rows of bytes, and of each half its squared length. Arrays in memory are held on the device, as many bytes again;
    memory-mapped ones are read anew each time, so that the memory taken is that of one block, and 8 bytes an image.
    """

    def __init__(
        self, rows: UInt8[np.ndarray, "N D"], *, block: int | None, device: torch.device, integers: bool | None = None
    ) -> None:
        self.rows, self.device, self.width = rows, device, rows.shape[1]
        self.held = None if _is_mapped(rows) else _shifted(rows).to(device)
        usable = device.type == "cpu" and self.width < WIDEST
        exact = usable and integers_are_exact() if integers is None else integers
        self.products: Products = IntegerProducts() if exact else FloatProducts()
        self.block = block or min(max((VALUES if exact else FLOATS) // self.width, 64), 4096)
        parts = (part for _, images in self._all(0) for part in images.split(PART))
        self.half_squares = torch.cat([(part.int() ** 2).sum(dim=1).double() / 2 for part in parts])
        self.longest = float((2 * self.half_squares.max()).sqrt())

    def __len__(self) -> int:
        return len(self.rows)

    def blocks(self, places: Places, first: int = 0) -> Iterator[tuple[Integer[Tensor, " n"], Int8[Tensor, "n P"]]]:
        """The places of each block and its images, of all images or of those at `places`; the first may be smaller."""
        if places is None:
            yield from self._all(first)
            return
        for part in self._parts(len(places), first):
            at = torch.from_numpy(places[part]).to(self.device)
            yield at, self.take(at)

    def take(self, places: Integer[Tensor, "..."]) -> Int8[Tensor, "... P"]:
        """The images at these places."""
        if self.held is not None:
            return self.held[places]
        taken = _shifted(self.rows[places.cpu().numpy().ravel()]).to(self.device)
        return taken.view(*places.shape, -1)

    def levels(self, x: Float64[Tensor, "B D"]) -> Float64[Tensor, "B P"]:
        """Images in [-1, 1] on the scale of the rows, in grey levels."""
        return torch.nn.functional.pad(x * 127.5 - 0.5, (0, -self.width % WORD))

    def images(self, levels: Float64[Tensor, "B P"]) -> Float64[Tensor, "B D"]:
        """The way back; a byte v comes back as v / 127.5 - 1."""
        return (levels[:, : self.width] + 128) / 127.5 - 1

    def _all(self, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        for part in self._parts(len(self.rows), first):
            images = _shifted(self.rows[part]).to(self.device) if self.held is None else self.held[part]
            yield torch.arange(part.start, part.start + len(images), device=self.device), images

    def _parts(self, count: int, first: int) -> Iterator[slice]:
        start = min(first, self.block)
        if start:
            yield slice(0, start)
        for begin in range(start, count, self.block):
            yield slice(begin, begin + self.block)


def _shifted(rows: UInt8[np.ndarray, "n D"]) -> Int8[Tensor, "n P"]:
    """Bytes less 128, and zeros up to whole words."""
    images = torch.from_numpy(np.bitwise_xor(rows, np.uint8(128)).view(np.int8))
    return torch.nn.functional.pad(images, (0, -images.shape[1] % WORD))


def _is_mapped(rows: np.ndarray) -> bool:
    base: object = rows
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return False
