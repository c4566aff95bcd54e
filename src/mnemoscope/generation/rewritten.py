"""Whether rewritten prompts copy less than the prompts that they stand for."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from mnemoscope import stats
from mnemoscope.prompts.runs import REFERENCE
from mnemoscope.run.rows import Row


def rewriting_summary(rows: Sequence[Row]) -> dict[str, Any]:
    """Mean similarity to the own picture of rewrites, of their originals, and of their difference, paired by original.

    Cosines of pixels in [-1, 1], with 95 % intervals over originals; originals and difference only where both were
    drawn in the same run. Empty where nothing was drawn from a rewrite.
    """
    known = [row for row in rows if row["status"] == "ok" and row.get("own_similarity") is not None]
    rewritten = _by_caption([row for row in known if REFERENCE in row], REFERENCE)
    originals = _by_caption([row for row in known if REFERENCE not in row], "prompt")
    if not rewritten:
        return {}
    summary: dict[str, Any] = {"captions": len(rewritten), **_mean("rewritten", list(rewritten.values()))}
    both = [caption for caption in rewritten if caption in originals]
    if both:
        before = [originals[caption] for caption in both]
        summary |= _mean("original", before)
        summary |= _mean("difference", [rewritten[caption] - originals[caption] for caption in both])
    return {"rewriting": summary}


def _by_caption(rows: Sequence[Row], key: str) -> dict[str, float]:
    similarities: dict[str, list[float]] = {}
    for row in rows:
        similarities.setdefault(row[key], []).append(row["own_similarity"])
    return {caption: float(np.mean(values)) for caption, values in similarities.items()}


def _mean(name: str, values: Sequence[float]) -> dict[str, Any]:
    interval = list(stats.mean_interval(np.array(values))) if len(values) > 1 else None
    return {name: float(np.mean(values)), f"{name}_interval": interval}
