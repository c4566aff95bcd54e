"""Latents and text embeddings of training: what is kept gives the numbers of what is not."""

from pathlib import Path

import pytest
import torch

import tiny
from mnemoscope.errors import UsageError
from mnemoscope.model.autoencoder import encode_images, posterior
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.training.data import latents
from mnemoscope.training.data.latents import Latents
from mnemoscope.training.data.texts import Texts
from picture_files import encoded, image, written
from training_pairs import pairs, training

VIEWS = [(3, 0), (0, 0), (5, 7), (3, 1), (1, 2), (3, 0)]


def kept(data, vae, folder: Path) -> Latents:
    found = Latents(data, vae, folder)
    assert [*found.precompute()][-1] == len(data)
    return found


def counting(vae) -> list[int]:
    """How many pictures an autoencoder encodes at once, from now on."""
    seen: list[int] = []
    vae.encoder.register_forward_hook(lambda module, given, made: seen.append(len(made)))
    return seen


@pytest.mark.parametrize("flips", [False, True])
@pytest.mark.parametrize(
    "config",
    [
        {"scaling_factor": 0.3},
        {"scaling_factor": 2.0, "shift_factor": 0.2},
        {"latents_mean": [1, 2, 3, 4], "latents_std": [2, 2, 1, 1]},
    ],
)
def test_kept_latents_are_those_of_the_autoencoder(config: dict, flips: bool, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(latents, "SHARD", 4)
    data = training(pairs(tmp_path / "d", 6), resolution=16, random_flip=flips)
    vae = tiny.vae(**config)
    encoded_ones = counting(vae)
    own = kept(data, vae, tmp_path)
    assert sum(encoded_ones) == 6 * (1 + flips) and len(list(own.folder.iterdir())) == 2
    found = own.batch(VIEWS)
    assert sum(encoded_ones) == 6 * (1 + flips)  # nothing is encoded any more
    fresh = Latents(data, vae).batch(VIEWS)
    torch.testing.assert_close(found, fresh, rtol=1e-5, atol=1e-5)
    assert torch.equal(found[0], found[5]) and not torch.allclose(found[0], found[3])
    again = kept(data, vae, tmp_path)
    assert sum(encoded_ones) == 6 * (1 + flips) + 6 and torch.equal(again.batch(VIEWS[::-1]), found.flip(0))


def test_latents_are_samples_of_the_posterior_in_the_networks_units(tmp_path: Path) -> None:
    vae = tiny.vae(scaling_factor=0.3, shift_factor=0.5)
    data = training(pairs(tmp_path, 2), resolution=16)
    draws = Latents(data, vae).batch([(1, epoch) for epoch in range(300)])
    mean, deviation = posterior(vae, data.pixels(1, 0)[None])
    expected = (mean[0] - 0.5) * 0.3
    error = (draws.mean(0) - expected).abs() / (0.3 * deviation[0] / 300**0.5)
    assert error.max() < 5 and (draws.std(0) / (0.3 * deviation[0]) - 1).abs().max() < 0.25
    distribution = vae.encode(data.pixels(1, 0)[None]).latent_dist
    torch.testing.assert_close((mean, deviation), (distribution.mean, distribution.std))


def test_the_mean_is_that_of_encoding_images(tmp_path: Path) -> None:
    pipe = tiny.stable_diffusion()
    picture = image(3, 16, 16)
    written(tmp_path, {"a.png": encoded(picture), "a.txt": "x"})
    data = training(tmp_path, resolution=16)
    mean, _ = posterior(pipe.vae, data.pixels(0, 0)[None])
    own = encode_images(pipe, [picture], (4, 8, 8))
    torch.testing.assert_close(mean * pipe.vae.config.scaling_factor, own, rtol=1e-5, atol=1e-6)


def test_a_view_has_its_latent_in_any_batch_and_by_its_seed(tmp_path: Path) -> None:
    folder, vae = pairs(tmp_path, 6), tiny.vae()
    found = Latents(training(folder, resolution=16), vae)
    whole = found.batch(VIEWS)
    alone = torch.cat([found.batch([view]) for view in VIEWS])
    torch.testing.assert_close(whole, alone, rtol=1e-5, atol=1e-5)
    other = Latents(training(folder, resolution=16, seed=1), vae).batch(VIEWS)
    assert (whole - other).flatten(1).norm(dim=1).min() > 0.1


def test_what_was_killed_goes_on_and_what_changed_is_computed_anew(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(latents, "SHARD", 2)
    folder, vae = pairs(tmp_path / "d", 6), tiny.vae()
    encoded_ones = counting(vae)
    first = Latents(training(folder, resolution=16), vae, tmp_path)
    next(first.precompute())
    (torn,) = first.folder.iterdir()
    assert sum(encoded_ones) == 2
    own = kept(training(folder, resolution=16), vae, tmp_path)
    assert sum(encoded_ones) == 6
    torn.write_bytes(torn.read_bytes()[:50])
    kept(training(folder, resolution=16), vae, tmp_path)
    assert sum(encoded_ones) == 8
    same = kept(training(folder, resolution=16, conditioning="nolevel", seed=5), vae, tmp_path)
    assert sum(encoded_ones) == 8 and same.folder == own.folder
    for options in ({"resolution": 8}, {"resolution": 16, "random_flip": True}, {"resolution": 16, "subset": 4}):
        assert Latents(training(folder, **options), vae, tmp_path).folder != own.folder
    assert Latents(training(folder, resolution=16), tiny.vae(seed=9), tmp_path).folder != own.folder
    with pytest.raises(UsageError, match="is missing; precompute the latents first"):
        Latents(training(folder, resolution=8), vae, tmp_path).batch([(0, 0)])


def test_crops_that_change_are_never_kept(tmp_path: Path) -> None:
    data = written(tmp_path / "d", {"a.png": encoded(image(0, 60, 20)), "a.txt": "x"})
    found = Latents(training(data, resolution=16, center_crop=False), tiny.vae(), tmp_path)
    assert found.folder is None and [*found.precompute()] == []
    drawn = found.batch([(0, epoch) for epoch in range(4)])
    assert drawn.isfinite().all() and not torch.allclose(drawn[0], drawn[1])


def test_without_an_autoencoder_latents_are_pixels(tmp_path: Path) -> None:
    data = training(pairs(tmp_path / "d", 3))
    found = Latents(data, None, tmp_path)
    assert [*found.precompute()] == [] and torch.equal(found.batch([(2, 0)])[0], data.pixels(2, 0))
    with pytest.raises(UsageError, match="--resolution 9 is no multiple of 2, as the autoencoder needs"):
        Latents(training(tmp_path / "d", resolution=9), tiny.vae())


def test_half_precision_that_overflows_is_encoded_in_float32(tmp_path: Path) -> None:
    vae = tiny.vae(force_upcast=True).to(torch.float16)
    data = training(pairs(tmp_path, 2), resolution=16)
    found = Latents(data, vae).batch([(0, 0)])
    assert vae.dtype == torch.float16 and found.dtype == torch.float32
    torch.testing.assert_close(found, Latents(data, tiny.vae().half().float()).batch([(0, 0)]))


# Text


@pytest.mark.parametrize("build", [tiny.stable_diffusion, tiny.stable_diffusion_xl])
def test_text_embeddings_are_computed_once(build) -> None:
    model = Denoiser(build())
    texts = Texts(lambda captions: model.encode(captions))
    captions = ["a fox", "two", "a fox", "three"]
    found = texts(captions)
    assert texts.encoded == 3
    for key, value in model.encode(captions).items():
        torch.testing.assert_close(found[key], value, rtol=1e-4, atol=1e-5)
    again = texts(captions[::-1])
    assert texts.encoded == 3 and all(torch.equal(found[k], again[k].flip(0)) for k in found)
    fresh = Texts(lambda captions: model.encode(captions))(["three", "another"])
    assert all(torch.equal(fresh[k][0], found[k][3]) for k in found)  # whatever was encoded before


def test_text_embeddings_do_not_fill_the_memory() -> None:
    size = 4 * 100
    texts = Texts(lambda captions: {"x": torch.full((len(captions), 100), float(len(captions[0])))}, limit=3 * size)
    texts(["a", "bb", "ccc"])
    texts(["a"])
    assert texts.held == 3 * size and texts(["dddd"])["x"][0, 0] == 4
    assert texts.held == 3 * size and texts.encoded == 4
    texts(["a", "ccc"])
    assert texts.encoded == 4
    texts(["bb"])  # it was used longest ago
    assert texts.encoded == 5
    assert len(texts(["x"] * 5 + ["yy"] * 5 + ["a", "b", "c", "d"])["x"]) == 14
