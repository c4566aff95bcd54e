"""The optimal denoiser against closed forms and a dense softmax in extended precision, and the command that draws."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mnemoscope.emm.data.images import Images
from mnemoscope.emm.data.readers import read_images
from mnemoscope.emm.optimum import certified
from mnemoscope.emm.optimum.denoiser import OptimalDenoiser
from mnemoscope.emm.optimum.products import IntegerProducts, digits, integers_are_exact
from mnemoscope.emm.optimum.run import run_optimum
from mnemoscope.emm.ratio.memorization import memorization
from mnemoscope.emm.sampling.ablation_sampler import ablation_sample
from mnemoscope.emm.sampling.drawing import sample_images
from mnemoscope.emm.sampling.options import Sampling, read_seeds, written
from mnemoscope.emm.sampling.samplers import edm_sample
from mnemoscope.errors import UsageError
from mnemoscope.report import write
from mnemoscope.run.run import read_rows
from places import PACKAGE

LEVELS = [80.0, 12.9, 3.3, 1.1, 0.59, 0.3, 0.14, 0.06, 0.0075, 0.002]
ENGINES = [False, *([True] if integers_are_exact() else [])]
engines = pytest.mark.parametrize("integers", ENGINES, ids=lambda integers: "int8" if integers else "float")


def images_of(pixels: np.ndarray, labels: list[int] | None = None, num_classes: int = 0) -> Images:
    given = None if labels is None else np.array(labels)
    return Images(pixels, given, tuple(map(str, range(len(pixels)))), num_classes)


@pytest.fixture(scope="module")
def digits_set() -> Images:
    return read_images("digits").unlabelled()


def noisy(images: Images, sigma: float, n: int = 6, seed: int = 0) -> Tensor:
    """Training images with noise of a level."""
    random = torch.Generator().manual_seed(seed)
    clean = torch.from_numpy(images.pixels[np.arange(n) * 7 % len(images)] / 127.5 - 1)
    return clean + sigma * torch.randn(clean.shape, generator=random, dtype=torch.float64)


def dense(images: Images, x: Tensor, sigma: float, weights: np.ndarray | None = None) -> np.ndarray:
    """The definition, in the longest floats that there are."""
    y = images.pixels.reshape(len(images), -1).astype(np.longdouble) / 127.5 - 1
    points = x.numpy().reshape(len(x), -1).astype(np.longdouble)
    squares = np.stack([((y - point) ** 2).sum(axis=1) for point in points])
    logits = -squares / (2 * np.longdouble(sigma) ** 2)
    logits = logits if weights is None else logits + np.log(weights.astype(np.longdouble))
    weight = np.exp(logits - logits.max(axis=1, keepdims=True))
    return ((weight / weight.sum(axis=1, keepdims=True)) @ y).reshape(x.shape)


def error(found: Tensor, expected: np.ndarray) -> float:
    return float(np.abs(found.numpy() - expected).max())


@engines
@pytest.mark.parametrize("sigma", LEVELS)
def test_equals_the_dense_softmax(digits_set: Images, integers: bool, sigma: float) -> None:
    few = digits_set.take(slice(130))
    x = noisy(few, sigma)
    expected = dense(few, x, sigma)
    for block in (None, 1, 7, 64):
        assert error(OptimalDenoiser(few, block=block, integers=integers)(x, sigma), expected) < 1e-12


@engines
@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 1, 1), (3, 32, 32)])
def test_equals_it_for_images_of_any_shape(integers: bool, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, *shape), dtype=np.uint8)
    known = images_of(pixels)
    for sigma in (20.0, 1.0, 0.2, 0.01):
        x = noisy(known, sigma)
        assert error(OptimalDenoiser(known, integers=integers)(x, sigma), dense(known, x, sigma)) < 1e-12


@engines
def test_one_training_image_is_the_answer_everywhere(digits_set: Images, integers: bool) -> None:
    one = digits_set.take([3])
    expected = np.broadcast_to(one.pixels / 127.5 - 1, (6, 1, 8, 8))
    for sigma in (0.0, 1e-3, 1.0, 500.0):
        assert error(OptimalDenoiser(one, integers=integers)(noisy(digits_set, 1.0), sigma), expected) < 1e-15


@engines
def test_two_points_give_a_hyperbolic_tangent(integers: bool) -> None:
    low, high = 50, 205  # a = 0.6078, on both sides of 0
    a = high / 127.5 - 1
    model = OptimalDenoiser(images_of(np.array([low, high], np.uint8).reshape(2, 1, 1, 1)), integers=integers)
    x = torch.linspace(-3, 3, 61, dtype=torch.float64)
    for sigma in (0.1, 0.5, 2.0):
        found = model(x.view(-1, 1, 1, 1), sigma).flatten()
        torch.testing.assert_close(found, a * torch.tanh(a * x / sigma**2), rtol=0, atol=1e-12)


@engines
def test_much_noise_gives_the_mean(digits_set: Images, integers: bool) -> None:
    found = OptimalDenoiser(digits_set, integers=integers)(noisy(digits_set, 1.0), 1e8)
    assert error(found, np.broadcast_to(digits_set.pixels.mean(axis=0) / 127.5 - 1, found.shape)) < 1e-12


@engines
def test_order_and_place_of_the_images_do_not_matter(digits_set: Images, integers: bool) -> None:
    few, sigma = digits_set.take(slice(300)), 0.6
    x = noisy(few, sigma)
    found = OptimalDenoiser(few, integers=integers)(x, sigma)
    turned = OptimalDenoiser(few.take(np.random.default_rng(0).permutation(300)), integers=integers)
    torch.testing.assert_close(turned(x, sigma), found, rtol=0, atol=1e-12)
    half = images_of(few.pixels // 2)  # so that there is room to move
    moved = OptimalDenoiser(images_of(half.pixels + 100), integers=integers)
    expected = OptimalDenoiser(half, integers=integers)(x, sigma) + 100 / 127.5
    torch.testing.assert_close(moved(x + 100 / 127.5, sigma), expected, rtol=0, atol=1e-12)


@engines
def test_it_is_the_gradient_of_the_density(digits_set: Images, integers: bool) -> None:
    """(D - x) / sigma^2 is the gradient of log sum exp(-|x - y|^2 / 2 sigma^2)."""
    few = digits_set.take(slice(200))
    y = torch.from_numpy(few.pixels.reshape(200, -1) / 127.5 - 1)
    for sigma in (2.0, 0.6, 0.3):
        x = noisy(few, sigma).requires_grad_()
        squares = ((x.reshape(len(x), 1, -1) - y) ** 2).sum(dim=2)
        (-squares / (2 * sigma**2)).logsumexp(dim=1).sum().backward()
        score = (OptimalDenoiser(few, integers=integers)(x.detach(), sigma) - x.detach()) / sigma**2
        torch.testing.assert_close(score, x.grad, rtol=1e-9, atol=1e-10)


@engines
def test_no_noise_gives_the_nearest(digits_set: Images, integers: bool) -> None:
    x = noisy(digits_set, 0.4, n=20)
    y = digits_set.pixels.reshape(len(digits_set), -1) / 127.5 - 1
    nearest = ((x.numpy().reshape(20, 1, -1) - y) ** 2).sum(axis=2).argmin(axis=1)
    model = OptimalDenoiser(digits_set, integers=integers)
    for sigma in (0.0, 1e-200, 1e-9):
        assert error(model(x, sigma), digits_set.pixels[nearest] / 127.5 - 1) < 1e-15
    tie = OptimalDenoiser(images_of(np.array([[100], [110], [120]], np.uint8).reshape(3, 1, 1, 1)), integers=integers)
    x = torch.tensor([[[[105 / 127.5 - 1 + 0.01]]], [[[114 / 127.5 - 1]]]], dtype=torch.float64)
    torch.testing.assert_close(tie(x, 0).flatten(), torch.tensor([110.0, 110.0]).double() / 127.5 - 1)


@engines
def test_twins_a_grey_level_apart_are_told_apart(digits_set: Images, integers: bool) -> None:
    """float32 distances take the wrong one of them for a good part of the images."""
    pixels = np.repeat(digits_set.pixels[:40], 2, axis=0)
    pixels[1::2, 0, 3, 3] ^= 1
    twins = images_of(pixels)
    x = noisy(twins, 0.0075, n=80)
    expected = dense(twins, x, 0.0075)
    assert error(OptimalDenoiser(twins, integers=integers)(x, 0.0075), expected) < 1e-12
    single = torch.from_numpy(pixels.reshape(80, -1)).float() / 127.5 - 1
    weights = torch.softmax(-(torch.cdist(x.reshape(80, -1).float(), single) ** 2) / (2 * 0.0075**2), dim=1)
    assert np.abs((weights @ single).numpy() - expected.reshape(80, -1)).max() > 1e-5


@engines
def test_more_near_copies_than_candidates_are_all_heard(digits_set: Images, integers: bool) -> None:
    """A crowd of near-copies of one image is too large for the short way, and exact copies are a crowd too."""
    crowd = np.repeat(digits_set.pixels[:1], 3 * certified.CANDIDATES, axis=0)
    places = np.arange(len(crowd)) % 64
    crowd.reshape(len(crowd), -1)[np.arange(len(crowd)), places] ^= 1
    known = images_of(np.concatenate([crowd, digits_set.pixels[:100], np.repeat(digits_set.pixels[5:6], 90, axis=0)]))
    model = OptimalDenoiser(known, integers=integers)
    x = torch.cat([noisy(images_of(crowd), 0.02), noisy(digits_set.take([5]), 0.02, n=2)])
    out, alone = model.settle(x, 0.02)
    assert error(out, dense(known, x, 0.02)) < 1e-12
    assert model.certified == 0 and not alone.any()


@engines
def test_proof_of_few_candidates_is_honest(digits_set: Images, integers: bool) -> None:
    """Whatever is left out of an answer by few candidates weighs next to nothing; a sole image holds all the weight."""
    for sigma in (0.1, 0.2, 0.3, 0.4):
        model, x = OptimalDenoiser(digits_set, integers=integers), noisy(digits_set, sigma, n=12)
        found = certified.screen(model.stored, model.stored.levels(x.reshape(12, -1)),
                                 (127.5 * sigma) ** 2, None, None)  # fmt: skip
        y = torch.from_numpy(digits_set.pixels.reshape(len(digits_set), -1) / 127.5 - 1)
        weight = torch.softmax(-((x.reshape(12, 1, -1) - y) ** 2).sum(dim=2) / (2 * sigma**2), dim=1)
        for row, places, possible in zip(found.rows, found.places, found.possible, strict=True):
            rest = weight[row].clone()
            rest[places[possible]] = 0
            assert float(rest.sum()) < 1e-15
        _, alone = model.settle(x, sigma)
        assert bool((weight[alone].amax(dim=1) > 1 - 1e-15).all())
        assert sigma > 0.1 or (len(found.rows) == 12 and alone.any())


@engines
def test_labels_restrict_the_sum(integers: bool) -> None:
    labelled = read_images("digits").take(slice(300))
    x = noisy(labelled, 0.7, n=8)
    labels = torch.tensor([3, 1, 3, 0, 9, 9, 9, 1])
    found = OptimalDenoiser(labelled, integers=integers)(x, 0.7, labels)
    for row, label in enumerate(labels.tolist()):
        own = labelled.take(np.flatnonzero(labelled.labels == label)).unlabelled()
        assert error(found[row : row + 1], dense(own, x[row : row + 1], 0.7)) < 1e-12
    unique = images_of(labelled.pixels[:50], list(range(50)), 50)
    labels = torch.tensor([4, 40, 0, 7, 7, 49, 1, 2])
    settled = OptimalDenoiser(unique, integers=integers).settle(x, 80.0, labels)
    assert error(settled[0], unique.pixels[labels] / 127.5 - 1) < 1e-15 and bool(settled[1].all())


@engines
def test_weights_are_priors(digits_set: Images, integers: bool) -> None:
    few, weights = digits_set.take(slice(150)), np.random.default_rng(0).uniform(0.01, 5, 150)
    for sigma in (30.0, 0.6, 0.3):
        x = noisy(few, sigma)
        found = OptimalDenoiser(few, weights=weights, integers=integers)(x, sigma)
        assert error(found, dense(few, x, sigma, weights)) < 1e-12
    twice = OptimalDenoiser(few.take([0, 0, 1]), integers=integers)(x, 2.0)
    weighed = OptimalDenoiser(few.take([0, 1]), weights=np.array([2.0, 1.0]), integers=integers)(x, 2.0)
    torch.testing.assert_close(weighed, twice, rtol=0, atol=1e-12)


def test_noise_of_any_process_is_that_of_its_ratio(digits_set: Images) -> None:
    model, x = OptimalDenoiser(digits_set), noisy(digits_set, 0.6)
    alpha = 1 / math.sqrt(1 + 0.6**2)
    torch.testing.assert_close(model.of_noise(alpha * x, alpha, 0.6 * alpha), model(x, 0.6), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "given, said",
    [
        ({"x": True, "sigma": -1.0}, "sigma was -1"),
        ({"x": True, "sigma": math.nan}, "sigma was nan"),
        ({"x": True, "sigma": 1.0, "labels": torch.zeros(6, dtype=torch.int64)}, "have none"),
    ],
)
def test_bad_input_is_refused(digits_set: Images, given: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        OptimalDenoiser(digits_set)(noisy(digits_set, 1.0), *list(given.values())[1:])


def test_bad_sets_are_refused(digits_set: Images) -> None:
    x = noisy(digits_set, 1.0)
    with pytest.raises(UsageError, match="no training images"):
        OptimalDenoiser(digits_set.take([]))
    with pytest.raises(UsageError, match="block was 0"):
        OptimalDenoiser(digits_set, block=0)
    for weights in (np.ones(3), np.zeros(1797), np.full(1797, np.nan)):
        with pytest.raises(UsageError, match="weights"):
            OptimalDenoiser(digits_set, weights=weights)
    holes = OptimalDenoiser(images_of(digits_set.pixels[:3], [0, 0, 2], 3))
    with pytest.raises(UsageError, match="No training image has label 1"):
        holes(x[:1], 1.0, torch.tensor([1]))
    with pytest.raises(UsageError, match="give one for each image"):
        holes(x[:1], 1.0)


@pytest.mark.parametrize("count", [100, 1797])
def test_every_sample_is_a_training_image(digits_set: Images, count: int) -> None:
    known = digits_set.take(slice(count))
    drawn, _ = sample_images(OptimalDenoiser(known), range(100), shape=(1, 8, 8))
    found = memorization(drawn.reshape(100, -1), known.rows())
    assert found.ratio == 1.0 and found.mean_distance == 0.0 and len(found.hits) > 20


@engines
@pytest.mark.parametrize("sampler", [edm_sample, ablation_sample])
def test_early_exit_saves_evaluations_and_changes_nothing(
    digits_set: Images, integers: bool, sampler: Callable
) -> None:
    model = OptimalDenoiser(digits_set, integers=integers)
    drawn, _ = sample_images(model, range(40), shape=(1, 8, 8), sampler=sampler)
    early, model.evaluations = model.evaluations / 40, 0
    whole, _ = sample_images(model, range(40), shape=(1, 8, 8), sampler=sampler, early_exit=False)
    assert np.array_equal(drawn, whole) and model.evaluations == 35 * 40 and 20 < early < 30
    latents = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    apart = sampler(model, latents) - sampler(model, latents, early_exit=False)
    assert float(apart.abs().max()) < 1e-12


@pytest.mark.parametrize("options", [{"S_churn": 20}, {"schedule": "vp", "scaling": "vp"}])
def test_no_early_exit_where_it_is_not_proved(digits_set: Images, options: dict) -> None:
    model = OptimalDenoiser(digits_set)
    drawn, _ = sample_images(model, range(20), shape=(1, 8, 8), sampler=ablation_sample, **options)
    assert model.evaluations == 35 * 20
    assert memorization(drawn.reshape(20, -1), digits_set.rows()).ratio == 1.0


def test_samples_are_those_of_the_plain_way(digits_set: Images) -> None:
    class Plain:
        """torch.cdist, softmax and a product, in float32."""

        sigma_min, sigma_max, num_classes = 0.0, math.inf, 0
        y = torch.from_numpy(digits_set.pixels.reshape(1797, -1)).float() / 127.5 - 1

        def __call__(self, x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
            apart = torch.cdist(x.float().reshape(len(x), -1), self.y)
            return (torch.softmax(-(apart**2) / (2 * sigma**2), dim=1).float() @ self.y).view(x.shape)

        def round_sigma(self, sigma: Tensor) -> Tensor:
            return sigma

    ways = [sample_images(each, range(60), shape=(1, 8, 8))[0] for each in (Plain(), OptimalDenoiser(digits_set))]
    assert np.array_equal(*ways)


def test_mapped_images_are_read_block_by_block(digits_set: Images, tmp_path: Path) -> None:
    np.save(tmp_path / "digits.npy", digits_set.pixels)
    mapped = images_of(np.load(tmp_path / "digits.npy", mmap_mode="r"))
    for integers in ENGINES:
        model = OptimalDenoiser(mapped, block=100, integers=integers)
        held = OptimalDenoiser(digits_set, block=100, integers=integers)
        assert model.stored.held is None and held.stored.held is not None
        for sigma in (30.0, 0.6, 0.02):
            x = noisy(digits_set, sigma)
            assert torch.equal(model(x, sigma), held(x, sigma))


@pytest.mark.skipif(not integers_are_exact(), reason="no exact int8 products here")
def test_products_by_digits_are_exact() -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.randint(-128, 128, (37, 48), dtype=torch.int8, generator=random)
    x = torch.randn(5, 48, dtype=torch.float64, generator=random) * torch.tensor([[1e-9], [1.0], [1e4], [0.0], [3.0]])
    products = IntegerProducts()
    exact = x.numpy().astype(np.longdouble) @ images.numpy().astype(np.longdouble).T
    found = products.inner(products.prepare(x, torch.zeros((), dtype=torch.float64)), images).numpy()
    assert (np.abs(found - exact) <= 1e-14 * 128 * np.abs(x.numpy()).sum(axis=1, keepdims=True)).all()
    coarse = products.prepare(x, None)
    assert len(coarse.parts) == 2
    bound = coarse.rest.numpy()[:, None] * images.double().norm(dim=1).numpy() * (1 + 1e-9)
    assert (np.abs(products.inner(coarse, images).numpy() - exact) <= bound + 1e-25).all()
    weights = torch.rand(4, 37, dtype=torch.float64, generator=random)
    assert (
        error(products.mix(weights, images, torch.zeros(4, dtype=torch.float64)), (weights @ images.double()).numpy())
        < 1e-10
    )
    assert len(digits(weights, 7, torch.full((4,), 1e-3, dtype=torch.float64)).parts) == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same(digits_set: Images) -> None:
    model = OptimalDenoiser(digits_set, device="cuda")
    for sigma in LEVELS:
        x = noisy(digits_set, sigma)
        assert error(model(x.cuda(), sigma).cpu(), dense(digits_set, x, sigma)) < 1e-12
    here, there = (
        sample_images(OptimalDenoiser(digits_set, device=device), range(40), shape=(1, 8, 8), device=device)[0]
        for device in ("cpu", "cuda")
    )
    assert np.array_equal(here, there)


def drawn_files(folder: Path) -> dict[str, bytes]:
    return {path.name: np.asarray(Image.open(path)).tobytes() for path in sorted((folder / "images").glob("*.png"))}


def test_command_draws_and_scores(mnemoscope: Callable[..., tuple], tmp_path: Path) -> None:
    asked = ("emm", "optimum", "--network", "digits", "--seeds", "0-9,40", "--device", "cpu")
    code, printed, said = mnemoscope(*asked, "--batch-size", 4, "--out", tmp_path / "run")
    assert (code, said) == (0, "") and "100.0 % of 11 images" in printed.replace("\n", " ")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["memorization_ratio"] == 1.0 and summary["exact_copies"] == summary["images"] == 11
    assert (
        summary["references"] == 1797
        and 20 * 11 < summary["evaluations"] < 30 * 11
        and summary["network_evaluations"] == 0
    )
    rows = read_rows(tmp_path / "run")
    assert [row["seed"] for row in rows] == [*range(10), 40] and all(row["d1"] == 0 for row in rows)
    images = read_images("digits")
    for row in rows:
        pixels = np.asarray(Image.open(tmp_path / "run" / row["file"]))
        assert np.array_equal(pixels, images.pixels[row["match_index"], 0])
    page = (tmp_path / "run" / "report.html").read_text()
    assert "mnemoscope emm optimum" in page and "--seeds 0-9,40" in page and "beside" in page
    assert "--network digits" in page


def test_an_interrupted_run_goes_on_and_is_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, digits_set: Images
) -> None:
    from mnemoscope.emm.optimum import run as optimum_run

    whole = run_optimum(digits_set, tmp_path / "whole", range(10), Sampling(), batch_size=10)
    calls, real = [], optimum_run.sample_images

    def dying(*given: object, **options: object) -> tuple:
        calls.append(given[1])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*given, **options)

    monkeypatch.setattr(optimum_run, "sample_images", dying)
    with pytest.raises(KeyboardInterrupt):
        run_optimum(digits_set, tmp_path / "cut", range(10), Sampling(), batch_size=3)
    write([tmp_path / "cut"])
    assert len(read_rows(tmp_path / "cut")) == 6
    again = run_optimum(digits_set, tmp_path / "cut", range(10), Sampling(), batch_size=3)
    assert [seeds for call in calls[3:] for seeds in call] == [6, 7, 8, 9]
    assert drawn_files(tmp_path / "cut") == drawn_files(tmp_path / "whole") and len(drawn_files(tmp_path / "cut")) == 10
    assert {**again, "seconds": 0} == {**whole, "seconds": 0}
    with pytest.raises(UsageError, match="other settings"):
        run_optimum(digits_set, tmp_path / "cut", range(11), Sampling())


def test_labels_and_the_general_sampler(mnemoscope: Callable[..., tuple], tmp_path: Path) -> None:
    asked = ("emm", "optimum", "--data", "digits", "--images", 6, "--device", "cpu", "--subset-size", 60)
    general = ("--solver", "euler", "--schedule", "vp", "--scaling", "vp", "--discretization", "vp", "--alpha", 1)
    code, *_ = mnemoscope(*asked, *general, "--label-mode", "true", "--label", 7, "--out", tmp_path / "run")
    rows, images = read_rows(tmp_path / "run"), read_images("digits")
    assert code == 0 and {row["label"] for row in rows} == {7} and all(row["memorized"] for row in rows)
    assert {int(images.labels[int(row["match"].split(":")[1])]) for row in rows} == {7}
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["evaluations"] == 6 * 18


def test_an_image_folder_of_a_stranger(mnemoscope: Callable[..., tuple], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for k in range(12):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (20 + k, 31, 3), dtype=np.uint8)).save(tmp_path / f"photos/{k}.png")
    asked = ("emm", "optimum", "--data", tmp_path / "photos", "--resolution", 12, "--images", 5, "--device", "cpu")
    code, *_ = mnemoscope(*asked, "--out", tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert code == 0 and summary["exact_copies"] == 5 and summary["references"] == 12


@pytest.mark.parametrize(
    "words, said",
    [
        (("--images", 2, "--seeds", "0-3"), "Both --images and --seeds"),
        (("--seeds", "3-1"), "no list of seeds"),
        (("--seeds", "a"), "no list of seeds"),
        (("--seeds", "1,1"), "each once"),
        (("--solver", "rk4"), "--solver rk4 is not known"),
        (("--subset-size", 1), "two training images that differ"),
        (("--label", 3), "denoiser has no labels"),
        (("--sigma-min", 9, "--sigma-max", 8), "0 < sigma_min"),
        (("--alpha", 2), "alpha was 2"),
        (("--label-mode", "random-iid", "--label-classes", 500, "--subset-size", 100), "have no training images"),
    ],
)
def test_bad_options_give_one_sentence(
    mnemoscope: Callable[..., tuple], tmp_path: Path, words: tuple, said: str
) -> None:
    code, _, error = mnemoscope(
        "emm", "optimum", "--data", "digits", "--device", "cpu", *words, "--out", tmp_path / "r"
    )
    assert code == 2 and said in error and error.count("\n") == 1


def test_seeds_are_read_and_written() -> None:
    assert read_seeds("0-3, 9,12-13") == [0, 1, 2, 3, 9, 12, 13]
    assert written([9, 0, 1, 3, 2]) == "0-3,9" and read_seeds(written(range(64))) == list(range(64))


@pytest.mark.slow
def test_two_workers_of_ray_draw_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, digits_set: Images) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'mnemoscope[ray]'")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    own = str(PACKAGE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [own, os.environ.get("PYTHONPATH")])))
    here = run_optimum(digits_set, tmp_path / "here", range(8), Sampling(), batch_size=2)
    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False)
    try:
        there = run_optimum(digits_set, tmp_path / "there", range(8), Sampling(), batch_size=2, runner="ray")
    finally:
        ray.shutdown()
    assert drawn_files(tmp_path / "here") == drawn_files(tmp_path / "there")
    assert {**here, "seconds": 0} == {**there, "seconds": 0}
