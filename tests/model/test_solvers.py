"""Every solver that is accepted: its samplings are the pipeline's own, and the noise levels those of its own table."""

import json

import diffusers
import pytest
import torch

import tiny
from mnemoscope.errors import UsageError
from mnemoscope.model import schedule
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.schedule import SOLVERS
from mnemoscope.model.solvers import SCHEDULERS, swapped
from mnemoscope.model.weights.settings import check_settings, foresee

pytestmark = pytest.mark.filterwarnings(  # diffusers' solvers make arrays of tensors, which numpy 2 finds outdated
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
    "ignore:__array_wrap__ must accept context and return_scalar arguments:DeprecationWarning",
)
V, ZERO = {"prediction_type": "v_prediction"}, {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
CASES: dict[str, list[dict]] = {
    "DDIM": [{"clip_sample": False}, {"clip_sample": False, **V, **ZERO}],
    "DDIMParallel": [{"clip_sample": False, **V}],
    "DDPM": [{"clip_sample": False, **V}],
    "DDPMParallel": [{"clip_sample": False}],
    "PNDM": [{"skip_prk_steps": True, **V}, {"skip_prk_steps": True}, {"skip_prk_steps": False}],
    "LCM": [V],
    "TCD": [V],
    "DEISMultistep": [V, {"use_karras_sigmas": True}, FLOW],
    "DPMSolverMultistep": [V, {"use_karras_sigmas": True, **V}, FLOW, {**V, **ZERO}, {"use_lu_lambdas": True, **V}],
    "DPMSolverSinglestep": [V, {"use_karras_sigmas": True}, FLOW],
    "UniPCMultistep": [V, {"use_karras_sigmas": True, **V}, FLOW, {**V, **ZERO}],
    "SASolver": [V, {"use_exponential_sigmas": True}],
    "EulerDiscrete": [
        V,
        {**V, **ZERO},
        {"use_karras_sigmas": True, **V},
        {"interpolation_type": "log_linear", **V},
        {"timestep_type": "continuous", "sigma_min": 0.002, "sigma_max": 80.0, "use_karras_sigmas": True, **V},
    ],
    "EulerAncestralDiscrete": [V, {**V, **ZERO}],
    "HeunDiscrete": [V, {"use_karras_sigmas": True, **V}],
    "KDPM2Discrete": [V, {"use_karras_sigmas": True}],
    "KDPM2AncestralDiscrete": [V],
    "LMSDiscrete": [V, {"use_karras_sigmas": True, **V}],
    "FlowMatchEulerDiscrete": [{"shift": 3.0}],
    "FlowMatchHeunDiscrete": [{"shift": 3.0}],
    "FlowMatchLCM": [{"shift": 3.0}],
}
RANDOM = {"DDPM", "DDPMParallel", "LCM", "TCD", "SASolver", "EulerAncestralDiscrete", "KDPM2AncestralDiscrete"}
RANDOM |= {"FlowMatchLCM"}
EACH = [pytest.param(n, o, id="-".join((n, *map(str, o.values())))) for n, each in CASES.items() for o in each]
PIPES = {k: tiny.stable_diffusion(k) for k in ("epsilon", "v_prediction")}


def solver(name: str, options: dict):
    noises = {} if name.startswith("FlowMatch") else tiny.NOISES
    return getattr(diffusers, f"{name}Scheduler")(**{**noises, **options})


def model_with(name: str, options: dict) -> Denoiser:
    pipe = PIPES["epsilon"]
    pipe.scheduler = solver(name, options)
    with pytest.MonkeyPatch.context() as patched:  # a flow's solver is refused for a U-Net, the quickest network here
        patched.setattr("mnemoscope.model.known.refuse_solver", lambda pipe: None)
        return Denoiser(pipe)


def test_every_accepted_solver_is_tried_here():
    assert {f"{name}Scheduler" for name in CASES} == SOLVERS


@pytest.mark.parametrize(("name", "options"), EACH)
def test_our_steps_are_the_pipelines_own(name, options):
    model = model_with(name, options)
    for part, value in {"init_noise_sigma": 1.0, "scale_model_input": lambda x, t: x}.items():
        if not hasattr(model.pipe.scheduler, part):  # a flow's solver, of which this pipeline asks them
            setattr(model.pipe.scheduler, part, value)
    generator = [torch.Generator().manual_seed(5)]
    noise = torch.randn(1, *model.latent_shape, generator=generator[0])
    asked = {"num_inference_steps": 4, "guidance_scale": 3.0}
    theirs = model.pipe("a cat", latents=noise, generator=generator, output_type="latent", **asked).images
    (*_, last) = model.steps(["a cat"], [5], **asked)
    assert torch.equal(last.x_prev, theirs) and theirs.isfinite().all()


@pytest.mark.parametrize(("name", "options"), EACH)
def test_the_noise_of_a_known_image_is_the_same_at_every_step(name, options):
    """Where each prediction is one image, x_t = alpha image + sigma noise with one noise, if the levels are right."""
    model = model_with(name, options)
    image, kind, noises = 0.3 * tiny.latents(1, seed=5), model.prediction_type, []

    def known(step):
        noises.append((step.x_t - step.alpha * image) / step.sigma)
        step.native = schedule.target(image, noises[-1], step.alpha, step.sigma, kind)
        torch.testing.assert_close(step.x0_hat, image, rtol=1e-3, atol=2e-3)

    with model.edit("step", known):
        steps = [*model.steps(["a"], [3], num_inference_steps=5, guidance_scale=1.0)]  # 5 part 1000
    assert len(noises) == len(steps) == len(steps[0].levels) >= 5
    assert [(s.alpha, s.sigma) for s in steps] == [*steps[0].levels]
    if name == "PNDM" and kind != "epsilon":
        return  # it averages predictions of several times, which is exact for noise alone
    for noise in noises if name not in RANDOM else []:
        torch.testing.assert_close(noise, noises[0], rtol=1e-3, atol=1e-3)
    for noise in noises:
        assert noise.square().mean().sqrt() == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("name", ["EulerDiscrete", "HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete"])
def test_alpha_is_what_the_solver_scales_a_clean_image_by(name):
    model, seen = model_with(name, V), []
    for step in model.steps(["a"], [3], num_inference_steps=5):
        seen.append(step)
    live, x = solver(name, V), torch.ones(1)
    live.set_timesteps(5)
    for t, step in zip(live.timesteps, seen, strict=True):
        assert live.scale_model_input(x, t).item() == pytest.approx(step.alpha, rel=2e-5)
        live.step(x, t, x, generator=torch.Generator().manual_seed(0)) if "Ancestral" in name else live.step(x, t, x)


@pytest.mark.parametrize("name", ["EDMEuler", "EDMDPMSolverMultistep", "IPNDM", "DDIMInverse", "RePaint"])
def test_a_solver_whose_levels_are_not_known_is_refused(name):
    pipe = tiny.stable_diffusion()
    pipe.scheduler = getattr(diffusers, f"{name}Scheduler")()
    with pytest.raises(UsageError, match=f"^{name}Scheduler is not supported: its noise levels are not known; use a"):
        Denoiser(pipe)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_swapped_solver_has_what_the_model_was_trained_with_or_is_refused(name):
    own = solver("DDIM", {"clip_sample": False, **V, **ZERO})
    if name == "pndm":
        with pytest.raises(UsageError, match="^PNDMScheduler cannot have this model's noise schedule; use --scheduler"):
            swapped(name, own)
        return
    made = swapped(name, own)
    for key in ("rescale_betas_zero_snr", "timestep_spacing", "prediction_type", "beta_schedule"):
        assert made.config[key] == own.config[key]
    made.set_timesteps(10)
    assert float(made.timesteps[0]) == 999 and schedule.units(made) == "x0"
    unset = swapped(name, solver("DDIM", {"clip_sample": False}))  # a usual value of the model's solver, said nowhere
    assert unset.config.timestep_spacing == "leading"


@pytest.mark.parametrize(
    ("name", "options"),
    [("FlowMatchEulerDiscrete", {}), ("EulerDiscrete", {"timestep_type": "continuous", **V}), ("UniPCMultistep", FLOW)],
)
def test_a_solver_of_other_times_cannot_be_swapped(name, options):
    with pytest.raises(UsageError, match=f"^DDIMScheduler does not know the times of {name}Scheduler; use --scheduler"):
        swapped("ddim", solver(name, options))


def test_the_score_of_a_continuous_euler_is_of_its_own_noise_level():
    model = model_with(*("EulerDiscrete", CASES["EulerDiscrete"][-1]))
    step = next(model.steps(["a cat"], [5], num_inference_steps=4))
    assert step.sigma / step.alpha == pytest.approx(80, rel=1e-4)
    (push,) = ((step.native_cond - step.native_uncond).flatten(1).norm(dim=1) / (80**2 + 1) ** 0.5).tolist()
    assert (step.eps_cond - step.eps_uncond).flatten(1).norm(dim=1).item() == pytest.approx(push, rel=1e-2)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"num_train_timesteps": "1000"}, "num_train_timesteps as '1000'; DDIMScheduler takes a whole number there."),
        ({"num_train_timesteps": 1000.5}, "num_train_timesteps as 1000.5; DDIMScheduler takes a whole number there."),
        ({"steps_offset": True}, "steps_offset as True; DDIMScheduler takes a whole number there."),
        ({"clip_sample": "false"}, "clip_sample as 'false'; DDIMScheduler takes true or false there."),
        ({"rescale_betas_zero_snr": 1}, "rescale_betas_zero_snr as 1; DDIMScheduler takes true or false there."),
        ({"beta_end": float("nan")}, "beta_end as nan; DDIMScheduler takes a number there."),
        ({"prediction_type": 5}, "prediction_type as 5; DDIMScheduler takes a text there."),
        ({"trained_betas": [0.1, 0.2]}, "The noise schedule of DDIMScheduler has 2 noise levels for 1000 times"),
        ({"beta_start": 2.0, "beta_end": 3.0}, "DDIMScheduler goes to levels that there are not"),
        (
            {"beta_schedule": "linear", "beta_start": -0.1},
            "DDIMScheduler goes to levels that there are not",
        ),
    ],
)
def test_settings_that_make_no_noise_schedule_are_refused(tmp_path, settings, said):
    folder = tmp_path / "model"
    PIPES["epsilon"].scheduler = tiny.scheduler("ddim")
    PIPES["epsilon"].save_pretrained(folder)
    config = folder / "scheduler/scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **settings}))
    with pytest.raises(UsageError) as refused:
        Denoiser.from_pretrained(folder)
    assert said in str(refused.value)
    index = {"scheduler": ["diffusers", "DDIMScheduler"]}
    with pytest.raises(UsageError) as foreseen:
        foresee(folder, index, "own", 2)
    assert str(foreseen.value) == str(refused.value)


def test_a_flow_whose_shift_leaves_its_levels_is_refused():
    with pytest.raises(UsageError, match="FlowMatchEulerDiscreteScheduler goes to levels that there are not"):
        schedule.check_levels(diffusers.FlowMatchEulerDiscreteScheduler(shift=-2.0))


def test_a_truth_value_of_a_network_is_none_in_quotes(tmp_path):
    PIPES["epsilon"].vae.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "force_upcast": "false"}))
    with pytest.raises(UsageError, match="force_upcast as 'false'; AutoencoderKL takes true or false there"):
        check_settings(diffusers.AutoencoderKL, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "scaling_factor": 1, "norm_num_groups": None}))
    check_settings(diffusers.AutoencoderKL, tmp_path)
