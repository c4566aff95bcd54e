"""The four kinds of prediction convert into one another, and alpha and sigma are the scheduler's own."""

import math

import numpy as np
import pytest
import torch
from diffusers import (
    CMStochasticIterativeScheduler,
    DDIMScheduler,
    EDMEulerScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from hypothesis import given
from hypothesis import strategies as st

import tiny
from mnemoscope.errors import UsageError
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.schedule import PREDICTION_TYPES, alpha_sigma, from_eps, prediction_type, to_eps, to_x0

pytestmark = pytest.mark.filterwarnings(  # diffusers' solvers make arrays of tensors, which numpy 2 finds outdated
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
DIFFUSION = PREDICTION_TYPES[:3]


def scales(kind, angle):
    """Scales of a noise level: on the circle for diffusion models, on the line for flows."""
    if kind == "flow_prediction":
        return 1 - angle, angle
    return math.cos(angle * math.pi / 2), math.sin(angle * math.pi / 2)


def drawn(seed):
    return torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(a, b, tolerance=1e-10):
    return torch.allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
@given(level=st.floats(0.02, 0.98), seed=st.integers(0, 99))
def test_noise_and_clean_image_come_back_from_every_kind_of_prediction(kind, level, seed):
    alpha, sigma = scales(kind, level)
    x0, eps = drawn(seed), drawn(seed + 100)
    x_t = alpha * x0 + sigma * eps
    output = {"epsilon": eps, "v_prediction": alpha * eps - sigma * x0, "sample": x0, "flow_prediction": eps - x0}[kind]
    assert close(to_eps(output, x_t, alpha, sigma, kind), eps)
    assert close(to_x0(output, x_t, alpha, sigma, kind), x0)
    assert close(from_eps(eps, x_t, alpha, sigma, kind), output)


@pytest.mark.parametrize("kind", PREDICTION_TYPES)
@given(level=st.floats(0.02, 0.98), seed=st.integers(0, 99))
def test_from_eps_undoes_to_eps_for_any_output(kind, level, seed):
    alpha, sigma = scales(kind, level)
    output, x_t = drawn(seed), drawn(seed + 100)
    eps = to_eps(output, x_t, alpha, sigma, kind)
    assert close(from_eps(eps, x_t, alpha, sigma, kind), output)
    assert close(alpha * to_x0(output, x_t, alpha, sigma, kind) + sigma * eps, x_t)


@pytest.mark.parametrize("t", [1, 300, 981, 999])
def test_noise_of_diffusers_own_velocity_is_the_noise_it_was_made_of(t):
    scheduler = tiny.scheduler("ddim", "v_prediction")
    x0, eps, time = drawn(0), drawn(1), torch.tensor([t])
    x_t, v = scheduler.add_noise(x0, eps, time), scheduler.get_velocity(x0, eps, time)
    alpha, sigma = alpha_sigma(scheduler, float(t))
    assert close(to_eps(v, x_t, alpha, sigma, "v_prediction"), eps, 1e-5)
    assert close(to_x0(v, x_t, alpha, sigma, "v_prediction"), x0, 1e-5)
    assert close(from_eps(eps, x_t, alpha, sigma, "v_prediction"), v, 1e-4 / alpha)


@pytest.mark.parametrize("kind", DIFFUSION)
def test_x0_is_what_diffusers_ddim_step_finds(kind):
    scheduler = tiny.scheduler("ddim", kind)
    scheduler.set_timesteps(10)
    output, x_t = drawn(0), drawn(1)
    for t in scheduler.timesteps:
        alpha, sigma = alpha_sigma(scheduler, t)
        theirs = scheduler.step(output, t, x_t).pred_original_sample
        assert close(to_x0(output, x_t, alpha, sigma, kind), theirs, 2e-5)


@pytest.mark.parametrize("name", tiny.SCHEDULERS)
def test_alpha_squared_is_alpha_bar_at_every_training_step(name):
    scheduler = tiny.scheduler(name)
    for t in (0, 1, 57, 981, 998, 999):
        alpha, sigma = alpha_sigma(scheduler, torch.tensor(t))
        alpha_bar = scheduler.alphas_cumprod[t].double().item()
        assert alpha == pytest.approx(alpha_bar**0.5, rel=1e-12)
        assert sigma == pytest.approx((1 - alpha_bar) ** 0.5, rel=1e-12)
        assert alpha_sigma(scheduler, float(t)) == (alpha, sigma)


@given(st.floats(0, 999))
def test_between_training_steps_sigma_over_alpha_is_interpolated(t):
    scheduler = tiny.scheduler("euler")
    alpha, sigma = alpha_sigma(scheduler, t)
    alpha_bar = scheduler.alphas_cumprod.double().numpy()
    expected = np.interp(t, range(1000), ((1 - alpha_bar) / alpha_bar) ** 0.5)
    assert sigma / alpha == pytest.approx(expected, rel=1e-9)
    assert alpha**2 + sigma**2 == pytest.approx(1, abs=1e-12)


def test_the_noise_level_of_each_euler_step_is_the_solvers_own():
    scheduler = tiny.scheduler("euler", timestep_spacing="linspace")
    scheduler.set_timesteps(7)
    assert scheduler.timesteps[1] != scheduler.timesteps[1].round()
    for t, expected in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        alpha, sigma = alpha_sigma(scheduler, t)
        assert sigma / alpha == pytest.approx(expected.item(), rel=1e-5)


def test_steps_of_euler_take_the_noise_level_of_the_scaled_input():
    for step in Denoiser(tiny.stable_diffusion(scheduler="euler")).steps(["a"], [0], num_inference_steps=4):
        if step.index == 0:
            assert step.x_t.std().item() == pytest.approx(1, abs=0.2)
        assert step.alpha**2 + step.sigma**2 == pytest.approx(1)
        assert (step.alpha, step.sigma) == alpha_sigma(tiny.scheduler("euler"), step.t)


def test_fifty_leading_ddim_steps_go_from_981_to_1():
    times = [s.t.item() for s in Denoiser(tiny.stable_diffusion()).steps(["a"], [0], guidance_scale=1.0)]
    assert times == [*range(981, 0, -20)]


def test_a_schedule_that_ends_in_pure_noise_has_alpha_zero_and_sigma_one():
    scheduler = DDIMScheduler(rescale_betas_zero_snr=True, prediction_type="v_prediction")
    assert alpha_sigma(scheduler, 999.0) == (0, 1)
    alpha, sigma = alpha_sigma(scheduler, 998.0)
    assert alpha == pytest.approx(scheduler.alphas_cumprod[998].item() ** 0.5) and alpha > 0
    assert alpha**2 + sigma**2 == pytest.approx(1)


def test_sampling_from_pure_noise_has_finite_numbers():
    pipe = tiny.stable_diffusion("v_prediction")
    options = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    pipe.scheduler = tiny.scheduler("ddim", "v_prediction", **options)
    steps = [*Denoiser(pipe).steps(["a"], [0], num_inference_steps=3)]
    assert steps[0].t == 999 and torch.equal(steps[0].eps_cond, steps[0].x_t)
    assert all(v.isfinite().all() for s in steps for v in (s.eps_cond, s.eps_uncond, s.eps, s.x0_hat, s.x_prev))


def test_a_flow_has_alpha_and_sigma_that_add_up_to_one():
    scheduler = FlowMatchEulerDiscreteScheduler()
    assert prediction_type(scheduler) == "flow_prediction"
    scheduler.set_timesteps(5)
    for t, expected in zip(scheduler.timesteps, scheduler.sigmas, strict=False):
        alpha, sigma = alpha_sigma(scheduler, t)
        assert sigma == pytest.approx(expected.item(), abs=1e-6) and alpha + sigma == pytest.approx(1)


@pytest.mark.parametrize("kind", DIFFUSION)
def test_a_scheduler_says_what_the_network_predicts(kind):
    assert prediction_type(tiny.scheduler("dpm++", kind)) == kind
    assert Denoiser(tiny.stable_diffusion(kind)).prediction_type == kind


def test_an_unknown_prediction_type_is_refused():
    scheduler = tiny.scheduler("ddim", "score")
    expected = "^The scheduler predicts 'score'; mnemoscope knows epsilon, v_prediction, sample, flow_prediction.$"
    with pytest.raises(UsageError, match=expected):
        prediction_type(scheduler)
    pipe = tiny.stable_diffusion()
    pipe.scheduler = scheduler
    with pytest.raises(UsageError, match=expected):
        Denoiser(pipe)


@pytest.mark.parametrize("kind", [EDMEulerScheduler, CMStochasticIterativeScheduler])
def test_a_scheduler_whose_noise_levels_are_not_of_a_timestep_is_refused_rather_than_taken_for_a_flow(kind):
    with pytest.raises(UsageError, match=f"^{kind.__name__} is not supported: its noise levels"):
        prediction_type(kind())
