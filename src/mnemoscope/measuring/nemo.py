"""The protocols of NeMo (arXiv:2406.02366): medians over images, then median and MAD over prompts."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from mnemoscope.errors import UsageError
from mnemoscope.measuring.bootstrap import Estimates, MedianDeviation, Percentile, Statistic, estimates

Median = Literal["standard", "lower"]
Kind = Literal["VM", "TM"]
Values = Sequence[float | None]  # one for each prompt; None where it could not be measured
Matrix = Float[np.ndarray, "references generated"]
VERBATIM = 0.7  # SSCD, of the best of ten generations


def median_of(values: Float[np.ndarray, "..."], median: Median = "standard", axis: int | None = None) -> Any:
    """Median, along an axis or of all; `lower` takes the lower of two middle values, as torch does.

    Raises UsageError for no value.
    """
    if not values.size:
        raise UsageError("A median needs at least one value.")
    method: Literal["linear", "lower"] = "lower" if median == "lower" else "linear"
    return np.quantile(values.astype(np.float64), 0.5, axis=axis, method=method)


def to_unmitigated(
    mitigated: Float[np.ndarray, "J D"], unmitigated: Float[np.ndarray, "K D"], *, median: Median = "standard"
) -> float:
    """Median cosine of a prompt's mitigated images with those of the same seeds without mitigation, in [-1, 1].

    Unit vectors, in the same order. Raises UsageError for other numbers of images.
    """
    if mitigated.shape != unmitigated.shape or not len(mitigated):
        raise UsageError(f"{len(mitigated)} mitigated images need as many without, and {len(unmitigated)} were given.")
    return float(median_of(np.einsum("jd,jd->j", mitigated, unmitigated), median))


def to_originals(similarity: Matrix, *, median: Median = "standard") -> dict[str, float]:
    """Median over a prompt's references, then `max`, `min` and `median` over its generations.

    In the unit of the similarity. Raises UsageError for an empty matrix.
    """
    each = median_of(similarity, median, axis=0)
    return {"max": float(each.max()), "min": float(each.min()), "median": float(median_of(each, median))}


def distances(similarity: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Euclidean distances of unit vectors from their cosines, in [0, 2]; give them to the same protocols."""
    return np.sqrt(np.maximum(2 - 2 * similarity, 0))


def diversity(vectors: Float[np.ndarray, "J D"], *, median: Median = "standard") -> float | None:
    """Median cosine of all pairs of a prompt's images, in [-1, 1]; None for fewer than two.

    Unit vectors. The lower, the more the images differ.
    """
    if len(vectors) < 2:
        return None
    return float(median_of((vectors @ vectors.T)[np.tril_indices(len(vectors), -1)], median))


def kinds_of(best: Values, *, threshold: int | float = VERBATIM) -> list[Kind | None]:
    """VM (verbatim) for prompts whose best generation is more similar to an original than a threshold, TM otherwise.

    `best` is the `max` of `to_originals`; None stays None. The threshold is the paper's, for SSCD and ten generations.
    """
    names: dict[bool, Kind] = {True: "VM", False: "TM"}
    return [None if value is None else names[value > threshold] for value in best]


def over_prompts(
    values: Values,
    name: str,
    *,
    kinds: Sequence[Kind | None] | None = None,
    median: Median = "standard",
    compat: Literal["nemo"] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Estimates:
    """Median `<name>_median` and median absolute deviation `<name>_mad` over prompts, and of each kind of prompts.

    In the unit of the values, the deviation without the factor 1.4826, both with 95 % intervals over prompts, which are
    None where fewer than two prompts have a value; `_prompts` and `_missing` count those with one and those without.
    Kinds are `<name>_vm_median` and so on. `compat="nemo"` leaves out the last prompt given, as the released comparison
    with originals does. Raises UsageError for a number of kinds other than that of values, or a value that is not
    finite.
    """
    if kinds is not None and len(kinds) != len(values):
        raise UsageError(f"{len(kinds)} kinds were given for {len(values)} prompts; give one for each, or None.")
    kept = slice(-1) if compat == "nemo" else slice(None)
    parts = {name: list(values[kept])}
    for kind in ("VM", "TM") if kinds is not None else ():
        values_of = [value for value, known in zip(values[kept], (kinds or [])[kept], strict=True) if known == kind]
        parts[f"{name}_{kind.lower()}"] = values_of
    summaries = {part: _summary(values_of, median == "lower", resamples, seed) for part, values_of in parts.items()}
    return {f"{part}_{key}": value for part, values_of in summaries.items() for key, value in values_of.items()}


def members(groups: Int[np.ndarray, " N"]) -> list[Int[np.ndarray, " _"]]:
    """Places of the images of each group, in order of the groups' first appearance."""
    order = np.argsort(groups, kind="stable")
    apart = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return sorted(apart, key=lambda places: int(places[0]))


def spread_out(values: Sequence[Any], members: Sequence[Int[np.ndarray, " _"]]) -> list[Any]:
    """The value of each image's group, for as many images as the groups of `members` have together."""
    values_of: list[Any] = [None] * sum(len(places) for places in members)
    for value, places in zip(values, members, strict=True):
        for place in places.tolist():
            values_of[place] = value
    return values_of


def known_kinds(kinds: Sequence[str | None]) -> list[Kind | None]:
    """VM or TM where a prompt's kind says so in short or as "verbatim" or "template", in any case; None elsewhere."""
    names: dict[str, Kind] = {"vm": "VM", "verbatim": "VM", "tm": "TM", "template": "TM"}
    return [names.get((kind or "").lower()) for kind in kinds]


def _summary(values: Values, lower: bool, resamples: int, seed: int) -> Estimates:
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    counts = {"prompts": known.size, "missing": len(values) - known.size}
    statistics: dict[str, Statistic] = {"median": Percentile(50, lower), "mad": MedianDeviation(lower)}
    if not known.size:
        return dict.fromkeys(f"{name}{end}" for name in statistics for end in ("", "_interval")) | counts
    return estimates(statistics, known, resamples=resamples, seed=seed) | counts
