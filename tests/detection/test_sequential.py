"""Seeds only where they decide: what is promised of the error, what it costs, and that no order changes a result."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import t as student

import mnemoscope as mn
from mnemoscope import stats
from mnemoscope.detection.run import Detection, detect_rows, run_detection
from mnemoscope.errors import UsageError
from mnemoscope.prompts.prompt import Prompt, as_prompts
from mnemoscope.run.run import read_rows
from mnemoscope.stats.sequential import Stopping, affordable, open_to, student_quantile, undecided

MOST, SIGMA, ERROR = 4, 0.5, 0.05
SCORE = '''"""A score with a known level of each prompt and known noise of each seed."""

import hashlib
from statistics import NormalDist

import torch


def normal(text):
    return NormalDist().inv_cdf((int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) + 0.5) / 2**48)


def noisy(trajectory):
    """Level of the prompt, and noise of the seed and of both."""
    trajectory.first(1)
    values = []
    for prompt, seed in zip(trajectory.prompts, trajectory.seeds):
        level = 2 * prompt.startswith("memorized") + normal(prompt)
        values.append(level + 0.3 * normal(str(seed)) + 0.5 * normal(prompt + str(seed)))
    return torch.tensor(values, dtype=torch.float64)
'''
OWN: dict[str, Any] = {}
exec(SCORE, OWN)


def planted_values(rng: np.random.Generator, count: int, level: float | None = None) -> np.ndarray:
    """Values of prompts at all seeds: levels vary by 1 or are one, seeds by SIGMA, each with a shift of its own."""
    own = rng.normal(size=(count, 1)) if level is None else np.full((count, 1), level)
    return own + np.array([0.2, -0.1, 0.1, 0.0]) + rng.normal(scale=SIGMA, size=(count, MOST))


def decided(stopping: Stopping, values: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """After how many seeds each prompt is decided, and how."""
    looks, flags = [], []
    for own in values.tolist():
        count = next(k for k in range(1, MOST + 1) if stopping.looked(own[:k], threshold) is not None)
        looks.append(count)
        flags.append(stopping.estimates(own)[count - 1][0] >= threshold)
    return np.array(looks), np.array(flags)


# The statistics


@pytest.mark.parametrize("share", [0.6, 0.95, 1 - 0.05 / 3, 0.999])
@pytest.mark.parametrize("freedom", [8, 31, 400])
def test_the_quantile_is_that_of_student(share: float, freedom: int) -> None:
    assert student_quantile(share, freedom) == pytest.approx(student.ppf(share, freedom), rel=3e-3)


def test_margins_of_normal_seeds_are_their_closed_form() -> None:
    stopping = Stopping.of(planted_values(np.random.default_rng(0), 40_000), ERROR)
    z = student.ppf(1 - ERROR / (MOST - 1), 10**9)
    expected = [z * SIGMA * math.sqrt(1 / k - 1 / MOST) for k in (1, 2, 3)]
    assert stopping.margins == pytest.approx(expected, rel=0.02)
    assert stopping.shifts == pytest.approx([0.15, 0.0, 1 / 60], abs=0.01)


@pytest.mark.parametrize("above", [0.0, 0.1, 0.4])
def test_at_most_the_error_of_what_all_seeds_flag_is_cleared_early_whatever_the_level(above: float) -> None:
    rng, threshold = np.random.default_rng(1), 2.0
    wrong = {True: [0, 0], False: [0, 0]}
    for _ in range(40):  # pilots of 32 prompts differ, and the promise is of their average
        stopping = Stopping.of(planted_values(rng, 32), ERROR)
        values = planted_values(rng, 400, threshold + rng.choice([-above, above]))
        looks, flags = decided(stopping, values, threshold)
        for full in (True, False):
            own = (values.mean(1) >= threshold) == full
            wrong[full][0] += int((flags[own] != full).sum())
            wrong[full][1] += int(own.sum())
    for misses, total in wrong.values():
        assert total > 1000 and stats.wilson_interval(misses, total)[0] <= ERROR
    assert sum(misses for misses, _ in wrong.values()) > 0 or above  # at the threshold itself some must be wrong


def test_thresholds_that_flag_are_nested_and_end_where_the_flag_turns() -> None:
    rng = np.random.default_rng(2)
    stopping = Stopping((0.1, -0.05, 0.02), (0.9, 0.5, 0.3))
    for own in planted_values(rng, 200):
        low, high = stopping.turning(own.tolist())
        assert low == high
        for threshold in np.linspace(-3, 3, 61):
            assert decided(stopping, own[None], threshold)[1][0] == (threshold <= low)
        for k in (1, 2, 3):
            a, b = stopping.turning(own[:k].tolist())
            assert a <= low <= b


def test_only_few_ordinary_prompts_are_looked_at_again_for_the_threshold_of_all_their_seeds() -> None:
    rng = np.random.default_rng(3)
    for _ in range(10):
        values = planted_values(rng, 400)
        stopping = Stopping.of(values[:32], ERROR)
        known = {str(k): own[:1].tolist() for k, own in enumerate(values)}
        for k in range(1, MOST):
            for name in open_to(stopping, known, 4)[0]:
                assert len(known[name]) == k
                known[name].append(float(values[int(name), k]))
        names, low, high = open_to(stopping, known, 4)
        scores = np.array([stopping.turning(own.tolist())[0] for own in values])
        assert not names and low == high == np.sort(scores)[-5]
        threshold = stats.threshold_at_fpr(scores, 0.01)
        assert threshold == stats.threshold_at_fpr(np.array([stopping.turning(v)[0] for v in known.values()]), 0.01)
        assert sum(map(len, known.values())) < 0.5 * MOST * len(known)
        assert decided(stopping, values, threshold)[1].sum() == 4


def test_false_alarms_are_held_in_total_and_the_seeds_are_few() -> None:
    rng, ordinary, rates, looks, found = np.random.default_rng(4), 300, [], [], []
    for _ in range(60):
        values = planted_values(rng, ordinary)
        stopping = Stopping.of(values[:32], ERROR)
        threshold = stats.threshold_at_fpr(np.array([stopping.turning(own.tolist())[0] for own in values]), 0.01)
        seen, flags = decided(stopping, planted_values(rng, 300), threshold)
        rates.append(flags.mean())
        looks.append(seen.mean())
        members = 2.5 + planted_values(rng, 300)
        full = members.mean(1) >= stats.threshold_at_fpr(values.mean(1), 0.01)
        found.append((decided(stopping, members, threshold)[1].mean(), full.mean()))
    expected, error = 4 / 301, np.std(rates, ddof=1) / math.sqrt(len(rates))  # of a rank among exchangeable prompts
    assert abs(np.mean(rates) - expected) < 3 * error and error < 0.002
    assert np.mean(looks) < 1.4
    early, full = np.mean(found, axis=0)
    assert full - early < ERROR * full


def test_a_budget_is_kept_by_a_larger_error() -> None:
    rng = np.random.default_rng(5)
    pilot, values = planted_values(rng, 32), planted_values(rng, 300)
    known = {str(k): own[:1].tolist() for k, own in enumerate(values)}
    others = {f"p{k}": own[:1].tolist() for k, own in enumerate(planted_values(rng, 100))}
    errors = [affordable(pilot, ERROR, known, others, 3, room) for room in (10**6, 400, 60, 0)]
    assert errors[0] == ERROR and errors == sorted(errors) and errors[1] < errors[2] < errors[3]
    for error, room in zip(errors, (10**6, 400, 60, 0), strict=True):
        stopping = Stopping.of(pilot, error)
        names, low, high = open_to(stopping, known, 3)
        assert 3 * (len(names) + len(undecided(stopping, others, low, high))) <= room


# The detection


@pytest.fixture
def score(tmp_path: Path) -> str:
    (tmp_path / "noisy.py").write_text(SCORE)
    return str(tmp_path / "noisy.py")


def prompts(kind: str, count: int, first: int = 0) -> list[Prompt]:
    return as_prompts([f"{kind} {k}" for k in range(first, first + count)])


TESTED = prompts("memorized", 40) + prompts("ordinary", 40, first=1000)
NEGATIVES = prompts("ordinary", 150)


def detected(model: mn.Denoiser, out: Path, score: str, asked=TESTED, negatives=NEGATIVES, **how: Any) -> dict:
    run = {k: how.pop(k) for k in ("batch", "threshold", "fpr") if k in how}
    detection = Detection("sequential", {"score": score, **how}, num_inference_steps=3)
    return run_detection(model, asked, out, detection, negatives=negatives, **{"batch": 64, "fpr": 0.02, **run})


def value(prompt: str, seed: int) -> float:
    level = 2 * prompt.startswith("memorized") + OWN["normal"](prompt)
    return level + 0.3 * OWN["normal"](str(seed)) + 0.5 * OWN["normal"](prompt + str(seed))


def told(folder: Path) -> dict[str, tuple]:
    return {r["id"]: (r["score"], r["flagged"], r["looks"], r["per_seed"]) for r in read_rows(folder)}


def test_each_prompt_is_decided_as_its_values_say_and_costs_what_was_computed(planted, tmp_path, score) -> None:
    before = planted.network_evaluations
    summary = detected(planted, tmp_path / "run", score)
    rows, spent = read_rows(tmp_path / "run"), planted.network_evaluations - before
    assert summary["network_evaluations"] == spent == pytest.approx(sum(r["evaluations"] for r in rows))
    assert summary["evaluations_per_prompt"] == pytest.approx(spent / len(rows))
    assert sum(summary["looks"]) == len(rows) and summary["looks"][0] > len(rows) / 2 and summary["looks"][3] > 0
    told_by = summary["stopping"]
    stopping = Stopping(tuple(told_by["shifts"]), tuple(told_by["margins"]))
    for row in rows:
        own = [value(row["prompt"], seed) for seed in range(MOST)]
        assert row["per_seed"] == pytest.approx(own[: len(row["seeds"])]) and row["seeds"] == list(
            range(len(row["per_seed"]))
        )
        looks, flags = decided(stopping, np.array([own]), summary["threshold"])
        assert (row["looks"], row["flagged"]) == (looks[0], flags[0])
        assert row["role"] == "negative" or len(row["seeds"]) == row["looks"]
    negatives = [r for r in rows if r["role"] == "negative"]
    assert sum(r["flagged"] for r in negatives) == 3 and summary["threshold_fpr"] == 0.02
    assert not any("was given" in note for note in summary["notes"])
    every = np.array([[value(p.text, s) for s in range(MOST)] for p in NEGATIVES])
    assert summary["threshold"] == pytest.approx(
        stats.threshold_at_fpr(np.array([stopping.turning(own.tolist())[0] for own in every]), 0.02)
    )


@pytest.mark.parametrize("how", [{}, {"budget": 1.6}])
def test_neither_batches_nor_the_order_of_prompts_change_a_result(planted, tmp_path, score, how) -> None:
    detected(planted, tmp_path / "a", score, **how)
    detected(planted, tmp_path / "b", score, TESTED[::-1], NEGATIVES[::-1], batch=7, **how)
    assert told(tmp_path / "a") == told(tmp_path / "b")


def test_a_budget_is_not_passed_and_its_error_is_told(planted, tmp_path, score) -> None:
    free = detected(planted, tmp_path / "free", score)
    tight = detected(planted, tmp_path / "tight", score, budget=1.7)
    assert tight["evaluations_per_prompt"] <= 1.7 < free["evaluations_per_prompt"]
    assert tight["stopping"]["error"] > free["stopping"]["error"] == ERROR
    assert f"{100 * tight['stopping']['error']:.3g} %" in " ".join(tight["notes"])
    with pytest.raises(UsageError, match="give at least that"):
        detected(planted, tmp_path / "none", score, budget=1.1)


def test_an_interrupted_detection_goes_on_to_the_same_rows(planted, tmp_path, score, monkeypatch) -> None:
    whole = detected(planted, tmp_path / "whole", score)
    calls = iter(range(100))

    def stopped(*args: Any, **how: Any) -> Any:
        if next(calls) == 5:  # in the midst of the looks at ordinary prompts
            raise KeyboardInterrupt
        return detect_rows(*args, **how)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("mnemoscope.detection.run.detect_rows", stopped)
        detected(planted, tmp_path / "run", score)
    before = planted.network_evaluations
    again = detected(planted, tmp_path / "run", score)
    assert planted.network_evaluations - before < whole["network_evaluations"]
    for summary in (whole, again):
        summary.pop("seconds")
    assert again == whole and told(tmp_path / "run") == told(tmp_path / "whole")
    before = planted.network_evaluations
    assert detected(planted, tmp_path / "run", score)["network_evaluations"] == whole["network_evaluations"]
    assert planted.network_evaluations == before


def test_the_rule_of_an_earlier_detection_serves_without_ordinary_prompts(planted, tmp_path, score) -> None:
    detected(planted, tmp_path / "first", score)
    later = detected(planted, tmp_path / "later", score, negatives=(), threshold=str(tmp_path / "first"))
    first = {r["id"]: r["flagged"] for r in read_rows(tmp_path / "first") if r["role"] == "prompt"}
    assert {r["id"]: r["flagged"] for r in read_rows(tmp_path / "later")} == first
    assert later["threshold_fpr"] is None and sum(later["looks"]) == len(TESTED)
    for threshold in ("1.5", str(tmp_path / "plain")):
        run_detection(planted, TESTED[:2], tmp_path / "plain", Detection(score, num_inference_steps=3))
        with pytest.raises(UsageError, match="does not say when to stop|holds no threshold"):
            detected(planted, tmp_path / "none", score, negatives=(), threshold=threshold)


def test_without_enough_ordinary_prompts_all_seeds_are_looked_at(planted, tmp_path, score) -> None:
    summary = detected(planted, tmp_path / "run", score, negatives=NEGATIVES[:10])
    assert summary["looks"] == [0, 0, 0, 90] and summary["threshold"] is None
    assert any("nothing could stop early" in n for n in summary["notes"]) and any(
        "needs at least" in n for n in summary["notes"]
    )
    for row in read_rows(tmp_path / "run"):
        assert row["score"] == pytest.approx(np.mean([value(row["prompt"], seed) for seed in range(MOST)]))


def test_a_budget_that_nothing_can_keep_by_stopping_looks_at_fewer_seeds(planted, tmp_path, score) -> None:
    summary = detected(planted, tmp_path / "run", score, negatives=NEGATIVES[:10], budget=2.9)
    assert summary["looks"] == [0, 90, 0, 0] and summary["evaluations_per_prompt"] <= 2.9
    with pytest.raises(UsageError, match="the first seed takes 1; give at least that"):
        detected(planted, tmp_path / "none", score, negatives=NEGATIVES[:10], budget=0.5)


def test_a_prompt_that_fails_is_a_failed_row_and_no_other_is_lost(planted, tmp_path, score, monkeypatch) -> None:
    whole = detected(planted, tmp_path / "whole", score, asked=TESTED[1:])
    with monkeypatch.context() as patch:
        patch.setattr("mnemoscope.detection.run.detect_rows", broken)
        summary = detected(planted, tmp_path / "run", score)
    rows = {r["id"]: r for r in read_rows(tmp_path / "run")}
    assert (
        summary["failed"] == 1 and rows[TESTED[0].id]["status"] == "failed" and rows[TESTED[0].id]["role"] == "prompt"
    )
    assert told_of(rows) == told(tmp_path / "whole") and summary["threshold"] == whole["threshold"]
    mended = detected(planted, tmp_path / "run", score)
    assert mended["failed"] == 0 and len(read_rows(tmp_path / "run")) == len(TESTED) + len(NEGATIVES)


def broken(model: mn.Denoiser, some: list[Prompt], *more: Any) -> Any:
    if any(p.id == TESTED[0].id for p in some):
        raise RuntimeError("broken")
    return detect_rows(model, some, *more)


def told_of(rows: dict[str, dict]) -> dict[str, tuple]:
    return {i: (r["score"], r["flagged"], r["looks"], r["per_seed"]) for i, r in rows.items() if r["status"] == "ok"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"most": 1}, "give most=2 or more"),
        ({"error": 1.5}, "error 1.5 was given"),
        ({"score": "noise_ssim"}, "noise_ssim does not"),
        ({"score": "sequential"}, "give another score"),
    ],
)
def test_what_makes_no_sense_is_refused(planted, tmp_path, given: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        run_detection(planted, TESTED, tmp_path / "run", Detection("sequential", given), negatives=NEGATIVES)
    with pytest.raises(UsageError, match="give it alone"):
        run_detection(planted, TESTED, tmp_path / "run", [Detection("sequential"), Detection("noise_norm")])


def test_a_budget_on_the_command_line_makes_a_score_sequential(
    mnemoscope, planted, tmp_path, score, monkeypatch
) -> None:
    monkeypatch.setattr(mn.Denoiser, "from_pretrained", lambda name, **how: planted)
    for name, some in (("p", TESTED), ("n", NEGATIVES)):
        (tmp_path / f"{name}.txt").write_text("\n".join(p.text for p in some))
    words = ["detect", "planted", "--prompts", tmp_path / "p.txt", "--negatives", tmp_path / "n.txt", "--fpr", 0.02]
    words += ["--method", score, "--num-inference-steps", 3]
    code, out, err = mnemoscope(*words, "--budget", 1.8, "--out", tmp_path / "run")
    assert code == 0, err
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert settings["method"] == "sequential" and settings["params"] == {"score": score, "budget": 1.8}
    assert all(r["method"] == "sequential" for r in read_rows(tmp_path / "run"))
    code, _, err = mnemoscope(*words, "--method", "random", "--budget", 1.8, "--out", tmp_path / "two")
    assert code == 2 and "A budget is one method's" in err
