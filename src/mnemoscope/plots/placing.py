"""Texts beside points, placed where they cover the least."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.axes import Axes

from mnemoscope.plots.canvas import FONT, INK

SIZE = 8.5  # of the font, in points
ANGLES = np.linspace(0.25, 0.25 + 2 * math.pi, 13)
OFFSETS = [(r * math.cos(a), r * math.sin(a)) for r in (9, 15, 22, 30) for a in ANGLES]  # in points
Spot = tuple[float, float]


def label_points(axes: Axes, points: Sequence[tuple[Spot, str]]) -> None:
    """Write each text beside its point, away from points, named lines and texts before it, inside the axes.

    The axes must have their final limits and place: call `figure.draw_without_rendering()` first.
    """
    named = [np.asarray(line.get_xydata()) for line in axes.lines if not str(line.get_label()).startswith("_")]
    taken = [
        spot
        for line in named
        for spot in (_along(axes, line) if len(line) > 1 else [_pixels(axes, (line[0, 0], line[0, 1]))])
    ]
    taken += [_pixels(axes, at) for at, _ in points]
    for at, text in points:
        wide, high = (size * axes.figure.dpi / 72 for size in (0.3 * SIZE * len(text), 0.5 * SIZE))  # half the text
        offset, centre = min(
            ((offset, _centre(axes, at, offset, wide)) for offset in OFFSETS),
            key=lambda each: _covered(axes, each[1], (wide, high), taken) + math.hypot(*each[0]) / 50,
        )
        taken += [(centre[0] + k * wide, centre[1]) for k in (-1, -0.5, 0, 0.5, 1)]
        side: Literal["left", "right"] = "left" if offset[0] > 0 else "right"
        label = axes.annotate(text, at, offset, textcoords="offset points", va="center", ha=side, color=INK)
        label.set(fontproperties=FONT, fontsize=SIZE)


def _pixels(axes: Axes, at: Spot) -> Spot:
    x, y = axes.transData.transform(at)
    return float(x), float(y)


def _along(axes: Axes, line: np.ndarray) -> list[Spot]:
    """Places along a line, close enough that no text fits between them."""
    ends = axes.transData.transform(line)
    steps = [np.linspace(a, b, max(2, int(np.hypot(*(b - a)) / 8))) for a, b in zip(ends, ends[1:], strict=False)]
    return [(float(x), float(y)) for x, y in np.concatenate(steps)]


def _centre(axes: Axes, at: Spot, offset: Spot, wide: float) -> Spot:
    (x, y), scale = _pixels(axes, at), axes.figure.dpi / 72
    return x + offset[0] * scale + math.copysign(wide, offset[0]), y + offset[1] * scale


def _covered(axes: Axes, centre: Spot, half: Spot, taken: Sequence[Spot]) -> float:
    (x, y), (wide, high), frame, gap = centre, half, axes.get_window_extent(), 3 * axes.figure.dpi / 72
    near = sum(abs(x - u) < wide + gap and abs(y - v) < high + gap for u, v in taken)
    is_inside = frame.x0 < x - wide and x + wide < frame.x1 and frame.y0 < y - high and y + high < frame.y1
    return near + (0.0 if is_inside else 100.0)
