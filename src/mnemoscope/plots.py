"""The pictures of a report: scores over the steps, their spread per class, ROC curves; pure functions of numbers."""

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from mnemoscope.errors import UsageError
from mnemoscope.stats import auc, roc

Values = Float[np.ndarray, "..."]
Rows = Sequence[Mapping[str, Any]]

INK, FAINT = "#27313d", "#d5dae0"
COLOURS = {"memorized": "#d55e00", "ordinary": "#0072b2", "flagged, unlabelled": "#aa4499", "unlabelled": "#6b7684"}
STYLES = dict(zip(COLOURS, ("-", "--", "-.", ":"), strict=True))
CURVES = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#b8860b", "#56b4e9", "#27313d")
FONT = FontProperties(family="DejaVu Sans")  # comes with matplotlib


def class_of(row: Mapping[str, Any]) -> str:
    """What is known of a prompt: memorized, ordinary, or unlabelled and perhaps flagged."""
    if row.get("role") == "negative" or row.get("label") is False:
        return "ordinary"
    if row.get("label") is True:
        return "memorized"
    return "flagged, unlabelled" if row.get("flagged") is True else "unlabelled"


def series_plot(rows: Rows, *, label: str | None = None) -> Figure:
    """The score against the timestep it was taken at, in the order of sampling: from noise, t high, to image.

    One row gives one line per seed; several give, per class, the median over prompts (each the mean of its seeds) and
    the band that holds the middle 80 % of them. Raises UsageError if no row has a series, or its length is not that of
    its timesteps.
    """
    rows = [row for row in rows if row.get("series") and row.get("timesteps")]
    if not rows:
        raise UsageError("No row has a series and its timesteps; give rows of a run that stored them.")
    figure, axes = _axes("timestep t, from noise to image", label or str(rows[0].get("method", "score")))
    if len(rows) == 1:
        _draw_seeds(axes, rows[0])
    else:
        _draw_classes(axes, rows)
    axes.invert_xaxis()
    return _legend(figure, axes)


def density_plot(
    memorized: Values,
    ordinary: Values,
    threshold: float | None = None,
    *,
    unlabelled: Values | None = None,
    label: str = "score",
    log: bool | None = None,
    names: Mapping[str, str] | None = None,
) -> Figure:
    """How the scores of each class spread: histogram and kernel density, as the share of the class in each bin.

    Unless `log` says, the axis is logarithmic when all scores and the threshold are positive. `names` renames classes.
    Raises UsageError if there is no score or one is not finite.
    """
    given = zip(("memorized", "ordinary", "unlabelled"), (memorized, ordinary, unlabelled), strict=True)
    groups = {name: values for name, values in given if values is not None and values.size}
    pooled = np.concatenate([*groups.values(), np.empty(0)])
    if not pooled.size or not np.isfinite(pooled).all():
        raise UsageError("Scores to plot are missing or not finite; give at least one, and finite ones only.")
    figure, axes = _axes(label, "share of the class in a bin")
    is_log = bool(pooled.min() > 0 and (threshold is None or threshold > 0)) if log is None else log
    for name, values in groups.items():
        _draw_density(axes, values, pooled, is_log, name, (names or {}).get(name, name))
    if threshold is not None:
        axes.axvline(threshold, color=INK, linewidth=1.2, linestyle=(0, (4, 2)), label=f"threshold {threshold:.3g}")
    if is_log:
        _mark_log(axes)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylim(bottom=0)
    return _legend(figure, axes)


def roc_plot(curves: Mapping[str, tuple[Values, Values]]) -> Figure:
    """Memorized prompts found against ordinary prompts flagged by mistake, for every threshold; one curve per name.

    The axis of false alarms is logarithmic, so that 1 % can be seen; its left edge stands for none.
    Raises UsageError for no curve, an empty group or a non-finite score.
    """
    if not curves:
        raise UsageError("No curve was given to plot; give the scores of memorized and of ordinary prompts.")
    figure, axes = _axes("false alarms: ordinary prompts flagged", "prompts flagged")
    floor = min(0.005, *(0.5 / max(ordinary.size, 1) for _, ordinary in curves.values()))
    for (name, (memorized, ordinary)), colour, style in zip(curves.items(), cycle(CURVES), cycle("-"), strict=False):
        fpr, tpr, _ = roc(memorized, ordinary)
        text = f"{_plain(name)}: AUC {auc(memorized, ordinary):.3f}"
        axes.plot(np.maximum(fpr, floor), tpr, style, color=colour, drawstyle="steps-post", linewidth=1.8, label=text)
    chance = np.geomspace(floor, 1, 100)
    axes.plot(chance, chance, ":", color="#8a94a0", linewidth=1.2, label="chance: AUC 0.5")
    axes.axvline(0.01, color=FAINT, linewidth=1, zorder=0)
    axes.set(xscale="log", xlim=(floor, 1), ylim=(0, 1.02))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{100 * x:g} %"))
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return _legend(figure, axes, loc="lower right")


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file, the same on every call."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None}, pil_kwargs={"optimize": True})
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as a PNG file, making its folder if need be, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(figure))
    return path


def _axes(x: str, y: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5, 3.5), dpi=144, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    for put, text in ((axes.set_xlabel, x), (axes.set_ylabel, y)):
        put(_plain(text), fontproperties=FONT, fontsize=10.5, color=INK)
    axes.tick_params(labelsize=10, colors=INK, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#8a94a0")
    axes.grid(axis="y", color="#eceff2", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _legend(figure: Figure, axes: Axes, loc: Literal["best", "lower right"] = "best") -> Figure:
    if axes.get_legend_handles_labels()[0]:
        font = FontProperties(family=FONT.get_family(), size=9.5)
        axes.legend(loc=loc, framealpha=0.85, edgecolor="none", prop=font)
    return figure


def _plain(text: str) -> str:
    """A label that no font, math parser or legend rule of matplotlib trips over, of at most 48 characters."""
    known = get_font(findfont(FONT)).get_char_index
    drawn = "".join(c if c.isprintable() and known(ord(c)) else "?" for c in text[:48]).lstrip("_")
    return drawn.replace("$", r"\$")


def _lines(row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    try:
        times, values = np.asarray(row["timesteps"], float), np.asarray(row["series"], float)
    except (TypeError, ValueError):
        times, values = np.empty(0), np.empty((1, 1))
    if values.ndim != 2 or values.shape[1:] != times.shape:
        raise UsageError(f"The series of row {row.get('id')!r} does not have one number per timestep for every seed.")
    return times, values  # (steps,), (seeds, steps)


def _draw_seeds(axes: Axes, row: Mapping[str, Any]) -> None:
    times, values = _lines(row)
    named = row.get("seeds") or []
    seeds = named if len(named) == len(values) else range(len(values))
    marker = "o" if times.size == 1 else ""
    for seed, line, shade in zip(seeds, values, np.linspace(1, 0.45, len(values)), strict=True):
        axes.plot(
            times, line, color=COLOURS[class_of(row)], alpha=shade, linewidth=1.1, marker=marker, label=f"seed {seed}"
        )


def _draw_classes(axes: Axes, rows: Rows) -> None:
    for name, colour in COLOURS.items():
        members = [_lines(row) for row in rows if class_of(row) == name]
        pooled: dict[float, list[float]] = defaultdict(list)
        for times, values in members:
            for t, value in zip(times, values.mean(axis=0), strict=True):
                if np.isfinite(value):
                    pooled[float(t)].append(float(value))
        if pooled:
            at = sorted(pooled, reverse=True)
            low, middle, high = np.array([np.quantile(pooled[t], (0.1, 0.5, 0.9)) for t in at]).T
            axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(at, middle, STYLES[name], color=colour, linewidth=1.8, label=f"{name} (n = {len(members)})")


def _draw_density(axes: Axes, values: Values, pooled: Values, is_log: bool, name: str, text: str) -> None:
    scaled, everything = (np.log10(v) if is_log else v for v in (values, pooled))
    edges = np.histogram_bin_edges(everything, bins=int(np.clip(2 * np.sqrt(pooled.size), 8, 36)))
    margin = (edges[-1] - edges[0]) / 12
    grid = np.linspace(edges[0] - margin, edges[-1] + margin, 300)
    shown, at = ((10.0**v if is_log else v) for v in (edges, grid))
    counts = np.histogram(scaled, edges)[0]
    axes.stairs(
        counts / values.size, shown, fill=True, color=COLOURS[name], alpha=0.28, label=f"{text} (n = {values.size})"
    )
    if (width := _bandwidth(scaled)) > 0:
        bumps = np.exp(-0.5 * ((grid[:, None] - scaled) / width) ** 2) / (width * np.sqrt(2 * np.pi))
        share = bumps.mean(axis=1) * (edges[1] - edges[0])
        axes.plot(at, share, STYLES[name], color=COLOURS[name], linewidth=1.8)


def _bandwidth(values: Values) -> float:
    """Two thirds of Silverman's, as scores often have two modes; 0 where the values do not spread."""
    upper, lower = np.quantile(values, (0.75, 0.25))
    spreads = [s for s in (values.std(), (upper - lower) / 1.34) if s > 0]
    return float(0.6 * min(spreads) * values.size**-0.2) if spreads else 0.0


def _mark_log(axes: Axes) -> None:
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 6 * low else MaxNLocator(5))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
