"""The figures of a measure run, from its rows and from the arrays that its measures kept."""

import numpy as np
from matplotlib.figure import Figure
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mnemoscope import plots
from mnemoscope.measuring.replication import ThresholdShare
from mnemoscope.measuring.replication import threshold_curve as curve_of
from mnemoscope.plots.complexity import AXES
from mnemoscope.plots.similarity import AXIS
from mnemoscope.report.groups import groups
from mnemoscope.report.record import Drawings, Record, part
from mnemoscope.report.text import number
from mnemoscope.run.reading import Json


def drawings(record: Record) -> Drawings:
    """Similarities, the share of copies at each threshold, own against any reference, duplication, complexity."""
    arrays, measures = arrays_of(record), part(record.summary, "measures")
    limit = number(record.summary.get("threshold"))
    found = column(record, "score")
    if found.size and not np.isnan(found).any():
        figure = _histogram(record, arrays.get("background.similarity"), limit)
        hint = "Copies are right of the dashed line; beside them is how alike references are among themselves."
        yield "similarity", "Similarity to the nearest reference", hint, figure
        own, first = column(record, "own_score"), column(record, "own_is_nearest")
        if not np.isnan(own).all():
            figure = plots.own_plot(own, found, first, threshold=limit)
            hint = "On the diagonal an image is nearest to the very image of its caption."
            yield "own", "Own reference against the nearest of all", hint, figure
    if curves := _curves(record, arrays):
        figure = plots.share_curve_plot(curves, threshold=limit)
        yield "thresholds", "Copies at each threshold", "How much the rate hangs on where the line is drawn.", figure
    duplicated = part(measures, "duplication")
    if any(part(duplicated, key).get("images") for key in ("single", "duplicated")):
        figure = plots.duplication_plot(duplicated)
        yield (
            "duplication",
            "Duplicated training images",
            "Higher on the right: what lies twice is copied more.",
            figure,
        )
    yield from complexities(arrays, part(measures, "complexity"))


def _histogram(record: Record, background: np.ndarray | None, limit: float | None) -> Figure:
    """Similarities of all images, or of each group of prompts, beside those of references to one another."""
    found = {each.flag: np.array([row["score"] for row in each.rows], float) for each in groups(record.done)}
    if len(found) < 2:
        return plots.similarity_histogram(column(record, "score"), background, threshold=limit)
    named = {each.flag: each.name for each in groups(record.done)}
    names = {"memorized": named.get(True, ""), "ordinary": named.get(False, ""), "unlabelled": "references themselves"}
    none: np.ndarray = np.empty(0)
    about: Json = {"names": names, "label": AXIS, "of": "pictures"}
    return plots.density_plot(
        found.get(True, none), found.get(False, none), limit, unlabelled=background, log=False, **about
    )


def _curves(record: Record, arrays: dict[str, np.ndarray]) -> dict[str, list[ThresholdShare]]:
    """The threshold curve of all images, or of each group of prompts."""
    whole = threshold_curve(arrays)
    found = groups([row for row in record.done if row["score"] is not None])
    if not whole or len(found) < 2:
        return {"generated images": whole} if whole else {}
    at = [point["threshold"] for point in whole]
    return {
        each.name: curve_of(
            np.array([row["score"] for row in each.rows]), [row["prompt_id"] for row in each.rows], thresholds=at
        )
        for each in found
    }


def complexities(arrays: dict[str, np.ndarray], summary: Json) -> Drawings:
    """Similarity against each measure of the matched images' complexity."""
    known = {name: arrays[f"complexity.{name}"] for name in AXES if f"complexity.{name}" in arrays}
    if known:
        told = {
            name: {k.removeprefix(f"{name}_"): v for k, v in summary.items() if k.startswith(f"{name}_")}
            for name in known
        }
        hint = "If simple images are copied more, points fall to the right."
        for name, figure in plots.complexity_plots(arrays["complexity.similarity"], known, told).items():
            yield f"complexity-{name}", f"Copying and complexity: {name.replace('_', ' ')}", hint, figure


def arrays_of(record: Record) -> dict[str, np.ndarray]:
    """The arrays of all measures, by `measure.name`; none where there are none or the file is damaged."""
    try:
        return load_file(record.path / "arrays" / "measures.safetensors")
    except (OSError, SafetensorError):
        return {}


def threshold_curve(arrays: dict[str, np.ndarray]) -> list[ThresholdShare]:
    """The points of the threshold curve, as they are plotted."""
    values = [arrays.get(f"replication.{key}") for key in ("thresholds", "share", "low", "high")]
    if any(value is None for value in values):
        return []
    return [
        {"threshold": t, "share": share, "interval": [low, high]}
        for t, share, low, high in zip(*(value.tolist() for value in values if value is not None), strict=True)
    ]


def column(record: Record, name: str) -> np.ndarray:
    """A column of the rows as numbers, NaN where a row has none."""
    values = [row.get(name) for row in record.done]
    return np.array([np.nan if value is None else float(value) for value in values])
