"""Region maps against ground-truth masks: scaling, thresholds, and how well what is above them overlaps the truth."""

from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from mnemoscope.errors import UsageError
from mnemoscope.run.reading import Json
from mnemoscope.stats import bootstrap

Maps = Float[np.ndarray, "N H W"]
Masks = Bool[np.ndarray, "N H W"]
Counts = Int[np.ndarray, "*T N 4"]  # pixels rightly inside, wrongly inside, wrongly outside, rightly outside
Overlap = np.ndarray | float
Measure = Callable[[Counts], Overlap]
THRESHOLDS = np.linspace(0, 1, 101)
FIXED = 0.5


def upsampled(maps: Float[Tensor, "N h w"] | Float[np.ndarray, "N h w"], size: tuple[int, int]) -> Maps:
    """Maps at the height and width of the images, interpolated bilinearly; float64."""
    given = torch.as_tensor(maps).detach().to("cpu", torch.float64)
    return interpolate(given[:, None], size, mode="bilinear")[:, 0].numpy()


def scaled(maps: Maps) -> Maps:
    """log(1 + value) of all maps, from the least value of all to the greatest, as 0 to 1; zeros if all are the same."""
    logs = np.log1p(maps)
    low, high = logs.min(), logs.max()
    return (logs - low) / (high - low) if high > low else np.zeros_like(logs)


def otsu(values: Float[np.ndarray, "..."]) -> float:
    """The value above which the upper of two groups begins, so that the groups' means differ most (Otsu 1979).

    Exact, without bins: the split of all values that has the greatest variance between the groups. Where all values are
    the same nothing is above it.
    """
    ordered = np.sort(values, axis=None)
    splits = np.flatnonzero(np.diff(ordered) > 0) + 1  # how many values are in the lower group
    if not splits.size:
        return float(ordered[0])
    below = ordered.cumsum()[splits - 1]
    lower, upper = below / splits, (ordered.sum() - below) / (ordered.size - splits)
    between = splits * (ordered.size - splits) * (upper - lower) ** 2
    return float(ordered[splits[between.argmax()] - 1])


def above(maps: Maps, thresholds: Float[np.ndarray, " N"] | float) -> Masks:
    """Where each map is above its own threshold, or above one for all."""
    return maps > np.broadcast_to(np.asarray(thresholds, float), len(maps))[:, None, None]


def counts(masks: Masks, truth: Bool[np.ndarray, "M h w"]) -> Int[np.ndarray, "N 4"]:
    """Pixels of each sample that are rightly inside, wrongly inside, wrongly outside and rightly outside."""
    if masks.shape != truth.shape:
        raise UsageError(f"Masks of {masks.shape} were compared with truth of {truth.shape}; give the same sizes.")
    pairs = (masks & truth, masks & ~truth, ~masks & truth, ~masks & ~truth)
    return np.stack([pair.sum((1, 2)) for pair in pairs], axis=1)


def swept(maps: Maps, truth: Masks) -> Int[np.ndarray, "101 N 4"]:
    """Counts at each of 101 thresholds of maps from 0 to 1; at the first one all is inside, values equal to one are."""
    return np.stack([counts(maps >= threshold, truth) for threshold in THRESHOLDS])


def iou(counted: Counts) -> Overlap:
    """Intersection over union of all samples' pixels together, 0 to 1; 1 where both regions are empty."""
    inside, wrong, missed, _ = np.moveaxis(counted.sum(-2), -1, 0)
    return _ratio(inside, inside + wrong + missed)


def mean_iou(counted: Counts) -> Overlap:
    """Mean of the intersection over union of the regions and that of all else, 0 to 1."""
    inside, wrong, missed, outside = np.moveaxis(counted.sum(-2), -1, 0)
    return (_ratio(inside, inside + wrong + missed) + _ratio(outside, outside + wrong + missed)) / 2


def accuracy(counted: Counts) -> Overlap:
    """Share of all samples' pixels that are on the right side."""
    total = counted.sum(-2)
    return _ratio(total[..., 0] + total[..., 3], total.sum(-1))


MEASURES: dict[str, Measure] = {"iou": iou, "mean_iou": mean_iou, "accuracy": accuracy}


def best(measure: Measure) -> Measure:
    """The measure at whichever threshold it is greatest at: an oracle, which looks at the truth."""
    return lambda counted: np.max(measure(counted), axis=-1)


def interval(
    measure: Measure, counted: Counts, groups: Sequence[Any] | None = None, *, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile bootstrap of a measure, samples drawn anew; whole groups of them where `groups` names each one's.

    The threshold of `best` is chosen anew in each draw. Raises UsageError for no resamples.
    """
    names = np.arange(counted.shape[-2]) if groups is None else np.unique(list(groups), return_inverse=True)[1]
    members = [np.flatnonzero(names == name) for name in range(int(names.max()) + 1)]

    def draw(rng: np.random.Generator) -> float:
        chosen = rng.integers(len(members), size=len(members))
        return float(measure(counted[..., np.concatenate([members[k] for k in chosen]), :]))

    return bootstrap(draw, resamples=resamples, seed=seed)


def evaluated(maps: Maps, truth: Masks, groups: Sequence[Any] | None = None) -> dict[str, Json]:
    """IoU, mean IoU and accuracy with their intervals by rule of threshold, and of a mask of all pixels.

    The maps are scaled together. "fixed" is the middle of that scale, "otsu" each map's own split, "otsu_of_all" one
    split of all maps, "best" whichever of 101 thresholds gives the highest value, an oracle, with the curve of IoU.
    """
    even = scaled(maps)
    thresholds = np.array([otsu(each) for each in even])
    masks = {"all_ones": np.ones_like(truth), "fixed": above(even, FIXED)}
    masks |= {"otsu": above(even, thresholds), "otsu_of_all": above(even, otsu(even))}
    by_rule = {
        name: {k: _told(m, counts(mask, truth), groups) for k, m in MEASURES.items()} for name, mask in masks.items()
    }
    each = swept(even, truth)
    oracle: Json = {k: _told(best(m), each, groups) for k, m in MEASURES.items()}
    oracle |= {"threshold": float(THRESHOLDS[np.argmax(iou(each))]), "curve": np.round(iou(each), 4).tolist()}
    return by_rule | {"best": oracle}


class OverlapFigure(TypedDict):
    """A measure of overlap with its 95 % interval."""

    value: float
    interval: list[float]


def _told(measure: Measure, counted: Counts, groups: Sequence[Any] | None) -> OverlapFigure:
    return {"value": float(measure(counted)), "interval": list(interval(measure, counted, groups))}


def _ratio(part: Any, whole: Any) -> np.ndarray:
    return np.where(whole > 0, part / np.maximum(whole, 1), 1.0)
