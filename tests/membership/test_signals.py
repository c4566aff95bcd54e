"""Signals of membership against closed forms of planted denoisers, second implementations, and their contract."""

import math
import random

import pytest
import torch

import tiny
import tiny_families
from mnemoscope import planted, registry
from mnemoscope.errors import UsageError
from mnemoscope.methods import contract
from mnemoscope.methods.pictured import SeenPictures
from mnemoscope.model import schedule
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.noising import noised, time_at
from mnemoscope.signals import (
    caption_gain,
    denoising_loss,
    low_frequency_loss,
    noise_optimization,
    own_push,
    proximal_initialization,
)

NAMES = registry.names("signal")
PROCESSES = ("vp", "zero-snr", "flow")
TIMES = [0.15, 0.6]


def ordinary(count: int = 3, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return planted.SPREAD * torch.randn(count, 3, planted.SIZE, planted.SIZE, generator=generator)


def pictured(model: Denoiser, seeds: tuple[int, ...] = (0,)) -> SeenPictures:
    """Ordinary pictures of the planted model, under captions that name the broad Gaussian."""
    return SeenPictures(model, ordinary(), ["ordinary 1", "ordinary 2", "ordinary 5"], seeds)


def level(model: Denoiser, time: float) -> schedule.Level:
    return schedule.alpha_sigma(model.pipe.scheduler, time_at(model.pipe.scheduler, time))


def drawn(seed: int, time: float) -> torch.Tensor:
    key = random.Random(f"{seed}|{time}").getrandbits(63)
    return torch.randn(3, planted.SIZE, planted.SIZE, generator=torch.Generator().manual_seed(key))


def gain(model: Denoiser, time: float) -> float:
    """eps(x) = gain x is the optimal prediction for the Gaussian that ordinary captions name."""
    alpha, sigma = level(model, time)
    return sigma / ((alpha * planted.SPREAD) ** 2 + sigma**2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("process", PROCESSES)
def test_signals_keep_the_contract_that_strangers_are_told_of(name: str, process: planted.Process) -> None:
    contract.check(name, "signal", process=process)


@pytest.mark.parametrize("name", NAMES)
def test_signals_say_what_they_are(name: str) -> None:
    found = registry.get("signal", name)
    assert found.name == name and found.kind == "signal" and found.cost and found.paper.startswith("arXiv:")
    assert 20 < len(found.summary) <= 120 and found.summary[0].isupper() and found.summary.endswith((".", "(CLiD)."))


@pytest.mark.parametrize("process", PROCESSES)
def test_the_loss_is_that_of_the_optimal_linear_denoiser(process: planted.Process) -> None:
    model = planted.model(process)
    seen = pictured(model, (3, 8))
    expected = []
    for time in TIMES:
        alpha, sigma = level(model, time)
        errors = [gain(model, time) * (alpha * seen.x_0 + sigma * drawn(s, time)) - drawn(s, time) for s in (3, 8)]
        expected.append(-sum(e.square().flatten(1).mean(1) for e in errors) / 2)
    torch.testing.assert_close(denoising_loss(seen, times=TIMES), torch.stack(expected, 1), rtol=1e-4, atol=1e-6)


def test_a_member_that_is_known_by_heart_has_no_loss_and_needs_no_push() -> None:
    model = planted.model()
    seen = SeenPictures(model, planted.images(), [f"memorized {k}" for k in range(planted.MEMORIZED)])
    for signal in (denoising_loss, low_frequency_loss, proximal_initialization, noise_optimization):
        assert signal(seen, times=[0.2]).abs().max() < 1e-4


def test_low_frequencies_are_those_of_a_filter_in_the_fourier_plane() -> None:
    seen = pictured(planted.model())
    step, noise = seen.look(0.6, 0)
    spectrum = torch.fft.fft2(step.eps_cond - noise)
    side = planted.SIZE
    for row in range(side):
        for column in range(side):
            down, across = (min(k, side - k) / (side / 2) for k in (row, column))
            if math.hypot(down, across) > 0.4:
                spectrum[:, :, row, column] = 0
    kept = torch.fft.ifft2(spectrum).real.square().flatten(1).mean(1)
    found = low_frequency_loss(seen, times=[0.6], cutoff=0.4)
    torch.testing.assert_close(found[:, 0], -kept, rtol=1e-4, atol=1e-7)
    assert (found > denoising_loss(seen, times=[0.6])).all()
    whole = low_frequency_loss(seen, times=TIMES, cutoff=1.5)
    torch.testing.assert_close(whole, denoising_loss(seen, times=TIMES))


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize(("power", "normalized"), [(4, False), (2, True)])
def test_proximal_initialization_is_its_closed_form(process: planted.Process, power: int, normalized: bool) -> None:
    model = planted.model(process)
    seen = pictured(model)
    eps_0 = gain(model, 0) * seen.x_0
    if normalized:
        eps_0 = eps_0 * math.sqrt(2 / math.pi) / eps_0.abs().mean((1, 2, 3), keepdim=True)
    alpha, sigma = level(model, 0.3)
    gap = eps_0 - gain(model, 0.3) * (alpha * seen.x_0 + sigma * eps_0)
    found = proximal_initialization(seen, times=[0.3], power=power, normalized=normalized)
    norm = gap.abs().pow(power).sum((1, 2, 3)) ** (1 / power)
    rtol = 2e-2 if process == "flow" else 1e-3  # the planted network divides by a sigma of .001 there
    torch.testing.assert_close(found[:, 0], -norm, rtol=rtol, atol=1e-5)


@pytest.mark.parametrize("process", PROCESSES)
def test_noise_optimization_is_the_geometric_series_of_a_linear_denoiser(process: planted.Process) -> None:
    model = planted.model(process)
    seen = pictured(model)
    (alpha, sigma), slope = level(model, 0.6), gain(model, 0.6)
    error = slope * (alpha * seen.x_0 + sigma * drawn(0, 0.6)) - drawn(0, 0.6)
    shrink, rate = 1 - 0.7 * (sigma * slope) ** 2, 0.7 * sigma**2 * slope
    way = error * rate * sum(shrink**k for k in range(4))
    found = noise_optimization(seen, times=[0.6], steps=4, rate=0.7)
    expected = [(error * shrink**4).square().flatten(1).mean(1), way.flatten(1).norm(dim=1)]
    torch.testing.assert_close(found, -torch.stack(expected, 1), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("process", PROCESSES)
def test_caption_and_push_compare_both_branches(process: planted.Process) -> None:
    model = planted.model(process)
    captions = [f"memorized {k}" for k in range(4)]
    seen = SeenPictures(model, planted.images(), captions)
    noise = drawn(0, 0.97)
    x_t, (alpha, sigma) = noised(model.pipe.scheduler, planted.images(), time_at(model.pipe.scheduler, 0.97), noise)
    t = time_at(model.pipe.scheduler, 0.97)
    cond, uncond = (model.predict_noise(x_t, t, c) for c in (model.encode(captions), model.null(4)))
    losses = [(eps - noise).square().flatten(1).mean(1) for eps in (uncond, cond)]
    torch.testing.assert_close(caption_gain(seen, times=[0.97])[:, 0], losses[0] - losses[1], rtol=1e-4, atol=1e-7)
    scale = sigma / alpha if model.units == "x0" else 1.0
    push = scale * (cond - uncond).flatten(1).norm(dim=1)
    torch.testing.assert_close(own_push(seen, times=[0.97])[:, 0], push, rtol=1e-3, atol=1e-4)
    assert push.min() > 0.1


@pytest.mark.parametrize("build", [tiny.class_conditional, tiny.unconditional, tiny_families.sd3, tiny.distilled])
def test_signals_of_other_families_are_finite_and_the_same_in_any_batch(build) -> None:
    how = {"size": (16, 16), "call": {"max_sequence_length": 32}} if build is tiny_families.sd3 else {}
    model = Denoiser(build(), **how)
    captions = {tiny.class_conditional: ["1", "2"], tiny.unconditional: None}.get(build, ["a fox", "two boats"])
    x_0 = torch.randn(2, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    both = SeenPictures(model, x_0, captions)
    last = SeenPictures(model, x_0[1:], captions and captions[1:])
    bare = SeenPictures(model, x_0)
    assert not bare.known and both.known == ({"captions"} if model.family.unguided is None and captions else set())
    for name in NAMES:
        method = registry.get("signal", name)
        if set(method.needs) - both.known:
            with pytest.raises(UsageError, match="no unconditional branch"):
                method.function(both)
            continue
        found = method.function(both)
        assert found.isfinite().all() and found.dtype == torch.float32
        torch.testing.assert_close(found[1:], method.function(last), rtol=1e-3, atol=1e-4)
    assert not torch.equal(denoising_loss(bare), denoising_loss(both)) or captions is None or not both.known


def test_what_is_no_time_or_number_is_refused_in_a_sentence() -> None:
    seen = pictured(planted.model())
    for times in ([], [1.2], ["0.2"], [True]):
        with pytest.raises(UsageError, match="0 .clean. to 1 .noise."):
            denoising_loss(seen, times=times)
    with pytest.raises(UsageError, match="cutoff"):
        low_frequency_loss(seen, cutoff=0)
    with pytest.raises(UsageError, match="steps=0"):
        noise_optimization(seen, steps=0)
    with pytest.raises(UsageError, match="No time"):
        proximal_initialization(seen, times=[])


def test_signals_share_what_the_model_predicts() -> None:
    model = planted.model()
    seen = pictured(model)
    denoising_loss(seen, times=TIMES)
    spent = model.network_evaluations
    assert spent == 2 * 3
    low_frequency_loss(seen, times=TIMES)
    assert model.network_evaluations == spent
    caption_gain(seen, times=TIMES)
    own_push(seen, times=TIMES)
    assert model.network_evaluations == spent + 2 * 3  # the other branch, once
