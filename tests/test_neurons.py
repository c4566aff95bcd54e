"""The search for memorization neurons against a plain sequential one, exact counts, statistics, thresholds, files."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as ms_ssim

import mnemoscope as mn
from mnemoscope import ablation, demo, hooks, registry
from mnemoscope.errors import UsageError
from mnemoscope.likeness import Likeness, stretched
from mnemoscope.neurons import statistics, statistics_files, thresholds
from mnemoscope.neurons.differences import Differences, Setting
from mnemoscope.neurons.refining import Current, halving, one_by_one, refine
from mnemoscope.neurons.selection import candidates, selections
from mnemoscope.neurons.statistics import Statistics

neurons = registry.get("localize", "neurons").function
Sets = dict[str, list[int]]


@pytest.fixture
def model() -> mn.Denoiser:
    """Stable Diffusion 1's blocks, four channels wide: 28 neurons in seven layers."""
    return mn.Denoiser(tiny.stable_diffusion(network=tiny.unet_of_stable_diffusion_1()))


def usual(model: mn.Denoiser, which: str = "seven") -> Statistics:
    return statistics.measure(model, [f"a thing {k}" for k in range(12)], which)


# A plain sequential search, written from the description alone: one test after the other, every seed every time


def plain_differences(model: mn.Denoiser, prompt: str, seeds: int, blocked: Sets) -> torch.Tensor:
    scheduler = model.pipe.scheduler
    scheduler.set_timesteps(50)
    t = scheduler.timesteps[0]
    x = model.initial_noise(range(seeds))
    changes = {n: lambda v, own=tuple(own): v.index_fill(2, torch.tensor(own), 0.0) for n, own in blocked.items() if own}
    with torch.no_grad(), hooks.edit_output(model.network, changes):
        native = model.network(x, t, model.encode([prompt] * seeds)["encoder_hidden_states"]).sample
    alpha_bar = scheduler.alphas_cumprod[t]
    if model.prediction_type == "epsilon":
        d = native - x
    else:
        d = -(alpha_bar.sqrt() * x - (1 - alpha_bar).sqrt() * native)
    low, high = d.amin((2, 3), keepdim=True), d.amax((2, 3), keepdim=True)
    return (d - low) / (high - low)


def plain_likeness(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    kernel = 11 if a.shape[-1] >= 11 else 5  # tiny pipelines have latents of 8 pixels
    return ms_ssim(
        a, b, sigma=1.5 * kernel / 11, kernel_size=kernel, betas=(0.33,), data_range=1.0, reduction="none"
    ).reshape(-1)


def plain_search(
    model: mn.Denoiser, prompt: str, known: Statistics, threshold: float, seeds: int, most: int = 10**9
) -> tuple[Sets, Sets, int]:
    """Initial and refined neurons, and how many noise differences were taken."""
    taken = 0

    def differences(blocked: Sets) -> torch.Tensor:
        nonlocal taken
        taken += 1
        return plain_differences(model, prompt, seeds, blocked)[kept]

    kept = list(range(seeds))
    base = differences({})
    best = [max(float(plain_likeness(base[[i]], base[[j]])) for j in range(seeds) if j != i) for i in range(seeds)]
    kept = [i for i in range(seeds) if best[i] > threshold]
    if not kept:
        return {}, {}, taken
    base = base[kept]

    def score(blocked: Sets) -> float:
        return float(plain_likeness(base, differences(blocked)).max())

    names = hooks.value_layers(model.network)
    hidden = model.encode([prompt])["encoder_hidden_states"]
    values = {n: model.network.get_submodule(n)(hidden).abs().mean(1)[0] for n in names}
    theta, k = 5.0, 0
    while True:
        initial = {}
        for n in names:
            outside = ((values[n] - known.mean[n]).abs() / known.sd[n] > theta).nonzero()[:, 0].tolist()
            initial[n] = sorted({*outside, *values[n].topk(min(k, len(values[n]))).indices.tolist()})
        reached = score(initial)
        if reached <= threshold or theta == 1:
            break
        theta, k = theta - 0.25, k + 1
    limit = threshold if reached <= threshold else reached
    current = {n: list(own) for n, own in initial.items()}
    for n in reversed(names):
        if current[n] and score({**current, n: []}) < limit:
            current[n] = []
    for n in reversed(names):
        for i in list(current[n])[:most]:
            without = {**current, n: [j for j in current[n] if j != i]}
            if score(without) < limit:
                current = without
    return ablation.lists(initial), ablation.lists(current), taken


@pytest.mark.parametrize(("prompt", "threshold"), [("a cat", 0.995), ("a red bicycle", 0.99), ("", 0.997)])
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_exact_search_is_the_plain_sequential_one(model: mn.Denoiser, prompt: str, threshold: float, batch: int) -> None:
    """Random weights ignore the prompt, so that all seeds agree with the plain ones unless almost all is blocked."""
    known = usual(model)
    low = 0.05  # so that seeds of random weights are kept
    initial, refined, taken = plain_search_with(model, prompt, known, low, threshold)
    before = model.network_evaluations
    (found,) = neurons(
        model, [prompt], statistics=known, threshold=threshold, pairwise_threshold=low, seeds=3, batch=batch
    )
    assert found.initial_neurons == initial and found.neurons == refined and found.neurons
    assert found.evaluations == model.network_evaluations - before < 3 * taken
    assert found.after == pytest.approx(found.details["ssim_check"] if "ssim_check" in found.details else found.after)
