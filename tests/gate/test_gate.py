"""The gate: outcomes from intervals, the number that decides, groups, lacking evidence, policies, baselines."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

import gate_runs as made
import mnemoscope as mn
from mnemoscope import planted
from mnemoscope.errors import UsageError
from mnemoscope.gate.estimates import effective_samples, estimate, further, side
from mnemoscope.gate.policy import MEASURES, read_policy
from mnemoscope.gate.run import run_gate
from mnemoscope.stats import FEWEST, wilson_interval


def gate(tmp_path: Path, runs: list[Path], *checks: dict, before: Path | None = None, **top) -> dict:
    policy = read_policy(made.policy(tmp_path / "policy.yaml", *checks, **top))
    return run_gate(runs, policy, before=before, out=tmp_path / "verdict")


def only(verdict: dict) -> dict:
    (check,) = verdict["checks"]
    return check


# Outcomes


@pytest.mark.parametrize(
    ("flagged", "of", "limit", "outcome"),
    [
        (0, 100, {"max": 0.05}, "pass"),
        (20, 100, {"max": 0.05}, "fail"),
        (3, 100, {"max": 0.05}, "undecided"),
        (5, 100, {"max": 0.2, "min": 0.001}, "pass"),
        (99, 100, {"min": 0.8}, "pass"),
        (50, 100, {"min": 0.8}, "fail"),
        (8, 10, {"min": 0.75}, "undecided"),
    ],
)
def test_a_rate_passes_only_inside_its_limit_and_fails_only_outside(tmp_path, flagged, of, limit, outcome) -> None:
    run = made.detection(tmp_path / "run", [2.0] * flagged + [0.5] * (of - flagged))
    verdict = gate(tmp_path, [run], {"measure": "flagged_share", **limit})
    check = only(verdict)
    assert verdict["verdict"] == check["outcome"] == outcome
    assert check["value"] == flagged / of and check["samples"] == of  # the ordinary prompt takes no part
    assert check["interval"] == pytest.approx(wilson_interval(flagged, of))
    assert (check["further_samples"] is not None) == (outcome == "undecided")


@pytest.mark.parametrize(("flagged", "of"), [(0, 10), (1, 40), (3, 100), (8, 100), (4, 40)])
def test_the_number_of_prompts_that_it_asks_for_decides_it_and_half_of_it_does_not(tmp_path, flagged, of) -> None:
    limit = {"measure": "flagged_share", "max": 0.05}
    first = only(gate(tmp_path, [made.detection(tmp_path / "few", [2.0] * flagged + [0.5] * (of - flagged))], limit))
    assert first["outcome"] == "undecided"
    total = of + first["further_samples"]
    for rounded in (math.floor, math.ceil):
        hits = rounded(flagged * total / of)
        scores = [2.0] * hits + [0.5] * (total - hits)
        assert only(gate(tmp_path, [made.detection(tmp_path / "more", scores)], limit))["outcome"] != "undecided"
    fewer = of + first["further_samples"] // 2
    low, high = wilson_interval(flagged / of * fewer, fewer)
    assert low <= 0.05 <= high


def test_at_the_limit_itself_no_number_decides_and_the_verdict_says_so(tmp_path) -> None:
    run = made.detection(tmp_path / "run", [2.0] + [0.5] * 19)
    check = only(gate(tmp_path, [run], {"measure": "flagged_share", "max": 0.05}))
    assert check["outcome"] == "undecided" and check["further_samples"] is None and "no number" in check["why"]


def test_the_verdict_is_the_worst_of_its_checks(tmp_path) -> None:
    run = made.detection(tmp_path / "run", [2.0] * 3 + [0.5] * 97)
    passes, open_, fails = (
        {"name": n, "measure": "flagged_share", "max": m} for n, m in zip("abc", (0.5, 0.05, 0.001), strict=True)
    )
    assert gate(tmp_path, [run], passes)["verdict"] == "pass"
    assert gate(tmp_path, [run], passes, open_)["verdict"] == "undecided"
    assert gate(tmp_path, [run], open_, fails, passes)["verdict"] == "fail"


def test_a_mean_is_decided_by_its_interval_over_prompts_and_by_the_number_that_it_asks_for(tmp_path) -> None:
    rng = np.random.default_rng(0)
    own = rng.normal(0.5, 0.2, 60).clip(0, 1).round(3).tolist()
    limit = float(np.mean(own)) + 0.02
    for name, value, outcome in (("a", 0.9, "pass"), ("b", 0.2, "fail"), ("c", limit, "undecided")):
        run = made.measurement(tmp_path / name, [[v] for v in own])
        found = only(gate(tmp_path, [run], {"measure": "similarity_mean", "max": value}))
        assert found["outcome"] == outcome
    times = math.ceil((60 + found["further_samples"]) / 60)
    again = made.measurement(tmp_path / "d", [[v] for v in own * times])
    assert only(gate(tmp_path, [again], {"measure": "similarity_mean", "max": limit}))["outcome"] == "pass"


def test_a_mean_of_few_prompts_is_undecided_however_alike_they_are(tmp_path) -> None:
    run = made.measurement(tmp_path / "run", [[0.1] * 4] * 5)
    check = only(gate(tmp_path, [run], {"measure": "similarity_p95", "max": 0.5}))
    assert check["outcome"] == "undecided" and check["interval"] is None
    assert check["further_prompts"] == FEWEST - 5 and check["further_samples"] == 4 * (FEWEST - 5)
    more = made.measurement(tmp_path / "more", [[0.1] * 4] * FEWEST)
    assert only(gate(tmp_path, [more], {"measure": "similarity_p95", "max": 0.5}))["outcome"] == "pass"


def test_images_of_one_prompt_are_not_counted_as_independent(tmp_path) -> None:
    """Ten prompts of ten images each, all or none copied, are worth ten samples; spread evenly they are worth more."""
    prompts = [str(k) for k in range(10) for _ in range(10)]
    clumped = np.repeat([1.0] * 2 + [0.0] * 8, 10)
    spread = np.tile([1.0] * 2 + [0.0] * 8, 10)
    assert effective_samples(clumped, prompts) == pytest.approx(9)  # of the unbiased variance
    assert effective_samples(spread, prompts) == 100
    assert effective_samples(np.ones(100), prompts) == 10
    assert effective_samples(clumped, [str(k) for k in range(100)]) == 100
    wide, narrow = (estimate(v, prompts, "rate", 0.95) for v in (clumped, spread))
    assert wide.value == narrow.value == 0.2 and wide.high - wide.low > 2 * (narrow.high - narrow.low)
    more = further(wide, -math.inf, 0.3)
    times = 1 + math.ceil(more / 100)
    again = estimate(np.tile(clumped, times), [str(k) for k in range(10 * times) for _ in range(10)], "rate", 0.95)
    assert side(wide.low, wide.high, -math.inf, 0.3) == "undecided"
    assert side(again.low, again.high, -math.inf, 0.3) == "pass"


@pytest.mark.parametrize("alike", [0.0, 0.5, 1.0])
def test_an_interval_over_images_covers_the_truth_as_often_as_it_says(alike: float) -> None:
    """Fifty prompts of four images, 20 % copies, as alike within a prompt as given: 95 % in 200 draws, or near."""
    rng, prompts = np.random.default_rng(3), [str(k) for k in range(50) for _ in range(4)]
    covered = plain = 0
    for _ in range(200):
        own = (rng.random(50) < 0.2) * 1.0 if alike == 1 else np.full(50, 0.2)
        own = rng.beta(0.2, 0.8, 50) if alike == 0.5 else own
        hits = (rng.random((50, 4)) < own[:, None]).astype(np.float64).ravel()
        found = estimate(hits, prompts, "rate", 0.95)
        covered += found.low <= 0.2 <= found.high
        low, high = wilson_interval(int(hits.sum()), 200)
        plain += low <= 0.2 <= high
    assert 0.9 <= covered / 200 <= 0.99
    assert alike == 0 or plain / 200 < 0.85  # images taken as independent promise too much


# Measures and groups


def audit(folder: Path) -> Path:
    """An audit whose first 12 of 60 prompts are flagged, and only theirs are copies."""
    made.write_run(folder, "audit", [], {})
    made.detection(folder / "detect", [2.0] * 12 + [0.5] * 48, kinds=("even", "odd"))
    made.measurement(folder / "measure", [[0.9] * 4] * 12 + [[0.1] * 4] * 48)
    return folder


@pytest.mark.parametrize(
    ("measure", "group", "value", "samples"),
    [
        ("flagged_share", "all", 0.2, 60),
        ("flagged_share", "kind:even", 0.2, 30),
        ("replication_rate", "all", 0.2, 240),
        ("replication_rate", "flagged", 1.0, 48),
        ("replication_rate", "not_flagged", 0.0, 192),
        ("replication_rate", "kind:odd", 0.2, 120),
        ("copied_prompt_share", "flagged", 1.0, 12),
        ("similarity_mean", "flagged", 0.9, 48),
        ("similarity_p95", "all", 0.9, 240),
        ("own_similarity_mean", "not_flagged", 0.0, 192),
        ("own_similarity_p95", "flagged", 0.8, 48),
    ],
)
def test_a_measure_of_an_audit_by_group(tmp_path, measure, group, value, samples) -> None:
    check = only(gate(tmp_path, [audit(tmp_path / "run")], {"measure": measure, "group": group, "max": 0.99}))
    assert check["value"] == pytest.approx(value) and check["samples"] == samples


def test_flags_come_from_a_detection_given_beside_a_measurement(tmp_path) -> None:
    images = made.measurement(tmp_path / "images", [[0.9], [0.1], [0.9]])
    check = {"measure": "replication_rate", "group": "flagged", "max": 0.5}
    assert "says it of flagged" in only(gate(tmp_path, [images], check))["why"]
    flags = made.detection(tmp_path / "flags", [2.0, 0.1, 0.1])
    assert only(gate(tmp_path, [images, flags], check))["samples"] == 1


def test_recovery_counts_targets_whose_best_image_is_back_and_a_ratio_the_highest_snapshot(tmp_path) -> None:
    runs = [made.recovery(tmp_path / "a", [0.9, 0.7, 0.2]), made.ratio(tmp_path / "b", [True, False, False, False])]
    found = gate(
        tmp_path, runs, {"measure": "recover_success", "max": 0.5}, {"measure": "memorization_ratio", "max": 0.5}
    )
    assert [(c["value"], c["samples"]) for c in found["checks"]] == [(pytest.approx(1 / 3), 3), (0.25, 4)]
    assert found["leaks"] == 1
    only(
        gate(tmp_path, runs[1:], {"measure": "memorization_ratio", "max": 0.5, "threshold": 1 / 3, "preset": "pixels"})
    )


# Evidence that lacks or does not fit


@pytest.mark.parametrize("said", ["fail", "undecided", "pass"])
def test_a_check_without_evidence_is_what_the_policy_says(tmp_path, said) -> None:
    run = made.detection(tmp_path / "run", [0.5] * 10)
    for absent in ({"measure": "recover_success"}, {"measure": "flagged_share", "group": "kind:nobody"}):
        verdict = gate(tmp_path, [run], {**absent, "max": 0.5, "when_missing": said})
        assert verdict["verdict"] == said and only(verdict)["skipped"] == (said == "pass")
        assert only(verdict)["value"] is None and "by the policy" in only(verdict)["why"]
    unflagged = made.detection(tmp_path / "none", [0.5] * 10, threshold=None)
    check = {"measure": "flagged_share", "max": 0.5, "when_missing": said}
    assert gate(tmp_path, [unflagged], check)["verdict"] == said


def test_fewer_samples_than_the_policy_wants_never_pass_but_fail_all_the_same(tmp_path) -> None:
    calm, all_ = made.detection(tmp_path / "a", [0.5] * 100), made.detection(tmp_path / "b", [2.0] * 100)
    check = {"measure": "flagged_share", "max": 0.5, "min_samples": 150}
    found = only(gate(tmp_path, [calm], check))
    assert found["outcome"] == "undecided" and found["further_samples"] == 50 and "wants 150" in found["why"]
    assert only(gate(tmp_path, [made.detection(tmp_path / "c", [0.5] * 150)], check))["outcome"] == "pass"
    assert only(gate(tmp_path, [all_], check))["outcome"] == "fail"


def test_failed_rows_take_no_part_and_are_counted(tmp_path) -> None:
    failed = [{"id": f"f{k}", "prompt": f"p{k}", "status": "failed", "error": "no memory"} for k in range(3)]
    run = made.detection(tmp_path / "run", [0.5] * 100, extra=failed)
    check = only(gate(tmp_path, [run], {"measure": "flagged_share", "max": 0.05}))
    assert check["samples"] == 100 and check["failed_rows"] == 3 and "3 rows of the run failed" in check["why"]


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ({"measure": "replication_rate", "threshold": 0.7}, "threshold 0.7 and .* was made with 0.5"),
        ({"measure": "replication_rate", "preset": "sscd"}, "preset sscd and .* was made with pixels/rgb16"),
        ({"measure": "flagged_share", "threshold": 1.5}, "threshold 1.5 and .* was made with 1;"),
    ],
)
def test_a_run_made_otherwise_than_the_policy_demands_is_refused(tmp_path, check, said) -> None:
    with pytest.raises(UsageError, match=said):
        gate(tmp_path, [audit(tmp_path / "run")], {**check, "max": 0.5})


def test_a_run_made_as_demanded_is_chosen_among_several_and_two_of_a_kind_are_refused(tmp_path) -> None:
    a, b = (made.measurement(tmp_path / str(t), [[0.6]] * 30, threshold=t) for t in (0.5, 0.7))
    check = {"measure": "replication_rate", "threshold": 0.7, "preset": "pixels/rgb16", "max": 0.5}
    assert only(gate(tmp_path, [a, b], check))["value"] == 0.0
    with pytest.raises(UsageError, match="both answer"):
        gate(tmp_path, [a, b], {"measure": "replication_rate", "max": 0.5})


def test_runs_that_are_none_or_not_finished_are_refused(tmp_path) -> None:
    check = {"measure": "flagged_share", "max": 0.5}
    with pytest.raises(UsageError, match="holds no run"):
        gate(tmp_path, [tmp_path], check)
    run = made.detection(tmp_path / "run", [0.5])
    (run / "summary.json").unlink()
    with pytest.raises(UsageError, match="was not finished"):
        gate(tmp_path, [run], check)


# Policies


GOOD = {"measure": "flagged_share", "max": 0.5}


def test_a_policy_has_usual_values_and_names_its_checks(tmp_path) -> None:
    found = read_policy(made.policy(tmp_path / "p", GOOD, {**GOOD, "group": "kind:verbatim", "min": 0.1}, level=0.9))
    assert [c.name for c in found.checks] == ["flagged_share", "flagged_share of kind:verbatim"] and found.level == 0.9
    assert found.checks[1].limit == "at least 0.1 and at most 0.5" and found.checks[0].when_missing == "undecided"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no policy"),
        ("- 1", "holds no policy"),
        ("checks: []", "list of 1 to"),
        ("checks: 3", "checks is 3"),
        ("check: []", "'check' is no field; .* Did you mean checks?"),
        ("checks: [4]", "check 1 is 4"),
        ("checks: [{max: 0.1}]", "measure is missing"),
        ("checks: [{measure: flaged_share, max: 0.1}]", "Did you mean flagged_share"),
        ("checks: [{measure: [a], max: 0.1}]", "measure is \\['a'\\]"),
        ("checks: [{measure: flagged_share}]", "no limit"),
        ("checks: [{measure: flagged_share, max: 5}]", "max is 5; give a share"),
        ("checks: [{measure: flagged_share, max: yes}]", "max is True"),
        ("checks: [{measure: flagged_share, max: .nan}]", "max is nan"),
        ("checks: [{measure: similarity_mean, max: .inf}]", "max is inf; give a finite"),
        ("checks: [{measure: flagged_share, max: 0}]", "no number of samples can show"),
        ("checks: [{measure: flagged_share, min: 1}]", "no number of samples can show"),
        ("checks: [{measure: flagged_share, min: 0.5, max: 0.5}]", "not below max"),
        ("checks: [{measure: flagged_share, max: 0.5, group: flagged}]", "this measure has all, or kind:NAME"),
        ("checks: [{measure: memorization_ratio, max: 0.5, group: 'kind:a'}]", "this measure has all"),
        ("checks: [{measure: replication_rate, max: 0.5, group: 'kind:'}]", "group is 'kind:'"),
        ("checks: [{measure: similarity_mean, max: 0.5, threshold: 0.5}]", "has no threshold, leave it out"),
        ("checks: [{measure: flagged_share, max: 0.5, preset: sscd}]", "has no preset, leave it out"),
        ("checks: [{measure: flagged_share, max: 0.5, min_samples: 0}]", "whole number above 0"),
        ("checks: [{measure: flagged_share, max: 0.5, min_samples: true}]", "whole number above 0"),
        ("checks: [{measure: flagged_share, max: 0.5, when_missing: maybe}]", "give fail, undecided or pass"),
        ("checks: [{measure: flagged_share, max: 0.5, when_missing: [fail]}]", "give fail, undecided or pass"),
        ("checks: [{measure: flagged_share, max: 0.5, name: ''}]", "up to 200 characters"),
        ("checks: [{measure: flagged_share, max: 0.5, limit: 3}]", "'limit' is no field"),
        ("checks: [{measure: flagged_share, max: 0.5}, {measure: flagged_share, max: 0.4}]", "two checks are named"),
        ("level: 95\nchecks: [{measure: flagged_share, max: 0.5}]", "level is 95"),
        ("a: &a [1]\nchecks: *a", "repeats a value"),
        ("checks: " + "[" * 99, "nested more than"),
        ("checks: !!python/object:os.system {}", "could not be read as YAML"),
        ("checks: [", "could not be read as YAML"),
        ("3: 4", "3 is no field"),
    ],
)
def test_a_policy_that_is_none_is_refused_in_one_sentence(tmp_path, mnemoscope, text, said) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    code, out, err = mnemoscope("gate", tmp_path, "--policy", file)
    with pytest.raises(UsageError, match=said):
        read_policy(file)
    assert code == 2 and out == "" and err.startswith("mnemoscope: ") and err.count("\n") == 1


# Baselines


def test_planted_changes_since_a_baseline_are_found_with_a_paired_interval(tmp_path) -> None:
    """Prompts 0 to 2 stay flagged, 3 and 4 are new, 5 is cleared; the rest, and the scale, change as planted."""
    noise = np.random.default_rng(1).normal(0, 3, 40)
    before = [20.0, 20.0, 20.0, 5.0, 5.0, 20.0, *noise[6:].tolist()]
    after = [22.0, 22.0, 22.0, 30.0, 30.0, 1.0, *(noise[6:] + 0.5).tolist()]
    there = made.detection(tmp_path / "base", before, threshold=15.0)
    here = made.detection(tmp_path / "tuned", [*after, 99.0], threshold=18.0, lora=["style.safetensors:0.8"])
    checks = [
        {"measure": "newly_flagged_share", "max": 0.5},
        {"measure": "score_change", "max": 0.1, "threshold": None},
    ]
    found = gate(tmp_path, [here], *checks, before=there)
    changed = found["baseline"]
    ids = {name: [row["id"] for row in changed[name]] for name in ("newly_flagged", "cleared", "still_flagged")}
    assert ids == {"newly_flagged": ["p3", "p4"], "cleared": ["p5"], "still_flagged": ["p0", "p1", "p2"]}
    assert changed["prompts"] == 40 and changed["only_here"] == 1 and changed["only_baseline"] == 0
    truth = np.array(after) - np.array(before)
    low, high = changed["score_change_interval"]
    assert changed["score_change"] == pytest.approx(truth.mean()) and low < truth.mean() < high
    assert found["checks"][0]["value"] == 2 / 40 and found["checks"][0]["outcome"] == "pass"
    assert found["checks"][1]["value"] == pytest.approx(truth.mean())
    assert "style.safetensors:0.8" in changed["headline"] and "DDIMScheduler" in changed["headline"]
    assert "own threshold" in changed["thresholds"]
    assert (changed["here"]["threshold"], changed["baseline"]["threshold"]) == (18.0, 15.0)


def test_a_paired_interval_is_narrower_than_the_spread_of_the_scores(tmp_path) -> None:
    before = np.random.default_rng(2).normal(0, 100, 50)
    there = made.detection(tmp_path / "base", before.tolist())
    here = made.detection(tmp_path / "tuned", (before + 1 + 0.01 * np.arange(50)).tolist())
    low, high = gate(tmp_path, [here], GOOD, before=there)["baseline"]["score_change_interval"]
    assert 1.1 < low < 1.245 < high < 1.4


def test_baselines_that_do_not_compare_are_refused_and_none_is_missing_evidence(tmp_path) -> None:
    here, check = made.detection(tmp_path / "a", [0.5]), {"measure": "newly_flagged_share", "max": 0.5}
    assert "no baseline" in only(gate(tmp_path, [here], check))["why"]
    other = made.detection(tmp_path / "b", [0.5], method="uncond_norm")
    with pytest.raises(UsageError, match="another one"):
        gate(tmp_path, [here], check, before=other)
    stranger = made.detection(tmp_path / "c", [])
    with pytest.raises(UsageError, match="no prompt in common"):
        gate(tmp_path, [here], check, before=stranger)
    with pytest.raises(UsageError, match="0 detections"):
        gate(tmp_path, [here], check, before=made.measurement(tmp_path / "d", [[0.5]]))


# The command


def test_exit_codes_and_the_json_of_the_command(tmp_path, mnemoscope) -> None:
    run = made.detection(tmp_path / "run", [2.0] * 3 + [0.5] * 97)
    for limit, code, verdict in ((0.5, 0, "pass"), (0.001, 3, "fail"), (0.05, 4, "undecided")):
        file = made.policy(tmp_path / "policy.yaml", {"measure": "flagged_share", "max": limit})
        left, out, err = mnemoscope("gate", run, "--policy", file)
        assert (left, err) == (code, "") and f"Verdict: {verdict}" in out and f"{verdict.upper()} " in out
        assert json.loads((run / "gate" / "verdict.json").read_text())["verdict"] == verdict
        left, out, _ = mnemoscope("gate", run, "--policy", file, "--json")
        assert left == code and json.loads(out)["verdict"] == verdict
    left, out, _ = mnemoscope("gate", run, "--policy", file, "--baseline", run, "--out", tmp_path / "elsewhere")
    assert left == 4 and "0 newly flagged, 0 cleared, 3 still flagged" in out and "scheduler DDIMScheduler" in out
    assert (tmp_path / "elsewhere" / "verdict.json").is_file()


def test_every_measure_is_read_from_some_run() -> None:
    from mnemoscope.gate.evidence import SAMPLES

    assert set(SAMPLES) == {name for name, about in MEASURES.items() if not about.needs_baseline}


def test_one_policy_passes_the_base_and_fails_the_fine_tune(tmp_path, mnemoscope) -> None:
    calm = np.linspace(0, 0.9, 100).tolist()
    base = made.detection(tmp_path / "base", calm)
    tuned = made.detection(tmp_path / "tuned", [*calm[:80], *[3.0] * 20], lora=["mine.safetensors"])
    checks = [{"measure": name, "max": 0.05} for name in ("flagged_share", "newly_flagged_share")]
    file = made.policy(tmp_path / "policy.yaml", *checks)
    assert mnemoscope("gate", base, "--policy", file, "--baseline", base)[0] == 0
    code, out, _ = mnemoscope("gate", tuned, "--policy", file, "--baseline", base)
    assert code == 3 and "LoRA mine.safetensors" in out and "20 newly flagged" in out


def test_an_audit_ends_with_the_verdict_of_its_policy_and_may_be_given_another(
    tmp_path, mnemoscope, monkeypatch
) -> None:
    """Nothing can be flagged without ordinary prompts, which is missing evidence; a wrong policy is told before all."""
    monkeypatch.setattr(mn.Denoiser, "from_pretrained", lambda name, **how: planted.model())
    (tmp_path / "prompts.txt").write_text("memorized 0\nordinary 0\n")
    words = ["audit", "planted", "--prompts", tmp_path / "prompts.txt", "--seeds", 1, "--images", 1, "--most", 1]
    words += ["--num-inference-steps", 2, "--out", tmp_path / "run", "--policy", tmp_path / "policy.yaml"]
    made.policy(tmp_path / "policy.yaml", {"measure": "flagged_share", "max": 2})
    code, _, err = mnemoscope(*words)
    assert code == 2 and "max is 2" in err and not (tmp_path / "run").exists()
    for said, expected in (("undecided", 4), ("fail", 3), ("pass", 0)):
        made.policy(tmp_path / "policy.yaml", {"measure": "flagged_share", "max": 0.5, "when_missing": said})
        code, out, err = mnemoscope(*words)
        assert code == expected and f"Verdict: {said}" in out, err
    assert (tmp_path / "run" / "report.html").is_file() and (tmp_path / "run" / "gate" / "junit.xml").is_file()
