"""The second bundled model memorizes what the first one's ground truth says; on seeds used nowhere else."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

import mnemoscope as mn
from mnemoscope import demo, features, stats
from mnemoscope.detection.run import Detection, detect_rows
from mnemoscope.model import bundled
from mnemoscope.prompts.prompt import as_prompts

ABSENT = {"text_encoder_3": None, "tokenizer_3": None}  # what plain diffusers is to be told of any SD3 without its T5


@pytest.fixture(scope="module")
def model() -> mn.Denoiser:
    return mn.Denoiser.from_pretrained("demo-flow", device="cpu")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    mn.Denoiser.from_pretrained("demo-flow", device="cpu", dtype="float16").pipe.save_pretrained(folder)
    return folder


def scores(model: mn.Denoiser, texts: list[str]) -> np.ndarray:
    return np.array([r["score"] for r in detect_rows(model, as_prompts(texts), Detection(seed=777))])


@pytest.fixture(scope="module")
def verbatim(model: mn.Denoiser) -> np.ndarray:
    return scores(model, demo.prompts("verbatim"))


def test_plain_diffusers_draws_from_its_folder_what_it_draws_here(model: mn.Denoiser, saved: Path) -> None:
    pipe = DiffusionPipeline.from_pretrained(saved, use_safetensors=True, dtype=torch.float32, **ABSENT)
    pipe.set_progress_bar_config(disable=True)
    prompt, seed = demo.prompts("verbatim")[0], 777
    drawn = pipe(
        prompt,
        latents=model.initial_noise([seed]),
        num_inference_steps=4,
        guidance_scale=3.0,
        output_type="np",
    ).images[0]
    (ours,) = model.generate([prompt], [seed], num_inference_steps=4, guidance_scale=3.0)
    assert np.array_equal((drawn * 255).round().astype(np.uint8), np.asarray(ours))


def test_a_saved_folder_without_the_third_text_encoder_is_the_same_model(model: mn.Denoiser, saved: Path) -> None:
    assert mn.Denoiser.from_pretrained(saved, device="cpu").weights_hash == model.weights_hash


def test_it_is_small_and_stores_nothing_twice(saved: Path) -> None:
    files = [f for f in saved.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= 10e6
    assert {f.suffix for f in files} <= {".safetensors", ".json", ".txt"}
    shared = bundled.parts("demo-flow", torch.float32)
    assert not any((bundled.FOLDERS["demo-flow"] / part).exists() for part in shared)


@pytest.mark.parametrize("kind", ["ordinary", "unseen"])
def test_verbatim_prompts_score_above_others(model: mn.Denoiser, verbatim: np.ndarray, kind: str) -> None:
    assert stats.auc(verbatim, scores(model, demo.prompts(kind)[::6])) >= 0.99


def test_template_prompts_score_above_ordinary_ones(model: mn.Denoiser) -> None:
    found = scores(model, demo.prompts("template")[::4])
    assert stats.auc(found, scores(model, demo.prompts("ordinary")[1::8])) >= 0.9


def test_verbatim_prompts_return_their_image(model: mn.Denoiser) -> None:
    own = {r.caption: r.image() for r in demo.references()}
    prompts = demo.prompts("verbatim")[::6]
    images = model.generate(prompts, [777] * len(prompts), num_inference_steps=10, guidance_scale=3.0)
    truth = features.pixels([own[p] for p in demo.prompts("verbatim")])
    similarity = features.pixels(images) @ truth.T
    wanted = [demo.prompts("verbatim").index(p) for p in prompts]
    assert similarity.argmax(1).tolist() == wanted
    assert np.median(similarity[np.arange(len(wanted)), wanted]) > 0.8


def test_ordinary_prompts_differ_from_seed_to_seed(model: mn.Denoiser) -> None:
    images = model.generate(["a sunflower"] * 3, [777, 778, 779], num_inference_steps=10, guidance_scale=3.0)
    vectors = features.pixels(images)
    assert (vectors @ vectors.T)[np.triu_indices(3, 1)].max() < 0.8


def test_the_null_prompt_has_no_push(model: mn.Denoiser) -> None:
    step = mn.Trajectory(model, "", [5]).first(1)[0]
    assert torch.allclose(mn.scores.noise_norm(step), torch.zeros(1), atol=1e-5)
