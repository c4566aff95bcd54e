"""Guard: the user's own pipeline, touched only where its first step passes a threshold."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import mnemoscope as mn
import tiny
from mnemoscope import features, planted
from mnemoscope.detection.run import Detection, run_detection
from mnemoscope.model import schedule
from mnemoscope.model.start import Start
from mnemoscope.prompts.prompt import as_prompts

pytestmark = pytest.mark.filterwarnings(  # diffusers' solvers make arrays of tensors, which numpy 2 finds outdated
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
ASKED = {"num_inference_steps": 20, "guidance_scale": 3.0}
MIXED = ["ordinary 1", "memorized 0", "ordinary 2", "memorized 3"]
FLAGGED = [False, True, False, True]
LIMIT = 0.8  # between the planted model's two kinds


@pytest.fixture(scope="module")
def pipe():
    return tiny.quiet(planted.pipeline())


def arrays(images) -> list[np.ndarray]:
    return [np.asarray(i, int) for i in images]


def plain(pipe, prompts, seeds, **options):
    return arrays(pipe(prompts, generator=tiny.generators(seeds), **{**ASKED, **options}).images)


def test_only_flagged_images_are_touched_and_the_others_are_bit_identical(pipe) -> None:
    before = plain(pipe, MIXED, [1, 2, 3, 4])
    guard = mn.Guard(pipe, threshold=LIMIT, target=0.05, iterations=30)
    out = guard(MIXED, generator=tiny.generators([1, 2, 3, 4]), **ASKED)
    assert [s["flagged"] for s in out.seen] == FLAGGED and guard.seen is out.seen
    changed = [np.abs(a - b).max() for a, b in zip(before, arrays(out.images), strict=True)]
    assert [c > 0 for c in changed] == FLAGGED
    assert all(
        "embedding_descent" in s and s["mitigation"] == ["embedding_descent"] for s in (out.seen[1], out.seen[3])
    )
    assert plain(pipe, MIXED, [1, 2, 3, 4])[1].tolist() == before[1].tolist()


def test_planted_copies_are_gone(pipe) -> None:
    truth = [np.asarray(i.permute(1, 2, 0) * 127.5 + 127.5) for i in planted.images()]
    prompts = planted.prompts(memorized=True)
    copies = [np.abs(a - b).mean() for a, b in zip(plain(pipe, prompts, [5] * 4), truth, strict=True)]
    guard = mn.Guard(pipe, threshold=LIMIT, target=0.02, iterations=60)
    out = arrays(guard(prompts, generator=tiny.generators([5] * 4), **ASKED).images)
    left = [np.abs(a - b).mean() for a, b in zip(out, truth, strict=True)]
    assert max(copies) < 4 and min(left) > 20


MITIGATIONS = {
    "embedding_descent": {"target": 0.1},
    "noise_descent": {"target": 0.5, "iterations": 3},
    "guidance_schedule": {"tau": 500},
    "embedding_noise": {"scale": 0.3},
    "attention_rescaling": {},
    "repeat_words": {"count": 2},
}


@pytest.mark.parametrize("name", MITIGATIONS)
@pytest.mark.parametrize("solver", ["ddim", "euler"])
def test_a_guarded_pipeline_draws_what_a_mitigated_denoiser_draws(name: str, solver: str) -> None:
    pipe = tiny.quiet(tiny.stable_diffusion(scheduler=solver))
    model, prompts = mn.Denoiser(pipe), ["a cat", "two dogs in the sea", "red"]
    noise = tiny.latents(3)
    scores = mn.scores.noise_norm(next(model.steps(prompts, [0] * 3, latents=noise, **ASKED)))
    limit = float(scores.sort().values[:2].mean())  # the lowest stays as it is
    guard = mn.Guard(pipe, threshold=limit, mitigation=name, **MITIGATIONS[name])
    out = guard(prompts, latents=noise.clone(), output_type="latent", **ASKED).images
    seeds = [s for s in keys(noise * float(pipe.scheduler.init_noise_sigma), solver, pipe)]
    with mn.mitigate(model, name, threshold=limit, **MITIGATIONS[name]):
        *_, last = model.steps(prompts, seeds, latents=noise, **ASKED)
    torch.testing.assert_close(out, last.x_prev, rtol=1e-4, atol=1e-5)
    bare = pipe(prompts, latents=noise.clone(), output_type="latent", **ASKED).images
    assert [bool((a != b).any()) for a, b in zip(out, bare, strict=True)] == [bool(s >= limit) for s in scores]


def keys(x: torch.Tensor, solver: str, pipe) -> list[int]:
    """What the guard tells images apart by, where no seed is known: their noise."""
    import copy
    import zlib

    scheduler = copy.deepcopy(pipe.scheduler)
    scheduler.set_timesteps(ASKED["num_inference_steps"])
    x_t = scheduler.scale_model_input(x, scheduler.timesteps[0])
    return [zlib.crc32(row.numpy().tobytes()) for row in x_t]


def test_an_ordinary_batch_costs_no_evaluation(pipe) -> None:
    guard = mn.Guard(pipe, threshold=LIMIT)
    guard(["ordinary 1", "ordinary 2"], **ASKED)
    assert guard.model.network_evaluations == 0


def test_a_flagged_image_costs_what_the_mitigation_says(pipe) -> None:
    guard = mn.Guard(pipe, threshold=LIMIT, iterations=3, target=0.0)
    out = guard(MIXED, generator=tiny.generators([1, 2, 3, 4]), **ASKED)
    tests = len(out.seen[1]["embedding_descent"]["score"])
    assert tests == 4
    assert guard.model.network_evaluations == 2 * tests + 2 * 2  # and the first step anew, both branches


def test_several_images_a_prompt_and_one_generator(pipe) -> None:
    guard = mn.Guard(pipe, threshold=LIMIT, target=0.1)
    asked = {**ASKED, "num_images_per_prompt": 2}
    out = guard(MIXED[:2], generator=torch.Generator().manual_seed(0), **asked)
    assert [s["flagged"] for s in out.seen] == [False, False, True, True]
    bare = pipe(MIXED[:2], generator=torch.Generator().manual_seed(0), **asked).images
    same = [np.array_equal(a, b) for a, b in zip(arrays(out.images), arrays(bare), strict=True)]
    assert same == [True, True, False, False]


def test_embeddings_in_the_place_of_prompts(pipe) -> None:
    embeds = pipe.encode_prompt(MIXED, pipe.device, 1, False)[0]
    nothing = pipe.encode_prompt([""] * 4, pipe.device, 1, False)[0]
    guard = mn.Guard(pipe, threshold=LIMIT, target=0.1)
    seeds = tiny.generators([1, 2, 3, 4])
    out = guard(prompt_embeds=embeds, negative_prompt_embeds=nothing, generator=seeds, **ASKED)
    assert [s["flagged"] for s in out.seen] == FLAGGED
    words = mn.Guard(pipe, threshold=LIMIT, mitigation="repeat_words", count=1)
    with pytest.raises(mn.UsageError, match="^repeat_words changes the prompt's words, and only embeddings were given"):
        words(prompt_embeds=embeds, negative_prompt_embeds=nothing, **ASKED)


def test_a_negative_prompt_does_not_change_what_is_flagged(pipe) -> None:
    guard = mn.Guard(pipe, threshold=LIMIT, target=0.1)
    seen = guard(MIXED, generator=tiny.generators([1, 2, 3, 4]), **ASKED).seen
    negative = guard(MIXED, negative_prompt=["memorized 2"] * 4, generator=tiny.generators([1, 2, 3, 4]), **ASKED).seen
    assert [s["score"] for s in negative] == pytest.approx([s["score"] for s in seen], rel=1e-5)


def test_without_guidance_the_other_branch_is_computed_once(pipe) -> None:
    guard = mn.Guard(pipe, threshold=LIMIT)
    generator = tiny.generators([1, 2])
    out = guard(["ordinary 1", "ordinary 2"], generator=generator, num_inference_steps=20, guidance_scale=1.0)
    assert guard.model.network_evaluations == 2 and [s["flagged"] for s in out.seen] == [False, False]


def test_callbacks_and_tuples_keep_working(pipe) -> None:
    seen = []

    def callback(pipe, index, t, values):
        seen.append((index, tuple(values["latents"].shape)))
        return values

    guard = mn.Guard(pipe, threshold=LIMIT, target=0.1)
    out = guard("memorized 1", callback_on_step_end=callback, return_dict=False, **ASKED)
    assert isinstance(out, tuple) and len(seen) == 20 and guard.seen[0]["flagged"]


def test_nothing_is_left_behind_even_by_an_error(pipe) -> None:
    def fail(*_):
        raise ZeroDivisionError

    weights = mn.Denoiser(pipe).weights_hash
    guard = mn.Guard(pipe, threshold=LIMIT, target=0.1)
    with pytest.raises(ZeroDivisionError):
        guard("memorized 1", callback_on_step_end=fail, **ASKED)
    assert not pipe.unet._forward_hooks and not pipe.unet._forward_pre_hooks and "step" not in vars(pipe.scheduler)
    assert mn.Denoiser(pipe).weights_hash == weights


def test_sdxl_is_guarded_too() -> None:
    pipe = tiny.quiet(tiny.stable_diffusion_xl())
    noise = tiny.latents(2)
    asked = {**ASKED, "latents": noise, "output_type": "latent"}
    bare = pipe(["a cat", "the sea"], **asked).images
    guard = mn.Guard(pipe, threshold=0.0, iterations=2)
    out = guard(["a cat", "the sea"], **{**asked, "latents": noise.clone()})
    with mn.mitigate(guard.model, "embedding_descent", threshold=0.0, iterations=2):
        *_, last = guard.model.steps(["a cat", "the sea"], [0, 1], latents=noise, **ASKED)
    torch.testing.assert_close(out.images, last.x_prev, rtol=1e-4, atol=1e-5)
    assert (out.images - bare).abs().max() > 1e-3


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrated")
    negatives = as_prompts(f"{a} {b} {i}" for i in range(50) for a, b in (("ordinary", "photo"), ("a", "photo")))
    run_detection(planted.model(), as_prompts(planted.prompts(True)), folder, Detection(**ASKED), negatives=negatives)
    summary = json.loads((folder / "summary.json").read_text())
    assert 0 < summary["threshold"] < LIMIT
    (folder / "summary.json").write_text(json.dumps(summary | {"threshold": LIMIT}))  # for any noise
    return folder


def test_a_calibrated_threshold_flags_under_its_own_conditions_only(pipe, calibrated: Path) -> None:
    guard = mn.Guard(pipe, threshold=calibrated, target=0.1)
    assert [s["flagged"] for s in guard(["ordinary 1", "memorized 1"], **ASKED).seen] == [False, True]
    with pytest.raises(mn.UsageError, match="num_inference_steps 20 there, 7 here"):
        guard("ordinary 1", **{**ASKED, "num_inference_steps": 7})
    with pytest.raises(mn.UsageError, match="guidance_scale 3.0 there, 4.0 here"):
        guard("ordinary 1", **{**ASKED, "guidance_scale": 4.0})
    larger = Start(guard.model.sampler(20, 3.0), None, [0], torch.zeros(1, 3, 32, 32), {})
    with pytest.raises(mn.UsageError, match="holds for other conditions .latent_shape .*calibrate again"):
        guard.gate.check(larger)
    with pytest.raises(mn.UsageError, match="solver's own timesteps"):
        guard("ordinary 1", timesteps=[900, 500, 100], **ASKED)


def test_the_threshold_is_the_target_unless_another_is_given(pipe, calibrated: Path) -> None:
    guard = mn.Guard(pipe, threshold=calibrated, iterations=200)
    (seen,) = guard("memorized 1", **ASKED).seen
    assert seen["embedding_descent"]["score"][-1] <= seen["threshold"] < seen["embedding_descent"]["score"][-2]


def test_a_threshold_over_several_seeds_needs_as_many_images(pipe, calibrated: Path, tmp_path: Path) -> None:
    summary = json.loads((calibrated / "summary.json").read_text())
    summary["conditions"]["seeds"] = 2
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    guard = mn.Guard(pipe, threshold=tmp_path, target=0.1)
    out = guard(["ordinary 1", "memorized 1"], num_images_per_prompt=2, **ASKED)
    assert out.seen[2]["score"] == out.seen[3]["score"]
    with pytest.raises(mn.UsageError, match="averages over 2 seeds a prompt, and 'memorized 1' has 1 here"):
        guard("memorized 1", **ASKED)


REFUSED = {
    "class-conditional": (lambda: mn.Guard(tiny.class_conditional(), threshold=1), "draws from text alone"),
    "distilled": (lambda: mn.Guard(tiny.distilled(), threshold=1), "draws from text alone, with guidance"),
    "no number": (
        lambda: mn.Guard(tiny.stable_diffusion(), threshold=float("nan")),
        "^The threshold was .nan.",
    ),
    "no file": (lambda: mn.Guard(tiny.stable_diffusion(), threshold="nowhere.json"), "^There is no nowhere.json; give"),
    "no method": (
        lambda: mn.Guard(tiny.stable_diffusion(), threshold=1, mitigation="hope"),
        "no mitigate method 'hope'",
    ),
    "no parameter": (lambda: mn.Guard(tiny.stable_diffusion(), threshold=1, hope=1), "has no parameter 'hope'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_guarded_is_refused_in_one_sentence(case: str) -> None:
    build, said = REFUSED[case]
    with pytest.raises(mn.UsageError, match=said):
        build()


def test_what_a_mitigation_cannot_take_over_is_refused(pipe) -> None:
    with pytest.raises(mn.UsageError, match="^Guard does not pass cross_attention_kwargs on"):
        mn.Guard(pipe, threshold=1)("ordinary 1", cross_attention_kwargs={"scale": 0.5}, **ASKED)


@pytest.mark.slow
def test_verbatim_replication_of_the_bundled_model_falls_below_ten_percent(bundled: mn.Denoiser) -> None:
    """Eight of its thirty memorized captions here; benchmarks/mitigations.py takes all of them, and several seeds."""
    from mnemoscope import demo

    pipe = tiny.quiet(bundled.pipe)
    memorized, ordinary = demo.prompts("verbatim")[:8], demo.prompts("ordinary")[:4]
    own = features.pixels([r.image() for r in demo.references()[:8]])
    asked = {"num_inference_steps": 20, "guidance_scale": 3.0}
    seeds = list(range(1000, 1012))
    before = pipe(memorized + ordinary, generator=tiny.generators(seeds), **asked).images
    assert (features.pixels(before[:8]) * own).sum(1).min() > 0.9
    guard = mn.Guard(pipe, threshold=1.5, target=1.0, iterations=30)
    out = guard(memorized + ordinary, generator=tiny.generators(seeds), **asked)
    assert [s["flagged"] for s in out.seen] == [True] * 8 + [False] * 4
    assert ((features.pixels(out.images[:8]) * own).sum(1) >= 0.8).mean() < 0.1
    assert all(np.array_equal(a, b) for a, b in zip(arrays(out.images[8:]), arrays(before[8:]), strict=True))


@pytest.mark.parametrize("solver", ["ddim", "euler", "dpm++"])
@pytest.mark.parametrize("mitigation", ["embedding_descent"])
def test_a_later_target_step_samples_with_a_solver_of_its_own(solver, mitigation) -> None:
    pipe = tiny.stable_diffusion(scheduler=solver)
    asked = {"num_inference_steps": 4, "output_type": "latent"}
    guard = mn.Guard(pipe, threshold=0, mitigation=mitigation, target=0, iterations=2, target_step=2)
    out = guard("a cat", generator=tiny.generators([3]), **asked)
    assert len(out.seen[0][mitigation]["score"]) == 3 and out.images.isfinite().all()
    model = mn.Denoiser(pipe)
    with mn.mitigate(model, mitigation, target=0, iterations=2, target_step=2) as log:
        ours = mn.Trajectory(model, "a cat", 3, num_inference_steps=4).all()[-1].x_prev
    assert log[0][mitigation]["score"] == pytest.approx(out.seen[0][mitigation]["score"], rel=1e-3)
    torch.testing.assert_close(ours, out.images, rtol=1e-3, atol=1e-3)
    assert "step" not in vars(pipe.scheduler)


@pytest.mark.parametrize("solver", ["ddim", "euler"])
def test_a_step_that_the_caller_put_on_the_solver_is_called_and_stays(solver) -> None:
    pipe, seen = tiny.stable_diffusion(scheduler=solver), []
    own = pipe.scheduler.step

    def step(*args, **kwargs):
        seen.append(1)
        return own(*args, **kwargs)

    pipe.scheduler.step = step
    guard = mn.Guard(pipe, threshold=0, target=0, iterations=1, target_step=1)
    guard("a cat", num_inference_steps=3, output_type="latent")
    assert vars(pipe.scheduler)["step"] is step and len(seen) == 3
    mn.Denoiser(pipe).generate(["a cat"], [0], num_inference_steps=2)
    assert len(seen) == 3


def test_noise_levels_are_those_of_the_callers_own_timesteps() -> None:
    pipe = tiny.stable_diffusion("v_prediction", "dpm++")  # DDIM takes none
    times, found = [900, 500, 100], []
    guard = mn.Guard(pipe, threshold=0, mitigation="guidance_schedule", tau=400)
    change = guard.found.function

    def spy(start, **given):
        found.extend(start.solver.levels)
        change(start, **given)

    guard.found = dataclasses.replace(guard.found, function=spy)
    guard("a cat", timesteps=times, output_type="latent")
    assert found == [pytest.approx(schedule.alpha_sigma(pipe.scheduler, float(t)), rel=1e-4) for t in times]
