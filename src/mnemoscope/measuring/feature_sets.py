"""The two sets of vectors that measures of quality compare."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from mnemoscope.measuring.background import sampled
from mnemoscope.measuring.comparison import Comparison, Measured


@dataclass(frozen=True)
class FeatureSets:
    """Vectors of generated images and of references, whose they are, and which generated images these are."""

    name: str
    generated: Float[np.ndarray, "N D"]
    reference: Float[np.ndarray, "M D"]
    places: Int[np.ndarray, " N"]
    notes: tuple[str, ...]

    @property
    def about(self) -> dict[str, str | int]:
        """What a number taken from them depends on."""
        return {"features": self.name, "generated": len(self.generated), "references": len(self.reference)}


def feature_sets(comparison: Comparison, most: int, least: int = 2) -> FeatureSets | Measured:
    """Vectors of the comparison's own network for quality if it has one, of its descriptor if not.

    Of more than `most` images of a side, so many drawn at random. What has fewer than `least` has nothing to measure,
    and a note says so.
    """
    found, notes = comparison.features, []
    if found is None or found.reference is None:
        name, ours, theirs = str(comparison.descriptor.identity), comparison.vectors, comparison.reference_vectors
        if found is not None:
            notes.append(f"The references are known by their vectors alone: quality is taken from {name}.")
    else:
        name, ours, theirs = found.name, found.generated, found.reference
    if min(len(ours), len(theirs)) < least:
        few = f"{len(ours)} generated images and {len(theirs)} references are too few; it takes {least} of each."
        return Measured(notes=[few])
    places, positions = (sampled(len(side), most, comparison.seed) for side in (ours, theirs))
    return FeatureSets(name, ours[places], theirs[positions], places, tuple(notes))


def column(comparison: Comparison, sets: FeatureSets, values: np.ndarray) -> list[object]:
    """Values of the images that were drawn, as a column for all of them; None for the others."""
    spread: list[object] = [None] * len(comparison.generated)
    for place, value in zip(sets.places.tolist(), values.tolist(), strict=True):
        spread[place] = value
    return spread
