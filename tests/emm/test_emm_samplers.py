"""Samplers over noise levels: closed forms of a Gaussian, counts, and a second writing of the published algorithm."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from mnemoscope.emm.sampling.ablation_sampler import BETA_D, BETA_MIN, ablation_sample, iddpm_grid
from mnemoscope.emm.sampling.drawing import Single, draw, sample_images, to_uint8
from mnemoscope.emm.sampling.samplers import edm_levels, edm_sample
from mnemoscope.errors import UsageError

SHAPE = (1, 2, 2)


class Gaussian:
    """The denoiser of images whose pixels are normal with this mean and deviation; its flow is known."""

    sigma_min, sigma_max = 0.0, math.inf

    def __init__(self, deviation: float = 0.5, mean: float = 0.0, num_classes: int = 0) -> None:
        self.variance, self.mean, self.num_classes = deviation**2, mean, num_classes
        self.seen: list[tuple[int, float]] = []

    def __call__(self, x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        self.seen.append((len(x), float(sigma)))
        mean = self.mean if labels is None else labels[:, None, None, None] / 10
        return mean + (x - mean) * self.variance / (sigma**2 + self.variance)

    def round_sigma(self, sigma: Tensor) -> Tensor:
        return sigma

    def images(self, latents: Tensor, highest: float) -> Tensor:
        """Where the flow takes the latents from the highest noise level."""
        shrunk = (self.variance / (self.variance + highest**2)) ** 0.5
        return self.mean + (latents.double() * highest - self.mean) * shrunk


def latents(n: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(seed))


def test_heun_takes_35_evaluations_at_the_levels_of_the_paper() -> None:
    model = Gaussian()
    edm_sample(model, latents())
    levels = [((80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7) for i in range(18)]
    expected = [levels[0], *(level for level in levels[1:] for _ in range(2))]
    assert [n for n, _ in model.seen] == [3] * 35
    np.testing.assert_allclose([sigma for _, sigma in model.seen], expected, rtol=1e-12)


def test_a_single_step_is_the_denoiser_at_the_highest_level() -> None:
    model = Gaussian()
    drawn = edm_sample(model, latents(), num_inference_steps=1)
    torch.testing.assert_close(drawn, model(80 * latents().double(), torch.tensor(80.0), None))


def test_heun_converges_with_the_square_of_the_step() -> None:
    model = Gaussian(mean=0.3)
    errors = [
        float((edm_sample(model, latents(), num_inference_steps=n) - model.images(latents(), 80.0)).abs().max())
        for n in (64, 128, 256)
    ]
    assert errors[0] / errors[1] > 3 and errors[1] / errors[2] > 3 and errors[2] < 3e-4


@pytest.mark.parametrize("solver, per_step", [("euler", 1), ("heun", 2)])
@pytest.mark.parametrize("scaling", ["vp", "none"])
@pytest.mark.parametrize("schedule", ["vp", "ve", "linear"])
@pytest.mark.parametrize("discretization, highest", [("vp", 152.2), ("ve", 100.0), ("iddpm", 81.0), ("edm", 80.0)])
def test_every_combination_follows_the_flow(
    solver: str, per_step: int, scaling: str, schedule: str, discretization: str, highest: float
) -> None:
    model = Gaussian()
    asked = {"solver": solver, "scaling": scaling, "schedule": schedule, "discretization": discretization}
    drawn = ablation_sample(model, latents(), num_inference_steps=32, **asked)
    assert len(model.seen) == (32 if solver == "euler" else 2 * 32 - 1)
    assert model.seen[0][1] == pytest.approx(highest, rel=0.02)
    exact, n = model.images(latents(), model.seen[0][1]), 256
    further = ablation_sample(model, latents(), num_inference_steps=n, M=4000, **asked)
    first, last = (float((x - exact).abs().max()) for x in (drawn, further))
    assert last < 0.35 * first or last < 1e-3


def test_defaults_of_the_ablation_sampler_are_the_sampler_of_edm() -> None:
    options = {"S_churn": 20, "S_min": 0.05, "S_max": 50, "S_noise": 1.003}
    for given in ({}, options):
        two = [
            sample(Gaussian(), latents(), generators=[torch.Generator().manual_seed(k) for k in range(3)], **given)
            for sample in (edm_sample, ablation_sample)
        ]
        torch.testing.assert_close(*two, rtol=0, atol=1e-12)


def test_alpha_one_half_is_the_midpoint_method() -> None:
    model = Gaussian()
    ablation_sample(model, latents(), num_inference_steps=4, alpha=0.5)
    levels = [*edm_levels(4, 0.002, 80.0).tolist(), 0.0]
    middles = [(a + b) / 2 for a, b in zip(levels[:3], levels[1:], strict=False)]
    expected = [each for pair in zip(levels, middles, strict=False) for each in pair] + [levels[3]]
    np.testing.assert_allclose([sigma for _, sigma in model.seen], expected, rtol=1e-9)


def test_levels_of_the_vp_discretization_are_those_of_its_process() -> None:
    model = Gaussian()
    ablation_sample(model, latents(), num_inference_steps=5, solver="euler", discretization="vp", schedule="vp")
    times = np.linspace(1, 1e-3, 5)
    expected = np.sqrt(np.expm1(BETA_D * times**2 / 2 + BETA_MIN * times))
    np.testing.assert_allclose([sigma for _, sigma in model.seen], expected, rtol=1e-6)


def test_grid_of_iddpm_follows_its_recursion() -> None:
    grid = iddpm_grid(1000)
    assert len(grid) == 1001 and grid[-1] == 0 and bool((grid.diff() < 0).all())
    kept = (math.sin(math.pi / 2 * 999 / 1008) / math.sin(math.pi / 2 * 1000 / 1008)) ** 2
    assert float(grid[-2]) == pytest.approx(math.sqrt(1 / kept - 1))
    assert 20_000 < float(grid[0]) < 21_000  # C_1 holds the first ratio, which would be 0
    with pytest.raises(UsageError, match="iDDPM grid has"):
        ablation_sample(Gaussian(), latents(), num_inference_steps=64, discretization="iddpm", M=50)


def test_churn_is_the_algorithm_of_the_paper() -> None:
    """Algorithm 2, written once more for one image."""
    model, levels = Gaussian(), [*edm_levels(6, 0.002, 80.0).tolist(), 0.0]
    noise = torch.Generator().manual_seed(5)
    x = latents(1).double() * levels[0]
    for i in range(6):
        gamma = min(10 / 6, math.sqrt(2) - 1) if 0.05 <= levels[i] <= 50 else 0
        raised = levels[i] * (1 + gamma)
        if gamma:
            drawn = torch.randn(SHAPE, generator=noise, dtype=torch.float64)
            x = x + math.sqrt(raised**2 - levels[i] ** 2) * 1.007 * drawn
        slope = (x - model(x, torch.tensor(raised, dtype=torch.float64), None)) / raised
        euler = x + (levels[i + 1] - raised) * slope
        if levels[i + 1]:
            second = (euler - model(euler, torch.tensor(levels[i + 1], dtype=torch.float64), None)) / levels[i + 1]
            euler = x + (levels[i + 1] - raised) * (slope + second) / 2
        x = euler
    options = {"S_churn": 10, "S_min": 0.05, "S_max": 50, "S_noise": 1.007}
    own = [torch.Generator().manual_seed(5)]
    drawn = edm_sample(model, latents(1), num_inference_steps=6, generators=own, **options)
    torch.testing.assert_close(drawn, x, rtol=0, atol=1e-11)


def test_range_is_cut_to_the_denoiser() -> None:
    model = Gaussian()
    model.sigma_min, model.sigma_max = 0.02, 10.0
    edm_sample(model, latents())
    assert model.seen[0][1] == pytest.approx(10.0) and model.seen[-1][1] == pytest.approx(0.02)


@pytest.mark.parametrize(
    "options, said",
    [
        ({"num_inference_steps": 0}, "at least 1"),
        ({"sigma_min": 0}, "0 < sigma_min"),
        ({"sigma_min": 3, "sigma_max": 2}, "0 < sigma_min"),
        ({"S_churn": 1}, "give the generators"),
    ],
)
def test_bad_options_are_refused(options: dict, said: str) -> None:
    for sample in (edm_sample, ablation_sample):
        with pytest.raises(UsageError, match=said):
            sample(Gaussian(), latents(), **options)


@pytest.mark.parametrize("options", [{"alpha": 0}, {"alpha": 1.5}, {"epsilon_s": 1}, {"M": 0}])
def test_bad_options_of_the_ablation_sampler_are_refused(options: dict) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(options))} was"):
        ablation_sample(Gaussian(), latents(), **options)


def test_every_byte_comes_back_as_itself() -> None:
    values = torch.arange(256)
    assert torch.equal(to_uint8(values.double() / 127.5 - 1), values.to(torch.uint8))
    assert torch.equal(to_uint8(values.float() / 127.5 - 1), values.to(torch.uint8))
    assert to_uint8(torch.tensor([-9.0, 9.0])).tolist() == [0, 255]
    with pytest.raises(UsageError, match="diverged"):
        to_uint8(torch.tensor([math.nan]))


@pytest.mark.parametrize("churn", [0, 30])
def test_images_do_not_depend_on_the_batch(churn: int) -> None:
    model = Gaussian(num_classes=10)
    together, labels = sample_images(model, range(7), shape=SHAPE, S_churn=churn)
    apart, again = sample_images(model, range(7), shape=SHAPE, S_churn=churn, batch_size=2)
    assert together.dtype == np.uint8 and np.array_equal(together, apart) and np.array_equal(labels, again)
    alone, _ = sample_images(model, [5], shape=SHAPE, S_churn=churn)
    assert np.array_equal(alone[0], together[5]) and len({bytes(image) for image in together}) == 7


def test_label_is_drawn_after_the_latent_and_can_be_fixed() -> None:
    model = Gaussian(num_classes=10)
    _, labels = sample_images(model, range(50), shape=SHAPE)
    generator = torch.Generator().manual_seed(17)
    torch.randn(SHAPE, generator=generator)
    assert labels[17] == torch.randint(10, (1,), generator=generator) and len(set(labels.tolist())) > 7
    latent, fixed, _ = draw([17], SHAPE, 10, 4)
    assert fixed.tolist() == [4] and torch.equal(latent, draw([17 + 2**32], SHAPE)[0])
    assert set(sample_images(model, range(5), shape=SHAPE, label=4)[1].tolist()) == {4}
    assert sample_images(Gaussian(), [0], shape=SHAPE)[1] is None


def test_bad_labels_are_refused() -> None:
    with pytest.raises(UsageError, match="has no labels"):
        sample_images(Gaussian(), [0], shape=SHAPE, label=1)
    with pytest.raises(UsageError, match="labels 0 to 9"):
        sample_images(Gaussian(num_classes=10), [0], shape=SHAPE, label=10)
    with pytest.raises(UsageError, match="batch_size"):
        sample_images(Gaussian(), [0], shape=SHAPE, batch_size=0)


def test_another_sampler_and_a_device_without_float64() -> None:
    sampler = partial(ablation_sample, solver="euler", num_inference_steps=9)
    model = Gaussian(num_classes=10)
    images, _ = sample_images(model, range(3), shape=SHAPE, sampler=sampler)
    single, _ = sample_images(Single(model, "cpu"), range(3), shape=SHAPE, sampler=sampler)
    assert len(model.seen) == 18 and np.abs(images.astype(int) - single).max() <= 1
