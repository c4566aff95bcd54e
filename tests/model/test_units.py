"""The text's push and its unit: defined at pure noise, the old number to the bit elsewhere, said wherever it counts."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

import mnemoscope as mn
import tiny
from mnemoscope import planted, registry, stats
from mnemoscope.detection.run import Detection, run_detection
from mnemoscope.errors import UsageError
from mnemoscope.methods.amounts import Amount, aimed
from mnemoscope.methods.gate import Gate
from mnemoscope.methods.thresholds import stored_threshold
from mnemoscope.model import schedule
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.training.filter import text_push

pytestmark = pytest.mark.filterwarnings(  # diffusers' solvers make arrays of tensors, which numpy 2 finds outdated
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
NOISY = ("zero-snr", "flow")  # processes that begin at pure noise
MODELS = {process: planted.model(process) for process in ("vp", *NOISY)}
REFUSED = {"score_norm", "uncond_norm", "sharpness", "last_step_difference", "flipd"}
MEMORIZED, ORDINARY = ["memorized 0", "memorized 3"], ["ordinary 1", "ordinary 2"]
MASK = {"masked_noise_norm": {"mask": torch.ones(16, 16)}}  # the planted network has no attention to take a mask from


def trajectory(model: mn.Denoiser, prompts=(*MEMORIZED, *ORDINARY), seed=3, steps=20) -> mn.Trajectory:
    return mn.Trajectory(model, list(prompts), seed, num_inference_steps=steps)


def first(process: str, prompts=(*MEMORIZED, *ORDINARY)):
    return trajectory(MODELS[process], prompts).first(1)[0]


# What the push is


@pytest.mark.parametrize("kind", schedule.PREDICTION_TYPES)
def test_the_push_is_the_difference_of_the_predicted_clean_images(kind):
    alpha, sigma = (0.4, 0.6) if kind == "flow_prediction" else (0.6, 0.8)
    x_t, one, two = (tiny.latents(2, seed=s).double() for s in range(3))
    expected = schedule.to_x0(one, x_t, alpha, sigma, kind) - schedule.to_x0(two, x_t, alpha, sigma, kind)
    torch.testing.assert_close(schedule.to_push(one - two, alpha, sigma, kind), expected)
    eps = schedule.to_eps(one, x_t, alpha, sigma, kind) - schedule.to_eps(two, x_t, alpha, sigma, kind)
    torch.testing.assert_close(expected, -sigma / alpha * eps)


def test_a_swapped_step_guides_from_the_prompt_to_the_null():
    step = first("vp")
    toward, scale = step.native, step.guidance_scale
    step.swapped = True
    step.__dict__.pop("native")
    assert scale > 1 and not torch.allclose(step.native_cond, step.native_uncond)
    torch.testing.assert_close(step.native + toward, step.native_cond + step.native_uncond)
    torch.testing.assert_close(step.native, (1 - scale) * step.native_cond + scale * step.native_uncond)


@pytest.mark.parametrize("process", NOISY)
def test_at_pure_noise_the_push_is_that_of_the_prior_means_and_memorized_prompts_have_more_of_it(process):
    step = first(process)
    assert (step.alpha, step.sigma) == (0, 1) and step.pure_noise and MODELS[process].units == "x0"
    weights = torch.zeros(4, planted.MEMORIZED)
    weights[0, 0] = weights[1, 3] = 1 - planted.DOUBT
    prior = weights - planted.MEMORIZED_SHARE / planted.MEMORIZED
    expected = torch.einsum("bn,nchw->bchw", prior, planted.images())
    torch.testing.assert_close(step.push, expected, rtol=1e-3, atol=1e-4)
    assert torch.equal(mn.scores.noise_norm(step), step.push.flatten(1).norm(dim=1))
    assert torch.equal(step.eps_cond, step.eps_uncond)  # which is why it cannot be the push in eps


def test_predicted_noise_says_nothing_at_pure_noise():
    x = torch.ones(1)
    with pytest.raises(UsageError, match="^At pure noise no image follows from the predicted noise; look at a later"):
        schedule.to_push(x, 0.0, 1.0, "epsilon")
    for kind in ("v_prediction", "sample", "flow_prediction"):
        with pytest.raises(UsageError, match="^At pure noise no image follows from the predicted noise; change"):
            schedule.from_eps(x, x, 0.0, 1.0, kind)
    pipe = tiny.stable_diffusion()
    pipe.scheduler = tiny.scheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing")
    with pytest.raises(UsageError, match="^The sampling begins at pure noise, and of predicted noise no image follows"):
        mn.Trajectory(mn.Denoiser(pipe), "a", 0)


# Old numbers stay


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("solver", ["ddim", "euler", "dpm++"])
def test_where_the_schedule_begins_with_an_image_noise_norm_is_the_old_number_to_the_bit(kind, solver):
    pipe = tiny.stable_diffusion(kind, solver)
    model = mn.Denoiser(pipe)
    for step in trajectory(model, ["a cat", "two dogs"], steps=5).first(3):
        alpha, sigma = schedule.alpha_sigma(pipe.scheduler, step.t)
        cond, uncond = (
            schedule.to_eps(n.float(), step.x_t.float(), alpha, sigma, kind)
            for n in (step.native_cond, step.native_uncond)
        )
        assert torch.equal(mn.scores.noise_norm(step), (cond - uncond).flatten(1).norm(dim=1))
        in_x0 = mn.scores.noise_norm(step, units="x0")
        torch.testing.assert_close(in_x0, sigma / alpha * mn.scores.noise_norm(step), rtol=1e-4, atol=1e-5)
    assert model.units == "eps"


def test_a_threshold_of_before_there_were_units_holds_as_ever(tmp_path: Path):
    model, detection = MODELS["vp"], Detection(num_inference_steps=20)
    now = detection.conditions(model)
    old = {k: v for k, v in now.items() if k != "units"}
    assert now["units"] == "eps" and "units" not in old["params"]
    (tmp_path / "summary.json").write_text(json.dumps({"threshold": 0.5, "conditions": old}))
    assert stored_threshold(tmp_path, now) == 0.5
    with pytest.raises(UsageError, match="holds for other conditions"):
        stored_threshold(tmp_path, Detection(num_inference_steps=20, params={"units": "x0"}).conditions(model))
    gate = Gate.of(tmp_path)
    with mn.mitigate(model, "embedding_descent", threshold=tmp_path) as log:
        mn.Trajectory(model, ["memorized 0", "ordinary 1"], 3, num_inference_steps=20).first(1)
    assert gate.units is None and [each["flagged"] for each in log] == [True, False]


@pytest.mark.parametrize("process", ["vp", "flow"])
def test_rows_in_x0_have_the_push_an_element_beside_the_score(process, tmp_path: Path):
    prompts = [Prompt("a", "memorized 0"), Prompt("b", "ordinary 1")]
    run_detection(MODELS[process], prompts, tmp_path, Detection(num_inference_steps=5))
    for line in (tmp_path / "rows.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert row.get("per_element") == (pytest.approx(row["score"] / 768**0.5) if process == "flow" else None)


# The contract at pure noise: no constant, no zero gradient, no NaN


@pytest.mark.parametrize("process", NOISY)
@pytest.mark.parametrize("name", registry.names("score"))
def test_at_pure_noise_a_score_tells_prompts_apart_or_refuses(process, name):
    function = registry.get("score", name).function
    step = first(process)
    if name in REFUSED:
        with pytest.raises(UsageError, match=f"^{name} is undefined at step 0, where x_t is pure noise; look at a"):
            function(step)
        return
    with torch.no_grad():
        values = function(step)
    assert values.isfinite().all() and values[:2].min() > 2 * values[2:].max()
    leaf = {k: v.clone().requires_grad_() for k, v in step.cond.items()}
    seen = MODELS[process].observe(step.x_t, step.t, leaf)
    (gradient,) = torch.autograd.grad(function(seen).sum(), leaf["encoder_hidden_states"])
    assert gradient.isfinite().all() and (gradient.flatten(1).norm(dim=1)[:2] > 0).all()


@pytest.mark.parametrize("process", NOISY)
@pytest.mark.parametrize("name", [n for n in registry.names("detect") if n != "random"])
def test_a_detector_of_a_sampling_from_pure_noise_tells_prompts_apart(process, name):
    texts = [p for p in (*MEMORIZED, *ORDINARY) for _ in range(2)]
    steps = mn.Trajectory(MODELS[process], texts, [3, 4] * 4, num_inference_steps=10)
    found = mn.detect(steps, name, **MASK.get(name, {}))
    assert found.isfinite().all() and found[:4].min() > found[4:].max()


@pytest.mark.parametrize("process", NOISY)
@pytest.mark.parametrize("name", ["token_gradients", "token_occlusion", "embedding_classes"])
def test_an_explanation_at_pure_noise_is_of_the_words(process, name):
    found = mn.explain(trajectory(MODELS[process], MEMORIZED), name, steps=1)
    assert found.isfinite().all() and (found[:, 1:3].abs().amax(1) > 0.1).all()
    assert found[0].unique().numel() > 1


@pytest.mark.parametrize("process", NOISY)
@pytest.mark.parametrize("name", [n for n in registry.explainers("regions") if n != "bright_ending"])
def test_a_map_at_pure_noise_refuses_and_at_a_later_step_shows_something(process, name):
    steps = trajectory(MODELS[process], MEMORIZED)
    with pytest.raises(UsageError, match=f"^{name}.* is undefined at step 0, where x_t is pure noise"):
        mn.explain(steps, name, steps=1)
    later = mn.explain(steps, name, steps=[1])
    assert later.isfinite().all() and (later.amax((1, 2)) > 0).all() and later[0].std() > 0


@pytest.mark.parametrize("process", NOISY)
def test_a_difference_map_in_x0_shows_the_memorized_image_at_pure_noise(process):
    steps = trajectory(MODELS[process], MEMORIZED)
    found = mn.explain(steps, "difference_map", steps=1, units="x0")
    torch.testing.assert_close(found, steps.first(1)[0].push.square().sum(1))


DESCENTS = {
    "embedding_descent": {"iterations": 8},
    "noise_descent": {"iterations": 3},
    "noise_descent sail": {"variant": "sail", "iterations": 3, "lr": 0.5},
    "noise_descent sail_released": {"variant": "sail_released", "iterations": 3, "lr": 0.5},
    "noise_descent batch_wise": {"variant": "batch_wise"},
    "noise_descent tau": {"iterations": 1, "tau": 500},
    "embedding_noise": {"scale": 0.5},
    "guidance_schedule": {"tau": 500},
    "guidance_schedule dynamic": {"mode": "dynamic", "tau": 100},
}


@pytest.mark.parametrize("process", NOISY)
@pytest.mark.parametrize("name", DESCENTS)
def test_a_mitigation_of_a_sampling_from_pure_noise_changes_it_and_stays_finite(process, name):
    model = MODELS[process]
    plain = trajectory(model, MEMORIZED, steps=20).all()
    with mn.mitigate(model, name.partition(" ")[0], **DESCENTS[name]) as log:
        changed = trajectory(model, MEMORIZED, steps=20).all()
    assert all(s.x_prev.isfinite().all() for s in changed) and len(log) == 2
    moved = [(a.native - b.native).abs().max() for a, b in zip(changed, plain, strict=True)]
    assert max(moved) > 1e-3
    objective = log[0].get("noise_descent", log[0].get("embedding_descent", {}))
    for values in objective.values():
        assert len(values) > 1 and all(v > 0 for v in values) and len(set(values)) > 1


@pytest.mark.parametrize("process", NOISY)
def test_noise_descent_looks_at_a_step_that_the_noise_reaches_and_brings_the_score_down_there(process):
    model, changed = MODELS[process], []
    plain = trajectory(model, ["memorized 0"]).first(2)
    with model.edit("start", lambda start: None), mn.mitigate(model, "noise_descent", iterations=30, lr=0.2) as log:
        changed = trajectory(model, ["memorized 0"]).first(1)
    (values,) = log[0]["noise_descent"].values()
    alpha, sigma = plain[1].alpha, plain[1].sigma
    mean = plain[0].x0_cond - plain[0].push  # predicted for no prompt
    for noise, value in ((plain[0].x_t, values[0]), (changed[0].x_t, values[-1])):
        step = model.observe(alpha * mean + sigma * noise, plain[1].t, plain[0].cond)
        assert mn.scores.noise_norm(step).item() == pytest.approx(value, rel=1e-3)
    assert values[-1] < 0.9 * values[0]


@pytest.mark.parametrize("form", ["joint", "element"])
def test_the_training_filter_sees_the_push_at_pure_noise_in_x0_alone(form):
    cond, null = tiny.latents(3, seed=1), tiny.latents(3, seed=2)
    alpha, sigma = torch.tensor([0.0, 0.6, 0.28]), torch.tensor([1.0, 0.8, 0.96])
    size = (cond - null).flatten(1).norm(dim=1) / (1 if form == "joint" else cond[0].numel() ** 0.5)
    in_x0 = text_push(cond, null, alpha, sigma, "v_prediction", form=form, units="x0")
    torch.testing.assert_close(in_x0, sigma * size)
    torch.testing.assert_close(text_push(cond, null, alpha, sigma, "v_prediction", form=form), alpha * size)


# Separation at the first step, whatever the solver


@pytest.mark.parametrize("solver", ["ddim", "euler", "dpm++", "unipc"])
def test_a_zero_snr_model_tells_memorized_prompts_from_ordinary_ones_at_the_first_step(solver):
    model = planted.model("zero-snr")
    from mnemoscope.model.solvers import swapped

    model.pipe.scheduler = swapped(solver, model.pipe.scheduler)
    model = mn.Denoiser(model.pipe)
    memorized, ordinary = (mn.detect(trajectory(model, planted.prompts(said)), "noise_norm") for said in (True, False))
    assert stats.auc(memorized.double().numpy(), ordinary.double().numpy()) == 1 and model.units == "x0"
    assert memorized.min() > 5 * ordinary.max() and memorized.min() > 10  # about the same in every solver


@pytest.mark.parametrize("solver", ["own", "euler"])
@pytest.mark.parametrize("process", NOISY)
def test_a_guard_flags_memorized_prompts_from_pure_noise_on(process, solver):
    from mnemoscope.model.solvers import swapped

    pipe = tiny.quiet(planted.pipeline(process))
    if solver != "own":
        if process == "flow":
            pytest.skip("a flow has its own solver")
        pipe.scheduler = swapped(solver, pipe.scheduler)
    with pytest.raises(UsageError, match="^The threshold 9 has no unit, and this model's push is in x0"):
        mn.Guard(pipe, threshold=9, iterations=3)("memorized 0", num_inference_steps=4, output_type="latent")
    guard = mn.Guard(pipe, threshold=9, units="x0", iterations=20)
    seen = guard(["memorized 0", "ordinary 1"], num_inference_steps=4, output_type="latent").seen
    assert [each["flagged"] for each in seen] == [True, False] and seen[0]["units"] == "x0"
    assert seen[0]["embedding_descent"]["score"][-1] <= 9 < seen[0]["embedding_descent"]["score"][0]


# Numbers that people give


@pytest.mark.parametrize(
    ("given", "units", "expected"),
    [
        (1.5, None, Amount(1.5)),
        ("1.5", None, Amount(1.5)),
        ("1.5:x0", None, Amount(1.5, "x0")),
        ("2e1:eps", "eps", Amount(20.0, "eps")),
        (3, "x0", Amount(3.0, "x0")),
    ],
)
def test_a_number_has_a_unit_if_one_is_said(given, units, expected):
    assert Amount.of(given, "it", units) == expected == Amount.of(expected, "it")


@pytest.mark.parametrize("given", ["", "a", "1.5:", "1.5:v", ":x0", "nan", "inf:x0", True, None, "1:x0:x0"])
def test_what_is_no_number_with_a_unit_is_refused(given):
    with pytest.raises(UsageError, match=f"^it was '{given}'; give a number, with a unit where it needs one: 1.5:eps"):
        Amount.of(given, "it")


def test_two_units_of_one_number_are_refused():
    with pytest.raises(UsageError, match="^it was '1:eps', and units=x0; give one unit.$"):
        Amount.of("1:eps", "it", "x0")


def test_a_target_goes_with_the_score_in_its_unit():
    noise_norm = mn.scores.noise_norm
    vp, flow = MODELS["vp"], MODELS["flow"]
    assert aimed("noise_norm", 1.5, vp) == (noise_norm, 1.5) == aimed("noise_norm", "1.5:eps", vp)
    assert aimed("noise_norm", "4:x0", flow) == (noise_norm, 4) and aimed("noise_norm", None, flow)[1] is None
    function, target = aimed("noise_norm", "4:x0", vp)
    assert target == 4 and function.keywords == {"units": "x0"}
    assert aimed(partial(noise_norm, units="x0"), 4, flow)[1] == 4
    assert aimed("sharpness", 4, flow)[1] == 4 and aimed(len, 4, flow) == (len, 4)
    for score, given, said in (
        ("noise_norm", 1.5, "The target 1.5 has no unit, and this model's push is in x0"),
        ("sharpness", "1:x0", "The target was given in x0, and sharpness has no such unit"),
        (partial(noise_norm, units="x0"), "1:eps", "The target is in eps, and the score in x0"),
        ("anisotropy", "1:eps", "anisotropy is in x0 for this model; give the target in it."),
    ):
        with pytest.raises(UsageError, match=f"^{said}"):
            aimed(score, given, flow)


@pytest.mark.parametrize("name", ["embedding_descent", "noise_descent"])
def test_a_descent_reaches_a_target_in_x0_and_refuses_one_without_a_unit(name):
    model = MODELS["flow"]
    with pytest.raises(UsageError, match="^The target 5 has no unit"), mn.mitigate(model, name, target=5):
        trajectory(model, ["memorized 0"]).first(1)
    target = {"embedding_descent": "8:x0", "noise_descent": "12:x0"}[name]
    with mn.mitigate(model, name, target=target, iterations=40, lr=0.1) as log:
        trajectory(model, ["memorized 0"]).first(1)
    (values,) = log[0][name].values()
    assert values[-1] <= Amount.of(target, "").value < values[0]


def test_detection_says_the_unit_and_takes_a_threshold_with_it(tmp_path: Path):
    model, prompts = MODELS["flow"], [Prompt(p, p) for p in (*MEMORIZED, *ORDINARY)]
    asked = Detection(num_inference_steps=20)
    summary = run_detection(model, prompts, tmp_path / "a", asked, threshold="5:x0")
    rows = [json.loads(line) for line in (tmp_path / "a" / "rows.jsonl").read_text().splitlines()]
    assert [r["flagged"] for r in rows] == [True, True, False, False] and {r["units"] for r in rows} == {"x0"}
    assert summary["units"] == summary["conditions"]["units"] == "x0" and summary["threshold"] == 5
    with pytest.raises(UsageError, match="^The threshold 5 was given without a unit; noise_norm takes 5:x0 here.$"):
        run_detection(model, prompts, tmp_path / "b", asked, threshold="5")
    with pytest.raises(UsageError, match="^The threshold 5 was given in eps; noise_norm takes 5:x0 here.$"):
        run_detection(model, prompts, tmp_path / "b", asked, threshold="5:eps")
    with pytest.raises(UsageError, match="^The threshold 5 was given in x0; flipd takes 5 here.$"):
        run_detection(model, prompts, tmp_path / "b", Detection("flipd", num_inference_steps=20), threshold="5:x0")
    plain = run_detection(MODELS["vp"], prompts, tmp_path / "c", asked, threshold="0.5")
    assert plain["threshold"] == 0.5 and plain["units"] == "eps" and plain["flagged"] == 2


# What a narrow dtype costs


@pytest.mark.parametrize("method", ["noise_norm", "last_step_difference"])
def test_a_detection_in_a_narrow_dtype_says_how_far_it_is_off_and_leaves_the_model_as_it_was(tmp_path: Path, method):
    prompts = [Prompt(str(k), text) for k, text in enumerate(["a cat", "two dogs", "the sea", "red", "blue", "a fox"])]
    asked = Detection(method, num_inference_steps=4)
    wide = run_detection(mn.Denoiser(tiny.stable_diffusion("v_prediction")), prompts, tmp_path / "wide", asked)
    model = mn.Denoiser(tiny.stable_diffusion("v_prediction").to(torch.bfloat16))
    before = [p.clone() for p in model.network.parameters()]
    narrow = run_detection(model, prompts, tmp_path / "narrow", asked)
    rows = [
        [json.loads(line)["score"] for line in (tmp_path / name / "rows.jsonl").read_text().splitlines()]
        for name in ("narrow", "wide")
    ]
    errors = [abs(a - b) / b for a, b in zip(*rows, strict=True)][:4]
    found = narrow["dtype_error"]
    assert "dtype_error" not in wide and found["prompts"] == 4
    assert found["max"] == pytest.approx(max(errors), rel=0.5) and 0 < found["mean"] <= found["max"]
    assert any(note.startswith("In bfloat16 the scores of 4 prompts are off by up to") for note in narrow["notes"])
    assert narrow["network_evaluations"] == wide["network_evaluations"]
    assert all(torch.equal(a, b) for a, b in zip(before, model.network.parameters(), strict=True))
