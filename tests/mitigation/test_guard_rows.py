"""Guard of pipelines that are known by a row: ordinary images bit for bit, flagged ones as a mitigated denoiser's."""

import functools
import json
from dataclasses import replace

import diffusers
import pytest
import torch

import mnemoscope as mn
import tiny
import tiny_families
from mnemoscope.detection.run import Detection, run_detection
from mnemoscope.mitigation.watch import keys_of
from mnemoscope.model import ablation
from mnemoscope.model.facts import from_cond
from mnemoscope.prompts.prompt import as_prompts
from tiny_families import NAMES, SPATIAL, model_of, pipeline

pytestmark = pytest.mark.filterwarnings("ignore")  # what the pipelines say about optional packages
PROMPTS = ["a cat", "two dogs on a mat", "red"]
ALIKE = ["a cat", "a dog", "the x"]  # where the pipeline's own result depends on the longest prompt of the batch
STEPS = 3


def asked_of(name, **more):
    call = dict(tiny_families.PIPES[name][1])
    if name == "aura":
        call |= {"height": 16, "width": 16}
    return {**call, "num_inference_steps": STEPS, "output_type": "latent", **more}


def states(pipe, draw):
    """The solver's last state of a call, whatever the pipeline makes of it, and the call's output."""
    kept, step = [], pipe.scheduler.step

    @functools.wraps(step)
    def spy(*args, **kwargs):
        kept.append(step(*args, **kwargs)[0])
        return (kept[-1],)

    pipe.scheduler.step = spy
    try:
        out = draw()
    finally:
        del pipe.scheduler.step
    return kept[-1], out


def given_noise(name, model, count):
    noise = model.initial_noise(list(range(count)))
    return noise, (noise if name in SPATIAL else model.family.row.packing.pack(noise))


def prompts_of(name):
    return list(ALIKE if name == "cogview4" else PROMPTS)


def scores_of(name, model, noise):
    sampling = {
        "num_inference_steps": STEPS,
        "guidance_scale": tiny_families.PIPES[name][1].get(model.family.row.scale),
    }
    step = next(model.steps(prompts_of(name), [0] * 3, latents=noise, **sampling))
    return mn.scores.noise_norm(step), step, sampling


METHODS = {
    "embedding_descent": {"iterations": 2},
    "noise_descent": {"iterations": 2},
    "guidance_schedule": {"tau": 400},
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_a_guarded_pipeline_draws_what_a_mitigated_denoiser_draws_and_else_what_it_drew(name, method):
    pipe, model = pipeline(name), model_of(name)
    given = METHODS[method] | ({} if method == "guidance_schedule" else {"target": f"0:{model.units}"})
    noise, packed = given_noise(name, model, 3)
    scores, step, sampling = scores_of(name, model, noise)
    limit = float(scores.sort().values[:2].mean())  # the lowest stays as it is
    about = {"threshold": limit, "units": model.units, **given}
    guard = mn.Guard(pipe, mitigation=method, **about)

    def draw(by):
        asked = asked_of(name, generator=tiny.generators(keys_of(step.x_t)), latents=packed.clone())
        return states(pipe, lambda: by(prompt=prompts_of(name), **asked))

    if method == "guidance_schedule" and not model.family.branches:
        with pytest.raises(mn.UsageError, match="its guidance is distilled into the network"):
            draw(guard)
        return
    bare, found = draw(pipe)[0], draw(guard)
    seen = found[1].seen
    assert [s["flagged"] for s in seen] == [s >= limit for s in scores.tolist()]
    assert [s["score"] for s in seen] == pytest.approx(scores.tolist(), rel=1e-3)
    changed = [not torch.equal(a, b) for a, b in zip(found[0], bare, strict=True)]
    assert changed == [s["flagged"] for s in seen]
    with mn.mitigate(model, method, threshold=f"{limit}:{model.units}", **given) as log:
        last = [*model.steps(prompts_of(name), keys_of(step.x_t), latents=noise, **sampling)][-1].x_prev
    ours = last if found[0].ndim == 4 else model.family.row.packing.pack(last)
    assert [s["flagged"] for s in log] == [s["flagged"] for s in seen]
    torch.testing.assert_close(ours.float(), found[0].float(), rtol=2e-2, atol=2e-3)
    assert not model.network._forward_hooks and "step" not in vars(pipe.scheduler)


@pytest.mark.parametrize("name", ["sd3", "qwenimage", "zimage", "cogview4"])
def test_bfloat16_ordinary_images_are_the_pipelines_own_to_the_bit(name):
    pipe, model = pipeline(name, torch.bfloat16), model_of(name, torch.bfloat16)
    _, packed = given_noise(name, model, 3)
    guard = mn.Guard(pipe, threshold=1e9, units=model.units)
    drawn = [
        states(pipe, lambda by=by: by(prompt=prompts_of(name), latents=packed.clone(), **asked_of(name)))
        for by in (pipe, guard)
    ]
    assert torch.equal(drawn[0][0], drawn[1][0]) and len(guard.seen) == 3
    if name in ("sd3", "zimage", "cogview4"):  # a guided call has both branches in it
        assert guard.model.network_evaluations == 0


@pytest.mark.parametrize("build", [tiny_families.sd3, tiny_families.flux])
def test_several_images_a_prompt_and_a_later_target_step(build):
    name = build.__name__
    pipe = build(diffusers.FlowMatchHeunDiscreteScheduler() if name == "sd3" else None)
    guard = mn.Guard(pipe, threshold="0:x0", target="0:x0", iterations=1, target_step=2)
    out = guard("a cat", num_images_per_prompt=2, generator=tiny.generators([1, 2]), **asked_of(name))
    model = mn.Denoiser(pipe, call={k: v for k, v in asked_of(name).items() if k in ("height", "width")})
    assert [len(s["embedding_descent"]["score"]) for s in out.seen] == [2, 2] and out.images.isfinite().all()
    assert model.network_evaluations == 0 and "step" not in vars(pipe.scheduler)


@pytest.mark.parametrize("solver", ["DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_a_later_target_step_under_several_solvers(solver):
    own = diffusers.DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02)
    pipe = tiny_families.pixart(getattr(diffusers, solver).from_config(own.config))
    asked = asked_of("pixart", num_inference_steps=4)
    guard = mn.Guard(pipe, threshold=0, target=0, iterations=2, target_step=2)
    out = guard("a cat", generator=tiny.generators([3]), **asked)
    model = mn.Denoiser(pipe, call={"max_sequence_length": 48})
    with mn.mitigate(model, "embedding_descent", target=0, iterations=2, target_step=2) as log:
        ours = [*model.steps(["a cat"], [3], num_inference_steps=4)][-1].x_prev
    assert log[0]["embedding_descent"]["score"] == pytest.approx(out.seen[0]["embedding_descent"]["score"], rel=1e-3)
    torch.testing.assert_close(ours, out.images, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["sd3", "lumina2"])
def test_a_negative_prompt_does_not_change_what_is_flagged(name):
    pipe, model = pipeline(name), model_of(name)
    noise, packed = given_noise(name, model, 2)
    guard = mn.Guard(pipe, threshold=1e9, units="x0")
    asked = asked_of(name, latents=packed)
    plain = guard(["a cat", "red"], **asked).seen
    negative = guard(["a cat", "red"], negative_prompt=["a dog"] * 2, **asked).seen
    assert [s["score"] for s in negative] == pytest.approx([s["score"] for s in plain], rel=1e-4)
    guard = mn.Guard(pipe, threshold="0:x0", iterations=2)
    calls = {"negative_prompt": ["a dog"] * 2, **asked}
    _, out = states(pipe, lambda: guard(["a cat", "red"], **{**calls, "latents": packed.clone()}))
    assert all(s["embedding_descent"]["score"][-1] < s["score"] for s in out.seen)


def test_embeddings_in_the_place_of_prompts():
    pipe = tiny_families.sd3()
    embeds, none, pooled, pooled_none = pipe.encode_prompt("a cat", None, None, max_sequence_length=32)
    given = {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled, "negative_prompt_embeds": none}
    asked = asked_of("sd3", generator=tiny.generators([1]), negative_pooled_prompt_embeds=pooled_none, **given)
    by_words = mn.Guard(pipe, threshold="9:x0")("a cat", **asked_of("sd3", generator=tiny.generators([1])))
    (seen,), (same,) = mn.Guard(pipe, threshold="9:x0")(**asked).seen, by_words.seen
    assert seen["score"] == pytest.approx(same["score"], rel=1e-4)
    words = mn.Guard(pipe, threshold="0:x0", mitigation="repeat_words", count=1)
    with pytest.raises(mn.UsageError, match="^repeat_words changes the prompt's words, and only embeddings were given"):
        words(**{**asked, "generator": None})
    changed = words("a cat", **asked_of("sd3", generator=tiny.generators([1]))).seen
    assert changed[0]["used_prompt"] != "a cat"


def test_a_calibrated_threshold_holds_under_its_own_conditions_only(tmp_path):
    pipe = tiny_families.sd3()
    model, call = mn.Denoiser(pipe), {"num_inference_steps": STEPS, "output_type": "latent"}
    negatives = as_prompts(f"photo {i}" for i in range(100))
    options = Detection(num_inference_steps=STEPS, guidance_scale=7.0)
    run_detection(model, as_prompts(["a cat"]), tmp_path, options, negatives=negatives)
    (seen,) = mn.Guard(pipe, threshold=tmp_path)("a cat", **call).seen
    assert seen["threshold"] == json.loads((tmp_path / "summary.json").read_text())["threshold"] > 0
    with pytest.raises(mn.UsageError, match="guidance_scale 7.0 there, 4.0 here"):
        mn.Guard(pipe, threshold=tmp_path)("a cat", guidance_scale=4.0, **call)
    with pytest.raises(mn.UsageError, match="latent_shape"):
        mn.Guard(pipe, threshold=tmp_path)("a cat", height=16, width=16, **call)


REFUSED = {
    "flux": {"true_cfg_scale": 4.0, "negative_prompt": "red"},
    "hunyuandit": {"guidance_rescale": 0.7},
    "lumina2": {"cfg_trunc_ratio": 0.5},
    "zimage": {"cfg_truncation": 0.5},
    "sd3": {"skip_guidance_layers": [0]},
    "wan": {"num_frames": 5},
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_row_does_not_describe_is_refused_before_anything_is_drawn(name):
    guard = mn.Guard(pipeline(name), threshold=1, units="x0")
    with pytest.raises(mn.UsageError, match=f"^Guard .*{next(iter(REFUSED[name]))}") as refused:
        guard("a cat", **{**asked_of(name), **REFUSED[name]})
    assert "\n" not in str(refused.value) and not guard.model.network._forward_hooks


def test_a_network_with_a_cache_is_refused():
    pipe = tiny_families.flux()
    pipe.transformer.enable_cache(diffusers.FasterCacheConfig(current_timestep_callback=lambda: 1))
    with pytest.raises(mn.UsageError, match="has a cache enabled"):
        mn.Guard(pipe, threshold="0:x0")("a cat", **asked_of("flux"))


def test_another_combination_of_the_branches_is_found_out():
    guard = mn.Guard(tiny_families.sd3(), threshold="0:x0")
    guard.model.family.row = replace(guard.model.family.row, combine=from_cond)
    with pytest.raises(mn.UsageError, match="its branches are combined in another way"):
        guard("a cat", **asked_of("sd3"))


@pytest.mark.parametrize("method", ["eot_mask", "padding_mask", "pad_fix", "attention_rescaling"])
def test_a_mitigation_that_a_row_family_cannot_have_is_refused_in_one_sentence(method):
    guard = mn.Guard(pipeline("sd3"), threshold="0:x0", mitigation=method)
    with pytest.raises(mn.UsageError) as refused:
        guard("a cat", **asked_of("sd3"))
    assert len(str(refused.value)) < 250 and "\n" not in str(refused.value)
    assert not guard.model.network._forward_hooks and "step" not in vars(guard.pipe.scheduler)


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_neurons_are_ablated_for_the_flagged_images_alone(name):
    pipe, model = pipeline(name), model_of(name)
    noise, packed = given_noise(name, model, 3)
    scores, _, _ = scores_of(name, model, noise)
    limit = float(scores.sort().values[:2].mean())
    given = {"mitigation": "neuron_ablation", "neurons": {next(iter(ablation.layers(model))): [0, 1, 2, 3]}}
    guard = mn.Guard(pipe, threshold=limit, units="x0", **given)
    drawn = [
        states(pipe, lambda by=by: by(prompt=prompts_of(name), latents=packed.clone(), **asked_of(name)))[0]
        for by in (pipe, guard)
    ]
    changed = [not torch.equal(a, b) for a, b in zip(*drawn, strict=True)]
    assert changed == [s["flagged"] for s in guard.seen] == [s >= limit for s in scores.tolist()]
