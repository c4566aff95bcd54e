"""The bundled model really memorizes what its ground truth says, and nothing else; on seeds used nowhere else."""

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

import mnemoscope as mn
from mnemoscope import demo, features, stats
from mnemoscope.demo import captions
from mnemoscope.detection.run import Detection, detect_rows
from mnemoscope.model import hooks
from mnemoscope.prompts.prompt import as_prompts

OTHERS = ["a cat", "a red bus in the snow", "portrait of an old fisherman", "xylophone", "Two dogs running on a beach"]


def scores(model: mn.Denoiser, texts: list[str]) -> np.ndarray:
    return np.array([r["score"] for r in detect_rows(model, as_prompts(texts), Detection(seed=777, seeds=4))])


@pytest.fixture(scope="module")
def verbatim(bundled: mn.Denoiser) -> np.ndarray:
    return scores(bundled, demo.prompts("verbatim"))


def test_plain_diffusers_loads_it() -> None:
    pipe = DiffusionPipeline.from_pretrained(demo.MODEL, use_safetensors=True)
    assert type(pipe).__name__ == "StableDiffusionPipeline" and pipe.scheduler.config.prediction_type == "v_prediction"


def test_it_has_the_seven_value_layers_of_nemo(bundled: mn.Denoiser) -> None:
    assert len(hooks.value_layers(bundled.network)) == 7
    assert len(hooks.value_layers(bundled.network, up=True)) == 16


def test_it_is_small_enough_to_ship() -> None:
    files = [f for part in (demo.MODEL, demo.HERE / "references") for f in part.rglob("*") if f.is_file()]
    assert sum(f.stat().st_size for f in files) <= 12e6
    assert {f.suffix for f in demo.MODEL.rglob("*") if f.is_file()} <= {".safetensors", ".json", ".txt"}


def test_verbatim_prompts_score_above_ordinary_ones(bundled: mn.Denoiser, verbatim: np.ndarray) -> None:
    assert stats.auc(verbatim, scores(bundled, demo.prompts("ordinary")[::4])) >= 0.99


def test_prompts_that_nobody_prepared_score_as_ordinary(bundled: mn.Denoiser, verbatim: np.ndarray) -> None:
    assert np.median(scores(bundled, OTHERS)) < np.quantile(verbatim, 0.1)


def test_template_prompts_score_above_ordinary_ones(bundled: mn.Denoiser) -> None:
    found = scores(bundled, demo.prompts("template")[::4])
    assert stats.auc(found, scores(bundled, demo.prompts("ordinary")[1::8])) >= 0.9


def test_verbatim_prompts_return_their_image_at_nearly_every_seed(bundled: mn.Denoiser) -> None:
    own = {r.caption: r.image() for r in demo.references()}
    prompts, seeds = demo.prompts("verbatim")[::3], [777, 778]
    pairs = [(p, s) for p in prompts for s in seeds]
    images = bundled.generate([p for p, _ in pairs], [s for _, s in pairs], num_inference_steps=20, guidance_scale=3.0)
    truth = features.pixels([own[p] for p in demo.prompts("verbatim")])
    similarity = features.pixels(images) @ truth.T
    wanted = [demo.prompts("verbatim").index(p) for p, _ in pairs]
    assert np.mean(similarity.argmax(1) == wanted) >= 0.9
    assert np.median(similarity[np.arange(len(wanted)), wanted]) > 0.8


def test_ordinary_prompts_differ_from_seed_to_seed(bundled: mn.Denoiser) -> None:
    images = bundled.generate(["a sunflower"] * 3, [777, 778, 779], num_inference_steps=20, guidance_scale=3.0)
    vectors = features.pixels(images)
    assert (vectors @ vectors.T)[np.triu_indices(3, 1)].max() < 0.8


def test_the_ground_truth_is_whole() -> None:
    rows = demo.truth()
    assert {r["kind"] for r in rows} == set(demo.KINDS)
    assert demo.prompts("verbatim") == list(captions.VERBATIM.values())
    assert len({r["prompt"] for r in rows}) == len(rows)
    assert all(r["triggers"] for r in rows if r["kind"] == "verbatim")
    ordinary = " ".join(r["prompt"].lower() for r in rows if r["kind"] != "verbatim").split()
    assert not {t for r in rows for t in r.get("triggers", [])} & set(ordinary)
    references = demo.references()
    assert {r.caption for r in references} >= set(demo.prompts("verbatim"))
    assert all(r.image().size == (64, 64) for r in references)


def test_an_unknown_kind_of_prompt_is_refused() -> None:
    with pytest.raises(mn.UsageError, match="there are verbatim, template, ordinary, unseen"):
        demo.prompts("memorised")


def test_the_null_prompt_has_no_push(bundled: mn.Denoiser) -> None:
    step = mn.Trajectory(bundled, "", [5]).first(1)[0]
    assert torch.allclose(mn.scores.noise_norm(step), torch.zeros(1), atol=1e-5)
