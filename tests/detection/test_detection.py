"""Detection: what it computes, at what cost, how it is calibrated, and what it does with what fails."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import mnemoscope as mn
from failing import broken_for, raising
from mnemoscope import planted as planted_model
from mnemoscope import stats
from mnemoscope.detection.run import Detection, detect_rows, run_detection
from mnemoscope.errors import UsageError
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import Prompt, as_prompts
from mnemoscope.run.run import read_rows

MEMORIZED, ORDINARY = planted_model.prompts(True), planted_model.prompts(False)
ALL = as_prompts(MEMORIZED + ORDINARY)


def many(count: int) -> list[Prompt]:
    """Different ordinary prompts."""
    return as_prompts([f"ordinary {k}" for k in range(count)])


def scores(folder: Path) -> dict[str, float]:
    return {r["prompt"]: r["score"] for r in read_rows(folder) if r["status"] == "ok"}


def detected(model: Denoiser, out: Path, **options: Any) -> list[dict]:
    """Rows of all planted prompts."""
    prompts = options.pop("prompts", ALL)
    run = {k: options.pop(k) for k in ("negatives", "fpr", "threshold", "batch", "overwrite") if k in options}
    run_detection(model, prompts, out, Detection(**options), **run)
    return read_rows(out)


# Values


@pytest.mark.parametrize("method", ["noise_norm", "score_norm", "uncond_norm", "random"])
def test_scores_equal_mn_detect_on_the_same_trajectory(planted: Denoiser, tmp_path: Path, method: str) -> None:
    rows = detected(planted, tmp_path, method=method)
    trajectory = mn.Trajectory(planted, [p.text for p in ALL], 0)
    expected = mn.detect(trajectory, method).tolist()
    assert [r["score"] for r in rows] == pytest.approx(expected, rel=1e-6)


def test_several_seeds_equal_the_mean_of_mn_detect_over_them(planted: Denoiser, tmp_path: Path) -> None:
    rows = detected(planted, tmp_path, seed=5, seeds=3, params={"steps": 2})
    for row in rows[:2]:
        per_seed = mn.detect(mn.Trajectory(planted, row["prompt"], [5, 6, 7]), "noise_norm", steps=2).tolist()
        assert row["seeds"] == [5, 6, 7] and row["per_seed"] == pytest.approx(per_seed, rel=1e-5)
        assert row["score"] == pytest.approx(sum(per_seed) / 3, rel=1e-5)


@pytest.mark.parametrize("method", ["noise_norm", "score_norm", "noise_ssim"])
def test_scores_do_not_depend_on_batch_size_nor_on_the_order_of_prompts(planted, tmp_path, method) -> None:
    options = {"method": method, "seeds": 2}
    together = detected(planted, tmp_path / "together", batch=64, **options)
    alone = detected(planted, tmp_path / "alone", batch=1, **options)
    backwards = detected(planted, tmp_path / "backwards", prompts=ALL[::-1], batch=5, **options)
    expected = [r["score"] for r in together]
    assert [r["score"] for r in alone] == pytest.approx(expected, rel=1e-5)
    assert [r["score"] for r in backwards[::-1]] == pytest.approx(expected, rel=1e-5)


def test_rows_keep_the_order_of_prompts_and_then_of_negatives(planted: Denoiser, tmp_path: Path) -> None:
    rows = detected(planted, tmp_path, prompts=ALL[::-1], negatives=many(10), batch=3)
    assert [r["prompt"] for r in rows] == [p.text for p in ALL[::-1]] + [p.text for p in many(10)]
    assert [r["role"] for r in rows] == ["prompt"] * len(ALL) + ["negative"] * 10


def test_memorized_prompts_score_above_ordinary_ones(planted: Denoiser, tmp_path: Path) -> None:
    detected(planted, tmp_path)
    found = scores(tmp_path)
    assert min(found[p] for p in MEMORIZED) > 2 * max(found[p] for p in ORDINARY)


def test_rows_hold_what_the_contract_promises(planted: Denoiser, tmp_path: Path) -> None:
    row = detected(planted, tmp_path, params={"steps": 1, "p": 1.0}, seeds=2, prompts=ALL[:1])[0]
    assert set(row) >= {"id", "prompt", "seeds", "method", "params", "score", "per_seed", "flagged", "threshold"}
    assert row["method"] == "noise_norm" and row["params"] == {"steps": 1, "p": 1.0} and row["status"] == "ok"


def test_the_norm_is_the_one_asked_for(planted: Denoiser, tmp_path: Path) -> None:
    step = mn.Trajectory(planted, "memorized 1", 0).first(1)[0]
    push = (step.eps_cond - step.eps_uncond).flatten().double().abs()
    for p, expected in ((1.0, push.sum()), (2.0, push.square().sum().sqrt()), (4.0, push.pow(4).sum() ** 0.25)):
        out = tmp_path / str(p)
        rows = detected(planted, out, params={"p": p}, prompts=as_prompts(["memorized 1"]))
        assert rows[0]["score"] == pytest.approx(float(expected), rel=1e-5)


def test_score_norm_divides_by_sigma_unless_it_imitates_layer6(planted: Denoiser, tmp_path: Path) -> None:
    ours = detected(planted, tmp_path / "ours", method="score_norm", guidance_scale=2.0)
    theirs = detected(
        planted, tmp_path / "theirs", method="score_norm", guidance_scale=2.0, params={"compat": "layer6"}
    )
    step = mn.Trajectory(planted, ALL[0].text, 0, guidance_scale=2.0).first(1)[0]
    guided = step.eps_uncond + 2 * (step.eps_cond - step.eps_uncond)
    assert theirs[0]["score"] == pytest.approx(float(guided.norm()), rel=1e-5)
    assert ours[0]["score"] == pytest.approx(float(guided.norm()) / step.sigma, rel=1e-5)
    assert step.sigma < 0.999


def test_uncond_norm_does_not_see_the_prompt_at_the_first_step(planted: Denoiser, tmp_path: Path) -> None:
    values = {r["score"] for r in detected(planted, tmp_path, method="uncond_norm")}
    assert len(values) == 1 and values.pop() == pytest.approx(math.sqrt(3 * 16 * 16), rel=0.1)


def test_noise_ssim_takes_the_most_alike_pair_of_seeds(planted: Denoiser, tmp_path: Path) -> None:
    rows = detected(planted, tmp_path, method="noise_ssim", seeds=3)
    for row in rows:
        assert row["score"] == max(row["per_seed"]) and "timesteps" not in row and "series" not in row
    assert min(r["score"] for r in rows[: len(MEMORIZED)]) > max(r["score"] for r in rows[len(MEMORIZED) :])


@pytest.mark.parametrize("batch", [2, 64])
def test_a_prompt_that_stands_twice_is_no_more_alike_for_it(planted: Denoiser, tmp_path: Path, batch: int) -> None:
    once, twice = as_prompts(["ordinary 1"]), as_prompts(["ordinary 1", "ordinary 1"])
    (alone,) = detected(planted, tmp_path / "once", method="noise_ssim", seeds=2, prompts=once)
    rows = detected(planted, tmp_path / "twice", method="noise_ssim", seeds=2, prompts=twice, batch=batch)
    assert [r["score"] for r in rows] == pytest.approx([alone["score"]] * 2, rel=1e-5) and alone["score"] < 0.99


def test_noise_ssim_of_one_seed_is_refused(planted: Denoiser, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="noise_ssim compares seeds.*give --seeds 2 or more"):
        detected(planted, tmp_path, method="noise_ssim")


def test_random_tells_nothing_and_costs_nothing(planted: Denoiser, tmp_path: Path) -> None:
    prompts, negatives = as_prompts([f"memorized {k}" for k in range(400)]), many(400)
    summary = run_detection(planted, prompts, tmp_path, Detection("random"), negatives=negatives)
    assert summary["network_evaluations"] == 0 and abs(summary["auc"] - 0.5) < 0.06
    assert 0 <= min(scores(tmp_path).values()) < 0.02 and 0.98 < max(scores(tmp_path).values()) <= 1


# Steps and cost


@pytest.mark.parametrize(
    ("steps", "timesteps"),
    [(1, [801]), (3, [801, 601, 401]), ([0, 2], [801, 401]), ([2, 0], [801, 401]), ("all", [801, 601, 401, 201, 1])],
)
def test_the_series_lies_at_the_true_timesteps(planted: Denoiser, tmp_path: Path, steps: Any, timesteps: list) -> None:
    rows = detected(planted, tmp_path, params={"steps": steps}, seeds=2, num_inference_steps=5)
    for row in rows:
        assert row["timesteps"] == timesteps and np.shape(row["series"]) == (2, len(timesteps))
        assert row["per_seed"] == pytest.approx([np.mean(s) for s in row["series"]])


def test_the_series_is_the_score_of_each_step(planted: Denoiser, tmp_path: Path) -> None:
    row = detected(planted, tmp_path, params={"steps": "all"}, num_inference_steps=4, prompts=ALL[:1])[0]
    steps = mn.Trajectory(planted, ALL[0].text, 0, num_inference_steps=4).all()
    assert row["timesteps"] == [float(s.t) for s in steps]
    assert row["series"][0] == pytest.approx([float(mn.scores.noise_norm(s)) for s in steps], rel=1e-5)


@pytest.mark.parametrize(
    ("steps", "said"),
    [(0, "at least 1"), ([], "one or more steps"), ([-1], "counted from 0"), ([50], "the solver takes 50")],
)
def test_steps_that_there_are_not_are_refused(planted: Denoiser, tmp_path: Path, steps: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        detected(planted, tmp_path, params={"steps": steps})


def test_after_a_refused_parameter_the_same_folder_takes_the_right_one(planted: Denoiser, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        detected(planted, tmp_path, params={"steps": 0})
    assert len(detected(planted, tmp_path, params={"steps": 1})) == len(ALL)


@pytest.mark.parametrize(
    ("prompts", "seeds", "batch", "evaluations"),
    [(64, 1, 64, 65), (64, 1, 1, 128), (64, 1, 16, 68), (6, 4, 12, 6 * 4 + 2 * 4), (6, 4, 1, 6 * 4 + 6 * 4)],
)
def test_network_evaluations_are_exact(planted, tmp_path, prompts, seeds, batch, evaluations) -> None:
    summary = run_detection(planted, many(prompts), tmp_path, Detection(seeds=seeds), batch=batch)
    assert summary["network_evaluations"] == evaluations
    run = [json.loads(line)["evaluations"] for line in (tmp_path / "work.jsonl").read_text().splitlines()]
    assert sum(run) == evaluations == planted.network_evaluations


def test_further_steps_cost_a_pair_of_evaluations_each(planted: Denoiser, tmp_path: Path) -> None:
    summary = run_detection(planted, as_prompts(MEMORIZED), tmp_path, Detection(params={"steps": 3}), batch=4)
    assert summary["network_evaluations"] == (4 + 1) + 2 * (4 + 4)  # x_T is shared, what comes after it is not


def test_companions_come_from_the_same_steps_without_further_evaluations(planted: Denoiser, tmp_path: Path) -> None:
    rows = detected(planted, tmp_path, companions=("uncond_norm",), params={"steps": 2}, seeds=2, batch=8)
    trajectory = mn.Trajectory(planted, ALL[0].text, [0, 1])
    expected = mn.series(trajectory, "uncond_norm", steps=2).T.tolist()
    assert np.allclose(rows[0]["companions"]["uncond_norm"], expected, rtol=1e-5)
    assert planted.network_evaluations - 2 * (2 + 2) == sum(
        json.loads(line)["evaluations"] for line in (tmp_path / "work.jsonl").read_text().splitlines()
    )


def test_going_on_with_a_finished_run_costs_nothing_and_changes_nothing(planted: Denoiser, tmp_path: Path) -> None:
    detected(planted, tmp_path, negatives=many(9))
    before, rows = planted.network_evaluations, (tmp_path / "rows.jsonl").read_bytes()
    detected(planted, tmp_path, negatives=many(9))
    assert planted.network_evaluations == before and (tmp_path / "rows.jsonl").read_bytes() == rows


# Calibration


def test_a_threshold_flags_at_most_the_asked_share_of_negatives(planted: Denoiser, tmp_path: Path) -> None:
    summary = run_detection(planted, ALL, tmp_path, Detection(), negatives=many(100), fpr=0.02)
    rows = read_rows(tmp_path)
    negatives = [r for r in rows if r["role"] == "negative"]
    assert summary["threshold_fpr"] == 0.02 and sum(r["flagged"] for r in negatives) <= 2
    assert all(r["flagged"] == (r["score"] >= summary["threshold"]) for r in rows)
    assert all(r["flagged"] for r in rows[: len(MEMORIZED)]) and {r["threshold"] for r in rows} == {
        summary["threshold"]
    }
    assert summary["flagged"] == sum(r["flagged"] for r in rows if r["role"] == "prompt")


def test_the_auc_is_that_of_the_rows(planted: Denoiser, tmp_path: Path) -> None:
    summary = run_detection(planted, ALL, tmp_path, Detection("random"), negatives=many(30))
    values = [[r["score"] for r in read_rows(tmp_path) if r["role"] == role] for role in ("prompt", "negative")]
    pairs = [(a > b) + 0.5 * (a == b) for a in values[0] for b in values[1]]
    assert summary["auc"] == pytest.approx(sum(pairs) / len(pairs)) and 0 < summary["auc"] < 1
    assert summary["positives"] == len(ALL) and summary["negatives"] == 30


def test_labels_and_negatives_calibrate_alike(planted: Denoiser, tmp_path: Path) -> None:
    memorized, ordinary = as_prompts(MEMORIZED), many(100)
    labelled = [Prompt(p.id, p.text, p in memorized) for p in memorized + ordinary]
    apart = run_detection(planted, memorized, tmp_path / "apart", Detection(), negatives=ordinary)
    inside = run_detection(planted, labelled, tmp_path / "inside", Detection())
    for key in ("auc", "auc_interval", "tpr_at_1_fpr", "threshold", "threshold_fpr", "negatives", "positives"):
        assert inside[key] == pytest.approx(apart[key], rel=1e-6) and inside[key] is not None
    assert inside["flagged"] == apart["flagged"] == len(MEMORIZED)
    assert [n for n in apart["notes"] if "carry no labels" in n] and not [n for n in inside["notes"] if "labels" in n]


def test_labels_that_only_say_ordinary_do_not_count_as_memorized_too(planted: Denoiser, tmp_path: Path) -> None:
    prompts = [Prompt(p.id, p.text, False if "ordinary" in p.text else None) for p in ALL]
    summary = run_detection(planted, prompts, tmp_path, Detection())
    assert (summary["positives"], summary["negatives"], summary["auc"]) == (len(MEMORIZED), len(ORDINARY), 1)


def test_labels_edited_between_two_sessions_are_the_ones_that_count(planted: Denoiser, tmp_path: Path) -> None:
    run_detection(planted, ALL, tmp_path, Detection())
    labelled = [Prompt(p.id, p.text, "memorized" in p.text) for p in ALL]
    summary = run_detection(planted, labelled, tmp_path, Detection())
    assert summary["auc"] == 1 and [r["label"] for r in read_rows(tmp_path)] == [p.label for p in labelled]


def test_a_text_may_stand_among_prompts_and_negatives(planted: Denoiser, tmp_path: Path) -> None:
    rows = detected(planted, tmp_path, prompts=many(3), negatives=many(3))
    assert len({r["id"] for r in rows}) == 6
    assert [r["score"] for r in rows[:3]] == pytest.approx([r["score"] for r in rows[3:]], rel=1e-5)


def test_without_negatives_prompts_are_only_ranked(planted: Denoiser, tmp_path: Path) -> None:
    summary = run_detection(planted, ALL, tmp_path, Detection())
    assert summary["threshold"] is summary["flagged"] is summary["auc"] is None
    assert summary["notes"] == ["No negatives were given: scores only rank, and no threshold was set."]
    assert all(r["flagged"] is None and r["threshold"] is None for r in read_rows(tmp_path))
    given = run_detection(planted, ALL, tmp_path / "given", Detection(), threshold=1.0)
    assert given["flagged"] is not None and not any("no threshold" in note for note in given["notes"])
    assert given["notes"][0].startswith("No negatives were given: how well")


def test_too_few_negatives_set_no_threshold_and_say_why(planted: Denoiser, tmp_path: Path) -> None:
    summary = run_detection(planted, ALL, tmp_path, Detection(), negatives=many(99))
    assert summary["threshold"] is summary["tpr_at_1_fpr"] is None and summary["tpr_at_3_fpr"] == 4 / 12
    assert "A threshold at 1% FPR needs at least 100 negatives; 99 were given." in summary["notes"]


@pytest.mark.parametrize("fpr", [0.0, 1.0, -0.5])
def test_an_impossible_rate_is_refused_before_any_work(planted: Denoiser, tmp_path: Path, fpr: float) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        run_detection(planted, ALL, tmp_path / "run", Detection(), fpr=fpr)
    assert not (tmp_path / "run").exists() and planted.network_evaluations == 0


def test_no_seeds_are_refused(planted: Denoiser, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="0 seeds were asked for"):
        run_detection(planted, ALL, tmp_path, Detection(seeds=0))


@pytest.mark.parametrize("batch", ["0", "-1", "many", 0, "1.5"])
def test_an_impossible_batch_size_is_refused(planted: Denoiser, tmp_path: Path, batch: str | int) -> None:
    with pytest.raises(UsageError, match=f"Batch size '{batch}' is neither auto nor a number"):
        run_detection(planted, ALL, tmp_path, Detection(), batch=batch)


# A threshold taken from an earlier run


@pytest.fixture
def calibrated(planted: Denoiser, tmp_path: Path) -> Path:
    run_detection(planted, as_prompts(MEMORIZED), tmp_path / "calibrated", Detection(), negatives=many(100))
    return tmp_path / "calibrated"


@pytest.mark.parametrize("name", ["", "summary.json"])
def test_an_earlier_threshold_flags_under_the_same_conditions(planted, tmp_path, calibrated, name) -> None:
    summary = run_detection(planted, ALL, tmp_path / "new", Detection(), threshold=calibrated / name)
    limit = json.loads((calibrated / "summary.json").read_text())["threshold"]
    assert summary["threshold"] == limit and summary["flagged"] == sum(
        s >= limit for s in scores(tmp_path / "new").values()
    )
    assert summary["threshold_fpr"] is None and "The threshold was given, not set by these prompts." in summary["notes"]


def test_a_score_at_the_threshold_is_flagged_and_the_next_lower_one_is_not(planted, tmp_path, calibrated) -> None:
    detected(planted, tmp_path / "scores", batch=64)
    low, high = sorted(scores(tmp_path / "scores").values())[-2:]
    summary = json.loads((calibrated / "summary.json").read_text())
    (calibrated / "summary.json").write_text(json.dumps(summary | {"threshold": high}))
    rows = detected(planted, tmp_path / "new", threshold=calibrated, batch=64)
    assert low < high and [r["score"] for r in rows if r["flagged"]] == [high]


def test_an_earlier_threshold_stands_though_there_are_negatives(planted, tmp_path, calibrated) -> None:
    limit = json.loads((calibrated / "summary.json").read_text())["threshold"]
    summary = run_detection(planted, ALL, tmp_path / "new", Detection(), threshold=calibrated, negatives=many(20))
    assert summary["threshold"] == limit and summary["auc"] is not None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"params": {"steps": 2}}, r"params.steps 1 there, 2 here"),
        ({"seeds": 2}, "seeds 1 there, 2 here"),
        ({"num_inference_steps": 20}, "num_inference_steps 50 there, 20 here"),
        ({"guidance_scale": 3.0}, "guidance_scale 7.5 there, 3.0 here"),
        ({"method": "score_norm"}, 'method "noise_norm" there, "score_norm" here'),
    ],
)
def test_a_threshold_of_other_settings_is_refused(planted, tmp_path, calibrated, change, said) -> None:
    with pytest.raises(UsageError, match=said) as refused:
        run_detection(planted, ALL, tmp_path / "new", Detection(**change), threshold=calibrated)
    assert "calibrate again" in str(refused.value) and "\n" not in str(refused.value)
    assert not (tmp_path / "new").exists()


def test_a_threshold_of_other_weights_or_of_another_solver_is_refused(planted, tmp_path, calibrated) -> None:
    from diffusers import EulerDiscreteScheduler

    config = planted.pipe.scheduler.config
    planted.pipe.scheduler = EulerDiscreteScheduler.from_config(config)
    with pytest.raises(UsageError, match='scheduler "DDIMScheduler" there, "EulerDiscreteScheduler" here'):
        run_detection(planted, ALL, tmp_path / "new", Detection(), threshold=calibrated)
    other = planted_model.pipeline()
    other.unet.scale.data.mul_(1.01)
    with pytest.raises(UsageError, match='weights ".*" there, ".*" here'):
        run_detection(Denoiser(other), ALL, tmp_path / "new", Detection(), threshold=calibrated)


def test_a_threshold_of_another_noise_schedule_names_what_differs(planted, tmp_path, calibrated) -> None:
    planted.pipe.scheduler = type(planted.pipe.scheduler).from_config(planted.pipe.scheduler.config, beta_end=0.02)
    with pytest.raises(UsageError, match=r"scheduler_config\.beta_end 0\.012 there, 0\.02 here"):
        run_detection(planted, ALL, tmp_path / "new", Detection(), threshold=calibrated)


def test_a_tuple_of_steps_is_the_same_condition_as_a_list(planted: Denoiser, tmp_path: Path) -> None:
    detection = Detection(params={"steps": (0, 1)})
    run_detection(planted, ALL, tmp_path / "a", detection, negatives=many(100))
    summary = run_detection(planted, ALL, tmp_path / "b", detection, threshold=tmp_path / "a")
    assert summary["threshold"] is not None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not a readable JSON file"),
        ("[1]", "holds no JSON object"),
        ("{}", "holds no threshold"),
        ('{"threshold": null}', "holds no threshold"),
        ('{"threshold": "high"}', "holds no threshold"),
        ('{"threshold": NaN}', "holds no threshold"),
        ('{"threshold": 1.5}', "other conditions"),
        ('{"threshold": 1.5, "conditions": "mine"}', "other conditions"),
    ],
)
def test_a_bad_threshold_file_is_refused(planted: Denoiser, tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(UsageError, match=said):
        run_detection(planted, ALL, tmp_path / "new", Detection(), threshold=tmp_path / "summary.json")


# What fails


def test_a_prompt_that_fails_is_a_counted_row_and_the_others_succeed(planted: Denoiser, tmp_path: Path) -> None:
    with broken_for(planted, "5", raising):
        summary = run_detection(planted, ALL, tmp_path, Detection(), batch=4)
    failed = [r for r in read_rows(tmp_path) if r["status"] != "ok"]
    assert summary["failed"] == 1 and summary["rows"] == len(ALL) and summary["prompts"] == len(ALL)
    assert [(r["prompt"], r["status"], r["error"]) for r in failed] == [
        ("ordinary 5", "failed", "RuntimeError: the network broke")
    ]
    assert failed[0]["flagged"] is None and "score" not in failed[0]


def test_a_failed_prompt_is_tried_again_and_then_the_run_is_as_if_nothing_had_been(planted, tmp_path) -> None:
    run_detection(planted, ALL, tmp_path / "whole", Detection(), batch=4)
    with broken_for(planted, "5", raising):
        run_detection(planted, ALL, tmp_path / "again", Detection(), batch=4)
    before = planted.network_evaluations
    summary = run_detection(planted, ALL, tmp_path / "again", Detection(), batch=4)
    assert summary["failed"] == 0 and planted.network_evaluations - before == 5  # only the batch with the failed prompt
    assert scores(tmp_path / "again") == pytest.approx(scores(tmp_path / "whole"), rel=1e-5)
    assert [r["prompt"] for r in read_rows(tmp_path / "again")] == [p.text for p in ALL]


def test_a_score_that_is_no_number_is_a_failed_row(planted: Denoiser, tmp_path: Path) -> None:
    with broken_for(planted, "5", lambda: math.nan):
        summary = run_detection(planted, ALL, tmp_path, Detection(), negatives=many(3))
    failed = [r for r in read_rows(tmp_path) if r["status"] != "ok"]
    assert summary["failed"] == 1 and failed[0]["prompt"] == "ordinary 5" and "the score is nan" in failed[0]["error"]
    assert "NaN" not in (tmp_path / "rows.jsonl").read_text() and summary["auc"] is not None


@pytest.mark.parametrize("values", [[0.5, math.nan], [math.nan, 0.5], [0.5, math.inf]])
def test_no_seed_may_be_other_than_a_number_even_where_the_greatest_counts(planted, monkeypatch, values) -> None:
    monkeypatch.setattr("mnemoscope.methods.by_name.detect", lambda *_, **__: torch.tensor(values))
    with pytest.raises(ValueError, match="the score is"):
        detect_rows(planted, ALL[:1], Detection("noise_ssim", seeds=2))


def test_a_failed_negative_is_counted_and_left_out_of_the_calibration(planted: Denoiser, tmp_path: Path) -> None:
    with broken_for(planted, "7", raising):
        summary = run_detection(planted, as_prompts(MEMORIZED), tmp_path, Detection(), negatives=many(9))
    assert summary["failed"] == 1 and summary["negatives"] == 8
    assert [r["role"] for r in read_rows(tmp_path) if r["status"] != "ok"] == ["negative"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "nosie_norm"}, "There is no detect method 'nosie_norm'; available: .*noise_norm"),
        ({"params": {"step": 1}}, "has no parameter 'step'; it takes: p, units, steps"),
        ({"params": {"method": "random"}}, "has no parameter 'method'"),
        ({"method": "random", "params": {"steps": 2}}, "chooses its steps itself"),
    ],
)
def test_a_wrong_method_or_parameter_is_refused_with_what_there_is(planted, tmp_path, options, said) -> None:
    with pytest.raises(UsageError, match=said):
        run_detection(planted, ALL, tmp_path, Detection(**options))


def test_the_summary_tells_the_conditions_that_the_threshold_holds_for(planted: Denoiser, tmp_path: Path) -> None:
    summary = run_detection(planted, ALL, tmp_path, Detection(seeds=2, params={"steps": 3}))
    conditions = summary["conditions"]
    assert conditions["weights"] == planted.weights_hash and conditions["dtype"] == "float32"
    assert (
        conditions["latent_shape"] == [3, 16, 16]
        and conditions["seeds"] == 2
        and conditions["params"] == {"steps": 3, "p": 2}
    )


def test_the_intervals_are_those_of_the_statistics(planted: Denoiser, tmp_path: Path) -> None:
    summary = run_detection(planted, ALL, tmp_path, Detection("random"), negatives=many(40))
    groups = [
        np.array([r["score"] for r in read_rows(tmp_path) if r["role"] == role]) for role in ("prompt", "negative")
    ]
    assert tuple(summary["auc_interval"]) == stats.bootstrap_interval(stats.auc, *groups)


@pytest.mark.parametrize(
    ("method", "params", "message"),
    [
        ("noise_norm", {"p": "two"}, "noise_norm takes int | float as p, and 'two' was given"),
        ("noise_norm", {"p": True}, "noise_norm takes int | float as p, and True was given"),
        ("score_norm", {"compat": "wen"}, "as compat, and 'wen' was given"),
        ("noise_ssim", {"scales": 4}, "as scales, and 4 was given"),
        ("noise_ssim", {"scales": 2}, "noise_ssim was asked for 2 scales, and these latents allow 1"),
    ],
)
def test_a_parameter_of_no_such_value_is_refused_in_one_sentence(planted, tmp_path, method, params, message) -> None:
    with pytest.raises(UsageError) as refused:
        run_detection(planted, as_prompts(["ordinary 1"]), tmp_path / "run", Detection(method, params, seeds=2))
    assert message in str(refused.value) and "\n" not in str(refused.value)
