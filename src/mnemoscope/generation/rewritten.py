"""Whether rewritten prompts copy less than the prompts that they stand for."""

from collections.abc import Sequence

import numpy as np

from mnemoscope import stats
from mnemoscope.prompts.runs import REFERENCE
from mnemoscope.run.image_rows import GenerateRow
from mnemoscope.run.reading import Json


def rewriting_summary(rows: Sequence[GenerateRow]) -> Json:
    """Mean similarity to the own picture of rewrites, of their originals, and of their difference, paired by original.

    Cosines of pixels in [-1, 1], with 95 % intervals over originals; originals and difference only where both were
    drawn in the same run. Empty where nothing was drawn from a rewrite.
    """
    done = [row for row in rows if row["status"] == "ok"]
    rewritten = _by_caption([row for row in done if REFERENCE in row])
    originals = _by_caption([row for row in done if REFERENCE not in row])
    if not rewritten:
        return {}
    summary: Json = {"captions": len(rewritten), **_mean("rewritten", list(rewritten.values()))}
    both = [caption for caption in rewritten if caption in originals]
    if both:
        before = [originals[caption] for caption in both]
        summary |= _mean("original", before)
        summary |= _mean("difference", [rewritten[caption] - originals[caption] for caption in both])
    return {"rewriting": summary}


def _by_caption(rows: Sequence[GenerateRow]) -> dict[str, float]:
    similarities: dict[str, list[float]] = {}
    for row in rows:
        if (similarity := row.get("own_similarity")) is not None:
            similarities.setdefault(row.get("reference_caption", row["prompt"]), []).append(similarity)
    return {caption: float(np.mean(values)) for caption, values in similarities.items()}


def _mean(name: str, values: Sequence[float]) -> dict[str, float | list[float] | None]:
    interval = list(stats.mean_interval(np.array(values))) if len(values) > 1 else None
    return {name: float(np.mean(values)), f"{name}_interval": interval}
