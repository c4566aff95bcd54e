"""Every registered method against its kind's contract; a new file in a method folder is tested with no further work."""

import json
import math

import pytest
import torch

import mnemoscope as mn
import tiny
import tiny_families
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
PROCESSES = ("vp", "zero-snr", "flow")  # of the planted model; the last two begin at pure noise
ATTENTIVE = {  # methods that act on cross-attention or on padding, of which the planted network has none
    "attention_attenuation",
    "attention_rescaling",
    "bright_ending",
    "eot_mask",
    "neuron_ablation",
    "pad_fix",
    "padding_mask",
}
SEARCHED = {
    "neurons": {"threshold": 0.985, "pairwise_threshold": 0.0, "seeds": 2, "initial_theta": None, "initial_k": 4}
}
LAYERS = {"layers_per_block": 1, "block_out_channels": (8, 8), "norm_num_groups": 2}
MAPS = registry.explainers("regions")


def wide(model: mn.Denoiser) -> mn.Denoiser:
    """Random values of the text that count."""
    with torch.no_grad():
        for layer in ablation.layers(model, "all").values():
            layer.weight.mul_(30)
    return model


def values(model: mn.Denoiser, prompts: list[str], name: str) -> torch.Tensor:
    texts = [p for p in prompts for _ in SEEDS]
    trajectory = mn.Trajectory(model, texts, SEEDS * len(prompts), num_inference_steps=20)
    return mn.detect(trajectory, name, **GIVEN.get(name, {}))


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize(("kind", "name"), METHODS)
def test_detectors_keep_the_contract_that_strangers_are_told_of(kind: str, name: str, process) -> None:
    contract.check(name, kind, is_control=name in CONTROLS | SILENT, process=process, **GIVEN.get(name, {}))


EARLY = {name: {"steps": [1]} for name in ("curvature_map", "difference_map")}  # at the last step nothing is left


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("name", [n for n in registry.names("explain") if n not in ATTENTIVE])
def test_explanations_keep_the_contract(name: str, process) -> None:
    contract.check(name, "explain", process=process, **EARLY.get(name, {}))


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("name", [n for n in registry.names("mitigate") if n not in ATTENTIVE])
def test_mitigations_keep_the_contract(name: str, process) -> None:
    contract.check(name, "mitigate", process=process)


@pytest.fixture(scope="module")
def from_pure_noise() -> mn.Denoiser:
    """Random weights with cross-attention and padding, of zero terminal SNR."""
    pipe = tiny.stable_diffusion("v_prediction", network=tiny.unet(**LAYERS))
    pipe.scheduler = tiny.scheduler("ddim", "v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")
    return wide(mn.Denoiser(pipe))


@pytest.mark.parametrize("name", sorted(ATTENTIVE & set(registry.names("mitigate"))))
def test_what_acts_on_attention_or_padding_acts_at_pure_noise(from_pure_noise: mn.Denoiser, name: str) -> None:
    model, given = from_pure_noise, {}
    if name == "neuron_ablation":
        given = {"neurons": {next(iter(ablation.layers(model))): [0, 1]}}

    def drawn() -> torch.Tensor:
        steps = model.steps(["a cat", "two dogs"], SEEDS, num_inference_steps=3, guidance_scale=3.0)
        return torch.stack([step.x_prev for step in steps])

    before = drawn()
    with mn.mitigate(model, name, **given):
        inside = drawn()
    assert inside.isfinite().all() and not torch.equal(inside, before) and torch.equal(drawn(), before)


@pytest.mark.parametrize("name", registry.names("caption"))
def test_captions_keep_the_contract(name: str) -> None:
    given = {"tokenizer": tiny.tokenizer()} if "tokenizer" in registry.get("caption", name).parameters else {}
    contract.check(name, "caption", **given)


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


@pytest.fixture(scope="module")
def attentive() -> mn.Denoiser:
    return wide(mn.Denoiser(tiny.stable_diffusion("v_prediction", network=tiny.unet(**LAYERS))))


@pytest.fixture(scope="module")
def flowing() -> mn.Denoiser:
    model = mn.Denoiser(tiny_families.sd3(), size=(16, 16), call={"max_sequence_length": 32})
    return wide(model)


LOCALIZED = [
    pytest.param(of, name, marks=pytest.mark.slow if (of, name) == ("flowing", "neurons") else ())
    for of in ("attentive", "from_pure_noise", "flowing")
    for name in registry.names("localize")
]


@pytest.mark.parametrize(("of", "name"), LOCALIZED)
def test_neurons_are_those_of_the_model_and_the_same_in_any_batch(of: str, name: str, request) -> None:
    attentive: mn.Denoiser = request.getfixturevalue(of)
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
