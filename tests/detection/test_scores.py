"""Scores with their gradients against closed-form Gaussians and five-line implementations."""

import functools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

import mnemoscope as mn
import tiny
from mnemoscope import demo, planted, stats
from mnemoscope.model import jacobian, schedule
from mnemoscope.model.autoencoder import encode_images
from mnemoscope.registry import get

SHAPE = (3, 2, 2)  # 12 dimensions, 5 of them collapsed
VARIANCES = torch.tensor([1e-9] * 5 + [0.5, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0])
BROAD = torch.linspace(0.7, 2.5, 12)
MEAN = torch.linspace(-1, 1, 12)
ALPHA_BARS = (0.999, 0.9, 0.5, 0.05)
KINDS = ("epsilon", "v_prediction", "sample", "flow_prediction")


class GaussianUNet(ModelMixin, ConfigMixin):
    """The exact predictor of a Gaussian: collapsed for a prompt that says a word, broad for none."""

    @register_to_config
    def __init__(self, in_channels: int = 3, sample_size: int = 2, cross_attention_dim: int = planted.WIDTH) -> None:
        super().__init__()
        self.unit = nn.Parameter(torch.ones(()))

    def forward(self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, return_dict: bool) -> tuple:
        alpha, sigma = schedule.alpha_sigma(self.scheduler, timestep)
        said = torch.relu(encoder_hidden_states[:, :, -1]).amax(1).clamp(max=1)[:, None]
        variance, mean = BROAD + said * (VARIANCES - BROAD), said * MEAN
        x = sample.flatten(1)
        eps = (sigma * (x - alpha * mean) / (alpha**2 * variance + sigma**2)).reshape(sample.shape)
        return (self.unit * schedule.from_eps(eps, sample, alpha, sigma, schedule.prediction_type(self.scheduler)),)


def gaussian(kind: str = "epsilon", alpha_bars: tuple[float, ...] = ALPHA_BARS) -> mn.Denoiser:
    """A model whose noise levels are these, one a timestep; for flow timestep q * 1000 has sigma = q."""
    pipe, unet = planted.pipeline(), GaussianUNet()
    bars = torch.tensor((1.0, *alpha_bars), dtype=torch.float64)
    if kind == "flow_prediction":
        unet.scheduler = FlowMatchEulerDiscreteScheduler()
    else:
        betas = (1 - bars[1:] / bars[:-1]).tolist()
        options = {"num_train_timesteps": len(betas), "clip_sample": False, "prediction_type": kind}
        unet.scheduler = DDIMScheduler(trained_betas=betas, **options)
    pipe.register_modules(unet=unet, scheduler=unet.scheduler)
    with pytest.MonkeyPatch.context() as patched:  # this network is a flow's where its solver is one
        patched.setattr("mnemoscope.model.known.refuse_solver", lambda pipe: None)
        return mn.Denoiser(pipe)


def levels(kind: str) -> list[Tensor]:
    return [torch.tensor(q * 1000) for q in (0.02, 0.3)] if kind == "flow_prediction" else list(torch.arange(4))


def clean(count: int = 3, seed: int = 0) -> Tensor:
    """Clean samples of the collapsed Gaussian."""
    noise = torch.randn(count, 12, generator=torch.Generator().manual_seed(seed))
    return (MEAN + VARIANCES.sqrt() * noise).reshape(-1, *SHAPE)


def exact_dimension(x: Tensor, alpha: float, sigma: float) -> Tensor:
    """D plus the derivative of the log density of x blurred by exp(delta), at delta = log(sigma / alpha)."""
    delta = torch.tensor(sigma / alpha, dtype=torch.float64).log().requires_grad_()
    blurred = VARIANCES.double() + (2 * delta).exp()
    gap = (x.flatten(1).double() - MEAN) ** 2
    logs = (-0.5 * gap / blurred - 0.5 * blurred.log()).sum(1)
    return torch.stack([12 + torch.autograd.grad(log, delta, retain_graph=True)[0] for log in logs]).float()


def seen(model: mn.Denoiser, x: Tensor, t: Tensor, prompt: str = "photo", **options) -> mn.Step:
    return model.observe(x, t, model.encode([prompt] * len(x), x.shape[1:]), **options)


@pytest.mark.parametrize(("p", "size"), [(1, lambda push: push.abs().sum(1)), (2, lambda push: push.norm(dim=1))])
def test_the_push_is_measured_in_the_norm_that_is_asked_for(p: int, size: Callable[[Tensor], Tensor]) -> None:
    (step,) = mn.Trajectory(planted.model(), ["memorized 0", "ordinary 1"], 0, num_inference_steps=5).first(1)
    push = (step.eps_cond - step.eps_uncond).flatten(1)
    torch.testing.assert_close(mn.scores.noise_norm(step, p=p), size(push))
    torch.testing.assert_close(mn.scores.score_norm(step), step.eps.flatten(1).norm(dim=1) / step.sigma)
    assert step.sigma < 1


@pytest.mark.parametrize("kind", KINDS)
def test_local_dimension_of_a_gaussian_is_exact_for_whatever_the_network_predicts(kind: str) -> None:
    model, x = gaussian(kind), clean()
    for t in levels(kind):
        alpha, sigma = schedule.alpha_sigma(model.pipe.scheduler, t)
        truth = exact_dimension(x, alpha, sigma)
        found = -mn.scores.flipd(seen(model, alpha * x, t), mode="trajectory", trace="exact")
        torch.testing.assert_close(found, truth, rtol=2e-4, atol=2e-4)
        share = max(float(t), 0.1) / model.pipe.scheduler.config.num_train_timesteps
        of_clean = mn.local_dimension(model, x, prompts=["photo"] * 3, t=share, trace="exact")
        torch.testing.assert_close(of_clean, truth, rtol=2e-4, atol=2e-4)


def test_low_noise_counts_the_dimensions_that_are_left_free() -> None:
    x = clean(64)
    found = mn.local_dimension(gaussian(), x, prompts=["photo"] * 64, t=0.1, trace="exact")
    assert float(found.mean()) == pytest.approx(7, abs=0.05)
    without = mn.local_dimension(gaussian(), x, t=0.1, trace="exact")
    assert float(without.mean()) == pytest.approx(12, abs=0.05)


def test_an_image_that_is_not_scaled_by_alpha_has_another_dimension() -> None:
    """The values of a code that evaluates at x in place of alpha x: wrong, and more so the more noise there is."""
    model, x = gaussian(), clean()
    errors = []
    for t in levels("epsilon")[1:]:
        truth = exact_dimension(x, *schedule.alpha_sigma(model.pipe.scheduler, t))
        wrong = -mn.scores.flipd(seen(model, x, t), mode="trajectory", trace="exact")
        errors.append(float((wrong - truth).abs().mean()))
    assert 0.03 < errors[0] < errors[1] < errors[2] and errors[2] > 3


def test_the_clean_image_that_the_branch_predicts_is_rescaled() -> None:
    step = seen(gaussian(), tiny_noise(3), torch.tensor(2))
    predicted = (step.x_t - step.sigma * step.eps_cond) / step.alpha
    truth = exact_dimension(predicted, step.alpha, step.sigma)
    torch.testing.assert_close(-mn.scores.flipd(step, trace="exact"), truth, rtol=2e-4, atol=2e-4)
    assert (truth + mn.scores.flipd(step, trace="exact", mode="trajectory")).abs().min() > 0.1


def tiny_noise(count: int) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(1))


@functools.lru_cache(maxsize=1)
def network() -> mn.Denoiser:
    """A random Stable Diffusion, with attention."""
    return mn.Denoiser(tiny.stable_diffusion("v_prediction"))


def field(model: mn.Denoiser, prompts: list[str], t: int = 300) -> jacobian.Field:
    cond = model.encode(prompts)["encoder_hidden_states"]
    return lambda x, samples: model.predict_noise(x, torch.tensor(t), {"encoder_hidden_states": cond[samples]})


def whole_jacobian(f, x: Tensor) -> Tensor:
    return torch.autograd.functional.jacobian(f, x).reshape(x.numel(), x.numel())


def test_the_exact_trace_is_that_of_the_whole_jacobian() -> None:
    x, one = tiny.latents(1)[..., :4, :4], torch.tensor([0])
    f = field(network(), ["a"])
    whole = float(whole_jacobian(lambda z: f(z, one), x).trace())
    for derivative, tolerance in (("forward", 1e-4), ("central", 2e-3)):
        found = jacobian.trace(f, x, how="exact", derivative=derivative)
        assert float(found.mean) == pytest.approx(whole, rel=tolerance)
        torch.testing.assert_close(found.value, f(x, one), rtol=1e-4, atol=1e-5)
        assert found.std == 0


def curved(x: Tensor, samples: Tensor) -> Tensor:
    """A small field of 12 dimensions with a Jacobian that is far from diagonal, and a scale for each sample."""
    weight = torch.randn(12, 12, generator=torch.Generator().manual_seed(3)) / 3 + 0.5 * torch.eye(12)
    return torch.tanh(x.flatten(1) @ weight.T).reshape(x.shape) * (1 + samples)[:, None, None, None]


@pytest.mark.parametrize("how", ["rademacher", "gaussian"])
def test_random_probes_meet_the_exact_trace(how: str) -> None:
    x = clean(2)
    exact = jacobian.trace(curved, x, how="exact").mean
    found = jacobian.trace(curved, x, how=how, probes=400)
    assert ((found.mean - exact).abs() < 3 * found.std / 20).all() and (found.std > 0.1).all()
    again = jacobian.trace(curved, x, how=how, probes=400, at_once=3)
    torch.testing.assert_close(again.mean, found.mean, rtol=1e-5, atol=1e-5)
    one = jacobian.trace(curved, x, how=how, seed=5)
    assert one.std.isnan().all() and (one.mean != jacobian.trace(curved, x, how=how, seed=6).mean).all()


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: functional.layer_norm(x, (2,), torch.tensor([0.5, 2.0]), torch.tensor([1.0, -1.0])),
        lambda x: functional.layer_norm(x, [3, 2, 2], eps=0.1),
        lambda x: functional.group_norm(x.transpose(2, 3), 1),
        lambda x: functional.scaled_dot_product_attention(x, x, x),
        lambda x: functional.rms_norm(x, (2,)),
    ],
    ids=["layer_norm", "layer_norm of all", "group_norm", "attention", "rms_norm"],
)
def test_gradients_of_tangents_are_those_of_differences(operation) -> None:
    """Torch's own layer normalization has wrong ones: it takes its mean and scale for constants."""
    x, v = clean(2).requires_grad_(), tiny_noise(2)
    weight = tiny_noise(4)[2:].reshape(2, 3, 2, 2)
    found = {}
    for derivative in ("forward", "central"):
        moved = jacobian.along(lambda z, samples: operation(z), x, v, derivative=derivative)[1]
        found[derivative] = (moved, torch.autograd.grad((moved * weight).sum(), x)[0])
    torch.testing.assert_close(found["forward"], found["central"], rtol=1e-2, atol=1e-2)


def test_each_sample_is_as_if_it_were_alone() -> None:
    prompts, x, t = ["a", "bc", "def"], tiny.latents(3), torch.tensor(300)
    for name in ("flipd", "sharpness"):
        score = functools.partial(get("score", name).function, **({"probes": 2} if name == "flipd" else {}))
        whole = score(network().observe(x, t, network().encode(prompts)))
        alone = [score(network().observe(x[k : k + 1], t, network().encode([p]))) for k, p in enumerate(prompts)]
        torch.testing.assert_close(whole, torch.cat(alone), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["flipd", "sharpness"])
def test_differences_agree_with_forward_mode(name: str) -> None:
    step = seen(network(), tiny.latents(2), torch.tensor(300), "abc")
    score = get("score", name).function
    torch.testing.assert_close(score(step, derivative="central"), score(step), rtol=1e-3, atol=1e-2)


FLAGS = ("flash", "mem_efficient", "math", "cudnn")


def flags() -> list[bool]:
    return [getattr(torch.backends.cuda, f"{name}_sdp_enabled")() for name in FLAGS]


def test_attention_is_as_fast_as_before_afterwards() -> None:
    step = seen(network(), tiny.latents(1), torch.tensor(300), "abc")
    before = flags()
    try:
        torch.backends.cuda.enable_math_sdp(False)
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        own = flags()
        mn.scores.flipd(step)
        assert flags() == own
        with pytest.raises(ZeroDivisionError):
            jacobian.along(lambda x, samples: x / (1 // 0), step.x_t, step.x_t)
        assert flags() == own
    finally:
        for name, value in zip(FLAGS, before, strict=True):
            getattr(torch.backends.cuda, f"enable_{name}_sdp")(value)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {"derivative": kind}) for name in ("flipd", "sharpness") for kind in ("forward", "central")),
        ("flipd", {"mode": "trajectory", "branch": "guided"}),
        ("anisotropy", {}),
        ("last_step_difference", {}),
    ],
)
def test_gradients_to_the_embedding_are_those_of_differences_of_the_score(name: str, options: dict) -> None:
    model, x, t = network(), tiny.latents(2), torch.tensor(300)
    leaf = model.encode(["abc", "de"])["encoder_hidden_states"].requires_grad_()

    def value(embedding: Tensor) -> Tensor:
        cond = {"encoder_hidden_states": embedding}
        step = model.observe(x, t, cond, timesteps=torch.tensor([900, 600, 300, 100]))
        return get("score", name).function(step, **options).sum()

    (grad,) = torch.autograd.grad(value(leaf), leaf)
    direction = grad / grad.norm()
    with torch.no_grad():
        slope = (value(leaf + 0.05 * direction) - value(leaf - 0.05 * direction)) / 0.1
    assert float(slope) == pytest.approx(float(grad.norm()), rel=0.02)


def test_flipd_costs_what_it_says() -> None:
    model = gaussian()
    step = mn.Trajectory(model, ["a", "photo"], [0, 1], num_inference_steps=2).first(2)[1]
    costs = {
        (): 2,
        (("probes", 3),): 6,
        (("mode", "trajectory"),): 2,
        (("derivative", "central"),): 4,
        (("derivative", "central"), ("mode", "trajectory")): 4,
        (("derivative", "central"), ("branch", "uncond"), ("mode", "trajectory"), ("probes", 5)): 20,
        (("trace", "exact"),): 24,
    }
    for options, cost in costs.items():
        before = model.network_evaluations
        with torch.no_grad():
            mn.scores.flipd(step, **dict(options))
        assert model.network_evaluations - before == cost, options


def test_the_released_flipd_forgets_what_no_prompt_curves() -> None:
    model, x, t = network(), tiny.latents(1)[..., :4, :4], torch.tensor(300)
    step = seen(model, x, t, "abc")
    one, v = torch.tensor([0]), torch.randn(4, 4, 4, generator=torch.Generator().manual_seed(42))
    push = whole_jacobian(lambda z: step.eps_at(z, samples=one) - step.eps_at(z, samples=one, branch="uncond"), x)
    form = 7.5 * v.flatten() @ push @ v.flatten()
    expected = step.sigma * form - step.eps.square().sum()
    for derivative in ("forward", "central"):
        found = mn.scores.flipd(step, compat="layer6", derivative=derivative)
        assert float(found) == pytest.approx(float(expected), rel=1e-3)


def test_flipd_of_a_batch_in_half_precision_is_near_that_in_full() -> None:
    model = mn.Denoiser(tiny.stable_diffusion("v_prediction").to(torch.bfloat16))
    full = mn.scores.flipd(seen(network(), tiny.latents(2), torch.tensor(300), "abc"))
    half = mn.scores.flipd(seen(model, tiny.latents(2).bfloat16(), torch.tensor(300), "abc"))
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, rtol=0.02, atol=0)


def test_flipd_needs_no_unconditional_branch() -> None:
    model = mn.Denoiser(tiny.unconditional())
    trajectory = mn.Trajectory(model, [""], [0], num_inference_steps=3)
    for derivative in ("forward", "central"):
        for mode in ("clean", "trajectory"):
            assert mn.detect(trajectory, "flipd", derivative=derivative, mode=mode).isfinite()
    with pytest.raises(mn.UsageError, match="has no unconditional branch"):
        mn.detect(trajectory, "flipd", branch="uncond")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"derivative": "central", "h": 0}, "The difference step h was 0"),
        ({"probes": 0}, "0 probes were asked for; give 1 or more, or the exact trace."),
    ],
)
def test_impossible_estimates_are_refused(options: dict, message: str) -> None:
    step = seen(gaussian(), tiny_noise(1), torch.tensor(1))
    with pytest.raises(mn.UsageError, match=message):
        mn.scores.flipd(step, **options)


# The local dimension of clean images


def test_pictures_become_the_mean_of_the_posterior() -> None:
    pipe = tiny.stable_diffusion()
    pictures = [Image.effect_noise((40, 20), 64), Image.new("RGBA", (16, 16), "red")]
    latents = encode_images(pipe, pictures, mn.Denoiser(pipe).latent_shape)
    red = torch.tensor([1.0, -1, -1])[:, None, None].expand(1, 3, 16, 16)
    with torch.no_grad():
        mean = pipe.vae.encode(red).latent_dist.mean * pipe.vae.config.scaling_factor
    assert latents.shape == (2, 4, 8, 8)
    torch.testing.assert_close(latents[1:], mean, rtol=1e-4, atol=1e-5)
    found = mn.local_dimension(mn.Denoiser(pipe), pictures, batch=1)
    torch.testing.assert_close(found, mn.local_dimension(mn.Denoiser(pipe), latents), rtol=1e-4, atol=1e-2)


def test_latents_of_an_autoencoder_with_statistics_decode_to_the_picture_again() -> None:
    statistics = {"latents_mean": [0.1, -0.2, 0.3, 0.0], "latents_std": [2.0, 1.0, 0.5, 3.0]}
    pipe = tiny.stable_diffusion_xl(**statistics)
    latents = encode_images(pipe, [Image.new("RGB", (16, 16), "red")], (4, 8, 8))
    model, seen_by_decoder = mn.Denoiser(pipe), []
    handle = pipe.vae.post_quant_conv.register_forward_pre_hook(lambda m, args: seen_by_decoder.append(args[0]))
    model.decode(latents)
    handle.remove()
    red = torch.tensor([1.0, -1, -1])[:, None, None].expand(1, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(seen_by_decoder[0], pipe.vae.encode(red).latent_dist.mean, rtol=1e-4, atol=1e-5)


def test_dimension_without_captions_of_a_model_over_pixels() -> None:
    model = mn.Denoiser(tiny.unconditional())
    picture = Image.effect_noise((8, 8), 64)
    curve = mn.local_dimension(model, [picture, picture], t=[0.02, 0.5])
    assert curve.shape == (2, 2)
    torch.testing.assert_close(curve[:, 0], curve[:, 1])
    found = mn.local_dimension(model, [picture], t=0.02, trace="exact")
    x = encode_images(model.pipe, [picture], (3, 8, 8))
    assert x.shape == (1, 3, 8, 8) and float(x.min()) >= -1 and float(x.max()) <= 1
    alpha, sigma = schedule.alpha_sigma(model.pipe.scheduler, 20.0)
    whole = whole_jacobian(lambda z: model.predict_noise(z, torch.tensor(20), {}), alpha * x)
    eps = model.predict_noise(alpha * x, torch.tensor(20), {})
    assert float(found) == pytest.approx(float(192 - sigma * whole.trace() + eps.square().sum()), rel=1e-4)


def test_impossible_dimensions_are_refused() -> None:
    for t in (0, 1.5):
        with pytest.raises(mn.UsageError, match=f"t was {t}; give a share of the noise schedule"):
            mn.local_dimension(gaussian(), clean(), t=t)
    with pytest.raises(mn.UsageError, match="2 prompts were given for 3 images"):
        mn.local_dimension(gaussian(), clean(), prompts=["photo"] * 2)


# Which steps


@pytest.mark.parametrize(("count", "index"), [(1, 0), (2, 1), (20, 14), (50, 35)])
def test_a_share_of_the_sampling_is_one_step(count: int, index: int) -> None:
    assert mn.Trajectory(gaussian(alpha_bars=(0.9,) * 60), "", 0, num_inference_steps=count).indices(0.7) == [index]


@pytest.mark.parametrize("steps", [0.0, 1.0, -0.5, 2.5, float("nan")])
def test_no_other_share_is_taken(steps: float) -> None:
    with pytest.raises(mn.UsageError, match="give a number, a list of indices, all, or last"):
        mn.Trajectory(gaussian(), "", 0, num_inference_steps=2).indices(steps)


# Sharpness, anisotropy, last_step_difference


def eigenvalues(t: Tensor) -> tuple[Tensor, Tensor]:
    """Curvatures of the log densities with and without the prompt, at a noise level of the Gaussian model."""
    alpha, sigma = schedule.alpha_sigma(gaussian().pipe.scheduler, t)
    return tuple(-1 / (alpha**2 * variance + sigma**2) for variance in (VARIANCES, BROAD))


@pytest.mark.parametrize("kind", KINDS[:3])
def test_curvature_and_push_of_two_gaussians(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At x_i = +-1 / sqrt(|l_c|) the value is the expectation: sum (l - l_c)^4 / |l_c| and sum (l - l_c)^2 / |l_c|."""
    monkeypatch.setattr("test_scores.MEAN", torch.zeros(12))
    model, t = gaussian(kind), torch.tensor(2)
    with_prompt, without = eigenvalues(t)
    signs = torch.tensor([1.0, -1]).repeat(6)
    step = seen(model, (signs / (-with_prompt).sqrt()).reshape(1, *SHAPE), t)
    fourth = ((without - with_prompt) ** 4 / -with_prompt).sum()
    torch.testing.assert_close(mn.scores.sharpness(step)[0], fourth, rtol=1e-4, atol=0)
    torch.testing.assert_close(mn.scores.sharpness(step, derivative="central")[0], fourth, rtol=1e-3, atol=0)
    torch.testing.assert_close(mn.scores.sharpness(step, compat="sail")[0], fourth.sqrt(), rtol=1e-4, atol=0)
    second = ((without - with_prompt) ** 2 / -with_prompt).sum()
    torch.testing.assert_close(mn.scores.last_step_difference(step)[0], second / 4, rtol=1e-4, atol=0)  # 4 pixels


def test_a_prompt_that_changes_nothing_has_no_curvature() -> None:
    for derivative in ("forward", "central"):
        found = mn.scores.sharpness(seen(network(), tiny.latents(1), torch.tensor(300), ""), derivative=derivative)
        assert float(found) == pytest.approx(0, abs=1e-6)


def test_anisotropy_is_size_at_high_noise_and_angle_at_low_noise() -> None:
    model = network()
    trajectory = mn.Trajectory(model, ["abc", "d"], [0, 0], num_inference_steps=10)
    (step,) = trajectory.first(1)
    t = trajectory.timesteps[-3]
    with torch.no_grad():
        with_prompt = model.predict_noise(step.x_t, t, step.cond)
        without = model.predict_noise(step.x_t, t, model.null(2))
    push = with_prompt - without
    size = (step.eps_cond - step.eps_uncond).flatten(1).norm(dim=1)
    angle = (push * without).flatten(1).sum(1) / push.flatten(1).norm(dim=1) / without.flatten(1).norm(dim=1)
    pixel = ((push * without).sum(1) / push.norm(dim=1) / without.norm(dim=1)).mean((1, 2))
    assert (angle - pixel).abs().min() > 1e-3
    before = model.network_evaluations
    with torch.no_grad():
        torch.testing.assert_close(mn.scores.anisotropy(step), size + 2 * angle, rtol=1e-4, atol=1e-5)
        assert model.network_evaluations - before == 3  # the two samples begin from the same noise
        released = mn.scores.anisotropy(step, gamma_norm=2, gamma_cos=0.1, cosine="pixel")
        torch.testing.assert_close(released, 2 * size + 0.1 * pixel, rtol=1e-4, atol=1e-5)
        assert (mn.scores.anisotropy(step, late=-1) != mn.scores.anisotropy(step, late=-3)).all()


def test_equal_latents_keep_their_own_gradients() -> None:
    model, x = network(), tiny.latents(1).repeat(2, 1, 1, 1).requires_grad_()
    step = model.observe(x, torch.tensor(900), model.encode(["abc", "d"]), timesteps=torch.tensor([900, 300, 100]))
    (grad,) = torch.autograd.grad(mn.scores.anisotropy(step, gamma_norm=0)[1], x)
    assert grad[0].abs().max() == 0 and grad[1].abs().max() > 0


def test_anisotropy_needs_a_late_timestep() -> None:
    alone = seen(network(), tiny.latents(1), torch.tensor(300), "abc")
    fifty = mn.Trajectory(network(), "abc", 0, num_inference_steps=50).timesteps
    assert torch.equal(mn.scores.anisotropy(alone), mn.scores.anisotropy(replace(alone, timesteps=fifty)))
    step = mn.Trajectory(network(), "abc", 0, num_inference_steps=2).first(1)[0]
    with pytest.raises(mn.UsageError, match="timestep -3 of a sampling that has 2"):
        mn.scores.anisotropy(step)


def test_the_difference_at_the_last_step_is_free(bundled: mn.Denoiser) -> None:
    """It separates where the model memorized the caption: unlike the planted model, whose null prompt knows all."""
    prompts = demo.prompts("verbatim")[:4] + demo.prompts("ordinary")[:4]
    trajectory = mn.Trajectory(bundled, prompts, [777], num_inference_steps=4)
    step = trajectory.all()[-1]
    before = bundled.network_evaluations
    found = mn.detect(trajectory, "last_step_difference")
    assert bundled.network_evaluations == before
    by_hand = [(((c - u) / step.sigma) ** 2).sum() / 256 for c, u in zip(step.eps_cond, step.eps_uncond, strict=True)]
    torch.testing.assert_close(found, torch.stack(by_hand))
    assert stats.auc(found[:4].double().numpy(), found[4:].double().numpy()) > 0.9
