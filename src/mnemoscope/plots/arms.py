"""Arms of an experiment side by side, and along a dose."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnemoscope.errors import UsageError
from mnemoscope.plots.canvas import CURVES, GREY, legend_above, one_axes
from mnemoscope.plots.canvas import label as safe

MARKERS = "os^Dvph"
Entries = Sequence[Mapping[str, Any]]


def arms_plot(entries: Entries, *, x: str, key: str = "value", reference: int | float | None = None) -> Figure:
    """A line for each arm and a mark for each group, with 95 % intervals; `key` is "value" or "difference".

    Entries have `arm`, `group`, the key, and its interval. Raises UsageError if there is none with a number.
    """
    known = [entry for entry in entries if entry.get(key) is not None]
    if not known:
        raise UsageError(f"No arm has a {key} to plot; give the table of an experiment.")
    arms = list(dict.fromkeys(str(entry["arm"]) for entry in known))
    groups = list(dict.fromkeys(str(entry["group"]) for entry in known))
    figure, axes = one_axes(x, "", (6.0, 1.2 + 0.45 * len(arms)))
    shifts = np.linspace(-0.16, 0.16, len(groups)) if len(groups) > 1 else [0.0]
    faces = zip(groups, shifts, cycle(CURVES), cycle(MARKERS), strict=False)
    for group, shift, colour, marker in faces:
        of_group = [entry for entry in known if entry["group"] == group]
        at = [arms.index(str(entry["arm"])) + shift for entry in of_group]
        values = np.array([float(entry[key]) for entry in of_group])
        spans = np.array([_span(entry, key) for entry in of_group]).T
        style: dict[str, Any] = {
            "color": colour,
            "marker": marker,
            "markersize": 5,
            "elinewidth": 1.3,
            "linestyle": "none",
        }
        axes.errorbar(values, at, xerr=spans, label=safe(group.replace("_", " ")), **style)
    if reference is not None:
        axes.axvline(reference, color=GREY, linewidth=1, linestyle=(0, (3, 3)), zorder=0)
    axes.set_yticks(range(len(arms)), [safe(arm.replace("_", " "), 32) for arm in arms])
    axes.set_ylim(len(arms) - 0.5, -0.5)
    return legend_above(figure, axes) if len(groups) > 1 else figure


def doses_plot(
    families: Mapping[str, Sequence[tuple[float, Mapping[str, Any]]]],
    *,
    y: str,
    x: str = "dose",
    base: int | None = None,
    never: Mapping[str, Mapping[str, Any]] | None = None,
) -> Figure:
    """A value along the dose of each family of arms, with 95 % intervals; an entry is a row of the table.

    With a `base` doses lie on a logarithmic axis with its powers, families a little apart so that each interval is
    seen. `never` are entries of families without any dose, which stand before the lowest one.

    Raises UsageError if there is no family.
    """
    if not families:
        raise UsageError("No arm has a dose; there is nothing to draw.")
    figure, axes = one_axes(x, y, (5.6, 3.6))
    first = min(dose for points in families.values() for dose, _ in points) / (base or 2)
    apart = np.linspace(-0.12, 0.12, len(families)) if base and len(families) > 1 else np.zeros(len(families))
    faces = zip(families.items(), (base or 2) ** apart, cycle(CURVES), cycle(MARKERS), strict=False)
    for (name, points), shift, colour, marker in faces:
        style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 5, "linewidth": 1.6}
        _along(axes, [(dose * shift, entry) for dose, entry in points], **style, label=safe(name))
        if never and name in never:
            _along(axes, [(first * shift, never[name])], **style, markerfacecolor="white")
    if base is not None:
        axes.set_xscale("log", base=base)
        axes.xaxis.set_major_formatter("{x:g}")
    if never:
        doses = sorted({dose for points in families.values() for dose, _ in points})
        axes.set_xticks([first, *doses], ["never", *(f"{dose:g}" for dose in doses)])
        axes.axvline(first * (doses[0] / first) ** 0.5, color=GREY, linewidth=1, linestyle=(0, (3, 3)), zorder=0)
    return legend_above(figure, axes)


def _along(axes: Axes, points: Sequence[tuple[float, Mapping[str, Any]]], **style: Any) -> None:
    values, spans = [float(entry["value"]) for _, entry in points], [_span(entry, "value") for _, entry in points]
    axes.errorbar([dose for dose, _ in points], values, yerr=np.array(spans).T, **style)


def _span(entry: Mapping[str, Any], key: str) -> tuple[float, float]:
    """How far the interval reaches below and above; nowhere if there is none."""
    interval, value = entry.get("interval" if key == "value" else f"{key}_interval"), float(entry[key])
    if not interval:
        return 0.0, 0.0
    return max(value - interval[0], 0.0), max(interval[1] - value, 0.0)
