"""Prompts whose images are copies of one another (Carlini et al., USENIX Security 2023, arXiv:2301.13188)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.measuring.bootstrap import Estimates
from mnemoscope.measuring.comparison import Comparison, Measured
from mnemoscope.measuring.nemo import members
from mnemoscope.measuring.same_size import squashed
from mnemoscope.measuring.tiles import tiled_distance
from mnemoscope.stats import wilson_interval


@registry.measure(paper="arXiv:2301.13188", needs=("several images a prompt",), tells=("clique",))
def cliques(
    comparison: Comparison,
    *,
    on: Literal["pixels", "features"] = "pixels",
    below: int | float = 0.15,
    least: int = 10,
    tiles: int = 4,
    size: int = 512,
) -> Measured:
    """The most images of a prompt that are all alike, which needs no training image; ten of 500 are a sign.

    Images are alike where their tiled distance is strictly below `below`, of images squashed to `size` by `size`; with
    `on=features`, where their similarity is strictly above the comparison's threshold. `rate` is the share of prompts
    with a clique of `least` images, among prompts with so many, with Wilson's interval. The number of images of a
    prompt decides what can be found: compare only at an equal one.
    """
    sizes, inside, inexact = np.zeros(len(comparison.generated), int), np.zeros(len(comparison.generated), bool), 0
    largest, able = [], []
    for places in members(comparison.groups):
        joined = _near(comparison, places, below, tiles, size) if on == "pixels" else _alike(comparison, places)
        clique = largest_clique(joined)
        inexact += not clique.is_largest
        sizes[places], inside[places] = len(clique.members), in_largest(joined, clique)
        largest.append(len(clique.members))
        able += [len(clique.members) >= least] if len(places) >= least else []
    summary: Estimates = {
        "on": on,
        "least": least,
        "prompts": len(able),
        "largest": max(largest),
        "passed": sum(able),
    }
    summary |= {"rate": sum(able) / len(able) if able else None}
    summary["rate_interval"] = list(wilson_interval(sum(able), len(able))) if able else None
    notes = [] if able else [f"No prompt has {least} images, so that none can have a clique of {least}; draw more."]
    if inexact:
        notes.append(f"The search stopped early for {inexact} prompts: their cliques may be larger.")
    return Measured({"clique": sizes.tolist(), "in_clique": inside.tolist()}, summary, notes=notes)


def _near(
    comparison: Comparison, places: Int[np.ndarray, " S"], below: int | float, tiles: int, size: int
) -> Bool[np.ndarray, "S S"]:
    pixels = squashed((comparison.generated[k].picture.image() for k in places.tolist()), size)
    return tiled_distance(pixels, pixels, tiles=tiles) < below


def _alike(comparison: Comparison, places: Int[np.ndarray, " S"]) -> Bool[np.ndarray, "S S"]:
    vectors = comparison.vectors[places].astype(np.float64)
    return vectors @ vectors.T > comparison.threshold


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
        neighbours = np.flatnonzero(near[place])
        inside[place] = len(largest_clique(joined[np.ix_(neighbours, neighbours)]).members) >= len(clique.members)
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
