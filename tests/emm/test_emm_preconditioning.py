"""Preconditionings, losses, averages and augmentations of the EMM experiments against their closed forms."""

from math import exp, expm1, hypot, inf, log, log1p, pi, sin, sqrt

import pytest
import torch
from torch import Tensor, nn

from mnemoscope.emm.networks.losses import LossDraws, draw, loss, weight
from mnemoscope.emm.networks.preconditioning import Preconditioned, iddpm_sigmas, scheme, vp_sigma, vp_time
from mnemoscope.emm.training.augmentation import NonLeaking, x_flip
from mnemoscope.emm.training.average import Average
from mnemoscope.emm.training.averaging import NetworkAverages, decay, half_life
from mnemoscope.errors import UsageError

KINDS = ("vp", "ve", "edm", "iddpm")


class Told(nn.Module):
    """A network that keeps what it was told and gives a known image."""

    def forward(self, x: Tensor, noise: Tensor, labels: Tensor | None, augment: Tensor | None) -> Tensor:
        self.x, self.noise, self.labels, self.augment = x, noise, labels, augment
        return x.sin()


def wrapped(kind: str, **options: object) -> tuple[Told, Preconditioned]:
    network = Told()
    return network, Preconditioned(network, kind, channels=1, resolution=4, **options)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_hand(kind: str, s: float) -> tuple[float, float, float, float]:
    """c_skip, c_out, c_in and c_noise of a noise level, written out."""
    if kind == "vp":
        return 1, -s, 1 / sqrt(1 + s * s), 999 * (sqrt(0.01 + 39.8 * log1p(s * s)) - 0.1) / 19.9
    if kind == "ve":
        return 1, s, 1, log(s / 2)
    if kind == "edm":
        return 0.25 / (s * s + 0.25), s * 0.5 / sqrt(s * s + 0.25), 1 / sqrt(s * s + 0.25), log(s) / 4
    levels = iddpm_sigmas().tolist()
    return 1, -s, 1 / sqrt(1 + s * s), 999 - min(range(1000), key=lambda k: abs(levels[k] - s))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sigma", [0.0021, 0.05, 0.5, 3.0, 79.0])
def test_denoiser_is_its_closed_form(kind: str, sigma: float) -> None:
    network, denoiser = wrapped(kind)
    x = torch.randn(3, 1, 4, 4, generator=generator(), dtype=torch.float64)
    found = denoiser(x, torch.tensor(sigma, dtype=torch.float64))
    skip, out, into, told = by_hand(kind, sigma)
    assert torch.allclose(found.double(), skip * x + out * (into * x).sin(), rtol=1e-4, atol=1e-5)
    assert found.dtype == torch.float32 and network.x.dtype == torch.float32
    assert torch.allclose(network.noise, torch.full((3,), float(told)), rtol=1e-5, atol=1e-4)


def test_each_sample_has_its_noise_level_and_number_forms_agree() -> None:
    network, denoiser = wrapped("edm")
    x, sigma = torch.randn(3, 1, 4, 4, generator=generator()), torch.tensor([0.1, 1.0, 10.0])
    together = denoiser(x, sigma)
    assert torch.allclose(together, torch.cat([denoiser(x[k : k + 1], float(sigma[k])) for k in range(3)]), atol=1e-6)
    assert torch.equal(denoiser(x, 1), denoiser(x, torch.ones(3)))


def test_ranges() -> None:
    found = {kind: (wrapped(kind)[1].sigma_min, wrapped(kind)[1].sigma_max) for kind in KINDS}
    assert found["vp"][0] == pytest.approx(0.0010005, abs=5e-8)
    assert found["vp"][0] == pytest.approx(sqrt(expm1(9.95e-10 + 1e-6)), rel=1e-9)
    assert found["vp"][1] == pytest.approx(sqrt(exp(10.05) - 1), rel=1e-9) and round(found["vp"][1], 1) == 152.2
    assert found["ve"] == (0.02, 100) and found["edm"] == (0, inf)
    assert found["iddpm"][0] == pytest.approx(float(iddpm_sigmas()[-1])) and found["iddpm"][0] < 0.01


def test_vp_time_is_the_inverse_of_its_noise_level_also_in_float32() -> None:
    t = torch.logspace(-5, 0, 50)
    assert torch.allclose(vp_time(vp_sigma(t)), t, rtol=2e-6, atol=0)
    assert torch.allclose(vp_sigma(t).double(), vp_sigma(t.double()), rtol=1e-6, atol=0)


def test_range_of_what_the_network_is_told() -> None:
    for kind, low, high in (("vp", 0.00999, 999), ("ve", -4.6, 3.9), ("iddpm", 0, 999)):
        network, denoiser = wrapped(kind)
        denoiser(torch.zeros(2, 1, 4, 4), torch.tensor([denoiser.sigma_min, denoiser.sigma_max]))
        assert network.noise.tolist() == pytest.approx([low, high], abs=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_noise_may_be_told_on_one_scale(kind: str) -> None:
    network, denoiser = wrapped(kind, noise_input="log")
    denoiser(torch.zeros(1, 1, 4, 4), 3.0)
    assert float(network.noise) == pytest.approx(log(3) / 4)


def test_iddpm_levels() -> None:
    levels = iddpm_sigmas()
    assert len(levels) == 1000 and (levels.diff() < 0).all() and levels.dtype == torch.float64

    def kept(j: int) -> float:
        return sin(pi / 2 * j / (1000 * 1.008)) ** 2

    above = 0.0
    for j in range(1000, 0, -1):
        above = sqrt((above * above + 1) / max(kept(j - 1) / kept(j), 0.001) - 1)
        assert float(levels[j - 1]) == pytest.approx(above, rel=1e-9)
    denoiser = wrapped("iddpm")[1]
    rounded = denoiser.round_sigma(torch.tensor([1.0, 0.0, 1e9], dtype=torch.float64))
    assert rounded.dtype == torch.float64 and float(rounded[1]) == float(levels[-1])
    assert float(rounded[2]) == float(levels[0]) and float(rounded[0]) == float(levels[(levels - 1).abs().argmin()])
    assert float(wrapped("edm")[1].round_sigma(0.123)) == 0.123


@pytest.mark.parametrize("kind", KINDS)
def test_loss_is_that_of_a_loop(kind: str) -> None:
    _, denoiser = wrapped(kind)
    y = torch.rand(4, 1, 4, 4, generator=generator()) * 2 - 1
    found = loss(denoiser, y, generator=generator(3))
    draws = draw(kind, (4, 1, 4, 4), generator(3))
    for k in range(4):
        s, total = float(draws.sigma[k]), 0.0
        skip, out, into, _ = by_hand(kind, s)
        for value, n in zip(y[k].flatten().tolist(), draws.noise[k].flatten().tolist(), strict=True):
            x = value + s * n
            total += (skip * x + out * sin(into * x) - value) ** 2
        w = (s * s + 0.25) / (s * 0.5) ** 2 if kind == "edm" else 1 / s**2
        assert float(found[k]) == pytest.approx(w * total, rel=2e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_weight_undoes_the_scale_of_the_output(kind: str) -> None:
    sigma = torch.tensor([0.003, 0.5, 60.0])
    assert torch.allclose(weight(kind, sigma) * scheme(kind).coefficients(sigma).out.square(), torch.ones(3))


@pytest.mark.parametrize(("kind", "share"), [("edm", 0.47), ("vp", 0.39), ("ve", 0.27)])
def test_share_of_training_where_memorization_is_decided(kind: str, share: float) -> None:
    sigma = draw(kind, (40_000, 1, 1, 1), generator()).sigma
    assert float(((sigma > 0.3) & (sigma < 3)).float().mean()) == pytest.approx(share, abs=0.01)


def test_distributions_of_noise_levels() -> None:
    drawn = {kind: draw(kind, (20_000, 1, 1, 1), generator()).sigma for kind in KINDS}
    ln = drawn["edm"].log()
    assert float(ln.mean()) == pytest.approx(-1.2, abs=0.03) and float(ln.std()) == pytest.approx(1.2, abs=0.03)
    for u in (
        vp_time(drawn["vp"]),
        (drawn["ve"] / 0.02).log() / log(5000),
        scheme("iddpm").coefficients(drawn["iddpm"]).noise / 999,
    ):
        assert float(u.min()) >= 0 and float(u.max()) <= 1.00001
        assert torch.quantile(u, torch.tensor([0.25, 0.5, 0.75])).tolist() == pytest.approx(
            [0.25, 0.5, 0.75], abs=0.015
        )


def test_loss_takes_draws_labels_and_another_kind() -> None:
    network, denoiser = wrapped("edm")
    y, labels, told = torch.zeros(2, 1, 4, 4), torch.tensor([1, 0]), torch.ones(2, 9)
    draws = LossDraws(torch.tensor([2.0, 4.0]), torch.ones(2, 1, 4, 4))
    own = loss(denoiser, y, labels, draws=draws, augment=told)
    assert network.labels is labels and network.augment is told
    other = loss(denoiser, y, labels, kind="vp", draws=draws)
    assert torch.allclose(own / other, (draws.sigma.square() + 0.25) * 4)
    with pytest.raises(UsageError, match="draws or a generator"):
        loss(denoiser, y)


def d(text: str, n: int, seen: int = 10**9, batch: int = 512, truncate: bool = True) -> float:
    return decay(Average.of(text), batch=batch, images_seen=seen, n=n, truncate=truncate)


def test_decays_of_the_four_modes() -> None:
    assert [round(d("mode1", n), 3) for n in (1000, 2000, 5000)] == [0.965, 0.982, 0.993]
    for n in (100, 1000, 5000, 50_000):
        for batch in (64, 512, 896):
            assert round(d("mode2", n, batch=batch), 5) == 0.99929
            assert d("mode3", n, seen=0, batch=batch) == 0.5 ** (batch / 500_000)
            assert d("0.9", n, batch=batch) == pytest.approx(0.9) and d("0", n, batch=batch) == 0
    assert round(d("mode3", 1000), 5) == 0.99929


def test_ramp_up() -> None:
    assert d("mode1", 1000, seen=0) == d("mode2", 1000, seen=0) == d("0.999", 1000, seen=0) == 0
    assert d("mode1", 1000, seen=100_000, batch=64) == 0.5 ** (64 / 5000)
    assert d("mode2", 1000, seen=100_000, batch=64) == 0.5 ** (512 / 250_000)
    assert d("0.5", 1000, seen=100_000, batch=64) == pytest.approx(0.5 * 0.5 ** (64 / 250_000) / 0.5 ** (64 / 500_000))
    assert d("mode1", 1000, seen=200_000) == d("mode1", 1000, seen=10**7) > d("mode1", 1000, seen=199_000)


def test_small_sets_have_no_average_only_where_that_is_asked_for() -> None:
    assert [half_life(n, truncate=True) for n in (20, 99, 100, 150, 1000)] == [0, 0, 1000, 1000, 10_000]
    assert [half_life(n) for n in (20, 99, 100, 150, 1000)] == [200, 990, 1000, 1500, 10_000]
    for text in ("mode1", "mode2", "0.999"):
        assert d(text, 20) == 0 and d(text, 20, truncate=False) > 0
    assert round(d("mode2", 20, truncate=False), 5) == 0.99929
    assert d("mode1", 20, truncate=False) == 0.5 ** (512 / 200)


def test_several_averages_in_one_run() -> None:
    network = nn.Linear(3, 2)
    kinds = [Average.of(text) for text in ("0.99", "0", "mode1", "mode3")]
    averages = NetworkAverages(network, kinds, batch=16, n=40)
    expected = {str(k): network.weight.detach().double().clone() for k in kinds}
    for step in range(6):
        with torch.no_grad():
            network.weight += torch.randn(2, 3, generator=generator(step))
        averages.update(16 * step)
        for k in kinds:
            kept = decay(k, batch=16, images_seen=16 * step, n=40)
            expected[str(k)] = kept * expected[str(k)] + (1 - kept) * network.weight.detach().double()
    own = network.weight.detach().clone()
    for name, value in expected.items():
        with averages.applied(name):
            assert torch.allclose(network.weight.double(), value, atol=1e-5)
        assert torch.equal(network.weight, own)
    with averages.applied("0"):
        assert torch.equal(network.weight, own)

    again = NetworkAverages(nn.Linear(3, 2), kinds, batch=16, n=40)
    again.load_state_dict(averages.state_dict())
    assert all(torch.equal(v, again.state_dict()[k]) for k, v in averages.state_dict().items())
    assert set(averages.state_dict()) == {f"{k}/{p}" for k in expected for p in ("weight", "bias")}
    with pytest.raises(UsageError, match="same averages"):
        NetworkAverages(nn.Linear(3, 2), kinds[:1], batch=16, n=40).load_state_dict(averages.state_dict())
    with pytest.raises(UsageError, match="this run has 0.99, 0, mode1, mode3"), averages.applied("mode2"):
        pass


@pytest.mark.parametrize("text", ["mode5", "mode4", "1", "-0.1", "nan", "ema"])
def test_averages_that_are_none(text: str) -> None:
    with pytest.raises(UsageError):
        Average.of(text)


def test_averages_are_named_by_what_is_written() -> None:
    assert [str(Average.of(text)) for text in ("mode1", "mode3", "0.999", "0.0", "0.99929")] == [
        "mode1",
        "mode3",
        "0.999",
        "0",
        "0.99929",
    ]


def test_mirroring() -> None:
    images = torch.rand(400, 1, 2, 3, generator=generator())
    found = x_flip(images, generator(1))
    mirrored = torch.tensor([torch.equal(f, i.flip(-1)) for f, i in zip(found, images, strict=True)])
    same = torch.tensor([torch.equal(f, i) for f, i in zip(found, images, strict=True)])
    assert (mirrored ^ same).all() and 160 < int(mirrored.sum()) < 240
    assert torch.equal(found, x_flip(images, generator(1))) and not torch.equal(found, x_flip(images, generator(2)))


def test_flips_alone_are_exact_and_told() -> None:
    images = torch.rand(100, 3, 4, 4, generator=generator())
    found, told = NonLeaking(0)(images, generator(1))
    assert (told[:, 1:] == 0).all() and set(told[:, 0].tolist()) == {0, 1}
    for image, flipped, said in zip(images, found, told, strict=True):
        assert torch.equal(flipped, image.flip(-1) if said[0] else image)


def test_share_of_changed_images() -> None:
    images = torch.zeros(4000, 1, 2, 2)
    told = NonLeaking()(images, generator())[1]
    for columns, share in (([0], 0.5), ([1], 0.06), ([2], 0.12), ([3, 4], 0.12), ([5, 6], 0.12), ([7, 8], 0.12)):
        assert float((told[:, columns] != 0).any(1).float().mean()) == pytest.approx(share, abs=0.025)


def test_a_spot_goes_where_the_numbers_say() -> None:
    size, sd, at = 65, 1.5, (5.0, -8.0)
    places = torch.arange(size) - (size - 1) / 2
    spot = torch.exp(-((places[None, :] - at[0]) ** 2 + (places[:, None] - at[1]) ** 2) / (2 * sd**2))
    found, told = NonLeaking(1)(spot.expand(60, 1, size, size), generator(2))
    compared = 0
    for image, (flip_x, flip_y, scale, turn_cos, turn_sin, s_cos, s_sin, dx, dy) in zip(
        found, told.tolist(), strict=True
    ):
        x, y = (-at[0] if flip_x else at[0]), (-at[1] if flip_y else at[1])
        x, y = x * 2**scale, y * 2**scale
        x, y = x * (turn_cos + 1) - y * turn_sin, x * turn_sin + y * (turn_cos + 1)
        stretch = hypot(s_cos, s_sin) * (1 if s_cos > 0 else -1)
        c, s = s_cos / stretch, s_sin / stretch
        along, across = (x * c + y * s) * 2**stretch, (-x * s + y * c) * 2**-stretch
        x, y = along * c - across * s + 0.125 * size * dx, along * s + across * c + 0.125 * size * dy
        if max(abs(x), abs(y)) < size / 2 - 6 and hypot(dx, dy) < 1.5:
            mass = image[0].clamp(min=0.1) - 0.1
            mass = torch.where((places[None] - x).hypot(places[:, None] - y) < 10, mass, 0)
            centre = [float((mass.sum(k) * places).sum() / mass.sum()) for k in (0, 1)]
            assert centre == pytest.approx([x, y], abs=0.3)
            compared += 1
    assert compared > 20


def test_a_half_life_of_ones_own_and_no_ramp_up() -> None:
    """Half of an average is gone after as many images as are said, of a set of 50,000 or in proportion."""
    shared = {"batch": 100, "images_seen": 10**9, "full": 20_000}
    assert decay(Average.of("mode1"), n=50_000, **shared) == pytest.approx(0.5 ** (100 / 20_000))
    assert decay(Average.of("mode1"), n=5_000, **shared) == pytest.approx(0.5 ** (100 / 2_000))
    assert decay(Average.of("mode2"), n=5_000, **shared) == pytest.approx(0.5 ** (512 / 20_000))
    assert decay(Average.of("mode3"), n=5_000, **shared) == pytest.approx(0.5 ** (100 / 20_000))
    early = {"batch": 100, "images_seen": 1_000, "n": 50_000}
    assert decay(Average.of("mode1"), **early) == pytest.approx(0.5 ** (100 / 50))
    assert decay(Average.of("mode1"), **early, ramps=False) == pytest.approx(0.5 ** (100 / 500_000))
