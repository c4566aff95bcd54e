"""The nearest images in squared L2 over 8-bit pixels: exact, because every product and sum is of integers.

||x - y||^2 = ||x||^2 + ||y||^2 - 2 x.y, and x.y of bytes is one product of int8 matrices. Where that product is missing
or not exact, float32 products of slices of pixels take its place, short enough for their sums to be exact in float32.
"""

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped, UInt8

from mnemoscope.errors import UsageError
from mnemoscope.search.topk import largest

if TYPE_CHECKING:
    from torch import Tensor

QUERIES, IMAGES = 1024, 2048  # of one tile of distances
GROUP = 64  # images of a tile of which first only the nearest is looked at
INTEGERS = 32768  # pixels whose products, at most 2^14 each, and three times their sum fit int32
WORD = 16  # bytes; of matrices of a single column torch's int8 product is wrong
EXACT_FLOATS = 1024  # pixels whose products sum to at most 2^24, below which float32 holds every integer


def nearest(
    generated: Shaped[np.ndarray, "N _"],
    reference: Shaped[np.ndarray, "M _"],
    k: int = 2,
    *,
    exclude: Int[np.ndarray, " N"] | None = None,
    distinct: bool = False,
) -> tuple[Float[np.ndarray, "N k"], Int[np.ndarray, "N k"]]:
    """L2 distances, in grey levels, from each image to its k nearest of the reference, and their indices.

    Rows are all pixels and channels of an image as bytes; `reference` may be memory-mapped and is read once, block by
    block. Distances are the square roots, in float64, of exact integers, 0 for equal images and at most
    255 sqrt(D); of equal distances the lower index is first. inf and -1 stand where the reference has fewer than k.
    `exclude` names one reference for each image that is no neighbour of it, as its own in a search of images among
    themselves; -1 for none. Equal images of the reference are neighbours of their own unless `distinct`, which leaves
    only the first of them. Raises `UsageError` for k below 1 and for images that are not rows of as many bytes.
    """
    _check(generated, reference, k)
    queries = _centred(generated)
    keys = np.full((len(queries), k), -np.inf)
    indices = np.full((len(queries), k), -1, np.int64)
    first = first_equal(reference) if distinct else None
    for start in range(0, len(reference), IMAGES):
        ids = np.arange(start, min(start + IMAGES, len(reference)))
        ids = ids if first is None else ids[first[ids] == ids]
        images = _centred(reference[ids] if len(ids) < IMAGES else reference[start : start + IMAGES])
        squares = _squares(images)
        for begin in range(0, len(queries), QUERIES):
            rows = slice(begin, begin + QUERIES)
            excluded = None if exclude is None else exclude[rows]
            _look(queries[rows], images, squares, ids, excluded, keys[rows], indices[rows])
    distances = np.where(indices >= 0, _squares(queries)[:, None] - keys, np.inf)
    return np.sqrt(distances), indices


def first_equal(images: UInt8[np.ndarray, "M D"]) -> Int[np.ndarray, " M"]:
    """For each image the index of the first one with the same pixels, its own where there is none before it."""
    import hashlib

    seen: dict[bytes, np.integer] = {}
    first = np.arange(len(images))
    for index in np.flatnonzero(_shared(images)):
        first[index] = seen.setdefault(hashlib.blake2b(images[index].tobytes(), digest_size=24).digest(), index)
    return first


def _shared(images: UInt8[np.ndarray, "M D"]) -> Bool[np.ndarray, " M"]:
    """Which images may have an equal: a sum over their words, each times an odd number, is that of another one."""
    words = -(-images.shape[1] // 8)
    odd = np.random.default_rng(0).integers(0, 2**63, words, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    sums = np.empty(len(images), np.uint64)
    for start in range(0, len(images), IMAGES):
        part = np.ascontiguousarray(np.pad(images[start : start + IMAGES], ((0, 0), (0, -images.shape[1] % 8))))
        sums[start : start + IMAGES] = np.einsum("nd,d->n", part.view(np.uint64), odd)
    _, inverse, counts = np.unique(sums, return_inverse=True, return_counts=True)
    return counts[inverse] > 1


def _check(generated: np.ndarray, reference: np.ndarray, k: int) -> None:
    if k < 1:
        raise UsageError(f"k was {k}; ask for at least 1 neighbour.")
    if generated.dtype != np.uint8 or reference.dtype != np.uint8:
        raise UsageError(
            f"Distances are between 8-bit images, and these are {generated.dtype} and {reference.dtype}; "
            "round the pixels to 0..255 first."
        )
    if generated.shape[1] != reference.shape[1]:
        raise UsageError(
            f"The images have {generated.shape[1]} pixels and the reference {reference.shape[1]}; "
            "resize one of them to the other's size."
        )


def _look(
    queries: Shaped[np.ndarray, "N D"],
    images: Shaped[np.ndarray, "B D"],
    squares: Int[np.ndarray, " B"],
    ids: Int[np.ndarray, " B"],
    exclude: Int[np.ndarray, " N"] | None,
    keys: Float[np.ndarray, "N k"],
    indices: Int[np.ndarray, "N k"],
) -> None:
    """Keep, in place, the images nearer than the k-th so far; the key 2 x.y - ||y||^2 is largest at the nearest."""
    import torch

    if not len(ids):
        return
    tile = _products(torch.from_numpy(queries), torch.from_numpy(images))
    tile = tile.mul_(2).sub_(torch.from_numpy(squares).to(tile.dtype))
    k = keys.shape[1]
    query, vector, scores = _candidates(tile, torch.from_numpy(keys[:, -1]), k if exclude is None else k + 1)
    if exclude is not None:
        is_other = exclude[query] != ids[vector]
        query, vector, scores = query[is_other], vector[is_other], scores[is_other]
    if not len(query):
        return
    rows, place = np.unique(query, return_inverse=True)
    keys[rows], indices[rows] = largest(
        np.concatenate([np.repeat(np.arange(len(rows)), k), place]),
        np.concatenate([keys[rows].ravel(), scores]),
        np.concatenate([indices[rows].ravel(), ids[vector]]),
        k,
    )


def _candidates(
    tile: "Tensor", known: "Tensor", k: int
) -> tuple[Int[np.ndarray, " C"], Int[np.ndarray, " C"], Float[np.ndarray, " C"]]:
    """Rows, columns and keys of a tile that are above the known key of their row and may be among its `k` largest.

    Looks into groups of columns whose largest key reaches the k-th largest of these, which is at most that of all.
    """
    import torch

    least = -(2**31) if tile.dtype == torch.int32 else -(2**62)
    low = (known + 1).clamp(min=least).to(tile.dtype)
    width = max(1, GROUP // k)
    tops = tile if width == 1 else torch.stack([part.amax(dim=1) for part in tile.split(width, dim=1)], dim=1)
    if tops.shape[1] > k:
        low = torch.maximum(low, tops.topk(k, dim=1).values[:, -1])
    rows, groups = (tops >= low[:, None]).nonzero(as_tuple=True)
    columns = groups[:, None] * width + torch.arange(width)
    values = tile[rows[:, None], columns.clamp(max=tile.shape[1] - 1)]
    pair, place = ((values >= low[rows, None]) & (columns < tile.shape[1])).nonzero(as_tuple=True)
    return rows[pair].numpy(), columns[pair, place].numpy(), values[pair, place].double().numpy()


def _centred(images: UInt8[np.ndarray, "N D"]) -> Shaped[np.ndarray, "N _"]:
    """Bytes less 128, as int8, and zeros up to whole words: distances stay the same, and int8 products stay right."""
    centred = np.bitwise_xor(images, np.uint8(128)).view(np.int8)
    short = -centred.shape[1] % WORD
    return np.pad(centred, ((0, 0), (0, short))) if short else centred


def _squares(images: Shaped[np.ndarray, "N D"]) -> Int[np.ndarray, " N"]:
    squares = np.empty(len(images), np.int64)
    dtype = np.int32 if images.shape[1] <= INTEGERS else np.int64
    for start in range(0, len(images), IMAGES):
        part = images[start : start + IMAGES]
        squares[start : start + IMAGES] = np.einsum("nd,nd->n", part, part, dtype=dtype)
    return squares


def _products(x: "Tensor", y: "Tensor") -> "Tensor":
    """Inner products of int8 rows, exact: int32 or int64 where the processor has them, float64 elsewhere."""
    return _integer_products(x, y) if _integers_are_exact() else _float_products(x, y)


def _integer_products(x: "Tensor", y: "Tensor") -> "Tensor":
    import torch

    parts = zip(x.split(INTEGERS, dim=1), y.split(INTEGERS, dim=1), strict=True)
    if x.shape[1] <= INTEGERS:
        return torch._int_mm(x, y.T)
    return sum(torch._int_mm(a.contiguous(), b.contiguous().T).long() for a, b in parts)  # type: ignore[return-value]


def _float_products(x: "Tensor", y: "Tensor") -> "Tensor":
    parts = zip(x.split(EXACT_FLOATS, dim=1), y.split(EXACT_FLOATS, dim=1), strict=True)
    return sum((a.float() @ b.float().T).double() for a, b in parts)


@cache
def _integers_are_exact() -> bool:
    """Whether the int8 product is there and right, at the ends of its range too, where some processors saturate."""
    import torch

    random = torch.Generator().manual_seed(0)
    x, y = (torch.randint(-128, 128, (65, 528), dtype=torch.int8, generator=random) for _ in range(2))
    x[:4], y[:4] = torch.tensor([[-128], [127], [-128], [127]]), torch.tensor([[-128], [127], [127], [-128]])
    try:
        return torch.equal(_integer_products(x, y), x.int() @ y.int().T)
    except (AttributeError, RuntimeError):
        return False
