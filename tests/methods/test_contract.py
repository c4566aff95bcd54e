"""Every registered method against its kind's contract; a new file in a method folder is tested with no further work."""

import json
import math

import pytest
import torch

import mnemoscope as mn
import tiny
from mnemoscope import registry
from mnemoscope.methods import contract
from mnemoscope.model import ablation

CONTROLS = {"random", "uncond_norm"}  # they say by their docstring that they do not detect
SILENT = {"last_step_difference"}  # the planted model knows its images without a prompt too: at t = 1 nothing is left
KINDS = ("score", "detect")
METHODS = [pytest.param(kind, name, id=f"{kind}-{name}") for kind in KINDS for name in registry.names(kind)]
LOCALIZERS = [pytest.param("localize", name, id=f"localize-{name}") for name in registry.names("localize")]
SEEDS = [3, 4]
GIVEN = {"masked_noise_norm": {"mask": torch.ones(16, 16)}}  # the planted network has no attention to take a mask from
MAPS = registry.explainers("regions")


def values(model: mn.Denoiser, prompts: list[str], name: str) -> torch.Tensor:
    texts = [p for p in prompts for _ in SEEDS]
    trajectory = mn.Trajectory(model, texts, SEEDS * len(prompts), num_inference_steps=20)
    return mn.detect(trajectory, name, **GIVEN.get(name, {}))


@pytest.mark.parametrize(("kind", "name"), METHODS)
def test_detectors_keep_the_contract_that_strangers_are_told_of(kind: str, name: str) -> None:
    contract.check(name, kind, is_control=name in CONTROLS | SILENT, **GIVEN.get(name, {}))


@pytest.mark.parametrize(("kind", "name"), METHODS)
def test_values_of_no_prompt_are_finite(planted: mn.Denoiser, kind: str, name: str) -> None:
    assert values(planted, [""], name).isfinite().all()


@pytest.mark.parametrize("name", registry.names("score"))
def test_scores_are_differentiable_in_embedding_or_latent(planted: mn.Denoiser, name: str) -> None:
    step = mn.Trajectory(planted, ["memorized 1"], [0]).first(1)[0]
    x_t = step.x_t.clone().requires_grad_()
    leaf = {k: v.clone().requires_grad_() for k, v in step.cond.items()}
    score = registry.get("score", name).function(planted.observe(x_t, step.t, leaf))
    (grad,) = torch.autograd.grad(score.sum(), x_t)
    assert grad.isfinite().all() and grad.abs().sum() > 0


def mapped(model: mn.Denoiser, prompts: list[str], name: str) -> torch.Tensor:
    return mn.explain(mn.Trajectory(model, prompts, SEEDS[0], num_inference_steps=3), name)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("build", [tiny.stable_diffusion, tiny.stable_diffusion_xl])
def test_maps_are_finite_never_negative_and_the_same_in_any_batch(build, name: str) -> None:
    model, prompts = mn.Denoiser(build()), ["a fox", "two foxes", ""]
    whole = mapped(model, prompts, name)
    assert whole.shape == (3, 8, 8) and whole.dtype == torch.float32 and not whole.requires_grad
    assert whole.isfinite().all() and (whole >= 0).all() and (whole[:2] > 0).flatten(1).any(1).all()
    assert torch.equal(whole, mapped(model, prompts, name))
    alone = torch.cat([mapped(model, [p], name) for p in prompts[:2]])
    torch.testing.assert_close(whole[:2], alone, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(whole, mapped(model, prompts[::-1], name).flip(0), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", MAPS)
def test_maps_of_half_precision_are_float32(name: str) -> None:
    found = mapped(mn.Denoiser(tiny.stable_diffusion().to(torch.bfloat16)), ["a fox"], name)
    assert found.dtype == torch.float32 and found.isfinite().all() and found.max() > 0


@pytest.mark.parametrize(("kind", "name"), [*METHODS, *(("explain", name) for name in registry.names("explain"))])
def test_methods_say_what_they_are(kind: str, name: str) -> None:
    found = registry.get(kind, name)
    assert found.name == name and found.kind == kind
    assert 20 < len(found.summary) <= 120 and found.summary[0].isupper() and found.summary.endswith(".")
    assert found.paper == "control" or found.paper.startswith("arXiv:")
    assert found.cost


# Localizers, on random weights with cross-attention: the planted model has none

SEARCHED = {
    "neurons": {"threshold": 0.985, "pairwise_threshold": 0.0, "seeds": 2, "initial_theta": None, "initial_k": 4}
}
LAYERS = {"layers_per_block": 1, "block_out_channels": (8, 8), "norm_num_groups": 2}


@pytest.fixture(scope="module")
def attentive() -> mn.Denoiser:
    model = mn.Denoiser(tiny.stable_diffusion("v_prediction", network=tiny.unet(**LAYERS)))
    with torch.no_grad():
        for layer in ablation.layers(model, "all").values():
            layer.weight.mul_(30)
    return model


@pytest.mark.parametrize("name", registry.names("localize"))
def test_neurons_are_those_of_the_model_and_the_same_in_any_batch(attentive: mn.Denoiser, name: str) -> None:
    prompts, before = ["a cat", "a red bicycle"], attentive.network_evaluations
    whole = mn.localize(attentive, prompts, name, **SEARCHED.get(name, {}))
    assert sum(each.evaluations for each in whole) == attentive.network_evaluations - before
    assert [each.prompt for each in whole] == prompts and all(each.count for each in whole)
    for each in whole:
        assert ablation.checked(attentive, each.neurons) == each.neurons
        assert ablation.checked(attentive, each.initial_neurons) == each.initial_neurons
        assert all(math.isfinite(v) for v in (each.before, each.after) if v is not None)
    again = mn.localize(attentive, prompts[::-1], name, **SEARCHED.get(name, {}))[::-1]
    alone = [mn.localize(attentive, prompt, name, **SEARCHED.get(name, {}))[0] for prompt in prompts]
    for one, other in ((whole, again), (whole, alone)):
        assert [each.neurons for each in one] == [each.neurons for each in other]
        assert [each.after or 0 for each in one] == pytest.approx([each.after or 0 for each in other], rel=1e-4)
    json.dumps([each.row() for each in whole], allow_nan=False)
