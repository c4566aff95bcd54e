"""What a mitigation buys and what it costs: copying against alignment with the prompt, along its strength."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnemoscope.errors import UsageError
from mnemoscope.plots import canvas
from mnemoscope.plots.canvas import CURVES, FONT, GREY, INK
from mnemoscope.plots.placing import label_points

Curves = Sequence[Mapping[str, Any]]
TOGETHER, ACROSS = 3, 3  # methods in one panel, panels in a row
MARKERS = "os^Dvph"
UNMITIGATED = "unmitigated"


@dataclass(frozen=True)
class TradeoffPoint:
    """A method at a strength, with how far its intervals reach below and above it."""

    method: str
    at: tuple[float, float]
    spans: tuple[tuple[float, float], tuple[float, float]]
    strength: str


def tradeoff_plot(
    curves: Curves, *, y: str = "similarity_mean", x: str = "alignment_mean", labels: tuple[str, str] = ("", "")
) -> Figure:
    """One line a method over its strengths, `x` against `y`, with 95 % intervals; a star is the unmitigated point.

    Points are labelled by their strength. More than three methods get a panel each, with the others in grey behind;
    all panels share their axes. Raises UsageError if no point has both coordinates.
    """
    points = [point for row in curves if (point := _point(row, x, y))]
    if not points:
        raise UsageError(f"No point has both {x} and {y}; give the curves of a sweep that measured them.")
    lines: dict[str, list[TradeoffPoint]] = {}
    for point in points:
        lines.setdefault(point.method, []).append(point)
    origin = lines.pop("none", [])[:1]
    groups = [list(lines)] if len(lines) <= TOGETHER else [[name] for name in lines]
    colours = dict(zip(lines, cycle(CURVES[:-1]), strict=False))
    markers = dict(zip(lines, cycle(MARKERS), strict=False))
    figure, panels = _panels(len(groups))
    for axes, group in zip(panels, groups, strict=True):
        canvas.dressed(axes, "", "")
        for name, line in lines.items():
            shade = colours[name] if name in group else None
            _draw(axes, line, shade, markers[name], canvas.label(name))
        _draw_origin(axes, origin)
        if len(groups) > 1:
            axes.set_title(canvas.label(group[0]), fontproperties=FONT, fontsize=10.5, color=colours[group[0]])
    return _finish(figure, panels, [[p for name in group for p in lines[name]] for group in groups], labels)


def _point(row: Mapping[str, Any], x: str, y: str) -> TradeoffPoint | None:
    at = [v for name in (x, y) if isinstance(v := row.get(name), int | float) and math.isfinite(v)]
    if len(at) < 2:
        return None
    spans = [_span(row.get(f"{name.rpartition('_')[0]}_interval"), v) for name, v in zip((x, y), at, strict=True)]
    label = canvas.label(_strength(row.get("strength")), 14)
    return TradeoffPoint(str(row.get("mitigation")), (at[0], at[1]), (spans[0], spans[1]), label)


def _strength(strength: object) -> str:
    if strength is None:
        return ""
    return f"{strength:g}" if isinstance(strength, int | float) else str(strength)


def _span(interval: object, value: float) -> tuple[float, float]:
    """How far an interval reaches below and above a value; nowhere if there is none."""
    if not isinstance(interval, list | tuple) or len(interval) != 2:
        return 0.0, 0.0
    low, high = (v if isinstance(v, int | float) and math.isfinite(v) else value for v in interval)
    return max(value - low, 0.0), max(high - value, 0.0)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    across = min(count, ACROSS)
    down = math.ceil(count / across)
    size = (5.6, 4.2) if count == 1 else (3.3 * across, 2.8 * down + 0.5)
    figure = Figure(figsize=size, dpi=144, layout="constrained", facecolor="white")
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    for place, empty in enumerate(grid[count:], count):
        empty.set_visible(False)
        grid[place - across].tick_params(labelbottom=True)
    return figure, list(grid[:count])


def _draw(axes: Axes, line: list[TradeoffPoint], colour: str | None, marker: str, name: str) -> None:
    x, y = np.array([each.at for each in line]).T
    if colour is None:
        axes.plot(x, y, "-", color="#c9ced5", linewidth=1, zorder=1)
        return
    reach = [np.array([each.spans[k] for each in line]).T for k in (0, 1)]
    axes.errorbar(x, y, xerr=reach[0], yerr=reach[1], fmt="none", ecolor=colour, elinewidth=0.8, alpha=0.4, zorder=2)
    axes.plot(x, y, marker=marker, color=colour, linewidth=1.7, markersize=5, label=name, zorder=3)


def _draw_origin(axes: Axes, origin: list[TradeoffPoint]) -> None:
    for each in origin:
        (x, y), reach = each.at, [np.array(span)[:, None] for span in each.spans]
        axes.errorbar([x], [y], xerr=reach[0], yerr=reach[1], fmt="none", ecolor=INK, elinewidth=0.8, alpha=0.5)
        axes.plot([x], [y], "*", color=INK, markersize=12, label=UNMITIGATED, linestyle="none", zorder=2.5)
        for put, value in ((axes.axvline, x), (axes.axhline, y)):
            put(value, color=GREY, linewidth=0.7, linestyle=(0, (2, 3)), zorder=0)


def _finish(figure: Figure, panels: list[Axes], groups: list[list[TradeoffPoint]], labels: tuple[str, str]) -> Figure:
    if len(panels) == 1:
        canvas.dressed(panels[0], *labels)
    else:
        for put, text in ((figure.supxlabel, labels[0]), (figure.supylabel, labels[1])):
            put(canvas.label(text), fontproperties=FONT, fontsize=10.5, color=INK)
    canvas.legend_above(figure, panels[0], only=None if len(panels) == 1 else UNMITIGATED)
    figure.draw_without_rendering()
    for axes, of_panel in zip(panels, groups, strict=True):
        label_points(axes, [(each.at, each.strength) for each in of_panel])
    return figure
