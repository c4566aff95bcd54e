"""Several methods in one pass: each as if it had been alone, to the bit, and no step of the sampling computed twice."""

import json
from pathlib import Path
from typing import Any

import pytest

import mnemoscope as mn
import tiny
from mnemoscope import planted as planted_model
from mnemoscope import registry
from mnemoscope.detection.run import run_detection
from mnemoscope.detection.scoring import Detection, detections
from mnemoscope.errors import UsageError
from mnemoscope.gate.policy import read_policy
from mnemoscope.gate.run import run_gate
from mnemoscope.mitigation.guard import Guard
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import Prompt, as_prompts, read_prompts
from mnemoscope.report import write
from mnemoscope.run import several
from mnemoscope.run.run import read_json, read_rows

MEMORIZED, ORDINARY = planted_model.prompts(True), planted_model.prompts(False)
ALL = as_prompts(MEMORIZED + ORDINARY)
WORK = ("rows", "failed", "network_evaluations", "seconds")
EVERY = [n for n in (*registry.names("score"), *registry.names("detect")) if n != "sequential"]  # a run of its own
SHORT = {"num_inference_steps": 6, "seeds": 2}
TWO = detections(["noise_norm", "random"], {})


def wide() -> Denoiser:
    """Stable Diffusion of tiny random weights, with latents that are large enough for every method."""
    return Denoiser(tiny.stable_diffusion(network=tiny.unet(sample_size=16)))


def many(count: int) -> list[Prompt]:
    return as_prompts([f"ordinary {k}" for k in range(count)])


def same_as_alone(model: Denoiser, folder: Path, asked: list[Detection], prompts: list[Prompt], **how: Any) -> None:
    """Compare a run of several methods with a run of each: rows, records and summaries, to the last digit."""
    whole = run_detection(model, prompts, folder / "all", asked, **how)
    for each in asked:
        name = registry.detection(each.method).name
        alone = run_detection(model, prompts, folder / name, each, **how)
        assert several.rows_of(read_rows(folder / "all"), name) == read_rows(folder / name), name
        own = {key: value for key, value in whole["methods"][name].items() if key not in WORK}
        assert own == {key: value for key, value in alone.items() if key not in WORK}, name
        record, single = (read_json(folder / run / "run.json") for run in ("all", name))
        kept = ("command", "method", "model", "device")
        narrowed = several.record_of(record, name)
        assert {k: narrowed[k] for k in kept} == {k: single[k] for k in kept}
        settings = {k: v for k, v in single["settings"].items() if k != "companions"}
        assert narrowed["settings"] == settings and (record["schema"], single["schema"]) == (2, 1)


# The same as alone


@pytest.mark.parametrize("order", [1, pytest.param(-1, marks=pytest.mark.slow)])
def test_every_score_and_detector_is_to_the_bit_what_it_is_alone(tmp_path: Path, order: int) -> None:
    given = {"noise_norm.steps": [0, 3], "flipd.probes": 2, "anisotropy.steps": 2, "uncond_norm.steps": "all"}
    asked = detections(EVERY[::order], given, **SHORT)
    assert {d.method for d in asked} >= {"noise_norm", "sharpness", "masked_noise_norm", "noise_ssim", "random"}
    same_as_alone(wide(), tmp_path, asked, as_prompts(["a cat", "a red bicycle", "a dog"]), batch=4)


def test_it_is_so_without_guidance_and_with_negatives_and_labels(planted: Denoiser, tmp_path: Path) -> None:
    asked = detections(["score_norm", "noise_norm", "noise_ssim"], {"score_norm.steps": 3}, seeds=2, guidance_scale=1.0)
    same_as_alone(planted, tmp_path, asked, ALL, negatives=many(30), fpr=0.1, batch=6)


def test_a_flow_that_begins_at_pure_noise(tmp_path: Path) -> None:
    model = planted_model.model("flow")
    same_as_alone(model, tmp_path, detections(["noise_norm", "noise_ssim"], {}, **SHORT), ALL)


def test_what_the_dtype_costs_is_said_of_each_method(tmp_path: Path) -> None:
    model = Denoiser(tiny.stable_diffusion(network=tiny.unet(sample_size=16)).to(tiny.torch.bfloat16))
    asked = detections(["noise_norm", "score_norm"], {}, **SHORT)
    same_as_alone(model, tmp_path, asked, as_prompts(["a cat", "a dog"]))
    assert "dtype_error" in read_json(tmp_path / "all" / "summary.json")["methods"]["score_norm"]


# Work


def sampling(model: Denoiser, asked: Detection, prompts: list[Prompt], steps: Any) -> int:
    """Evaluations of the sampling alone, down to the last step that is looked at."""
    before = model.network_evaluations
    asked.sampled(model, prompts).chosen(steps)
    return model.network_evaluations - before


@pytest.mark.slow
def test_each_step_is_computed_once_and_only_what_lies_beside_the_sampling_is_added(tmp_path: Path) -> None:
    model, prompts = wide(), as_prompts(["a cat", "a red bicycle"])
    asked = detections(EVERY, {"noise_norm.steps": 3}, **SHORT)
    last = {d.method: d.parameters.get("steps", registry.detection(d.method).steps) for d in asked}
    last |= {"masked_noise_norm": "all", "noise_ssim": 1, "random": None}
    alone = {d.method: run_detection(model, prompts, tmp_path / d.method, d)["network_evaluations"] for d in asked}
    path = {d.method: sampling(model, d, prompts, last[d.method]) if last[d.method] else 0 for d in asked}
    beside = {name: alone[name] - path[name] for name in alone}
    assert beside["noise_norm"] == beside["random"] == 0 and beside["flipd"] > 0 and beside["sharpness"] > 0
    together = run_detection(model, prompts, tmp_path / "all", asked)["network_evaluations"]
    assert together == max(path.values()) + sum(beside.values()) < sum(alone.values())


def test_the_steps_of_a_trajectory_are_shared(planted: Denoiser) -> None:
    trajectory = mn.Trajectory(planted, ALL[0].text, [0, 1])
    found = mn.detect(
        trajectory, ["noise_norm", "random", "score_norm"], **{"noise_norm.steps": 4, "score_norm.steps": 2}
    )
    used = planted.network_evaluations
    assert list(found) == ["noise_norm", "random", "score_norm"]
    fresh = mn.Trajectory(planted, ALL[0].text, [0, 1])
    assert found["noise_norm"].tolist() == mn.detect(fresh, "noise_norm", steps=4).tolist()
    assert planted.network_evaluations == 2 * used  # as many as the most demanding one needs alone
    assert found["score_norm"].tolist() == mn.detect(fresh, "score_norm", steps=2).tolist()
    (only,) = mn.detect(fresh, ["noise_norm"], steps=1).values()
    assert only.tolist() == mn.detect(fresh, "noise_norm").tolist()


# What is asked for


@pytest.mark.parametrize(
    ("methods", "given", "said"),
    [
        (["noise_norm", "random"], {"p": 1}, None),
        (["noise_norm", "random"], {"noise_norm.p": 1, "random.salt": "x"}, None),
        (
            ["noise_norm", "uncond_norm"],
            {"p": 1},
            "--param p was given for noise_norm, uncond_norm, and ",
        ),
        (["noise_norm", "score_norm"], {"steps": 2}, "write noise_norm.steps="),
        (
            ["noise_norm", "random"],
            {"tau": 1},
            "--param tau was given for noise_norm, random, and none of them",
        ),
        (["noise_norm", "noise_norm"], {}, "A method was given twice (noise_norm, noise_norm); give each once."),
        (["noise_norm", "nosie_ssim"], {}, "There is no detect method 'nosie_ssim'"),
    ],
)
def test_parameters_go_to_the_method_that_takes_them(methods: list[str], given: dict, said: str | None) -> None:
    if said is None:
        own = {d.method: d.parameters for d in detections(methods, given)}
        assert own == {"noise_norm": {"p": 1}, "random": {"salt": "x"} if len(given) > 1 else {}}
        return
    with pytest.raises(UsageError) as error:
        detections(methods, given)
    assert said in str(error.value)


WRONG: dict[str, tuple[list[Detection], dict, str]] = {
    "none": ([], {}, "No detection was given"),
    "twice": ([Detection(), Detection(params={"p": 1})], {}, "The method noise_norm was given twice"),
    "seeds": ([Detection(), Detection("random", seeds=2)], {}, "seeds was 1 and 2"),
    "steps": ([Detection(), Detection("random", num_inference_steps=5)], {}, "num_inference_steps was 50 and 5"),
    "parameter": ([Detection(params={"q": 1}), Detection("random")], {}, "has no parameter 'q'"),
    "number": (TWO, {"threshold": "5"}, "The threshold 5 is one method's, and several were given"),
    "rate": (TWO, {"fpr": 2.0}, "2"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_is_refused_before_anything_is_written(planted: Denoiser, tmp_path: Path, case: str) -> None:
    asked, how, said = WRONG[case]
    with pytest.raises(UsageError, match=said):
        run_detection(planted, ALL, tmp_path / "run", asked, **how)
    assert not (tmp_path / "run").exists()


# Failures, kills


@pytest.fixture
def picky(tmp_path: Path) -> str:
    """A score of a file that cannot look at more than one sample of a word, and of another one at none."""
    file = tmp_path / "picky.py"
    file.write_text(
        "def picky(step, *, most: int = 1):\n"
        "    if len(step) > most:\n        raise RuntimeError('too many at once')\n"
        "    return step.eps_cond.flatten(1).norm(dim=1)\n"
    )
    return str(file)


def test_what_one_method_cannot_do_is_lost_to_no_other_one(planted: Denoiser, tmp_path: Path, picky: str) -> None:
    asked = detections(["noise_norm", picky, "random"], {})
    same_as_alone(planted, tmp_path, asked, ALL, batch=5)
    bad = detections(["noise_norm", picky, "random"], {"picky.most": 0})
    same_as_alone(planted, tmp_path / "bad", bad[:1] + bad[2:], ALL, batch=5)
    summary = run_detection(planted, ALL, tmp_path / "bad" / "three", bad, batch=5)
    rows = read_rows(tmp_path / "bad" / "three")
    assert several.rows_of(rows, "noise_norm") == read_rows(tmp_path / "bad" / "noise_norm")
    failed = several.rows_of(rows, "picky")
    assert [r["error"] for r in failed] == ["RuntimeError: too many at once"] * len(ALL)
    assert {r["role"] for r in failed} == {"prompt"} and {r["flagged"] for r in failed} == {None}
    assert summary["failed"] == summary["methods"]["picky"]["failed"] == len(ALL)
    page = mn.open(tmp_path / "bad" / "three").report().read_text()
    assert "RuntimeError: too many at once" in page


def test_a_run_that_was_cut_short_goes_on_to_what_it_would_have_been(planted: Denoiser, tmp_path: Path) -> None:
    asked = detections(["noise_norm", "score_norm"], {"noise_norm.steps": 2})
    whole = run_detection(planted, ALL, tmp_path / "whole", asked, batch=3)
    summary = run_detection(planted, ALL, tmp_path / "run", asked, batch=3)
    for name in ("rows.jsonl", "work.jsonl"):  # as a kill leaves them, a row torn in two
        held = (tmp_path / "run" / name).read_text().splitlines(keepends=True)
        kept = held[:6] if name == "rows.jsonl" else held[:2]
        (tmp_path / "run" / name).write_text("".join(kept) + held[len(kept)][:20])
    (tmp_path / "run" / "summary.json").unlink()
    before = planted.network_evaluations
    summary = run_detection(planted, ALL, tmp_path / "run", asked, batch=3)
    assert 0 < planted.network_evaluations - before < whole["network_evaluations"]
    assert read_rows(tmp_path / "run") == read_rows(tmp_path / "whole")
    assert {k: v for k, v in summary.items() if k != "seconds"} == {k: v for k, v in whole.items() if k != "seconds"}
    with pytest.raises(UsageError, match="holds a run with other settings"):
        run_detection(planted, ALL, tmp_path / "run", asked[:1] + TWO[1:], batch=3)


# What other commands make of it


@pytest.fixture
def calibrated(planted: Denoiser, tmp_path: Path) -> Path:
    """Two methods that do not agree on what is flagged."""
    asked = detections(["noise_norm", "random"], {"random.salt": "b"})
    run_detection(planted, ALL, tmp_path / "run", asked, negatives=many(20), fpr=0.2)
    return tmp_path / "run"


def flagged(run: Path, method: str) -> list[str]:
    return [r["prompt"] for r in several.rows_of(read_rows(run), method) if r["flagged"] and r["role"] == "prompt"]


def test_prompts_of_a_run_are_those_that_the_named_method_flags(calibrated: Path) -> None:
    by_norm, by_chance = (flagged(calibrated, name) for name in ("noise_norm", "random"))
    assert by_norm != by_chance and by_norm
    assert [p.text for p in read_prompts(f"{calibrated}:noise_norm", only="flagged")] == by_norm
    assert [p.text for p in read_prompts(f"{calibrated}:random", only="flagged")] == by_chance
    every = read_prompts(calibrated)
    assert [p.text for p in every] == [p.text for p in ALL] and "score" not in every[0].source
    assert read_prompts(f"{calibrated}:random")[0].source["score"] == read_rows(calibrated)[1]["score"]
    with pytest.raises(UsageError, match="holds 2 methods: noise_norm, random; write .*run:noise_norm for that one"):
        read_prompts(calibrated, only="flagged")
    with pytest.raises(UsageError, match="and no noise_nrm; name one of them. Did you mean noise_norm?"):
        read_prompts(f"{calibrated}:noise_nrm", only="flagged")


def test_a_threshold_is_that_of_the_method_and_of_all_methods(planted: Denoiser, calibrated: Path, tmp_path) -> None:
    known = read_json(calibrated / "summary.json")["methods"]
    for place in (calibrated, calibrated / "summary.json", f"{calibrated}:noise_norm"):
        one = run_detection(planted, ALL, tmp_path / "one", Detection(), threshold=place, overwrite=True)
        assert one["threshold"] == known["noise_norm"]["threshold"]
    both = detections(["random", "noise_norm"], {"salt": "b"})
    again = run_detection(planted, ALL, tmp_path / "both", both, threshold=calibrated)
    assert {n: s["threshold"] for n, s in again["methods"].items()} == {n: s["threshold"] for n, s in known.items()}
    for asked, said in ((Detection("score_norm"), "and no score_norm"), (Detection("random"), "params.salt")):
        with pytest.raises(UsageError, match=said):
            run_detection(planted, ALL, tmp_path / "other", asked, threshold=calibrated)


def test_a_guard_takes_the_named_methods_threshold(planted: Denoiser, calibrated: Path) -> None:
    with pytest.raises(UsageError, match="write .*:noise_norm for that one"):
        Guard(planted.pipe, threshold=calibrated, mitigation="noise_descent")
    guard = Guard(planted.pipe, threshold=f"{calibrated}:noise_norm", mitigation="noise_descent")
    seen, known = guard("memorized 1").seen[0], read_json(calibrated / "summary.json")["methods"]["noise_norm"]
    assert seen["flagged"] and seen["threshold"] == known["threshold"]


def test_a_gate_holds_the_named_method_to_the_policy(calibrated: Path, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("checks:\n- {measure: flagged_share, max: 0.99, min_samples: 1}\n")
    policy = read_policy(tmp_path / "policy.yaml")
    with pytest.raises(UsageError, match="holds 2 methods"):
        run_gate([calibrated], policy)
    for name in ("noise_norm", "random"):
        run = Path(f"{calibrated}:{name}")
        verdict = run_gate([run], policy)
        assert verdict["checks"][0]["value"] == len(flagged(calibrated, name)) / len(ALL)
        assert verdict["checks"][0]["run"] == verdict["runs"][0]["run"] == str(run)
    assert (calibrated / "gate" / "verdict.json").is_file() and not run.exists()
    verdict = run_gate([run], policy, before=run)
    assert verdict["baseline"]["score_change"] == 0
    with pytest.raises(UsageError, match="score is another one"):
        run_gate([run], policy, before=Path(f"{calibrated}:noise_norm"))
    with pytest.raises(UsageError, match="run:noise_norm and .*run:random both answer the check"):
        run_gate([Path(f"{calibrated}:{name}") for name in ("noise_norm", "random")], policy)


def test_a_page_and_a_table_show_all_methods_side_by_side(calibrated: Path, planted: Denoiser, tmp_path: Path) -> None:
    opened = mn.open(calibrated)
    page = opened.report().read_text()
    summary = opened.summary["methods"]
    assert "2 methods side by side" in page and "Conditions of the threshold of random" in page
    for name, own in summary.items():
        assert f"{own['auc']:.3f}" in page and f"What {name} means" in page and f"AUC of {name}" in page
        assert "{:.3f} to {:.3f}".format(*own["auc_interval"]) in page
    every = set(flagged(calibrated, "noise_norm")) & set(flagged(calibrated, "random"))
    assert opened.headline.startswith(f"{len(every)} of {len(ALL)} prompts look")
    assert len(opened.rows) == 2 * (len(ALL) + 20) and set(opened.rows["method"]) == set(summary)
    run_detection(planted, ALL, tmp_path / "other", Detection("score_norm"), negatives=many(20))
    text = write([calibrated, tmp_path / "other"], tmp_path / "both.html").read_text()
    assert "3 runs compared" in text


# The command


def test_the_command_makes_one_run_of_all_methods_and_prints_what_makes_it_again(mnemoscope, tmp_path, picky) -> None:
    (tmp_path / "p.txt").write_text("a photo\na red octopus\n")
    words = ["detect", "demo", "--device", "cpu", "--prompts", tmp_path / "p.txt", "--num-inference-steps", 4]
    words += ["--method", "noise_norm", "--method", f"{picky}:picky", "--param", "picky.most=9"]
    code, out, err = mnemoscope(*words, "--param", "noise_norm.steps=2", "--out", tmp_path / "run")
    assert (code, err) == (0, "") and "2 prompts ranked by 2 methods" in out and "picky" in out
    record = read_json(tmp_path / "run" / "run.json")
    assert record["asked"]["parameters"]["method"] == ["noise_norm", f"{picky}:picky"]
    assert record["methods"]["picky"]["origin"]["file"] == "picky.py"
    assert len(read_rows(tmp_path / "run")) == 4
    asked = record["asked"]["words"]
    assert mnemoscope(*asked, "--out", tmp_path / "again")[0] == 0
    assert read_rows(tmp_path / "again") == read_rows(tmp_path / "run")
    Path(picky).write_text(Path(picky).read_text() + "# another one\n")
    code, _, err = mnemoscope(*asked, "--out", tmp_path / "run")
    assert code == 2 and "methods: picky.origin.sha256" in err


def test_one_method_is_recorded_as_ever(mnemoscope, tmp_path: Path) -> None:
    words = ["detect", "demo", "--prompts", "p.txt", "--dry-run", "--json"]
    (tmp_path / "s.yaml").write_text("method: random\n")
    (tmp_path / "two.yaml").write_text("method: [random, noise_norm]\n")
    asked = {
        (): "noise_norm",
        ("--method", "noise_norm"): "noise_norm",
        ("--config", tmp_path / "s.yaml"): "random",
        ("--config", tmp_path / "s.yaml", "--method", "flipd"): "flipd",
        ("--config", tmp_path / "two.yaml"): ["random", "noise_norm"],
    }
    for more, method in asked.items():
        assert json.loads(mnemoscope(*words, *more)[1])["parameters"]["method"] == method
    assert 'method: "noise_norm"  # default' in mnemoscope(*words[:-1])[1]


def test_a_sweep_over_methods_makes_a_run_of_each(mnemoscope, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a photo\n")
    words = ["detect", "demo", "--device", "cpu", "--prompts", tmp_path / "p.txt", "--num-inference-steps", 2]
    assert mnemoscope(*words, "--sweep", "method=random,noise_norm", "--out", tmp_path / "swept")[0] == 0
    for name in ("random", "noise_norm"):
        assert read_json(tmp_path / "swept" / f"method={name}" / "run.json")["settings"]["method"] == name


def test_what_the_commands_refuse(mnemoscope, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a photo\n")
    two = ["--prompts", tmp_path / "p.txt", "--method", "noise_norm", "--method", "random", "--out", tmp_path / "run"]
    code, _, err = mnemoscope("audit", "demo", *two)
    assert code == 2 and "An audit flags by one method, and noise_norm and random were given" in err
    code, _, err = mnemoscope("detect", "demo", *two, "--format", "wen")
    assert code == 2 and "--format wen holds noise_norm; leave out --method noise_norm and random" in err
    assert not (tmp_path / "run").exists()
    made = tmp_path / "made"
    run_detection(planted_model.model(), ALL, made, TWO)
    for words in (["import", made], ["rewrite", made], ["measure", made, "--references", made]):
        code, _, err = mnemoscope(*words, "--out", tmp_path / "run")
        assert code == 2 and err.startswith("mnemoscope: ") and len(err.splitlines()) == 1, err
