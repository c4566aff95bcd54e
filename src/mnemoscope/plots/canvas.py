"""What all figures share: axes, fonts, colours, labels that cannot break them, PNG files."""

import errno
import io
from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from mnemoscope.run.writing import clean_beside, write_whole

INK, FAINT, GREY = "#27313d", "#d5dae0", "#8a94a0"
CURVES = ("#0072b2", "#d55e00", "#009e73", "#aa4499", "#b8860b", "#56b4e9", "#27313d")
FONT = FontProperties(family="DejaVu Sans")  # comes with matplotlib


def png(figure: Figure) -> bytes:
    """A figure as the bytes of a PNG file, the same on every call."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as a PNG file, making its folder if need be, and return the path."""
    write_whole(path, png(figure))
    return path


def kept(figure: Figure, path: Path) -> bytes:
    """A figure as PNG bytes, written as a file too where that may be; a run that may only be read is left as it is."""
    data = png(figure)
    try:
        clean_beside(path)
        write_whole(path, data)
    except OSError as e:
        if e.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
    return data


def one_axes(x: str, y: str, size: tuple[float, float] = (5, 3.5)) -> tuple[Figure, Axes]:
    """A figure of a size in inches, with one pair of axes and their labels."""
    figure = Figure(figsize=size, dpi=144, layout="constrained", facecolor="white")
    return figure, dressed(figure.add_subplot(), x, y)


def dressed(axes: Axes, x: str, y: str) -> Axes:
    """Axes in the style of all figures, with their labels."""
    for put, text in ((axes.set_xlabel, x), (axes.set_ylabel, y)):
        put(label(text), fontproperties=FONT, fontsize=10.5, color=INK)
    axes.tick_params(labelsize=10, colors=INK, length=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(axis="y", color="#eceff2", linewidth=0.8)
    axes.set_axisbelow(True)
    return axes


def legend(figure: Figure, axes: Axes, loc: Literal["best", "lower right"] = "best") -> Figure:
    """The figure with a legend, if any of its curves has a name."""
    if axes.get_legend_handles_labels()[0]:
        font = FontProperties(family=FONT.get_family(), size=9.5)
        axes.legend(loc=loc, framealpha=0.85, edgecolor="none", prop=font)
    return figure


def legend_above(figure: Figure, axes: Axes, only: str | None = None) -> Figure:
    """The figure with a legend of the axes' curves, or of one of them, in a row above the axes."""
    named = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    names = [name for name in named if only in (None, name)]
    if names:
        font = FontProperties(family=FONT.get_family(), size=9.5)
        across = max(1, int(figure.get_figwidth() // 1.5))
        handles = [named[name] for name in names]
        figure.legend(handles, names, loc="outside upper center", ncols=across, frameon=False, prop=font)
    return figure


def label(text: str, most: int = 48) -> str:
    """A label that no font, math parser or legend rule of matplotlib trips over, of at most so many characters."""
    known = get_font(findfont(FONT)).get_char_index
    drawn = "".join(c if c.isprintable() and known(ord(c)) else "?" for c in text[:most]).lstrip("_")
    return drawn.replace("$", r"\$")
