"""Pictures of similarity: what is drawn has the numbers given, and nothing said runs out of the figure."""

import io

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.measures.duplication import by_duplication
from mnemoscope.measuring.replication import threshold_curve
from mnemoscope.plots import canvas
from mnemoscope.plots.similarity import duplication_plot, own_plot, share_curve_plot, similarity_histogram

RNG = np.random.default_rng(0)
GENERATED = np.append(RNG.normal(0.3, 0.1, 60), RNG.normal(0.9, 0.02, 20)).clip(-1, 1)
BACKGROUND = RNG.normal(0.3, 0.1, 200)


def drawn(figure):
    """The one pair of axes, after the figure was drawn and everything that is said in it found inside."""
    data = canvas.png(figure)
    assert data == canvas.png(figure) and Image.open(io.BytesIO(data)).size[0] > 400
    renderer = FigureCanvasAgg(figure).get_renderer()
    for said in [*figure.legends, *figure.axes[0].texts, figure.axes[0].xaxis.label, figure.axes[0].yaxis.label]:
        box = said.get_window_extent(renderer)
        assert box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1, said
    (axes,) = figure.axes
    return axes


def said(axes):
    return [text.get_text() for legend in axes.figure.legends for text in legend.get_texts()]


@pytest.mark.parametrize("threshold", [0.5, 0.97])
def test_shares_of_a_histogram_add_up_to_one(threshold):
    axes = drawn(similarity_histogram(GENERATED, BACKGROUND, threshold=threshold))
    assert said(axes) == ["generated images (n = 80)", "references, to one another (n = 200)"]
    for patch in axes.patches:
        heights, edges, _ = patch.get_data()
        assert heights.sum() == pytest.approx(1)
    assert axes.get_lines()[0].get_xdata()[0] == threshold
    few = drawn(similarity_histogram(GENERATED[:1], edges=200))
    assert len(few.patches[0].get_data().values) == 199 and len(said(few)) == 1


def test_share_curve_plot_draws_the_curves():
    curve = threshold_curve(GENERATED, [k // 4 for k in range(80)], thresholds=(0.0, 0.5, 0.9))
    axes = drawn(share_curve_plot({"generated images": curve, "background": curve[:2]}, threshold=0.5))
    assert axes.lines[0].get_ydata().tolist() == [point["share"] for point in curve]
    assert axes.lines[0].get_color() != axes.lines[1].get_color()
    assert axes.lines[0].get_linestyle() != axes.lines[1].get_linestyle()


def test_duplication_plot_has_a_bar_a_group():
    copies = np.array([1, 4])
    both = by_duplication(GENERATED, np.arange(80) % 2, copies)
    axes = drawn(duplication_plot(both))
    assert [bar.get_height() for bar in axes.patches] == [both["single"]["mean"], both["duplicated"]["mean"]]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["once\n(n = 40)", "several times\n(n = 40)"]
    one = drawn(duplication_plot(by_duplication(GENERATED, np.zeros(80, dtype=int), copies)))
    assert len(one.patches) == 1


def test_own_plot_tells_own_from_any():
    own = GENERATED - 0.2 * (np.arange(80) % 2)
    own[3] = np.nan
    is_nearest = np.where(np.isnan(own), np.nan, (np.arange(80) % 2 == 0).astype(float))
    axes = drawn(own_plot(own, GENERATED, is_nearest, threshold=0.5))
    assert said(axes) == ["own is nearest (n = 40)", "another is nearer (n = 39)"]
    nearest, others = (np.asarray(points.get_offsets()) for points in axes.collections)
    assert (nearest[:, 0] == nearest[:, 1]).all() and (others[:, 0] > others[:, 1]).all()


@pytest.mark.parametrize(
    "draw",
    [
        lambda: similarity_histogram(np.array([])),
        lambda: similarity_histogram(np.array([np.nan])),
        lambda: share_curve_plot({}),
        lambda: share_curve_plot({"empty": []}),
        lambda: duplication_plot({key: {"images": 0} for key in ("single", "duplicated")}),
        lambda: own_plot(np.array([np.nan]), np.array([0.5]), np.array([np.nan])),
    ],
)
def test_nothing_to_draw_is_refused(draw):
    with pytest.raises(UsageError):
        draw()
