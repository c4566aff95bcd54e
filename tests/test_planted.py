"""The planted model has the closed form that it claims, and a whole loop on it has the known answer."""

import numpy as np
import torch

import mnemoscope as mn
from mnemoscope import planted as truth


def as_tensor(images: list) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.asarray(i, np.float32) for i in images])).permute(0, 3, 1, 2) / 127.5 - 1


def test_a_memorized_prompt_predicts_its_image_from_pure_noise(planted: mn.Denoiser) -> None:
    step = mn.Trajectory(planted, ["memorized 2"], [5]).first(1)[0]
    x0 = (step.x_t - step.sigma * step.eps_cond) / step.alpha
    torch.testing.assert_close(x0[0], truth.images()[2], atol=5e-3, rtol=0)


def test_an_ordinary_prompt_predicts_the_gaussian_posterior_mean(planted: mn.Denoiser) -> None:
    step = mn.Trajectory(planted, ["ordinary 2"], [5]).first(1)[0]
    x0 = (step.x_t - step.sigma * step.eps_cond) / step.alpha
    shrink = step.alpha * truth.SPREAD**2 / ((step.alpha * truth.SPREAD) ** 2 + step.sigma**2)
    torch.testing.assert_close(x0, shrink * step.x_t, atol=5e-3, rtol=0)


def test_no_prompt_predicts_the_mean_of_the_mixture(planted: mn.Denoiser) -> None:
    """By Monte Carlo: x_0 drawn from the data set, weighted by the likelihood of x_t given x_0."""
    generator = torch.Generator().manual_seed(0)
    step = mn.Trajectory(planted, [""], [5]).first(1)[0]
    points = truth.images().double()
    count = 200_000
    draws = truth.SPREAD * torch.randn(count, 3, 16, 16, generator=generator)
    near = lambda x0: -(step.x_t - step.alpha * x0).double().flatten(1).square().sum(1) / (2 * step.sigma**2)  # noqa: E731
    logs = torch.cat(
        [
            near(points) + np.log(truth.MEMORIZED_SHARE / truth.MEMORIZED),
            near(draws) + np.log((1 - truth.MEMORIZED_SHARE) / count),
        ]
    )
    weights = logs.softmax(0)
    mean = (weights[:4, None, None, None] * points).sum(0) + torch.einsum("n,nchw->chw", weights[4:].float(), draws)
    x0 = (step.x_t - step.sigma * step.eps_uncond) / step.alpha
    assert (x0[0] - mean).square().mean().sqrt() < 0.02


def test_sampling_copies_memorized_images_and_no_others(planted: mn.Denoiser) -> None:
    prompts = truth.prompts(True) + truth.prompts(False)
    images = as_tensor(planted.generate(prompts, [1] * len(prompts)))
    distance = (images[:, None] - truth.images()).square().mean((2, 3, 4)).sqrt()
    assert distance[:4].diagonal().max() < 0.05
    assert distance[4:].min() > 0.3


def test_detection_separates_them_with_one_evaluation_more_than_prompts(planted: mn.Denoiser) -> None:
    prompts = truth.prompts(True) + truth.prompts(False)
    scores = mn.detect(mn.Trajectory(planted, prompts, 0), "noise_norm")
    assert scores[:4].min() > 5 * scores[4:].max()
    assert planted.network_evaluations == len(prompts) + 1
