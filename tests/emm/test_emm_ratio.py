"""The memorization ratio: a loop over all pairs, copies hidden by duplicates, the control, snapshots, a killed run."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mnemoscope.emm.data.images import Images
from mnemoscope.emm.data.readers import read_images
from mnemoscope.emm.data.writers import write_images
from mnemoscope.emm.ratio.command import measure_ratio
from mnemoscope.emm.ratio.generated_sets import Held, held_sets
from mnemoscope.emm.ratio.memorization import memorization, usual_distance
from mnemoscope.emm.ratio.options import AskedRatio, RatioOptions, SnapshotDrawing
from mnemoscope.emm.ratio.references import ByFeatures, ByPixels
from mnemoscope.emm.ratio.run import Known, run_ratio
from mnemoscope.emm.sampling.options import Sampling
from mnemoscope.errors import UsageError
from mnemoscope.features import descriptor
from mnemoscope.run.run import read_json, read_rows


@pytest.fixture(scope="module")
def digits() -> Images:
    return read_images("digits")


def noisy(rows: np.ndarray, count: int, sd: float, seed: int = 0) -> np.ndarray:
    """Copies of rows taken in turn, with Gaussian noise, as bytes."""
    random = np.random.default_rng(seed)
    copies = np.tile(rows, (-(-count // len(rows)), 1))[:count].astype(float)
    return np.clip(np.rint(copies + random.normal(0, sd, copies.shape)), 0, 255).astype(np.uint8)


def brute(samples: np.ndarray, train: np.ndarray, threshold: float = 1 / 3) -> tuple[list, list, list]:
    """Nearest, second and whether memorized, by whole numbers, one pair at a time."""
    limit = round(1 / threshold**2)
    first, second, memorized = [], [], []
    for x in samples.astype(int).tolist():
        squares = sorted(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)) for y in train.astype(int).tolist())
        first.append(squares[0] ** 0.5 / len(x) ** 0.5)
        second.append(squares[1] ** 0.5 / len(x) ** 0.5)
        memorized.append(limit * squares[0] < squares[1])
    return first, second, memorized


@pytest.mark.parametrize("pixels", [8, 27])
def test_equals_a_loop_over_all_pairs(pixels: int) -> None:
    random = np.random.default_rng(pixels)
    train = random.integers(0, 40, (30, pixels), dtype=np.uint8)
    train[10:14] = train[:4]  # copies
    samples = np.concatenate([train[:12], noisy(train, 40, 6)])
    found = memorization(samples, train)
    first, second, memorized = brute(samples, train)
    assert found.nearest.tolist() == pytest.approx(first, abs=1e-12)
    assert found.second.tolist() == pytest.approx(second, abs=1e-12)
    assert found.memorized.tolist() == memorized and 0 < found.ratio < 1
    distinct = np.delete(train, range(10, 14), axis=0)
    _, apart, merged = brute(samples, distinct)
    assert found.second_apart.tolist() == pytest.approx(apart, abs=1e-12) and found.memorized_apart.tolist() == merged
    squares = ((samples[:, None].astype(int) - train[None]) ** 2).sum(-1)
    assert np.array_equal(found.match, squares.argmin(axis=1))


def test_a_third_is_no_match_however_it_rounds() -> None:
    """Distances of sqrt(31) and sqrt(279): their quotient in floats is less than 1/3, and the definition is strict."""
    train = np.zeros((2, 279), np.uint8)
    train[0, :31], train[1] = 1, 1
    sample = np.zeros((1, 279), np.uint8)
    assert np.sqrt(31) / np.sqrt(279) < 1 / 3 and memorization(sample, train).ratio == 0
    train[0, 0] = 0
    assert memorization(sample, train).ratio == 1


def test_copies_in_the_reference_hide_copies(digits: Images) -> None:
    """500 perfect copies against a set of which 10 % are there twice: 0.90, and 1.0 once those are merged."""
    train = digits.rows()[:500]
    twice = np.concatenate([train, train[:50]])
    found = memorization(train, twice)
    assert (found.ratio, found.ratio_apart, found.coverage) == (0.9, 1.0, 1.0)
    assert (found.references, found.distinct) == (550, 500) and found.mean_distance == 0
    assert found.hits == dict.fromkeys(range(500), 1)


@pytest.mark.parametrize(("sd", "expected"), [(5, 1.0), (10, 0.91), (15, 0.41), (20, 0.09)])
def test_noise_on_copies(digits: Images, sd: int, expected: float) -> None:
    rows = digits.rows()[:500]
    ratio = memorization(noisy(rows, 1500, sd), rows).ratio
    assert abs(ratio - expected) < 3.5 * np.sqrt(expected * (1 - expected) / 1500) + 0.005


@pytest.mark.parametrize(("weight", "expected"), [(0.95, 1.0), (0.9, 0.73), (0.8, 0.04)])
def test_blends_of_two_training_images(digits: Images, weight: float, expected: float) -> None:
    random, rows = np.random.default_rng(0), digits.rows()[:500].astype(float)
    one, two = rows[random.integers(0, 500, 1500)], rows[random.integers(0, 500, 1500)]
    blends = np.rint(weight * one + (1 - weight) * two).astype(np.uint8)
    assert abs(memorization(blends, digits.rows()[:500]).ratio - expected) < 0.045


def test_the_ratio_falls_with_the_references_and_the_near_ratio_does_not(digits: Images) -> None:
    rows, unit = digits.rows(), usual_distance(digits.rows())
    copies = noisy(rows[:50], 1000, 12)
    found = [memorization(copies, rows[:n]) for n in (50, 200, 800, 1797)]
    expected = [0.955, 0.883, 0.805, 0.674]
    assert [m.ratio for m in found] == pytest.approx(expected, abs=0.07)
    assert sorted((m.ratio for m in found), reverse=True) == [m.ratio for m in found]
    near = {float(m.near(unit).mean()) for m in found}
    assert len(near) == 1 and near.pop() > 0.7


def test_nothing_held_out_is_memorized(digits: Images) -> None:
    found = memorization(digits.rows()[500:], digits.rows()[:500])
    assert len(found) == 1297 and found.ratio == 0
    assert found.quotient.min() == pytest.approx(0.378, abs=5e-4)
    assert np.median(found.quotient) == pytest.approx(0.933, abs=5e-4)
    assert found.interval == (0.0, pytest.approx(0.00295, abs=1e-5))


def test_the_curve_is_the_ratio_at_each_threshold(digits: Images) -> None:
    rows = digits.rows()[:300]
    samples = noisy(rows, 300, 12)
    for point in memorization(samples, rows).curve():
        assert memorization(samples, rows, threshold=point["threshold"]).ratio == point["ratio"]


@pytest.mark.parametrize(
    ("samples", "train", "given", "said"),
    [
        (2, 1, {}, "two training images that differ"),
        (0, 3, {}, "no generated images"),
        (2, 3, {"threshold": 1.0}, "threshold 1 was given"),
    ],
)
def test_bad_input(samples: int, train: int, given: dict, said: str) -> None:
    reference = np.arange(train * 4, dtype=np.uint8).reshape(train, 4)
    with pytest.raises(UsageError, match=said):
        memorization(np.zeros((samples, 4), np.uint8), reference, **given)


def named(pixels: np.ndarray, side: int = 8) -> Images:
    return Images(pixels.reshape(len(pixels), -1, side, side), None, tuple(f"{k:03d}" for k in range(len(pixels))))


def test_grey_images_in_colour_are_the_same_images(digits: Images) -> None:
    train, samples = digits.take(range(100)), named(noisy(digits.rows()[:100], 150, 12))
    grey = ByPixels(train)(samples)
    for found in (ByPixels(train)(samples.in_colour()), ByPixels(train.in_colour())(samples)):
        assert np.array_equal(found.memorized, grey.memorized) and np.array_equal(found.match, grey.match)
        assert np.allclose(found.nearest, grey.nearest) and 0 < found.ratio < 1
    with pytest.raises(UsageError, match="8x8 pixels cannot be compared with 4x4"):
        ByPixels(read_images("digits", resolution=4))(samples)


def test_features_find_the_copies_too(digits: Images, tmp_path: Path) -> None:
    train = digits.take([*range(60), *range(5)])
    references = ByFeatures(train, descriptor("pixels"), tmp_path)
    found = references(digits.take(range(20)))
    assert found.distinct == 60 and found.match.tolist() == list(range(20)) and found.ratio_apart == 1
    assert found.ratio == 15 / 20  # the first five are there twice
    assert references(digits.take(range(100, 160))).ratio_apart < 0.1
    assert 0 < references.usual(digits.take(range(200))) < 2


class Broken(Exception):
    pass


class Failing(Held):
    """A set that is read until it is not."""

    left = 2

    def take(self, places: Sequence[int]) -> Images:
        if not Failing.left:
            raise Broken
        Failing.left -= 1
        return super().take(places)


def snapshots(folder: Path, digits: Images, shares: Sequence[float], count: int = 60) -> Path:
    """Sets of which a share are noisy copies of the first hundred digits, the rest other digits."""
    for k, share in enumerate(shares):
        copies = round(share * count)
        pixels = np.concatenate([noisy(digits.rows()[:100], copies, 4, k), digits.rows()[500 : 500 + count - copies]])
        order = np.random.default_rng(k).permutation(count)
        write_images(named(pixels[order]), folder / f"step-{10 * (k + 1)}.npz")
    return folder


def test_a_run_that_was_stopped_goes_on_and_ends_the_same(
    digits: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnemoscope.emm.ratio.run.TOGETHER", 25)
    folder = snapshots(tmp_path / "sets", digits, (0.2, 0.7))
    known = Known(digits.take(range(100)), digits.take(range(600, 700)))
    whole = run_ratio(held_sets(str(folder), snapshots=True), known, tmp_path / "whole", RatioOptions())
    failing = [Failing(each.name, each.source) for each in held_sets(str(folder), snapshots=True)]
    with pytest.raises(Broken):
        run_ratio(failing, known, tmp_path / "run", RatioOptions())
    assert len(read_rows(tmp_path / "run")) == 50
    again = run_ratio(held_sets(str(folder), snapshots=True), known, tmp_path / "run", RatioOptions())
    assert {k: v for k, v in again.items() if k != "seconds"} == {k: v for k, v in whole.items() if k != "seconds"}
    rows = [read_rows(tmp_path / name) for name in ("run", "whole")]
    assert rows[0] == rows[1] and len(rows[0]) == 120
    with pytest.raises(UsageError, match="other settings .*threshold"):
        run_ratio(held_sets(str(folder), snapshots=True), known, tmp_path / "run", RatioOptions(threshold=0.5))


def test_snapshots_the_highest_and_what_is_left_of_it_on_other_images(digits: Images, tmp_path: Path) -> None:
    folder = snapshots(tmp_path / "sets", digits, (0.1, 0.8, 0.3, 0.8), count=80)
    known = Known(digits.take(range(100)))
    found = run_ratio(held_sets(str(folder), snapshots=True), known, tmp_path / "run", RatioOptions())
    ratios = [row["memorization_ratio"] for row in found["snapshots"]]
    assert (
        ratios == pytest.approx([0.1, 0.8, 0.3, 0.8])
        and [r["snapshot"] for r in found["snapshots"]][3] == "step-40.npz"
    )
    assert found["memorization_ratio"] == pytest.approx(0.8) == found["memorization_ratio_last"]
    rows = {
        name: [r["memorized"] for r in read_rows(tmp_path / "run") if r["snapshot"] == name]
        for name in (row["snapshot"] for row in found["snapshots"])
    }
    best = max(rows, key=lambda name: sum(rows[name][:40]))
    assert found["snapshot_corrected"] == best
    assert found["memorization_ratio_corrected"] == sum(rows[best][40:]) / 40
    assert found["memorization_ratio_corrected_images"] == 40


def test_the_highest_of_equal_snapshots_is_too_high_and_the_corrected_one_is_not(tmp_path: Path) -> None:
    """Twenty snapshots of one true ratio of 1/2: the highest is above it, the corrected one about right on average."""
    from mnemoscope.emm.ratio.memorization import Memorization
    from mnemoscope.emm.ratio.summary import Control, summarize

    random, highest, corrected = np.random.default_rng(0), [], []
    for _ in range(60):
        scored = {}
        for name in range(20):
            q = np.where(random.random(100) < 0.5, 0.1, 0.9)
            zeros = np.zeros(100, np.int64)
            scored[str(name)] = Memorization(q, q, q, zeros, zeros, q, q, 10, 10)
        found = summarize(scored, Control(None, 1.0, "references", "grey levels"))
        highest.append(found["memorization_ratio"])
        corrected.append(found["memorization_ratio_corrected"])
    assert np.mean(highest) > 0.57 and abs(np.mean(corrected) - 0.5) < 0.03


def test_command_writes_rows_summary_and_a_page(mnemoscope, digits: Images, tmp_path: Path) -> None:
    train = digits.take([*range(100), 0, 1])
    write_images(train, tmp_path / "train.zip")
    write_images(digits.take(range(500, 600)).unlabelled(), tmp_path / "unseen")
    samples = np.concatenate([digits.rows()[:10], noisy(digits.rows()[10:50], 40, 4), digits.rows()[800:850]])
    write_images(named(samples).in_colour(), tmp_path / "drawn")  # as the original writes grey images
    out = tmp_path / "run"
    words = ["emm", "ratio", tmp_path / "drawn", "--references", tmp_path / "train.zip", "--out", out]
    code, said, _ = mnemoscope(*words, "--held-out", tmp_path / "unseen")
    assert code == 0 and "48.0 % of 100 images are memorized copies of one of 102 training images" in said
    summary, rows = read_json(out / "summary.json"), read_rows(out)
    assert summary["memorization_ratio"] == 0.48 and summary["memorization_ratio_apart"] == 0.5
    assert summary["false_positive_floor"] == 0 and summary["held_out"] == 100
    assert summary["memorization_ratio_interval"][0] < 0.48 < summary["memorization_ratio_interval"][1]
    assert (summary["duplicates"], summary["memorized_references"]) == (2, 50)
    assert {"file", "d1", "d2", "match"} <= rows[0].keys() and len(rows) == 100
    assert rows[0]["d1"] == 0 and rows[0]["match"] == "train.zip:00000/img00000000.png" and not rows[0]["memorized"]
    page = (out / "report.html").read_text()
    assert page.count("data:image/png") > 24 * 3 and "copies merged" in page and "2 copies" in page
    assert "mnemoscope emm ratio" in page and "references_sha256" not in page.split("How can this run be made again")[0]
    code, _, error = mnemoscope(*words, "--held-out", tmp_path / "nowhere")
    assert code == 2 and "There is nothing at" in error and error.count("\n") == 1


def test_a_damaged_summary_still_has_a_page(digits: Images, tmp_path: Path) -> None:
    from mnemoscope.report import write

    known = Known(digits.take(range(50)))
    sets = held_sets(str(snapshots(tmp_path / "sets", digits, (0.2, 0.7), count=20)), snapshots=True)
    run = tmp_path / "run"
    run_ratio(sets, known, run, RatioOptions())
    rows = read_rows(run)
    rows[0]["quotient_apart"], rows[1]["quotient_apart"] = None, 7
    (run / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = read_json(run / "summary.json")
    summary |= {"pairs": [3, {"files": 1}], "curve": "x", "snapshots": [{"snapshot": 1}, *summary["snapshots"], None]}
    (run / "summary.json").write_text(json.dumps(summary))
    assert "2 rows failed" in write([run]).read_text()
    (run / "summary.json").unlink()
    assert "the run was interrupted" in write([run]).read_text()

    rows[2]["file"] = 3  # a row that is none gets one sentence, the same from the page and from a resume
    (run / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = []
    for again in (lambda: write([run]), lambda: run_ratio(sets, known, run, RatioOptions())):
        with pytest.raises(UsageError, match="line 3 is no row .its file is 3.*--overwrite") as told:
            again()
        said.append(str(told.value))
    assert said[0] == said[1]


def test_bad_commands(digits: Images, tmp_path: Path) -> None:
    place = str(write_images(digits.take(range(20)), tmp_path / "a.npz"))
    with pytest.raises(UsageError, match="Pixels have no --preset"):
        measure_ratio(AskedRatio(place, place), tmp_path / "run", RatioOptions(), SnapshotDrawing(), preset="x")
    with pytest.raises(UsageError, match="No --references were given"):
        measure_ratio(AskedRatio(place), tmp_path / "run", RatioOptions(), SnapshotDrawing())
    with pytest.raises(UsageError, match="is no folder"):
        measure_ratio(AskedRatio(place, place, snapshots=True), tmp_path / "run", RatioOptions(), SnapshotDrawing())
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="holds no snapshot"):
        held_sets(str(tmp_path / "empty"), snapshots=True)


def test_images_drawn_from_the_snapshots_of_a_training(digits: Images, tmp_path: Path) -> None:
    """Two snapshots are drawn and scored, and the highest again on the next seeds."""
    from mnemoscope.emm.networks import NetworkOptions, build
    from mnemoscope.emm.training.snapshots import Snapshots, description

    options = NetworkOptions(width=8, multipliers=(1,), blocks=1, attention=())
    run = tmp_path / "training"
    run.mkdir()
    record = {"command": "emm-train", "settings": {"ema": ["0.9"]}, "network": description(options, 1, 8, 0)}
    (run / "run.json").write_text(json.dumps(record))
    for step in (1, 12):
        network = build(options, channels=1, resolution=8, seed=step)
        Snapshots(run).write(step, {"0.9": network.state_dict()})
    place = str(write_images(digits.take(range(50)), tmp_path / "train.npz"))
    drawing = SnapshotDrawing(samples=6, sampling=Sampling(2), batch_size=4)
    summary = measure_ratio(AskedRatio(str(run), place), tmp_path / "ratio", RatioOptions(), drawing)
    rows = read_rows(tmp_path / "ratio")
    names = [f"step-{step:06d}" for step in (1, 12)]
    assert [row["snapshot"] for row in summary["snapshots"]] == names
    again = f"{summary['snapshot']}-again"
    assert [r["snapshot"] for r in rows] == [name for name in (*names, again) for _ in range(6)]
    assert [r["file"].split("-")[-1] for r in rows[-6:]] == [str(seed) for seed in range(6, 12)]
    assert summary["memorization_ratio_corrected_images"] == 6
    assert summary["network_evaluations"] == 3 * (3 * 6 + len(summary["pairs"]))  # two steps of Heun: three evaluations
    once = replace(drawing, batch_size=1)
    (run / "data.zip").write_bytes(write_images(digits.take(range(50)), tmp_path / "data.zip").read_bytes())
    other = measure_ratio(AskedRatio(str(run)), tmp_path / "other", RatioOptions(), once)
    assert other["mean_distance"] == pytest.approx(summary["mean_distance"], abs=0.05)
    with pytest.raises(UsageError, match="--samples says how many"):
        measure_ratio(AskedRatio(str(run), place, limit=3), tmp_path / "third", RatioOptions(), drawing)
