"""Sweeps: files, shared trainings, resumption, bisection, differences and verdicts, on ratios that are known."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import planted_sweep
from mnemoscope.emm.data.sources import source_images
from mnemoscope.emm.networks import NetworkOptions
from mnemoscope.emm.sweeps.bisection import wanted
from mnemoscope.emm.sweeps.cells import Cell, Task, distinct, row_of, task_of, trained
from mnemoscope.emm.sweeps.differences import difference, times
from mnemoscope.emm.sweeps.estimate import RatioPoint, emm
from mnemoscope.emm.sweeps.file import Expectation, Sweep, read_sweep
from mnemoscope.emm.sweeps.level import LevelTraining
from mnemoscope.emm.sweeps.planning import Shape, operations, plan, work_of
from mnemoscope.emm.sweeps.running import run_sweep
from mnemoscope.emm.sweeps.verdicts import verdict
from mnemoscope.emm.training.options import EmmTrainOptions
from mnemoscope.errors import UsageError
from mnemoscope.report import write
from mnemoscope.run.run import read_json, read_rows
from pages import Page
from places import HELPERS, ROOT

FILES = sorted((ROOT / "examples" / "emm").glob("*.yaml"))
TINY: dict[str, Any] = {
    "name": "tiny",
    "question": "Does a wider network memorize more?",
    "factor": "width",
    "confounders": ["Width changes speed."],
    "resamples": 100,
    "data": {"source": "digits"},
    "network": {"width": 32, "multipliers": [1], "blocks": 1, "attention": [], "dropout": 0, "preconditioning": "edm"},
    "train": {"steps": 40, "batch_size": 4, "ramp_up": 5, "ema": ["0.9", "0"], "snapshots": 4, "samples": 400},
    "sizes": [25, 50, 100, 200],
    "levels": {
        "plain": {"x": 32},
        "wide": {"x": 64, "network": {"width": 64}},
        "early": {"read": {"at": 0.5}},
        "raw": {"read": {"ema": "0"}, "sizes": [100]},
        "labelled": {"data": {"label_mode": "unique"}, "sizes": [100]},
    },
    "expected": [
        {"level": "wide", "n": 100, "sign": "+"},
        {"level": "wide", "sign": "-", "source": "wrong on purpose"},
        {"level": "raw", "n": 100, "sign": "=", "margin": 0.2},
        {"level": "plain", "within": [60, 120]},
        {"level": "raw", "n": 50, "sign": "+"},
    ],
}


def written(folder: Path, **changes: Any) -> Sweep:
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump({**TINY, **changes}, sort_keys=False))
    return read_sweep(file)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The planted sweep with three seeds, the third one added later."""
    folder = tmp_path_factory.mktemp("ran")
    asked = written(folder)
    run_sweep(asked, folder / "run", seeds=2, trainer=planted_sweep.planted)
    run_sweep(asked, folder / "run", seeds=3, trainer=planted_sweep.planted)
    return folder / "run"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_files_that_come_with_it_are_right(file: Path) -> None:
    small, full = read_sweep(file), read_sweep(file, full=True)
    assert small.question == full.question and small.paper and small.confounders
    assert small.baseline in small.levels and full.baseline in full.levels
    for level in small.levels.values():
        assert level.data.source == "digits" and max(level.sizes) <= 400
        assert level.training(0).options.samples == 500
        level.data.images(level.sizes[0], 0)


QUICK = {"width", "labels", "data_size", "optimizer"}
planned = [pytest.param(f, marks=() if f.stem in QUICK else pytest.mark.slow, id=f.stem) for f in FILES]


@pytest.mark.parametrize("file", planned)
def test_the_plan_of_a_full_size_says_what_it_costs(file: Path) -> None:
    full = read_sweep(file, full=True)
    lines = plan(full, list(full.levels.values()))
    assert "A100" in lines[-1] and any("not here" in line for line in lines)


def test_there_is_a_file_for_each_factor() -> None:
    factors = "data_size dimension classes alpha width depth time_embedding skips skips_ncsnpp batch_size weight_decay"
    more = "ema labels unique_labels preconditioning training_time optimizer"
    assert {file.stem for file in FILES} == set((factors + " " + more).split())


def test_small_files_share_the_baseline(tmp_path: Path) -> None:
    """The level that nothing changes is one training for all files: theirs are the same by content."""
    names = ("data_size", "width", "depth", "classes", "skips", "weight_decay", "preconditioning", "alpha", "optimizer")
    folders = set()
    for name in names:
        asked = read_sweep(ROOT / "examples" / "emm" / f"{name}.yaml")
        folders.add(task_of(Cell(asked.levels[asked.baseline], 100, 0), tmp_path, "cpu").folder)
    assert len(folders) == 1


def test_operations_are_those_of_the_paper() -> None:
    """Counted before and printed by the specification: 25.4, 6.3, 1.6, 57, 101, 42 and 59 GFLOP, 35.1 M weights."""
    common = NetworkOptions()
    for options, side, expected in (
        (common, 32, 25.4),
        (replace(common, attention=(8,)), 16, 6.3),
        (replace(common, attention=(4,)), 8, 1.6),
        (replace(common, width=192), 32, 57),
        (replace(common, width=256), 32, 101),
        (replace(common, blocks=4), 32, 42.4),
        (replace(common, blocks=6), 32, 59),
    ):
        assert operations(options, Shape(3, side))[0] / 1e9 == pytest.approx(expected, rel=0.02)
    assert operations(common, Shape(3, 32))[1] == pytest.approx(35.1e6, rel=0.002)


def test_work_is_the_papers_cost() -> None:
    """3.6 days of an A100 for 1,000 images, and a quarter of an hour for each scored snapshot."""
    asked = read_sweep(ROOT / "examples" / "emm" / "data_size.yaml", full=True)
    work = work_of(asked.levels["40k epochs"].training(0), 1000)
    rate = 25.3e9 / (19.5e12 * 0.5)
    assert 3 * work.trained * rate / 86400 == pytest.approx(3.6, rel=0.02)
    assert work.scored / 17 * rate / 60 == pytest.approx(15, rel=0.03)


def test_a_sweep_finds_the_planted_crossings(ran: Path) -> None:
    found = read_json(ran / "summary.json")["emm"]
    for level, scale in (("plain", 1), ("wide", 2), ("early", 0.5)):
        exact = [RatioPoint(n, planted_sweep.share(n, 1, scale), 10**6) for n in TINY["sizes"]]
        expected = emm(exact, resamples=1).value
        assert expected is not None and found[level]["value"] == pytest.approx(expected, rel=0.1)
        low, high = found[level]["interval"]
        assert low <= found[level]["value"] <= high
    assert found["wide"]["times"] == pytest.approx(2, rel=0.15) and found["wide"]["times_interval"][0] > 1.5
    assert found["raw"]["flag"] == "below grid" and found["raw"]["bracket"] == [None, 100]


def test_rows_table_and_trainings(ran: Path) -> None:
    rows = read_rows(ran)
    assert len(rows) == 3 * (3 * 4 + 2) and len({row["id"] for row in rows}) == len(rows)
    by_id = {row["id"]: row for row in rows}
    assert by_id["plain-n100-s0"]["training"] == by_id["early-n100-s0"]["training"] == by_id["raw-n100-s0"]["training"]
    assert by_id["plain-n100-s0"]["training"] != by_id["wide-n100-s0"]["training"]
    assert by_id["early-n100-s0"]["step"] == 20 and by_id["plain-n100-s0"]["step"] == 40
    summary = read_json(ran / "summary.json")
    assert summary["trainings"] == 3 * (4 + 4 + 1) and summary["steps"] == 40 * 27 and summary["seeds"] == 3
    table = {(row["level"], row["n"]): row for row in csv.DictReader((ran / "table.csv").read_text().splitlines())}
    own = [row["ratio"] for row in rows if (row["level"], row["n"]) == ("wide", 100)]
    base = [row["ratio"] for row in rows if (row["level"], row["n"]) == ("plain", 100)]
    assert float(table["wide", "100"]["ratio"]) == pytest.approx(np.mean(own))
    assert float(table["wide", "100"]["difference"]) == pytest.approx(np.mean(own) - np.mean(base))
    assert float(table["wide", "100"]["difference_low"]) > 0 and table["plain", "100"]["difference"] == ""


def test_verdicts_of_the_planted_sweep(ran: Path) -> None:
    said = [each["verdict"] for each in read_json(ran / "summary.json")["expected"]]
    assert said == ["as expected", "the opposite", "as expected", "as expected", "not measured"]


def test_a_run_goes_on_without_training_again(ran: Path, tmp_path: Path) -> None:
    calls = []

    def counted(task: Task) -> Mapping[str, Any]:
        calls.append(task.folder.name)
        return planted_sweep.planted(task)

    asked = written(tmp_path)
    one = run_sweep(asked, tmp_path / "run", seeds=1, levels=["wide"], trainer=counted)
    assert len(calls) == 8 and one["levels"] == ["plain", "wide"]
    whole = run_sweep(asked, tmp_path / "run", seeds=3, trainer=counted)
    assert len(set(calls)) == 27 and len(calls) == 8 + 19 + 4  # early shares four of them
    there = read_json(ran / "summary.json")
    assert json.dumps([whole["table"], whole["emm"]]) == json.dumps([there["table"], there["emm"]])
    with pytest.raises(UsageError, match="other settings"):
        run_sweep(written(tmp_path, sizes=[50]), tmp_path / "run", trainer=counted)


@pytest.mark.slow
def test_a_killed_sweep_goes_on(ran: Path, tmp_path: Path) -> None:
    """SIGKILL in the third training; the same command again does the others and no finished one."""
    written(tmp_path)
    code = (
        "import sys; from pathlib import Path; import planted_sweep\n"
        "from mnemoscope.emm.sweeps.file import read_sweep; from mnemoscope.emm.sweeps.running import run_sweep\n"
        "asked = read_sweep(Path(sys.argv[1])); run_sweep(asked, sys.argv[2], trainer=planted_sweep.killed)\n"
    )
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    command = [sys.executable, "-c", code, str(tmp_path / "tiny.yaml"), str(tmp_path / "run")]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, check=False)
    assert done.returncode == -9 and len({row["training"] for row in read_rows(tmp_path / "run")}) == 2
    asked = read_sweep(tmp_path / "tiny.yaml")
    summary = run_sweep(asked, tmp_path / "run", trainer=planted_sweep.killed)
    assert len((tmp_path / "run" / "calls").read_text()) == 3 + 25
    assert summary["table"] == read_json(ran / "summary.json")["table"]


def test_adaptive_finds_the_bracket_with_fewer_trainings(ran: Path, tmp_path: Path) -> None:
    sizes = [25, 35, 50, 70, 100, 140, 200, 280, 400]
    levels = {"plain": {}, "wide": {"network": {"width": 64}}}
    asked = written(tmp_path, sizes=sizes, levels=levels, expected=[])
    whole = run_sweep(asked, tmp_path / "whole", trainer=planted_sweep.planted)
    few = run_sweep(asked, tmp_path / "few", adaptive=True, trainer=planted_sweep.planted)
    assert whole["trainings"] == 2 * 3 * 9 and few["trainings"] <= 18
    for level in levels:
        assert few["emm"][level]["bracket"] == whole["emm"][level]["bracket"]
        assert few["emm"][level]["value"] == pytest.approx(whole["emm"][level]["value"], rel=1e-6)
    later = run_sweep(asked, tmp_path / "few", trainer=planted_sweep.planted)
    assert later["table"] == whole["table"]


@pytest.mark.parametrize("crossing", [0, 1, 4, 7, 8])
def test_bisection_asks_for_what_decides(crossing: int) -> None:
    """The first seed says `crossing` sizes are above; the others disagree by one; the mean of all three decides."""
    sizes, truth = [2**k for k in range(8)], {}
    for k, n in enumerate(sizes):
        truth |= {(n, 0): 1.0 * (k < crossing), (n, 1): 1.0 * (k < crossing - 1), (n, 2): 1.0 * (k < crossing - 1)}
    known: dict[tuple[int, int], float] = {}
    while asked := wanted(sizes, [0, 1, 2], known, 0.1):
        assert not set(asked) & set(known)
        known |= {cell: truth[cell] for cell in asked}
    mean = [sum(truth[n, s] for s in range(3)) / 3 for n in sizes]
    above = sum(m >= 0.9 for m in mean)
    ends = [n for n in (sizes[above - 1] if above else None, sizes[above] if above < 8 else None) if n]
    assert all((n, s) in known for n in ends for s in range(3)) and len(known) <= 12


def test_differences_are_paired_by_seed() -> None:
    """Seeds that differ by far more than levels do: the interval of the difference is that of the levels."""
    one = [RatioPoint(100, 0.2 + 0.3 * seed, 20_000, seed) for seed in range(3)]
    other = [RatioPoint(100, p.ratio - 0.05, 20_000, p.seed) for p in one] + [RatioPoint(100, 0.9, 20_000, 7)]
    found = difference(one, other, resamples=400)
    assert found is not None
    value, (low, high) = found
    assert value == pytest.approx(0.05) and 0.03 < low < value < high < 0.07
    assert difference(one, other[-1:], resamples=10) is None


def test_times_outside_of_the_sizes_are_signs_only() -> None:
    one = [RatioPoint(n, 0.99, 500, s) for n in (50, 100, 200) for s in range(3)]
    other = [RatioPoint(n, r, 500, s) for n, r in ((50, 0.99), (100, 0.5), (400, 0.0)) for s in range(3)]
    found = times(one, other, eps=0.1, resamples=100)
    assert found is not None and found[0] > 2 and found[1][0] > 1
    same = times(one, one, eps=0.1, resamples=100)
    assert same == (1.0, (1.0, 1.0))
    assert times(one, [RatioPoint(1000, 0.5, 500)], eps=0.1, resamples=10) is None


def test_a_verdict_outside_of_the_sizes(tmp_path: Path) -> None:
    asked = written(tmp_path)
    over = {"plain": [RatioPoint(n, 1.0, 5000, s) for n in (50, 100) for s in range(3)]}
    within = {
        r: verdict(asked, Expectation("plain", within=r), over)["verdict"] for r in ((10, 60), (50, 120), (90, 1e9))
    }
    assert list(within.values()) == ["the opposite", "not told apart", "not told apart"]
    assert verdict(asked, Expectation("wide", sign="+"), over)["verdict"] == "not measured"


def test_levels_of_equal_content_share_a_training(tmp_path: Path) -> None:
    levels = {
        "plain": {},
        "full mask": {"network": {"skips": [1, 1]}},
        "all classes": {"data": {"classes": 10}},
        "no mixture": {"data": {"mix": "patches", "alpha": 0}},
        "half": {"network": {"skips": [1, 0]}},
        "mixture": {"data": {"mix": "patches", "alpha": 0.5}},
    }
    asked = written(tmp_path, levels=levels, expected=[])
    tasks = [task_of(Cell(level, 50, 1), tmp_path, "cpu") for level in asked.levels.values()]
    assert len({task.folder for task in tasks[:4]}) == 1 and len(distinct(tasks)) == 3
    other_seed = task_of(Cell(asked.levels["plain"], 50, 2), tmp_path, "cpu")
    assert other_seed.folder != tasks[0].folder and not np.array_equal(other_seed.images.pixels, tasks[0].images.pixels)


def test_seeds_have_nested_sets_and_levels_the_same_images(tmp_path: Path) -> None:
    asked = written(tmp_path)
    small, large = (asked.levels["plain"].data.images(n, 1) for n in (50, 100))
    assert set(small.names) < set(large.names)
    assert asked.levels["labelled"].data.images(100, 1).names == large.names


def test_patches_are_of_photographs() -> None:
    patches = source_images("patches")
    assert patches.pixels.shape[1:] == (1, 8, 8) and len(patches) > 2000 and patches.num_classes == 2
    inner = np.abs(np.diff(patches.pixels.astype(int), axis=3)).mean()
    across = np.abs(patches.pixels[:-1, :, :, -1].astype(int) - patches.pixels[1:, :, :, 0].astype(int)).mean()
    assert inner < across * 1.5 < 60  # neighbours in a row of tiles go on into one another


def test_early_decisions_are_read_at_their_last_snapshot(tmp_path: Path) -> None:
    asked = written(tmp_path, train={**TINY["train"], "stop_at": 0.9}, expected=[])
    cell = Cell(asked.levels["plain"], 25, 0)
    task = task_of(cell, tmp_path, "cpu")
    row = row_of(cell, task, planted_sweep.planted(task))
    assert row["stopped"] and row["step"] < 40 and row["ratio"] > 0.9
    late = Cell(asked.levels["plain"], 200, 0)
    assert not row_of(late, task_of(late, tmp_path, "cpu"), planted_sweep.planted(task_of(late, tmp_path, "cpu")))[
        "stopped"
    ]


def test_the_highest_snapshot_can_be_picked(tmp_path: Path) -> None:
    asked = written(tmp_path, levels={"plain": {"read": {"pick": "max"}}}, expected=[])
    cell = Cell(asked.levels["plain"], 50, 0)
    task = task_of(cell, tmp_path, "cpu")
    found = planted_sweep.planted(task)
    for row in found["rows"]:
        row["ratio"] = 0.8 if row["step"] == 20 else 0.5
    assert row_of(cell, task, found)["ratio"] == 0.8


def test_real_trainings_are_shared_by_sweeps(tmp_path: Path) -> None:
    """Two files, one cache: what the first one trained the second one reads."""
    train = {"steps": 6, "batch_size": 4, "ramp_up": 2, "ema": ["0.9"], "snapshots": 2, "samples": 8}
    train |= {"inference_steps": 2}
    network = {**TINY["network"], "width": 8}
    small = {"train": train, "network": network, "expected": [], "sizes": [4]}
    first = written(tmp_path, levels={"plain": {}}, **small)
    said: list[str] = []
    run_sweep(first, tmp_path / "one", seeds=1, cache=tmp_path / "cache", device="cpu", tell=said.append)
    assert len(said) == 1 and said[0].startswith("1 of 1: 4 images, seed 0: plain ")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*.safetensors")}
    levels = {"again": {}, "early": {"read": {"at": 0.5}}, "other": {"network": {"skips": [0, 1]}}}
    second = written(tmp_path, levels=levels, **small)
    lines = plan(second, list(second.levels.values()), seeds=1, cache=tmp_path / "cache")
    assert any("1 trainings on 24 samples" in line and "1 more are in the cache" in line for line in lines)
    summary = run_sweep(second, tmp_path / "two", seeds=1, cache=tmp_path / "cache", device="cpu")
    after = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").rglob("*.safetensors")}
    assert before and before.items() < after.items() and summary["trainings"] == 2 and summary["steps"] == 12
    task = task_of(Cell(second.levels["again"], 4, 0), tmp_path / "cache", "cpu")
    assert trained(task)["steps"] == 6 and not (tmp_path / "two" / "trainings").exists()


def test_bad_files_are_told(tmp_path: Path) -> None:
    for changes, said in (
        ({"levels": {"a": {"network": {"widht": 3}}}}, "'widht', which there is not"),
        ({"levels": {"a": {"train": {"seed": 3}}}}, "seed is not for a level to set"),
        ({"levels": {"a": {"read": {"ema": "0.5"}}}}, "ema 0.5 is not kept"),
        ({"levels": {"a": {"read": {"at": 0.3}}}}, "has no snapshot"),
        ({"levels": {"a": {"sizes": [100, 50]}}}, "smallest first"),
        ({"levels": {"a": {"data": {"alpha": 0.5}}}}, "there is no mix"),
        ({"levels": {"a": {"train": {"samples": 0}}}}, "samples is 0"),
        ({"levels": ["a"]}, "write each level below it"),
        ({"baseline": "b"}, "baseline b is not known"),
        ({"expected": [{"level": "plain", "n": 50}]}, "Give a sign or within"),
        ({"expected": [{"level": "nobody", "sign": "+"}]}, "nobody is not known"),
        ({"expected": [{"level": "plain", "within": [3, 1]}]}, "smallest and the largest"),
        ({"eps": 1.5}, "eps is a number"),
        ({"question": ""}, "it lacks question"),
        ({"sweeps": 1}, "'sweeps', which there is not"),
    ):
        with pytest.raises(UsageError, match=said) as error:
            written(tmp_path, **{"expected": [], **changes})
        assert str(error.value).startswith("tiny.yaml")
    with pytest.raises(UsageError, match="no full size"):
        read_sweep(tmp_path / "tiny.yaml", full=True) if written(tmp_path) else None
    with pytest.raises(UsageError, match="give 1 or more"):
        run_sweep(written(tmp_path), tmp_path / "run", seeds=0)
    with pytest.raises(UsageError, match="has no level nobody"):
        run_sweep(written(tmp_path), tmp_path / "run", levels=["nobody"])


def test_the_report_shows_curves_verdicts_and_confounders(ran: Path) -> None:
    page = Page(write([ran]))
    for text in ("Does a wider network memorize more?", "wrong on purpose", "the opposite", "Width changes speed."):
        assert text in page.text
    assert "EMM of plain: 8" in page.text and "95 % interval" in page.text
    assert {p.name for p in (ran / "plots").iterdir()} == {"sizes.png", "levels_100.png", "along.png"}


def test_the_report_of_one_size_is_about_its_ratio(tmp_path: Path) -> None:
    levels = {"plain": {}, "wide": {"network": {"width": 64}}}
    run_sweep(
        written(tmp_path, levels=levels, sizes=[100], expected=[]), tmp_path / "run", trainer=planted_sweep.planted
    )
    page = Page(write([tmp_path / "run"]))
    assert "Memorized of plain: 86." in page.text and "How much each level can memorize" not in page.text


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'mnemoscope[ray]'")
    folders = os.pathsep.join([str(HELPERS), str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", folders)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False)
        yield
        ray.shutdown()


@pytest.mark.slow
def test_two_ray_workers_give_the_serial_result(cluster: None, tmp_path: Path) -> None:
    """Real trainings on two workers: rows, table and EMM bit by bit those of one process."""
    train = {"steps": 20, "batch_size": 8, "ramp_up": 2, "ema": ["0.9"], "snapshots": 1, "samples": 16}
    train |= {"inference_steps": 3, "learning_rate": 2e-3}
    levels = {"plain": {}, "other": {"data": {"label_mode": "unique"}}}
    network = {**TINY["network"], "width": 8}
    asked = written(tmp_path, train=train, network=network, levels=levels, sizes=[4, 8], expected=[])
    how: dict[str, Any] = {"seeds": 2, "device": "cpu"}
    serial = run_sweep(asked, tmp_path / "serial", **how)
    spread = run_sweep(asked, tmp_path / "ray", runner="ray", **how)
    assert read_rows(tmp_path / "ray") == read_rows(tmp_path / "serial")
    assert spread["table"] == serial["table"] and spread["emm"] == serial["emm"]


def test_trainings_of_a_network_that_became_another_one_are_not_taken_from_a_cache() -> None:
    """Keys as they were before ncsnpp became the published network: ddpmpp's is the same, ncsnpp's is not."""
    before = {"ddpmpp": "975faae6021f", "ncsnpp": "745b2a8e59b8"}
    for architecture, key in before.items():
        network = NetworkOptions(architecture, width=16, multipliers=(1, 2), blocks=1, attention=(4,))
        assert (LevelTraining(network, EmmTrainOptions()).key("images") == key) == (architecture == "ddpmpp")
