"""How many images of a prompt are all alike: the largest clique of a graph that joins images closer than a distance."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from mnemoscope.errors import UsageError

BRANCHES = 50_000  # a few seconds


@dataclass(frozen=True)
class Clique:
    """Places of images that are all joined to one another; `is_largest` if it is proven that no clique is larger."""

    members: tuple[int, ...]
    is_largest: bool


def largest_clique(joined: Bool[np.ndarray, "N N"], *, branches: int = BRANCHES) -> Clique:
    """The largest set of images that are all joined to one another; of several always the same.

    Branch and bound with a greedy colouring as the bound (Tomita & Seki 2003): exact, and fast for the graphs of near
    duplicates. After so many `branches` it stops with the largest one found until then, which says so. No images have
    an empty clique, images without a join one of a single image. Raises UsageError for joins in one direction alone.
    """
    if (joined != joined.T).any():
        raise UsageError("Images are joined in one direction only; give a symmetric matrix.")
    count = len(joined)
    degrees = (joined & ~np.eye(count, dtype=bool)).sum(axis=1)
    order = np.argsort(-degrees, kind="stable")
    arranged = joined[np.ix_(order, order)]
    search = _Search([_bits(row) & ~(1 << k) for k, row in enumerate(arranged)])
    is_largest = search.grow((1 << count) - 1, branches)
    return Clique(tuple(sorted(int(order[k]) for k in search.best)), is_largest)


def in_largest(joined: Bool[np.ndarray, "N N"], clique: Clique) -> Bool[np.ndarray, " N"]:
    """Whether each image is in a clique as large as the largest one; there may be several."""
    inside = np.zeros(len(joined), dtype=bool)
    inside[list(clique.members)] = True
    near = joined | np.eye(len(joined), dtype=bool)
    for place in np.flatnonzero(~inside & (near.sum(axis=1) >= len(clique.members))):
        own = np.flatnonzero(near[place])
        inside[place] = len(largest_clique(joined[np.ix_(own, own)]).members) >= len(clique.members)
    return inside


class _Search:
    """Sets of images are the bits of integers."""

    def __init__(self, joined: list[int]) -> None:
        self.joined = joined
        self.best: list[int] = []

    def grow(self, candidates: int, branches: int) -> bool:
        """Look for the largest clique of the candidates; whether the branches sufficed to rule out larger ones."""
        stack: list[tuple[list[int], int, list[tuple[int, int]]]] = [([], candidates, self._coloured(candidates))]
        while stack and branches:
            members, candidates, ordered = stack.pop()
            if not ordered or len(members) + ordered[-1][1] <= len(self.best):
                continue
            branches -= 1
            image, _ = ordered.pop()
            inner = candidates & self.joined[image]
            stack.append((members, candidates & ~(1 << image), ordered))
            stack.append(([*members, image], inner, self._coloured(inner)))
            if len(members) >= len(self.best):
                self.best = [*members, image]
        return not stack

    def _coloured(self, candidates: int) -> list[tuple[int, int]]:
        """Candidates with how many colours those up to them take: no clique among these is larger."""
        ordered, colour = [], 0
        while candidates:
            colour, free = colour + 1, candidates
            while free:
                image = (free & -free).bit_length() - 1
                ordered.append((image, colour))
                candidates &= ~(1 << image)
                free &= ~(1 << image) & ~self.joined[image]
        return ordered


def _bits(row: Bool[np.ndarray, " N"]) -> int:
    return int.from_bytes(np.packbits(row, bitorder="little").tobytes(), "little")
