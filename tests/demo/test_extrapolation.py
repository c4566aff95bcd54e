"""Going on from a base model beyond its fine-tune: closed forms, and what it leaves as it was."""

import pytest
import torch
from torch import nn

import tiny
from mnemoscope.errors import UsageError
from mnemoscope.model import schedule
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.training.extrapolation import candidates, extrapolated

pytestmark = pytest.mark.filterwarnings(  # diffusers' solvers make arrays of tensors, which numpy 2 finds outdated
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
SAMPLING = {"num_inference_steps": 4, "guidance_scale": 3.0}
PLAIN = {"num_inference_steps": 4, "guidance_scale": 1.0}
PROMPTS, SEEDS = ["abc", "xyz"], [0, 1]


class Scaled(nn.Module):
    """A U-Net whose prediction is a multiple of its input."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
        self.config = tiny.unet().config

    dtype, device = torch.float32, torch.device("cpu")

    def forward(self, sample, timestep, encoder_hidden_states=None, return_dict=True, **unused):
        return (self.factor * sample,)


def model(seed: int = 2, kind: str = "epsilon", scheduler: str = "ddim") -> Denoiser:
    return Denoiser(tiny.stable_diffusion(kind, scheduler, network=tiny.unet(seed)))


def last(found: Denoiser, **sampling) -> torch.Tensor:
    return list(found.steps(PROMPTS, SEEDS, **sampling))[-1].x_prev


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++", "euler"])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_weight_of_one_is_the_fine_tuned_model_bit_for_bit(kind, scheduler):
    tuned, base = model(2, kind, scheduler), model(7, kind, scheduler)
    expected = last(tuned, **SAMPLING)
    with extrapolated(tuned, base, weight=1):
        assert torch.equal(last(tuned, **SAMPLING), expected)
    assert base.network_evaluations == 0
    with extrapolated(tuned, base, weight=2):
        assert not torch.allclose(last(tuned, **SAMPLING), expected, atol=1e-3)
    assert torch.equal(last(tuned, **SAMPLING), expected)


@pytest.mark.parametrize("reference", ["uncond", "cond", "guided"])
@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_each_step_is_the_formula(kind, reference):
    tuned, base = model(2, kind), model(7, kind)
    with extrapolated(tuned, base, weight=2.5, reference=reference, correction=-0.1):
        steps = list(tuned.steps(PROMPTS, SEEDS, **SAMPLING))
    other = model(7, kind)
    for step in steps:
        cond, null = (other.predict_noise(step.x_t, step.t, c) for c in (other.encode(PROMPTS), other.null(2)))
        eps_base = {"uncond": null, "cond": cond, "guided": null + 3.0 * (cond - null)}[reference]
        eps_ft = step.eps_uncond + 3.0 * (step.eps_cond - step.eps_uncond)
        expected = eps_ft + 1.5 * (eps_ft - eps_base) - 0.1 * eps_base
        assert torch.allclose(step.eps, expected, atol=2e-4)
    assert base.network_evaluations == 4 * 2 * (2 if reference == "guided" else 1)
    assert tuned.network_evaluations == 4 * 2 * 2 + base.network_evaluations


def test_linear_models_extrapolate_to_the_linear_model_beyond_them():
    """eps_ft = a x and eps_base = b x: what is sampled is the model (b + w (a - b)) x, through the whole sampling."""
    a, b, w = 0.6, 0.5, 3.0
    tuned, base, beyond = (Denoiser(tiny.stable_diffusion(network=Scaled(f))) for f in (a, b, b + w * (a - b)))
    with extrapolated(tuned, base, weight=w):
        found = last(tuned, **PLAIN)
    assert torch.allclose(found, last(beyond, **PLAIN), rtol=1e-4, atol=1e-5)
    x, scheduler = tuned.initial_noise(SEEDS), tuned.pipe.scheduler
    scheduler.set_timesteps(4)
    times = [*scheduler.timesteps.tolist(), 0.0]
    levels = [schedule.alpha_sigma(scheduler, float(t)) for t in times]
    factor = b + w * (a - b)
    for (alpha, sigma), (after, left) in zip(levels, levels[1:], strict=False):
        x = (after * (1 - sigma * factor) / alpha + left * factor) * x
    assert torch.allclose(found, x, rtol=1e-3, atol=1e-4)


def test_samples_are_the_same_in_any_batch():
    tuned, base = model(), model(7)
    with extrapolated(tuned, base, reference="cond"):
        both = last(tuned, **SAMPLING)
        (*_, one) = tuned.steps(PROMPTS[1:], SEEDS[1:], **SAMPLING)
    assert torch.allclose(both[1:], one.x_prev, atol=1e-4)


def test_candidates_are_each_prompt_from_each_seed():
    tuned, base = model(), model(7)
    found = list(candidates(tuned, base, PROMPTS, [4, 5, 6], weight=2, num_inference_steps=2))
    assert [(c.prompt, c.seed) for c in found] == [(p, s) for p in PROMPTS for s in (4, 5, 6)]
    with extrapolated(tuned, base, weight=2):
        alone = tuned.generate(["xyz"] * 3, [4, 5, 6], num_inference_steps=2, guidance_scale=1.0)
    assert [c.image.tobytes() for c in found[3:]] == [image.tobytes() for image in alone]
    plain = tuned.generate(["xyz"] * 3, [4, 5, 6], num_inference_steps=2, guidance_scale=1.0)
    assert [c.image.tobytes() for c in found[3:]] != [image.tobytes() for image in plain]


def test_an_unconditional_model_extrapolates_from_its_own_kind():
    tuned, base = (Denoiser(tiny.unconditional()) for _ in range(2))
    with pytest.raises(UsageError, match="no unconditional branch .* use cond"), extrapolated(tuned, base):
        pass
    with extrapolated(tuned, base, reference="cond", weight=2):
        beyond = list(tuned.steps([""], [0], **PLAIN))[-1].x_prev
    assert torch.allclose(beyond, list(tuned.steps([""], [0], **PLAIN))[-1].x_prev, atol=1e-4)  # the same network twice


def test_models_that_do_not_belong_together_are_refused():
    pixels = Denoiser(tiny.unconditional())
    with pytest.raises(UsageError, match=r"latents of \[4, 8, 8\], and the base model of \[3, 8, 8\]"):
        extrapolated(model(), pixels).__enter__()
    other = Denoiser(tiny.stable_diffusion())
    other.pipe.scheduler.alphas_cumprod = other.pipe.scheduler.alphas_cumprod * 0.9
    with pytest.raises(UsageError, match="other noise levels"):
        extrapolated(model(), other).__enter__()
