"""Our numbers against those of the original codes, on a pipeline that any machine can rebuild."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mnemoscope as mn
from mnemoscope.detectors import noise_ssim
from mnemoscope.localization.blocking import Blocking
from mnemoscope.localization.differences import Differences, Setting
from mnemoscope.localization.searching import alike_pairs
from mnemoscope.localization.space import Space
from mnemoscope.localization.statistics import activations
from parity import pipeline
from places import FIXTURES

GOLDEN = json.loads((FIXTURES / "golden.json").read_text())


def rows(kind: str) -> pytest.MarkDecorator:
    """The golden rows of a kind: the first one always, the others with the slow tests."""
    first, *others = GOLDEN[kind]["rows"]
    marked = [first, *(pytest.param(row, marks=pytest.mark.slow) for row in others)]
    return pytest.mark.parametrize("row", marked, ids=lambda row: row["prompt"][:20])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> mn.Denoiser:
    folder = tmp_path_factory.mktemp("parity")
    pipeline(folder / "tokenizer").save_pretrained(folder / "pipeline")
    return mn.Denoiser.from_pretrained(folder / "pipeline", device="cpu")


def latents(count: int, size: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 4, size, size, generator=torch.Generator().manual_seed(seed))


@rows("noise_norm")
def test_noise_norms_are_those_of_wen_et_al(model: mn.Denoiser, row: dict) -> None:
    trajectory = mn.Trajectory(model, [row["prompt"]] * 2, [0, 1], latents(2, 32, row["seed"]), num_inference_steps=3)
    steps = trajectory.first(3)
    text = torch.stack([mn.scores.noise_norm(s) for s in steps], dim=1)
    uncond = torch.stack([mn.scores.uncond_norm(s) for s in steps], dim=1)
    torch.testing.assert_close(text, torch.tensor(row["text_noise_norm"]), rtol=1e-4, atol=0)
    torch.testing.assert_close(uncond, torch.tensor(row["uncond_noise_norm"]), rtol=1e-4, atol=0)
    assert mn.detect(trajectory, "noise_norm", steps="all").tolist() == pytest.approx(text.mean(1).tolist(), rel=1e-5)


@rows("noise_ssim")
def test_noise_similarities_are_those_of_nemo(model: mn.Denoiser, row: dict) -> None:
    trajectory = mn.Trajectory(model, [row["prompt"]] * 4, latents=latents(4, 48, 1))
    best = noise_ssim(trajectory, compat="nemo")
    torch.testing.assert_close(best, torch.tensor(row["max_pairwise"]), rtol=1e-4, atol=1e-6)


def test_the_default_similarity_is_not_that_of_the_released_code(model: mn.Denoiser) -> None:
    row = GOLDEN["noise_ssim"]["rows"][0]
    trajectory = mn.Trajectory(model, [row["prompt"]] * 4, latents=latents(4, 48, 1))
    assert (noise_ssim(trajectory) - torch.tensor(row["max_pairwise"])).abs().min() > 0.01


@rows("neurons")
def test_neurons_are_those_of_nemo(model: mn.Denoiser, row: dict) -> None:
    values = activations(model, [row["prompt"]])
    golden = torch.tensor(row["activations_sum"])
    torch.testing.assert_close(torch.stack([v.sum() for v in values.values()]), golden, rtol=1e-4, atol=0)
    assert [int(v.argmax()) for v in values.values()] == row["activations_argmax"]
    setting = Setting(seeds=4, compat="nemo")
    differences = Differences(model, [row["prompt"]], setting, latents(4, 48, 1))
    likeness = setting.likeness(differences.plain.shape)
    assert float(differences.t) == row["evaluated_timestep"]
    pairs, best = alike_pairs(differences.plain, likeness)
    torch.testing.assert_close(pairs, torch.tensor(row["pairwise_ms_ssim"]), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(best, torch.tensor(row["max_pairwise"]), rtol=1e-4, atol=1e-6)
    space = Space(model)
    blocking = Blocking(differences, space, likeness, batch=16)
    found = blocking.values(space.flat(dict(zip(space.places, row["blocked"], strict=True))))
    assert list(found.values()) == pytest.approx(row["blocked_ms_ssim"], rel=1e-4)


@rows("token_gradients")
def test_token_gradients_are_those_of_wen_et_al(model: mn.Denoiser, row: dict) -> None:
    trajectory = mn.Trajectory(model, row["prompt"], 0, latents(1, 32, row["seed"]))
    ours = mn.explain(trajectory, "token_gradients", score="noise_norm", steps=1)[0]
    theirs = mn.explain(trajectory, "token_gradients", compat="wen")[0]
    golden = torch.tensor(row["token_grads"])
    torch.testing.assert_close(ours[: len(golden)], 2 * golden, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(theirs[: len(golden)], golden, rtol=1e-4, atol=1e-6)


@rows("embedding_descent")
def test_embedding_descent_is_that_of_wen_et_al(model: mn.Denoiser, row: dict) -> None:
    noise = latents(1, 32, row["seed"])
    before = model.encode([row["prompt"]])["encoder_hidden_states"][0]
    with mn.mitigate(model, "embedding_descent", iterations=3, lr=0.05, compat="wen"):
        after = next(model.steps([row["prompt"]], [0], latents=noise)).cond["encoder_hidden_states"][0]
    assert float((after - before).norm()) == pytest.approx(row["l2_change"], rel=1e-4)
    assert float((after - before)[0].norm()) == pytest.approx(row["first_token_change"], rel=1e-3)
    torch.testing.assert_close(after[5], torch.tensor(row["values_token5"]), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_the_fixture_is_the_one_that_the_golden_numbers_were_made_on(shared: Path, tmp_path: Path, model) -> None:
    script = shared / "parity" / "make_fixture.py"
    subprocess.run([sys.executable, "-W", "ignore", str(script), str(tmp_path)], check=True, capture_output=True)
    assert mn.Denoiser.from_pretrained(tmp_path, device="cpu").weights_hash == model.weights_hash
