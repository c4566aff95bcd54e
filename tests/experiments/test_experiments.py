"""Experiments: arms get their overrides and the same random numbers, go on after a kill, and are compared rightly."""

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import tiny
from mnemoscope import features, plots
from mnemoscope.errors import UsageError
from mnemoscope.experiments.arm import ExperimentArm
from mnemoscope.experiments.effects import table, weights
from mnemoscope.experiments.experiment import ArmExpectation, read_experiment
from mnemoscope.experiments.planning import plan
from mnemoscope.experiments.prices import ExperimentWork, Prices, computed, work_of
from mnemoscope.experiments.running import run_experiment
from mnemoscope.experiments.scenes import Scenes, scenes, write_scenes
from mnemoscope.experiments.subjects import subjects
from mnemoscope.experiments.verdicts import verdict
from mnemoscope.measuring.complexity import jpeg_size
from mnemoscope.run.run import read_json, read_rows
from mnemoscope.training.data.order import Order
from places import ROOT
from training_data import data

FILES = sorted((ROOT / "examples" / "experiments").glob("*.yaml"))
TINY: dict[str, Any] = {
    "name": "tiny",
    "question": "Does it run?",
    "paper": "control",
    "baseline": "plain",
    "expected": [{"arm": "twice", "measure": "own_similarity", "sign": "+", "group": "duplicated"}],
    "scenes": {"memorized": {"count": 6, "size": 16}, "more": {"count": 4, "size": 16}},
    "base": {
        "data": {"data": "scenes:memorized"},
        "train": {"steps": 2, "batch_size": 2, "learning_rate": "1e-3", "checkpoint_every": 1},
        "generate": {"images": 2, "num_inference_steps": 2},
    },
    "arms": {
        "plain": {},
        "twice": {"data": {"duplication": "both", "duplicated": 0.5, "factor": 4}},
        "noisy": {"family": "noise", "dose": 2, "generate": {"mitigations": {"embedding_noise": {"scale": 2.0}}}},
        "start": {"trained": False},
    },
    "measure": {"groups": ["duplicated", "other"], "prompts": 2, "held_out": 3, "resamples": 50},
    "gpu": {"model": "nobody/nothing", "architecture": "sd1", "base": {"data": {"data": "nowhere"}}},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tiny.stable_diffusion().save_pretrained(folder)
    return folder


def written(folder: Path, model: Path | str, **changes: Any) -> Path:
    file = folder / "tiny.yaml"
    plain = json.loads(json.dumps({**TINY, "model": str(model), **changes}))  # nothing is there twice: no anchors
    file.write_text(yaml.safe_dump(plain, sort_keys=False))
    return file


@pytest.fixture(scope="module")
def ran(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole tiny experiment with two seeds, the second one added later."""
    folder = tmp_path_factory.mktemp("ran")
    asked = read_experiment(written(folder, base))
    run_experiment(asked, folder / "run", seeds=1, device="cpu")
    run_experiment(asked, folder / "run", seeds=2, device="cpu")
    return folder / "run"


def settings(run: Path, training: str) -> dict[str, Any]:
    return read_json(run / "trainings" / training / "run.json")["settings"]


def test_arms_get_their_overrides_and_the_same_random_numbers(ran: Path) -> None:
    assert sorted(p.name for p in (ran / "trainings").iterdir()) == ["plain-s0", "plain-s1", "twice-s0", "twice-s1"]
    for seed in (0, 1):
        plain, twice = settings(ran, f"plain-s{seed}"), settings(ran, f"twice-s{seed}")
        assert plain["seed"] == seed and plain["learning_rate"] == 1e-3
        changed = {key for key in plain if plain[key] != twice[key]}
        assert changed == {"duplication", "duplicated", "factor"}
    rows = [row for row in read_rows(ran) if row["group"] != "held_out"]
    asked = {
        arm: [(r["seed"], r["picture"], r["prompt"], r["seed_image"]) for r in rows if r["arm"] == arm]
        for arm in TINY["arms"]
    }
    assert all(own == asked["plain"] for own in asked.values()) and len(asked["plain"]) == 2 * 4 * 2
    assert {seed for *_, seed in asked["plain"]} == {0, 1, 1000, 1001}
    images = {row["arm"]: (ran / row["file"]).read_bytes() for row in rows[::-1] if row["seed"] == 0}
    assert len(set(images.values())) == 4


def test_groups_are_those_that_any_arm_duplicates(ran: Path) -> None:
    rows = [row for row in read_rows(ran) if row["seed"] == 0 and row["arm"] == "twice" and row["group"] != "held_out"]
    more = {row["views"] for row in rows if row["group"] == "duplicated"}
    less = {row["views"] for row in rows if row["group"] == "other"}
    assert [*more] == pytest.approx([4 * 4 / (3 * 4 + 3)]) and [*less] == pytest.approx([4 / (3 * 4 + 3)])
    assert {row["views"] for row in read_rows(ran) if row["arm"] == "start" and "views" in row} == {0}


def test_rows_compare_the_images_that_were_drawn(ran: Path) -> None:
    row = next(r for r in read_rows(ran) if r["arm"] == "plain" and r["group"] == "other" and r["seed"] == 1)
    trained = [Image.open(f) for f in sorted((ran / "scenes" / "memorized-s1").glob("*.png"))]
    own = int(Path(row["picture"]).stem)
    similar = features.pixels(trained) @ features.pixels([Image.open(ran / row["file"])])[0]
    assert row["own_similarity"] == pytest.approx(similar[own], abs=1e-5)
    assert row["similarity"] == pytest.approx(similar.max(), abs=1e-5)
    assert row["own_nearest"] == (similar.argmax() == own)
    assert row["jpeg"] == pytest.approx(jpeg_size(trained[own]))
    unseen = [r for r in read_rows(ran) if r["group"] == "held_out" and r["arm"] == "plain" and r["seed"] == 1]
    fresh = [s.image for s in scenes(Scenes(3, 16, 0.5, 5, 99), 1)]
    nearest = (features.pixels(fresh) @ features.pixels(trained).T).max(axis=1)
    assert [r["similarity"] for r in unseen] == pytest.approx(nearest.tolist(), abs=1e-5)


def test_the_table_is_that_of_the_rows(ran: Path) -> None:
    rows, summary = read_rows(ran), read_json(ran / "summary.json")
    found = {(e["arm"], e["group"], e["measure"]): e for e in summary["table"]}

    def own(arm: str, group: str, column: str = "own_similarity") -> list[float]:
        return [r[column] for r in rows if r["arm"] == arm and (group == "all" or r["group"] == group) and column in r]

    for arm in TINY["arms"]:
        for group in ("all", "duplicated", "other"):
            entry = found[arm, group, "own_similarity"]
            assert entry["value"] == pytest.approx(np.mean(own(arm, group)))
            assert entry["images"] == len(own(arm, group)) and entry["seeds"] == 2
            if arm == "plain":
                assert entry["difference"] is None
            else:
                paired = np.array(own(arm, group)) - np.array(own("plain", group))
                assert entry["difference"] == pytest.approx(paired.mean(), abs=1e-12)
    assert found["twice", "other", "any_p95"]["value"] == pytest.approx(
        np.percentile(own("twice", "other", "similarity"), 95)
    )
    assert found["plain", "all", "own_nearest"]["value"] == np.mean(own("plain", "all", "own_nearest"))
    with (ran / "table.csv").open() as f:
        lines = list(csv.DictReader(f))
    assert len(lines) == len(summary["table"]) and float(lines[0]["value"]) == summary["table"][0]["value"]
    assert [e["verdict"] for e in summary["expected"]] in (
        [v] for v in ("as expected", "the opposite", "not told apart")
    )


def made_rows(effect: float, noise: float, seeds: int = 3, pictures: int = 8) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    common = rng.normal(0.5, 0.2, (seeds, pictures))
    return [
        {"arm": arm, "seed": s, "group": "memorized", "picture": str(p), "status": "ok"}
        | {"own_similarity": value, "similarity": value, "own_nearest": value > 0.5, "entropy": float(p), "jpeg": 1.0}
        for arm, shift in (("a", 0.0), ("b", effect), ("c", 2 * effect))
        for s in range(seeds)
        for p in range(pictures)
        for value in [float(common[s, p] + shift + rng.normal(0, noise))]
    ]


def test_paired_intervals_are_as_narrow_as_the_pairing_makes_them() -> None:
    arms = {"a": ("", None), "b": ("line", 1.0), "c": ("line", 2.0)}
    found = {(e["arm"], e["measure"]): e for e in table(made_rows(-0.05, 0.01), arms, "a", threshold=0.8)}
    entry = found["b", "own_similarity"]
    low, high = entry["difference_interval"]
    assert low < -0.05 + 0.01 and high < 0 and high - low < 0.02 < entry["interval"][1] - entry["interval"][0]
    assert found["c", "dose_response"]["value"] < -0.9 and found["c", "dose_response"]["interval"][1] < 0
    assert found["a", "jpeg_r"]["value"] is None and -1 <= found["a", "entropy_r"]["value"] <= 1


def test_resamples_draw_seeds_and_then_pictures() -> None:
    units = [(seed, str(k)) for seed in (0, 1, 2) for k in range(4)]
    drawn = weights(units, 20_000)
    of_seed = drawn.reshape(-1, 3, 4).sum(2)
    assert (drawn.sum(1) == 12).all() and set(np.unique(of_seed)) == {0, 4, 8, 12}
    assert np.mean(of_seed[:, 0] == 12) == pytest.approx(1 / 27, abs=0.006)
    assert (weights(units[:4], 100).sum(1) == 4).all()


@pytest.mark.parametrize(
    "interval,sign,told",
    [
        ([0.1, 0.3], "+", "as expected"),
        ([0.1, 0.3], "-", "the opposite"),
        ([-0.1, 0.3], "+", "not told apart"),
        ([0.2, 0.2], "+", "not told apart"),
        (None, "+", "not measured"),
    ],
)
def test_verdicts(interval: list[float] | None, sign: str, told: str) -> None:
    entry = {"arm": "b", "group": "memorized", "measure": "copy_rate", "value": 0.5, "interval": [0.4, 0.6]}
    entry |= {"difference": 0.2, "difference_interval": interval}
    assert verdict(ArmExpectation("b", "copy_rate", sign), [entry], "a")["verdict"] == told


@pytest.mark.slow
def test_a_killed_arm_goes_on_where_its_training_was(base: Path, tmp_path: Path, ran: Path) -> None:
    file = written(tmp_path, base)
    out, script = tmp_path / "run", "from mnemoscope import cli; cli.main()"
    asked = ["experiment", str(file), "--out", str(out), "--seeds", "2", "--device", "cpu"]
    paths = os.pathsep.join(str(Path(path).resolve()) for path in sys.path if path)
    process = subprocess.Popen(
        [sys.executable, "-c", script, *asked], env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.DEVNULL
    )
    place = out / "trainings" / "twice-s0"
    until = time.monotonic() + 120
    while not list(place.glob("checkpoints/step-*")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {row["arm"] for row in read_rows(out)}
    assert "plain" in done and len(done) < 4 and list(place.glob("checkpoints/step-*"))
    run_experiment(read_experiment(file), out, seeds=2, device="cpu")
    before, after = ({r["id"]: r["own_similarity"] for r in read_rows(f) if "own_similarity" in r} for f in (ran, out))
    assert after == before
    assert read_json(out / "summary.json")["table"] == read_json(ran / "summary.json")["table"]


def test_an_arm_of_whose_rows_a_kill_took_the_last_is_drawn_again(base: Path, tmp_path: Path, ran: Path) -> None:
    out = shutil.copytree(ran, tmp_path / "run")
    rows = (out / "rows.jsonl").read_bytes()
    (out / "rows.jsonl").write_bytes(rows[:-9])
    run_experiment(read_experiment(written(tmp_path, base)), out, seeds=2, device="cpu")
    assert [r["id"] for r in read_rows(out)] == [r["id"] for r in read_rows(ran)]
    assert read_json(out / "summary.json")["table"] == read_json(ran / "summary.json")["table"]


def test_a_subset_of_arms_has_the_baseline_and_other_settings_are_refused(base: Path, tmp_path: Path) -> None:
    asked = read_experiment(written(tmp_path, base))
    assert [arm.name for arm in asked.chosen(["start"])] == ["plain", "start"]
    with pytest.raises(UsageError, match="has no arm other; it has plain, twice, noisy, start"):
        asked.chosen(["other"])
    run_experiment(asked, tmp_path / "run", seeds=1, arms=["start"], device="cpu")
    assert {row["arm"] for row in read_rows(tmp_path / "run")} == {"plain", "start"}
    other = read_experiment(written(tmp_path, base, question="Another?"))
    with pytest.raises(UsageError, match="holds a run with other settings"):
        run_experiment(other, tmp_path / "run", seeds=1, device="cpu")


def test_pretraining_a_lora_and_probes(base: Path, tmp_path: Path) -> None:
    train = {"steps": 1, "batch_size": 2, "checkpoint_every": 5}
    probe = {"probe_every": 1, "probe_count": 2, "probe_inference_steps": 2, "stop_above": ["own_similarity=-1"]}
    arms = {
        "lora": {"train": {"train": "lora", "lora_rank": 2}},
        "stopped": {"train": {"steps": 3}, "probe": probe},
    }
    pretrain = {"data": {"data": "scenes:more"}, "train": train}
    changes = {"arms": arms, "baseline": "lora", "pretrain": pretrain, "expected": []}
    measure = {"prompts": 2, "resamples": 20}
    file = written(tmp_path, base, **changes, measure=measure, base={**TINY["base"], "train": train})
    summary = run_experiment(read_experiment(file), tmp_path / "run", seeds=1, device="cpu")
    place = tmp_path / "run" / "trainings"
    assert read_json(place / "lora-s0" / "run.json")["model"]["source"].endswith("trainings/pretrain/pipeline")
    assert (place / "lora-s0" / "lora").is_dir() and read_json(place / "stopped-s0" / "summary.json")["steps"] == 1
    assert (place / "stopped-s0" / "probes.jsonl").is_file() and summary["arms"] == ["lora", "stopped"]


def test_subjects_are_common_to_all_sets_and_as_many_of_each_group(tmp_path: Path) -> None:
    folder = write_scenes(Scenes(12, 16), 0, tmp_path / "scenes")
    small, large = data(folder, subset=8), data(folder, duplication="both", duplicated=0.25, factor=2)
    found = subjects([small, large], ["duplicated", "other"], 5, seed=0)
    twice = {large.rows[k].file for k in np.flatnonzero(large.shares.duplicated)}
    common = {row.file for row in small.rows}
    count = min(5, len(twice & common))
    assert [s.group for s in found] == ["duplicated"] * count + ["other"] * count
    assert all(s.key[1] in common and (s.key[1] in twice) == (s.group == "duplicated") for s in found)
    assert subjects([small, large], ["other"], 5, seed=0) != subjects([small, large], ["other"], 5, seed=1)
    with pytest.raises(UsageError, match="no picture is base in every arm"):
        subjects([small], ["base"], 5, seed=0)


def test_arms_share_the_order_of_the_data(tmp_path: Path) -> None:
    folder = write_scenes(Scenes(8, 16), 0, tmp_path / "scenes")
    one, other = (Order(data(folder, conditioning=c, seed=3), 4, 3) for c in ("original", "multiple"))
    assert [one.batch(step) for step in range(5)] == [other.batch(step) for step in range(5)]


def test_scenes_are_true_distinct_keyed_and_as_complex_as_asked(tmp_path: Path) -> None:
    few, many = list(scenes(Scenes(4, 32), 5)), list(scenes(Scenes(200, 32), 5))
    assert all(np.array_equal(a.image, b.image) and a.captions == b.captions for a, b in zip(few, many, strict=False))
    assert len({scene.captions[0] for scene in many}) == 200
    assert all(scene.kind in text for scene in many for text in scene.captions) and len(many[0].captions) == 5
    assert not np.array_equal(few[0].image, next(scenes(Scenes(1, 32), 6)).image)
    assert not np.array_equal(few[0].image, next(scenes(Scenes(1, 32, part=1), 5)).image)
    simple, rich = ([jpeg_size(s.image) for s in scenes(Scenes(20, 64, c), 0)] for c in (0, 1))
    assert all(a < b for a, b in zip(simple, rich, strict=True))
    varied = list(scenes(Scenes(60, 64, (0.0, 1.0)), 0))
    assert np.corrcoef([s.complexity for s in varied], [jpeg_size(s.image) for s in varied])[0, 1] > 0.7
    folder = write_scenes(Scenes(3, 16), 0, tmp_path / "s")
    lines = [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]
    found = data(folder, conditioning="class")
    assert [found.possible(k) for k in range(3)] == [(f"An image of {line['class']}",) for line in lines]


def test_colours_and_places_are_what_captions_say() -> None:
    from mnemoscope.experiments.scenes import COLOURS

    for scene in scenes(Scenes(40, 64, 0), 0):
        words = scene.captions[0].split()
        at = [
            0.22 + 0.28 * names.index(word)
            for names, word in ((("left", "middle", "right"), words[6]), (("top", "centre", "bottom"), words[5]))
        ]
        pixels = np.asarray(scene.image).astype(int)
        if words[2] != "ring":
            patch = pixels[int(at[1] * 64), int(at[0] * 64)]
            assert np.abs(patch - COLOURS[words[1]]).max() < 30, scene.captions[0]


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
@pytest.mark.parametrize("size", ["cpu", "gpu"])
def test_the_examples_are_valid_in_both_sizes(file: Path, size: Any) -> None:
    asked = read_experiment(file, size)
    assert asked.expected and asked.layout == (asked.layout if size == "gpu" else "")
    assert all(arm.training(0, {}, "cpu").options.steps > 0 for arm in asked.arms.values())
    work = work_of(asked, list(asked.arms.values()), 3)
    assert work.trained > 0 and work.images > 0


def test_all_experiments_are_there() -> None:
    names = ("caption_style", "complexity", "data_size", "duplication", "inference_mitigations")
    assert [file.stem for file in FILES] == [*names, "memorization_filter", "probes", "train_mitigations"]


def test_work_counts_shared_trainings_once(base: Path, tmp_path: Path) -> None:
    asked = read_experiment(written(tmp_path, base))
    work = work_of(asked, list(asked.arms.values()), 3)
    images = 4 * 2 * 2 * 2 * 3  # arms, groups, prompts, images, seeds
    assert work == ExperimentWork(2 * 3, 2 * 3 * 2 * 2, 2.0 * 24, images * 2 * 2, images)
    assert Prices(0.5, 2.0, 0).seconds(work) == 0.5 * (24 + 48 + 4 * images) + 2 * images


def test_a_gpu_size_is_priced_by_its_operations(base: Path, tmp_path: Path) -> None:
    asked = read_experiment(written(tmp_path, base), "gpu")
    prices = computed(asked)
    assert prices.parameters == 859_520_964  # of Stable Diffusion 1
    assert prices.forward * 989e12 * 0.25 == pytest.approx(0.8e12, rel=0.15)  # 0.34 to 0.4 T multiply-adds at 512
    lines = plan(asked, seeds=1)
    assert any("nowhere, which is not here" in line for line in lines) and "TFLOP/s" in lines[-1]
    with pytest.raises(UsageError, match="gpu: architecture is missing; give sd1 or sd2"):
        computed(read_experiment(written(tmp_path, base, gpu={"base": {"data": {"data": "x"}}}), "gpu"))


def test_a_dry_run_writes_nothing(mnemoscope, base: Path, tmp_path: Path) -> None:
    file = written(tmp_path, base)
    code, out, _ = mnemoscope("experiment", file, "--dry-run", "--seeds", 2)
    assert code == 0 and [p.name for p in tmp_path.iterdir()] == ["tiny.yaml"]
    assert "6 procedural scenes of 16 pixels" in out and "arm noisy: drawn from plain" in out
    assert "work: 4 trainings on 16 samples, 64 images drawn" in out and "of processor time on this machine" in out


BAD: list[tuple[dict[str, Any], str]] = [
    ({"armz": {}}, "tiny.yaml has 'armz', which there is not; it takes name"),
    ({"arms": {"plain": {"data": {"duplicatoin": "both"}}}}, "arms: plain: data has 'duplicatoin', which there is not"),
    ({"arms": {"plain": {"train": {"steps": "many"}}}}, "train: steps is 'many'; give a whole number."),
    ({"arms": {"plain": {"train": {"steps": 0}}}}, "arms: plain: train: --steps 0 was given; give a number above 0."),
    ({"arms": {"plain": {"train": {"seed": 3}}}}, "arms: plain: train: seed is not for an arm to set"),
    ({"arms": {"plain": 3}}, "arms: plain is 3; write its settings below it, name: value."),
    ({"arms": {}}, "it lacks arms; every experiment has one."),
    ({"baseline": "none"}, "baseline is none, which is no arm; the arms are plain, twice, noisy, start."),
    ({"scenes": {}}, "arms: plain: data: data is scenes:memorized, and scenes has no such name."),
    ({"scenes": {"memorized": {"count": 0}}}, "scenes: memorized: scenes: count is 0"),
    ({"measure": {"groups": ["most"]}}, "measure: groups most is not known; give memorized, duplicated"),
    ({"expected": [{"arm": "plain", "sign": "+"}]}, "expected lacks measure; write it below expected."),
    ({"expected": [{"arm": "plain", "measure": "x", "sign": "+"}]}, "expected: measure x is not known"),
    ({"arms": {"plain": {"generate": {"mitigations": {"magic": {}}}}}}, "magic"),
    ({"arms": {"plain": {"objective": {"mixup": "all"}}}}, "objective: mixup is 'all'; give batch or sample."),
]


@pytest.mark.parametrize("changes,sentence", BAD)
def test_a_bad_file_is_one_sentence(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as error:
        read_experiment(written(tmp_path, "demo", **changes))
    assert sentence in str(error.value) and str(error.value).startswith("tiny.yaml") and "\n" not in str(error.value)


def test_a_file_that_is_no_yaml_or_has_no_such_size(mnemoscope, base: Path, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("name: [")
    assert "could not be read as YAML" in mnemoscope("experiment", file, "--dry-run")[2]
    file.write_text("- 3")
    assert "is [3]; write its settings below it" in mnemoscope("experiment", file, "--dry-run")[2]
    code, _, error = mnemoscope("experiment", written(tmp_path, base), "--dry-run", "--seeds", 0)
    assert code == 2 and "Invalid value for '--seeds'" in error
    file = written(tmp_path, base, gpu=None)
    assert "it has no gpu size" in mnemoscope("experiment", file, "--dry-run", "--size", "gpu")[2]


def test_the_command_reports_what_is_there(mnemoscope, base: Path, tmp_path: Path, ran: Path) -> None:
    file = written(tmp_path, base)
    (tmp_path / "run").symlink_to(ran)
    code, out, error = mnemoscope("experiment", file, "--out", ran, "--seeds", 2, "--device", "cpu")
    assert code == 0, error
    assert "Does it run? Of 1 expectation" in out and "noisy" in out and "difference" in out
    page = (ran / "report.html").read_text()
    assert "What was expected" in page and "Similarity to the own picture" in page and "tiny.yaml" in page
    assert (ran / "plots" / "differences.png").is_file() and (ran / "plots" / "doses.png").is_file()


def test_plots_need_something_to_draw() -> None:
    with pytest.raises(UsageError, match="No arm has a value"):
        plots.arms_plot([], x="")
    with pytest.raises(UsageError, match="No arm has a dose"):
        plots.doses_plot({}, y="")


def test_an_arm_trains_as_another_only_if_all_of_its_training_is_the_same() -> None:
    base = TINY["base"]
    plain, drawn, longer = (
        ExperimentArm.of(name, own, base)
        for name, own in [("a", {}), ("b", {"generate": {"images": 5}}), ("c", {"train": {"steps": 3}})]
    )
    assert plain.trains_as == drawn.trains_as != longer.trains_as
    assert math.isclose(plain.training(0, {}, "cpu").options.learning_rate, 1e-3) and drawn.drawing().images == 5
