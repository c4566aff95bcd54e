"""Families that are known by a row: our steps are their pipelines' own, and each fact of a row is needed for it."""

import functools
from dataclasses import replace

import pytest
import torch

import tiny
import tiny_families
from mnemoscope.model.denoiser import Denoiser

pytestmark = pytest.mark.filterwarnings("ignore")  # what the pipelines say about optional packages
OPTIONS = ("height", "width", "max_sequence_length", "text_encoder_out_layers")
NAMES = [n for n in tiny_families.PIPES if n.split()[-1] not in ("renorm", "trunc", "rescale", "cfg")]
SPATIAL = ("flux2", "flux2 klein", "zimage")  # take latents as they draw them, not as the network is given them
STEPS = 3


@functools.cache
def pipeline(name, dtype=torch.float32):
    if name == "kolors":
        pytest.importorskip("sentencepiece")
    build, _ = tiny_families.PIPES[name]
    return build().to(dtype)


def model_of(name, dtype=torch.float32):
    call = {k: v for k, v in tiny_families.PIPES[name][1].items() if k in OPTIONS and v}
    return Denoiser(pipeline(name, dtype), call={"height": 16, "width": 16} | call if name == "aura" else call)


def guidance(model, name):
    return tiny_families.PIPES[name][1].get(model.family.row.scale)


def theirs(name, noise, packed, dtype=torch.float32):
    """Every state of the solver while the pipeline draws."""
    pipe, states = pipeline(name, dtype), []
    plain = pipe.scheduler.step

    @functools.wraps(plain)
    def step(*args, **kwargs):
        states.append(plain(*args, **kwargs)[0])
        return (states[-1],)

    pipe.scheduler.step = step
    try:
        latents = noise if name in SPATIAL else packed
        options = {"latents": latents, "num_inference_steps": STEPS, "output_type": "latent"}
        pipe(prompt=["a cat"], generator=tiny.generators([3])[0], **options, **tiny_families.PIPES[name][1])
    finally:
        del pipe.scheduler.step
    return states


def ours(model, name, noise):
    given = {"num_inference_steps": STEPS, "guidance_scale": guidance(model, name), "latents": noise}
    return [step.x_prev for step in model.steps(["a cat"], [3], **given)]


def differences(name, model, dtype=torch.float32):
    noise, pack = model.initial_noise([3]), model.family.row.packing.pack
    states = theirs(name, noise, pack(noise), dtype)
    made = [x if name in SPATIAL[2:] else pack(x) for x in ours(model, name, noise)]
    assert [x.dtype for x in made] == [x.dtype for x in states]
    return [(a.float() - b.float().reshape(a.shape)).abs().max().item() for a, b in zip(made, states, strict=True)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_every_solver_state_equals_the_pipelines_bit_for_bit(name, dtype):
    assert differences(name, model_of(name, dtype), dtype) == [0.0] * STEPS


def wrong_time(t, dtype, pipe):
    return 0.9 * t.float() + 0.01


SPOILT = {
    "time": {"time": wrong_time},
    "combination": {"combine": lambda row, cond, uncond, scale: uncond + (scale - 1) * (cond - uncond)},
    "sign": {"sign": -1},
}


@pytest.mark.parametrize("fact", SPOILT)
@pytest.mark.parametrize("name", NAMES)
def test_a_row_with_one_fact_spoilt_is_found_out(name, fact):
    model = model_of(name)
    if fact == "combination" and not model.family.branches:
        pytest.skip("one branch: nothing is combined")
    spoilt = {"sign": -model.family.row.sign} if fact == "sign" else SPOILT[fact]
    model.family.row = replace(model.family.row, **spoilt)
    assert max(differences(name, model)) > 0
