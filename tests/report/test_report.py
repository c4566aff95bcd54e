"""The report of synthetic runs: what it says, what it refuses, and what a hostile run cannot make it do."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from PIL import Image

from mnemoscope import plots, stats
from mnemoscope import report as report_package
from mnemoscope.errors import UsageError
from mnemoscope.report import write
from mnemoscope.report.command import command_line
from mnemoscope.report.detect import drawings
from mnemoscope.report.page import templates
from mnemoscope.report.reading import headline, read
from pages import (
    HOSTILE,
    TIMES,
    Page,
    edit,
    info,
    make_detect,
    make_explain,
    make_generate,
    make_mitigated,
    points,
    printed,
    rows_of,
    save,
)
from places import PACKAGE


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    """An audit: both runs in one folder."""
    make_detect(tmp_path / "audit" / "detect")
    make_generate(tmp_path / "audit" / "generate")
    (tmp_path / "audit" / "run.json").write_text('{"command": "audit"}')
    return tmp_path / "audit"


def test_an_audit_is_one_page_in_order(audit: Path) -> None:
    path = write([audit])
    assert path == audit / "report.html"
    page, summary = Page(path), json.loads((audit / "detect" / "summary.json").read_text())
    flagged = sum(row["flagged"] for row in rows_of(audit / "detect") if row["role"] == "prompt")
    low, high = summary["auc_interval"]
    sections = [
        "48 images were generated",
        "Closest to a training picture",
        "Prompts that look memorized",
        "Prompts by score",
    ]
    sections += ["Images Each prompt", "How was this measured?", "What the score means"]
    sections += [f"(AUC) {summary['auc']:.3f} 1 is perfect, 0.5 chance; 95 % interval {low:.3f} to {high:.3f}", "Plots"]
    sections += ["What do these numbers not say?", "How can this run be made again?"]
    places = [page.text.index(section) for section in sections]
    assert places == sorted(places)
    assert f"{flagged} of 50 prompts look memorized." in page.text and "none was compared with training" in page.text
    *links, paper = page.values("href")
    assert paper == "https://arxiv.org/abs/2407.21720" and all(each.startswith("./generate/") for each in links)
    assert {p.name for p in audit.glob("*/plots/*")} == {"scores.png", "roc.png", "series.png", "similarity.png"}
    assert not list(audit.rglob("*.tmp"))


def test_nothing_is_loaded_from_outside_and_only_our_script_runs(audit: Path) -> None:
    page = Page(write([audit]))
    assert page.values("src") and all(source.startswith("data:image/") for source in page.values("src"))
    assert (
        not page.tags("link") and not page.tags("iframe") and "url(" not in page.source and "@import" not in page.source
    )
    [policy] = [m["content"] for m in page.tags("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy and "default-src 'none'" in policy and "script-src 'sha256-" in policy
    assert len(page.tags("script")) == 1 and not [k for _, a in page.elements for k in a if k.startswith("on")]


def test_flagged_prompts_come_first_in_the_gallery_with_the_score_of_the_audit(audit: Path) -> None:
    page = Page(write([audit]))
    order = [a["data-flagged"] for a in page.tags("div") if "data-flagged" in a]
    assert order == ["1"] * 8 + ["0"] * 4
    scores = {row["prompt"]: row["score"] for row in rows_of(audit / "detect")}
    shown = [row["prompt"] for row in rows_of(audit / "generate")][::4]
    best = max(shown, key=lambda prompt: scores[prompt])
    start = page.text.index("Images Each prompt")
    assert page.text.index(best, start) == min(page.text.index(prompt, start) for prompt in shown)
    assert f"score {scores[best]:.4g}" in page.text


def texts(k: int) -> list[str]:
    """Hostile texts for four fields of row k."""
    return [HOSTILE[k % len(HOSTILE)], HOSTILE[1], HOSTILE[0], HOSTILE[1]]


def test_hostile_texts_stay_text(tmp_path: Path) -> None:
    folder = edit(make_detect(tmp_path / "d"), lambda k, row: row | {"prompt": HOSTILE[k]} if k < len(HOSTILE) else row)
    images = edit(
        make_generate(tmp_path / "g"),
        lambda k, row: row | {"prompt": HOSTILE[k % 8], "match_caption": HOSTILE[1], "kind": HOSTILE[0]},
    )
    record = info("detect")
    for key in ("method", "model", "settings", "versions"):
        record[key] = {name: HOSTILE[1] for name in [*record[key], HOSTILE[0]]}
    summary = json.loads((folder / "summary.json").read_text()) | {"notes": HOSTILE}
    failure = {"id": HOSTILE[1], "prompt": HOSTILE[1], "status": "failed", "error": HOSTILE[0]}
    save(folder, record, [*rows_of(folder), failure], summary)
    page = Page(write([folder, images]))
    assert len(page.tags("script")) == 1 and not page.values("onerror") and "x" not in page.values("src")
    for text in (HOSTILE[0], HOSTILE[1], HOSTILE[6], "صورة قط أحمر", "🦊👩‍🚀", "(empty prompt)", "(5000 characters)"):
        assert text in page.text
    assert HOSTILE[3].strip() in page.text
    assert any(HOSTILE[1] in alt for alt in page.values("alt"))


@pytest.mark.parametrize(
    "name", ["../secret.png", "{outside}", "images/link.png", "images/../../secret.png", "x\0y", "a" * 5000]
)
def test_images_outside_the_run_are_never_read(tmp_path: Path, name: str) -> None:
    secret = tmp_path / "secret.png"
    Image.new("RGB", (31, 31), "#123456").save(secret)
    folder = make_generate(tmp_path / "run", prompts=3, seeds=1)
    clean = write([folder]).read_text()
    (folder / "images" / "link.png").symlink_to(secret)
    edit(folder, lambda k, row: row | {"file": name.format(outside=secret)} if k == 0 else row)
    page = Page(write([folder]))
    assert len(page.values("src")) == clean.count("<img") - 2  # on top of the page, and in its gallery
    assert not [href for href in page.values("href") if "secret" in href or "link.png" in href]
    assert "1 image of the gallery could not be shown" in page.text and "image missing" in page.text


def test_files_that_are_not_images_are_missing(tmp_path: Path) -> None:
    folder = make_generate(tmp_path / "run", prompts=2, seeds=1)
    (folder / "images" / "m000-0.png").write_text("<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>")
    broken = folder / "images" / "u001-0.png"
    broken.write_bytes(broken.read_bytes()[:200])
    text = Page(write([folder])).text
    assert "2 images of the gallery could not be shown" in text


def test_large_images_are_shown_small(tmp_path: Path) -> None:
    folder = make_generate(tmp_path / "run", prompts=1, seeds=1)
    noise = np.random.default_rng(0).integers(0, 255, (1024, 1024, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "images" / "u000-0.png")
    assert (folder / "images" / "u000-0.png").stat().st_size > 2_000_000
    assert write([folder]).stat().st_size < 400_000


def test_without_negatives_nothing_is_flagged(tmp_path: Path) -> None:
    page = Page(write([make_detect(tmp_path / "run", ordinary=0, tested=0)]))
    assert "30 prompts ranked; no negatives were given, so nothing is flagged." in page.text
    assert "No negatives were given: scores only rank" in page.text and "No prompts" not in page.text
    assert "flagged" not in [a.get("class") for a in page.tags("tr")]


@pytest.mark.parametrize(("units", "said"), [("eps", "the predicted noise"), ("x0", "the predicted clean image")])
def test_the_unit_of_the_scores_is_on_the_axes_and_in_the_text(tmp_path: Path, units: str, said: str) -> None:
    folder = make_detect(tmp_path / "run")
    figures = {name: figure for name, _, _, figure in drawings(read(folder))}
    assert figures["scores"].axes[0].get_xlabel() == "noise_norm" and "in units of" not in Page(write([folder])).text
    edit(folder, lambda _, row: row | {"units": units})
    figures = {name: figure for name, _, _, figure in drawings(read(folder))}
    assert figures["scores"].axes[0].get_xlabel() == f"noise_norm (units of {units})"
    assert figures["series"].axes[0].get_ylabel() == f"noise_norm (units of {units})"
    assert f"Scores are in units of {units}, {said}." in Page(write([folder])).text


def test_too_few_negatives_are_named(tmp_path: Path) -> None:
    text = Page(write([make_detect(tmp_path / "run", ordinary=20)])).text
    assert "50 prompts ranked; 40 negatives cannot set a threshold, so nothing is flagged." in text
    assert "A threshold at 1% FPR needs at least 100 negatives; 40 were given." in text


def test_an_interrupted_run_says_so(tmp_path: Path) -> None:
    folder = make_detect(tmp_path / "run")
    (folder / "summary.json").unlink()
    lines = (folder / "rows.jsonl").read_bytes()
    (folder / "rows.jsonl").write_bytes(lines[:-40])
    text = Page(write([folder])).text
    assert "has no summary.json: it was interrupted" in text and "1 row was left out" in text
    assert "50 prompts ranked before the run stopped; no threshold was set" in text
    assert "has no summary.json" in printed(folder)


def test_an_audit_stopped_before_its_images_says_so(audit: Path) -> None:
    (audit / "generate" / "rows.jsonl").unlink()
    text = Page(write([audit])).text
    assert "Only the detect run of this audit has rows" in text and "of 50 prompts look memorized" in text


def test_failures_are_counted_and_quoted(tmp_path: Path) -> None:
    failed = {"status": "failed", "error": "CUDA out of memory"}
    folder = edit(
        make_detect(tmp_path / "run"), lambda k, row: {"id": "x", "prompt": "lost one", **failed} if k < 3 else row
    )
    text = Page(write([folder])).text
    assert "of 47 prompts look memorized" in text and "3 rows failed." in text
    assert "3 CUDA out of memory lost one" in text
    edit(folder, lambda k, row: row | {"score": float("nan")} if k == 3 else row)
    with pytest.raises(UsageError, match="line 4 is no row .its score is None"):
        write([folder])


def test_a_run_where_all_failed_still_reports(tmp_path: Path) -> None:
    rows = [{"id": str(k), "prompt": "p", "status": "failed", "error": "no"} for k in range(2)]
    for command in ("detect", "generate"):
        text = Page(write([save(tmp_path / command, info(command), rows, {})])).text
        assert "2 rows failed." in text


def test_long_lists_are_cut_and_say_so(tmp_path: Path) -> None:
    rows = [
        {"id": str(k), "prompt": f"prompt {k}.", "role": "prompt", "score": float(k), "status": "ok"}
        for k in range(1005)
    ]
    page = Page(write([save(tmp_path / "run", info("detect"), rows, {})]))
    assert "The 1,000 highest scores of 1,005 are shown" in page.text
    assert "prompt 1004." in page.text and "prompt 4." not in page.text and len(page.tags("tr")) == 1001


def test_several_runs_are_compared(tmp_path: Path) -> None:
    other = info("detect")["method"] | {"name": "flipd"}
    runs = [make_detect(tmp_path / "a"), make_detect(tmp_path / "b", shift=0.3, method=other)]
    page = Page(write(runs, tmp_path / "deep" / "page.html"))
    summaries = [json.loads((run / "summary.json").read_text()) for run in runs]
    assert "2 runs compared" in page.text and "All runs scored the same prompts." in page.text
    for name, summary in zip(("a noise_norm demo", "b flipd demo"), summaries, strict=True):
        assert re.search(rf"{name} \d+ of 50 {summary['auc']:.3f}", page.text)
    assert (tmp_path / "a" / "plots" / "comparison.png").is_file()
    edit(runs[1], lambda k, row: row | {"prompt": "another"} if k == 0 else row)
    assert "did not all score the same prompts" in Page(write(runs)).text


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    runs = [make_detect(tmp_path / side / "detect") for side in ("left", "right")]
    text = Page(write(runs)).text
    assert str(runs[0]) in text and str(runs[1]) in text
    assert "2 runs compared" in Page(write([runs[0], runs[0]])).text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", None, "holds no run"),
        ("run.json", "{", "not a readable JSON file"),
        ("run.json", "[1]", "holds no JSON object"),
        ("run.json", '{"command": "unheard"}', "a report shows detect"),
        ("rows.jsonl", None, "is not there"),
        ("rows.jsonl", "", "no rows"),
        ("rows.jsonl", "\n", "no rows"),
        ("rows.jsonl", '{"id": 1}\n', "line 1 is no row"),
        ("rows.jsonl", "[]\n", "line 1 is no row .it is no JSON object"),
        ("summary.json", "nonsense", "not a readable JSON file"),
    ],
)
def test_broken_folders_are_refused(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    folder = make_detect(tmp_path / "run", memorized=2, ordinary=2)
    (folder / name).unlink() if content is None else (folder / name).write_text(content)
    with pytest.raises(UsageError, match=message):
        write([folder])
    with pytest.raises(UsageError, match=message):
        printed(folder)
    assert not (folder / "report.html").exists()


def test_no_run_no_folder_and_no_place_to_write_are_refused(tmp_path: Path) -> None:
    folder = make_detect(tmp_path / "run", memorized=2, ordinary=2)
    (tmp_path / "file").write_text("")
    for runs, out in (
        ([], None),
        ([tmp_path / "none"], None),
        ([folder], tmp_path / "file" / "x.html"),
        ([folder], tmp_path),
    ):
        with pytest.raises(UsageError):
            write(runs, out)
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize(
    "odd",
    [{"similarity": "high"}, {"seed": [1]}, {"match": 5}, {"mitigation": "x"}, {"kind": {}}, {"prompt": None}],
    ids=lambda odd: next(iter(odd)),
)
def test_rows_of_wrong_types_are_named(tmp_path: Path, odd: dict[str, Any]) -> None:
    run = edit(make_generate(tmp_path / "g", prompts=2), lambda _, row: row | odd)
    with pytest.raises(UsageError, match=f"line 1 is no row .its {next(iter(odd))} is .*give the command again"):
        write([run])


def test_one_row_gives_a_line_per_seed_over_true_timesteps(tmp_path: Path) -> None:
    row = rows_of(make_detect(tmp_path / "run"))[0]
    [axes] = plots.series_plot([row]).axes
    assert len(axes.lines) == 4 and axes.xaxis_inverted() and axes.get_ylabel() == "noise_norm"
    for line, values in zip(axes.lines, row["series"], strict=True):
        assert [part.tolist() for part in points(line)] == [TIMES, values]


def test_many_rows_give_a_median_and_a_band_per_class(tmp_path: Path) -> None:
    rows = rows_of(make_detect(tmp_path / "run"))
    [axes] = plots.series_plot(rows).axes
    assert [line.get_label() for line in axes.lines] == ["memorized (n = 30)", "ordinary (n = 120)"]
    memorized = np.array([row["series"] for row in rows if row["label"]]).mean(axis=1)
    np.testing.assert_allclose(points(axes.lines[0])[1], np.median(memorized, axis=0))
    corners = np.asarray(axes.collections[0].get_paths()[0].vertices)[:, 1]
    np.testing.assert_allclose(corners.max(), np.quantile(memorized, 0.9, axis=0).max())
    assert points(axes.lines[0])[0].tolist() == TIMES and axes.xaxis_inverted()


def test_many_rows_give_a_line_per_image_beneath_the_medians(tmp_path: Path) -> None:
    rows = rows_of(make_detect(tmp_path / "run", memorized=2, ordinary=30, tested=0))
    [axes] = plots.series_plot(rows).axes
    single = [each for each in axes.collections if isinstance(each, LineCollection) and each.get_paths()]
    drawn = [np.asarray(path.vertices) for each in single for path in each.get_paths()]
    assert len(drawn) == 2 * 4 + 100  # four images a prompt, at most a hundred a class
    assert "single images (108 of 128)" in [text.get_text() for text in axes.get_legend().get_texts()]
    assert max(each.get_zorder() for each in single) < min(line.get_zorder() for line in axes.lines)
    memorized = sorted((line for row in rows if row["label"] for line in row["series"]), key=np.mean)
    for line, values in zip(drawn[:8], memorized, strict=True):
        assert line[:, 0].tolist() == TIMES
        np.testing.assert_allclose(line[:, 1], values)
    ordinary = [float(np.mean(line)) for row in rows if not row["label"] for line in row["series"]]
    means = [line[:, 1].mean() for line in drawn[8:]]
    assert (means[0], means[-1]) == (pytest.approx(min(ordinary)), pytest.approx(max(ordinary)))
    low, high = axes.get_ylim()
    assert all(low <= line[:, 1].min() and line[:, 1].max() <= high for line in drawn)


def test_series_without_or_with_odd_timesteps_are_refused() -> None:
    with pytest.raises(UsageError, match="No row has a series"):
        plots.series_plot([{"series": None, "timesteps": None}])
    with pytest.raises(UsageError, match="one number per timestep"):
        plots.series_plot([{"id": "a", "series": [[1.0, 2.0]], "timesteps": [3]}])


def test_the_curve_of_a_legend_has_the_auc_of_stats() -> None:
    rng = np.random.default_rng(0)
    curves = {
        "_odd $x^{2$": (rng.normal(1, 1, 50), rng.normal(0, 1, 200)),
        "同じ": (rng.normal(0, 1, 20), rng.normal(0, 1, 20)),
    }
    figure = plots.roc_plot(curves)
    [axes] = figure.axes
    for line, (memorized, ordinary) in zip(axes.lines, curves.values(), strict=False):
        assert str(line.get_label()).endswith(f"AUC {stats.auc(memorized, ordinary):.3f}")
        fpr, tpr, _ = stats.roc(memorized, ordinary)
        seen = fpr > 0
        np.testing.assert_allclose(points(line)[0][seen], fpr[seen])
        np.testing.assert_allclose(points(line)[1], tpr)
    assert axes.get_xscale() == "log" and axes.get_xlim()[0] < 0.01 and plots.png(figure)[:4] == b"\x89PNG"


@pytest.mark.parametrize(("shift", "scale"), [(0.0, "linear"), (100.0, "log")])
def test_shares_add_up_and_the_axis_is_logarithmic_when_it_can_be(shift: float, scale: str) -> None:
    rng = np.random.default_rng(0)
    [axes] = plots.density_plot(rng.normal(shift + 3, 1, 30), rng.normal(shift, 1, 100), shift + 2.5).axes
    assert axes.get_xscale() == scale
    assert len(axes.patches) == 4  # an area and an outline of each class, and no curve beside them
    for patch in axes.patches:
        assert patch.get_data().values.sum() == pytest.approx(1)  # type: ignore[attr-defined]
    low, high = axes.get_ylim()
    assert low == 0 and high <= 1.05 and "share of the prompts" in axes.get_ylabel()
    assert points(axes.lines[-1])[0].tolist() == [shift + 2.5] * 2


@pytest.mark.parametrize("values", [[2.0], [2.0, 2.0, 2.0], [0.3, 0.3 + 1e-15], [-1.0, 0.0], [1e-9, 1e9]])
def test_odd_scores_are_drawn(values: list[float], tmp_path: Path) -> None:
    none = np.empty(0)
    path = plots.save(plots.density_plot(np.array(values), none), tmp_path / "deep" / "plot.png")
    with Image.open(path) as image:
        assert image.width == 720
    for bad in (none, np.array([np.nan])):
        with pytest.raises(UsageError, match="finite"):
            plots.density_plot(bad, none)


def test_the_terminal_shows_the_same_sentence_and_the_top_rows(audit: Path) -> None:
    shown = printed(audit)
    assert headline(read(audit / "detect")) in shown and headline(read(audit / "generate")) in shown
    best = max((r for r in rows_of(audit / "detect") if r["role"] == "prompt"), key=lambda row: row["score"])
    assert f"{best['score']:.4g}" in shown and best["prompt"][:50] in shown and shown.count("flagged") >= 10
    assert f"mnemoscope report {audit}" in shown
    write([audit])
    assert f"Report: {audit / 'report.html'}" in printed(audit)


def test_captions_cannot_steer_the_terminal(tmp_path: Path) -> None:
    folder = edit(
        make_detect(tmp_path / "run"), lambda k, row: row | {"prompt": HOSTILE[k], "score": 99.0} if k < 8 else row
    )
    shown = printed(folder, force_terminal=True)
    assert "[red]not red[/red]" in shown and ":warning:" in shown
    assert not set("\x07\x00\ud800\u202e") & set(shown) and "\x1b[31m" not in shown


def test_a_report_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_generate(tmp_path / "run", prompts=1, seeds=1)
    (folder / "report.html").write_text("old")

    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(UsageError, match="No space left"):
        write([folder])
    assert (folder / "report.html").read_text() == "old" and not list(folder.glob(".*"))


def test_one_prompt_has_no_interval(tmp_path: Path) -> None:
    text = Page(write([make_generate(tmp_path / "run", prompts=1)])).text
    assert "mean of 1 prompt: too few for an interval" in text


def test_the_command_is_one_a_shell_can_run() -> None:
    words = ["detect", "a b", "--prompts", "$(rm x)", "--param", "steps=[1, 2]"]
    record = {"command": "detect", "asked": {"command": "detect", "words": words}}
    assert shlex.split(command_line(record)) == ["mnemoscope", *words, "--out", "DIR"]
    assert command_line({"command": "detect"}) == command_line({"asked": "x"}) == ""


def test_an_audit_has_one_command(audit: Path) -> None:
    words = ["audit", "demo", "--prompts", "mine.txt", "--most", "24"]
    asked = {"command": "audit", "settings": {"most": 24}, "asked": {"command": "audit", "words": words}}
    (audit / "run.json").write_text(json.dumps(asked))
    text = Page(write([audit])).text
    assert text.count("Command that makes") == 1 and "mnemoscope audit demo --prompts mine.txt --most 24 --out" in text


def test_an_audit_that_explains_and_mitigates_is_one_page(audit: Path) -> None:
    make_explain(audit / "explain", prompts=2)
    make_mitigated(audit / "mitigate")
    (audit / "run.json").write_text(json.dumps({"command": "audit", "settings": {"prompts": "mine.txt"}}))
    page = Page(write([audit]))
    parts = ["look memorized", "48 images were generated", "Prompts by score", "Prompts in coloured words"]
    parts += ["Does a mitigation help?", "Images, mitigated Each", "Images Each prompt", "Numbers of explain", "Plots"]
    places = [page.text.index(text) for text in parts]
    assert places == sorted(places)
    assert "Similarity to the nearest reference, mitigated, flagged prompts" in page.text
    assert "Similarity of images to references, mitigated" in page.text
    shown = " ".join(printed(audit).split())
    assert "2 prompts explained" in shown and "8 mitigated by embedding_descent" in shown


def test_without_labels_nothing_is_said_to_be_found(tmp_path: Path) -> None:
    folder = edit(make_detect(tmp_path / "run"), lambda _, row: row | {"label": None})
    page = Page(write([folder]))
    assert "How well told apart from ordinary prompts (AUC)" in page.text and "Flagged at 1 % false alarms" in page.text
    assert "Found at" not in page.text and "Found against" not in page.text
    assert "Flagged against false alarms" in page.text and (folder / "plots" / "roc.png").exists()


@pytest.mark.parametrize("name", templates().list_templates(extensions=["html"]))
def test_a_template_opens_and_closes_one_block_level_tag_a_line(name: str) -> None:
    block = r"(?:table|thead|tbody|tr|th|td|section|details|summary|div|p|ul|li|dl|dt|dd|figure|figcaption)\b"
    source = (Path(report_package.__file__).parent / "templates" / name).read_text()
    for line in source.splitlines():
        opened, closed = re.findall(f"<({block})", line), re.findall(f"</({block})", line)
        assert len(opened) <= 1 and len(closed) <= 1 and (not opened or not closed or opened == closed), line


def test_every_list_that_can_be_searched_has_entries_that_the_search_finds() -> None:
    folder = PACKAGE / "mnemoscope" / "report" / "templates"
    searched = [file for file in folder.glob("*.html") if "{{ filter(" in file.read_text(encoding="utf-8")]
    assert len(searched) >= 8
    assert all("data-flagged=" in file.read_text(encoding="utf-8") for file in searched)
