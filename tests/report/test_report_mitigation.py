"""Rewrites, mitigated images and sweeps in a report: what was done, what it cost, and what is not claimed."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnemoscope import plots
from mnemoscope.errors import UsageError
from mnemoscope.report import write
from mnemoscope.report.points import curves
from mnemoscope.report.reading import headline, read
from mnemoscope.report.rewrite import pieces
from pages import (
    HOSTILE,
    Page,
    edit,
    make_generate,
    make_mitigated,
    make_rewrite,
    make_sweep,
    point,
    points,
    printed,
    rows_of,
    save,
)


def resummed(folder: Path, **changes: Any) -> Path:
    """The run with another summary."""
    file = folder / "summary.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    return folder


def hostile_page(folder: Path) -> Page:
    """The page of a run with hostile texts, which has to have one script and load nothing."""
    page = Page(write([folder]))
    assert len(page.tags("script")) == 1 and not page.values("onerror")
    assert all(source.startswith("data:image/") for source in page.values("src"))
    assert not [k for _, a in page.elements for k in a if k.startswith("on")]
    shown = printed(folder, force_terminal=True)
    assert not set("\x07\x00\ud800\u202e") & set(shown) and "\x1b[31m" not in shown
    return page


def test_chosen_words_are_marked_where_they_stand() -> None:
    prompt = "the fox, the foxes and the fox"
    word = {"word": "fox", "first": 1, "last": 1}
    assert pieces(prompt, [word]) == [("the ", False), ("fox", True), (", the foxes and the fox", False)]
    assert pieces(prompt, [word | {"first": 7}])[-1] == ("fox", True)
    both = pieces(prompt, [word, word | {"first": 7}, {"word": ",", "first": 2}])
    assert [text for text, chosen in both if chosen] == ["fox", ",", "fox"]
    assert pieces(prompt, [{"word": "owl", "first": 0}, {"word": ""}]) == [(prompt, False)]
    assert "".join(text for text, _ in both) == prompt and pieces("", [word]) == []


def test_rewrites_are_shown_with_scores_verdicts_and_failures(tmp_path: Path) -> None:
    folder = make_rewrite(tmp_path / "run")
    page = Page(write([folder]))
    assert "7 rewrites of 4 prompts by neighbours; the median score falls from 4.3 to 1.7" in page.text
    assert (
        "of 4 prompts above the threshold 2.5, 2 have a rewrite below it, and for 2 all are. 1 row failed." in page.text
    )
    assert len(page.tags("mark")) == 4 * 1 + 3 * 2 and "The fox of Harrowgate" in page.text
    assert page.text.count("below the threshold") >= 4 and page.text.count("still above") >= 3
    assert [a["data-flagged"] for a in page.tags("tr") if "data-flagged" in a] == ["0", "0", "1", "1", "0", "0", "1"]
    assert "1 the answer was empty" in page.text
    ticks = {a["style"] for a in page.tags("b")}
    assert ticks == {f"left:{100 * 2.5 / 4.5:.1f}%"}
    shown = printed(folder)
    assert "Failed, 1 row: the answer was empty" in shown
    assert "4.2 → 1.7" in shown and "below" in shown and "above" in shown and "[fox]" in shown


def test_one_selected_rewrite_of_each_prompt_is_named(tmp_path: Path) -> None:
    folder = edit(make_rewrite(tmp_path / "run"), lambda k, row: row | {"selected": k % 2 == 0})
    page = Page(write([folder]))
    assert page.words.count("selected") == 4 and "Of each prompt one rewrite is selected" in page.text


def test_rewrites_that_were_not_scored_say_so(tmp_path: Path) -> None:
    folder = make_rewrite(tmp_path / "run", scored=False)
    page = Page(write([folder]))
    assert "7 rewrites of 4 prompts by neighbours; they were not scored again." in page.text
    assert not page.tags("b") and "threshold" not in printed(folder).split("Report")[0]


def test_scores_that_rise_are_said_to_rise(tmp_path: Path) -> None:
    folder = edit(make_rewrite(tmp_path / "run"), lambda _, row: row | {"score_after": 9.0})
    told = headline(read(resummed(folder, threshold=None)))
    assert "the median score rises from 4.3 to 9." in told and "threshold" not in told
    assert "; none was above the threshold 20 before." in headline(read(resummed(folder, threshold=20)))


@pytest.mark.parametrize("rewrite", [None, 3, ["x"]])
def test_a_row_without_a_rewrite_is_refused_by_its_line(tmp_path: Path, rewrite: object) -> None:
    folder = edit(make_rewrite(tmp_path / "run"), lambda k, row: row | ({"rewrite": rewrite} if k == 1 else {}))
    with pytest.raises(UsageError, match=r"line 2 is no row \(its rewrite is"):
        write([folder])


def test_hostile_rewrites_stay_text(tmp_path: Path) -> None:
    def hostile(k: int, row: dict[str, Any]) -> dict[str, Any]:
        words = [{"word": HOSTILE[k % 8], "first": 0, "last": 0}, {"word": "script", "first": 9, "last": 9}]
        return row | {
            "prompt": HOSTILE[k % 8],
            "rewrite": HOSTILE[(k + 1) % 8],
            "chosen": words,
            "rewriter": HOSTILE[0],
        }

    page = hostile_page(edit(make_rewrite(tmp_path / "run"), hostile))
    for text in (HOSTILE[0], HOSTILE[1], HOSTILE[6], "صورة قط أحمر"):
        assert text in page.text


def test_mitigated_images_stand_beside_their_unmitigated_twins(tmp_path: Path) -> None:
    folder = make_mitigated(tmp_path / "run", prompts=3, seeds=2)
    page = Page(write([folder]))
    told = "6 images generated for 3 prompts, 4 mitigated by embedding_descent and 2 left as they are"
    assert told in page.text and told in " ".join(printed(folder).split())
    alts = [alt for alt in page.values("alt") if "image of seed" in alt]
    assert alts[:4] == [f"{kind}image of seed {seed}" for seed in (0, 1) for kind in ("unmitigated ", "")]
    assert alts.count("unmitigated image of seed 0") == 3
    assert page.text.count("left as it is") >= 1 and "0.44 alike" in page.text and "1.00 alike" in page.text
    assert "seed 0: embedding_descent: score 4.1 → 2.4 in 3 updates" in page.text
    assert "mean similarity of 2 images to the same seed's, 2 the same" in page.text
    flags = [a["data-flagged"] for a in page.tags("div") if "data-flagged" in a]
    assert flags == ["1", "1", "0"]
    assert re.search(r"0\.4997|left as it is", printed(folder))


def test_an_image_that_is_left_in_a_flagged_prompt_is_marked(tmp_path: Path) -> None:
    def one(k: int, row: dict[str, Any]) -> dict[str, Any]:
        seen = {"score": 1.0, "threshold": 2.5, "flagged": False}
        return row | ({"seen": seen, "mitigation": [], "flagged": False, "score": 1.0} if k == 1 else {})

    page = Page(write([edit(make_mitigated(tmp_path / "run", prompts=2), one)]))
    assert page.text.count("left as it is") == 2  # the image of seed 1, and the prompt that was not flagged
    assert "score 4.1" in page.text and "score 1 " in page.text


def test_a_prompt_drawn_from_other_words_is_quoted(tmp_path: Path) -> None:
    seen = {"mitigation": ["random_words"], "used_prompt": HOSTILE[1], "guidance_schedule": {"guided_from": 481.0}}
    folder = edit(
        make_mitigated(tmp_path / "run", prompts=1),
        lambda _, row: row | {"seen": seen, "mitigation": ["random_words", HOSTILE[0]], "baseline": "../x.png"},
    )
    page = hostile_page(folder)
    assert f"drawn from “ {HOSTILE[1]} ”" in page.text and "guided from 481" in page.text and HOSTILE[0] in page.text
    assert "2 images of the gallery could not be shown" in page.text


def test_images_that_nobody_mitigated_are_told_as_before(tmp_path: Path) -> None:
    text = Page(write([make_generate(tmp_path / "run", prompts=2)])).text
    assert "8 images generated for 2 prompts; similarity" in text
    assert "mitigated" not in text and "left as it is" not in text


def test_nothing_flagged_is_said(tmp_path: Path) -> None:
    seen = {"score": 1.0, "flagged": False, "threshold": 2.0}
    folder = edit(
        make_mitigated(tmp_path / "run"), lambda _, row: row | {"seen": seen, "mitigation": [], "flagged": False}
    )
    assert ", none of them flagged, so that all were left as they are;" in headline(read(folder))


def test_the_headline_of_a_sweep_names_the_best_point_with_intervals(tmp_path: Path) -> None:
    told = headline(read(make_sweep(tmp_path / "a")))
    assert told == (
        "Replication falls below 10 %, at the best alignment, by embedding_descent at target 0.5: 2 % of 48 images "
        "replicated (95 % interval 0 to 8 %), from 95 % unmitigated; alignment 0.64 (95 % interval 0.61 to 0.67), 0.70 "
        "unmitigated."
    )
    assert headline(read(make_sweep(tmp_path / "b", reach=0.06))).endswith("does not rule out 10 % or more.")
    none = headline(read(make_sweep(tmp_path / "c", reach=0.5)))
    assert none.startswith(
        "No mitigation brings replication below 10 %; the lowest is embedding_descent at target 0.5: 50 %"
    )


def test_of_two_points_below_the_goal_the_better_aligned_one_is_named(tmp_path: Path) -> None:
    curves = [point("none", None, None, 0.9, 0.9, 0.7), point("strong", "s", 9, 0.0, 0.1, 0.2)]
    curves += [point("mild", "s", 1, 0.08, 0.3, 0.6), point("weak", "s", 1, 0.5, 0.6, 0.69)]
    folder = resummed(make_sweep(tmp_path / "run"), curves=curves)
    assert "by mild at s 1:" in headline(read(folder))
    curves[0]["replication_rate"] = 0.05
    assert "little to mitigate" in headline(read(resummed(folder, curves=curves)))


def test_a_strength_whose_images_show_their_prompt_by_chance_is_destroyed_and_no_success(tmp_path: Path) -> None:
    folder = make_sweep(tmp_path / "run")
    summary = json.loads((folder / "summary.json").read_text())
    for each in summary["curves"]:
        lost = each["mitigation"] == "embedding_descent" and each["strength"] <= 1
        each["alignment_above_chance_interval"] = [-0.02, 0.03] if lost else [0.4, 0.6]
    (folder / "summary.json").write_text(json.dumps(summary))
    record = read(folder)
    assert [p["strength"] for p in curves(record) if p["is_destroyed"]] == ["1", "0.5"]
    said = headline(record)
    assert "embedding_descent at target 0.5" not in said and "2 strengths destroy the images" in said
    page = Page(write([folder]))
    assert page.source.count('<span class="tag bad">destroyed</span>') == 2
    assert page.source.count('<span class="tag good">') == 0  # its low rate is not marked as reached
    summary["curves"][0]["alignment_above_chance_interval"] = [-0.1, 0.1]  # the model shows no prompt to begin with
    (folder / "summary.json").write_text(json.dumps(summary))
    assert not any(p["is_destroyed"] for p in curves(read(folder)))


def test_values_that_are_all_alike_give_no_interval(tmp_path: Path) -> None:
    curves = [point("none", None, None, 1.0, 0.9, 0.7), point("a", "s", 1, 0.0, 0.1, 0.5)]
    for each in curves:
        each["replication_interval"] = [each["replication_rate"]] * 2
    folder = resummed(make_sweep(tmp_path / "run"), curves=curves)
    told = headline(read(folder))
    assert "0 % of 48 images replicated (no interval: all values are alike)" in told
    assert "100 % all alike" in Page(write([folder])).text


@pytest.mark.parametrize("curves", [None, [], "x", [3]])
def test_a_sweep_without_curves_says_so(tmp_path: Path, curves: object) -> None:
    folder = resummed(make_sweep(tmp_path / "run"), curves=curves)
    text = Page(write([folder])).text
    assert "24 images of 2 mitigations drawn before the sweep stopped; no curve was drawn." in text
    assert "Images along the strength" in text and not (folder / "plots" / "tradeoff.png").exists()


def test_a_sweep_has_its_plot_its_table_and_its_images(tmp_path: Path) -> None:
    folder = make_sweep(tmp_path / "run")
    page = Page(write([folder]))
    assert {p.name for p in (folder / "plots").iterdir()} == {"tradeoff.png", "replication.png"}
    assert (
        "Similarity: Cosine of mean-removed pixels with the own training image. Alignment: Nearest concept" in page.text
    )
    assert "at least 0.7." in page.text and "unmitigated – 48 95 % 90 to 100 0.93 0.89 to 0.96" in page.text
    assert "embedding_descent target 0.5 48 2 % 0 to 8" in page.text and len(page.tags("tr")) == 9
    assert sum("image of seed 0 by" in alt for alt in page.values("alt")) == 3 * 8
    shown = printed(folder)
    assert re.search(r"embedding_descent +target 0.5 +2 % +0.33 +0.64 +60", shown) and shown.count(" count ") == 3


def test_odd_points_and_rows_do_not_break_the_page(tmp_path: Path) -> None:
    odd = [{"mitigation": HOSTILE[1], "strength": HOSTILE[0], "parameter": [1], "replication_rate": "x"}]
    odd += [point(HOSTILE[6], "p", None, 0.3, 0.4, 0.5) | {"alignment_interval": [1], "strength": True}]
    odd += [{"mitigation": None, "alignment_mean": float("nan"), "images": 10**400}, {}]
    folder = edit(
        make_sweep(tmp_path / "run"),
        lambda k, row: (
            row | {"strength": HOSTILE[k % 8], "mitigation": HOSTILE[k % 8], "prompt": HOSTILE[1], "file": HOSTILE[0]}
        ),
    )
    page = hostile_page(resummed(folder, curves=odd, alignment=HOSTILE[0], similarity=3))
    assert HOSTILE[0] in page.text and HOSTILE[1] in page.text


def test_the_tradeoff_has_a_line_a_method_a_star_and_a_label_a_point() -> None:
    curves = [point("none", None, None, 0.9, 0.9, 0.7)]
    curves += [point("a", "s", s, 0.5, 0.8 - s / 10, 0.6 - s / 50) for s in (1, 2, 3)]
    curves += [point("b", "s", 0.25, 0.5, 0.7, 0.3)]
    [axes] = plots.tradeoff_plot(curves, labels=("alignment", "similarity")).axes
    lines = {str(line.get_label()): points(line) for line in axes.lines}
    np.testing.assert_allclose(lines["a"], ([0.58, 0.56, 0.54], [0.7, 0.6, 0.5]))
    assert [v.tolist() for v in lines["unmitigated"]] == [[0.7], [0.9]]
    assert [text.get_text() for text in axes.texts] == ["1", "2", "3", "0.25"]
    for text, at in zip(axes.texts, [*zip(*lines["a"], strict=True), *zip(*lines["b"], strict=True)], strict=True):
        assert text.xy == at  # type: ignore[attr-defined]
    ends = [bar.get_segments() for bar in axes.collections]
    widths = {round(abs(s[1][0] - s[0][0]), 6) for bars in ends for s in bars if abs(s[1][0] - s[0][0]) > 1e-9}
    assert widths == {0.06}


def test_many_methods_get_a_panel_each_on_shared_axes() -> None:
    curves = [point("none", None, None, 0.9, 0.9, 0.7)]
    curves += [point(f"m{k}", "s", s, 0.5, 0.9 - 0.1 * s, 0.7 - 0.02 * k * s) for k in range(5) for s in (1, 2, 4)]
    figure = plots.tradeoff_plot(curves)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title() for axes in panels] == [f"m{k}" for k in range(5)]
    assert len({axes.get_xlim() for axes in panels}) == len({axes.get_ylim() for axes in panels}) == 1
    for k, axes in enumerate(panels):
        assert [text.get_text() for text in axes.texts] == ["1", "2", "4"]
        names = [line.get_label() for line in axes.lines if not str(line.get_label()).startswith("_")]
        assert names == [f"m{k}", "unmitigated"]


def test_labels_do_not_cover_each_other() -> None:
    curves = [point("a", "s", s, 0.5, 0.5 + s / 1000, 0.5 + s / 1000) for s in range(6)]
    curves += [point("none", None, None, 0.9, 0.9, 0.9), point("b", "s", 1, 0.5, 0.1, 0.1)]
    figure = plots.tradeoff_plot(curves)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not [
        (a, b) for k, a in enumerate(boxes) for b in boxes[:k] if a.shrunk(0.8, 0.8).overlaps(b.shrunk(0.8, 0.8))
    ]


@pytest.mark.parametrize(
    "curves", [[], [{"mitigation": "a"}], [{"similarity_mean": float("nan"), "alignment_mean": 1}]]
)
def test_a_tradeoff_without_points_is_refused(curves: list[dict]) -> None:
    with pytest.raises(UsageError, match="No point"):
        plots.tradeoff_plot(curves)


def test_a_failed_run_of_each_kind_still_reports(tmp_path: Path) -> None:
    rows = [{"id": str(k), "prompt": "p", "status": "failed", "error": "no"} for k in range(2)]
    for command in ("rewrite", "sweep"):
        folder = save(tmp_path / command, {"command": command}, rows, {})
        assert "2 rows failed." in Page(write([folder])).text and "2 rows failed." in printed(folder)


def test_rows_of_a_sweep_keep_their_files_inside_the_run(tmp_path: Path) -> None:
    folder = edit(make_sweep(tmp_path / "run"), lambda _, row: row | {"file": "../secret.png"})
    (tmp_path / "secret.png").write_bytes((folder / rows_of(make_sweep(tmp_path / "b"))[0]["file"]).read_bytes())
    page = Page(write([folder]))
    assert page.text.count("image missing") == 24
