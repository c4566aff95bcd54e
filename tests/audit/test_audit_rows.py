"""Jobs on families that are known by a row: an audit, region maps, neurons, and whether an image comes back."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import mnemoscope as mn
from mnemoscope.explanation.asked import Explanation
from mnemoscope.explanation.run import run_explanation
from mnemoscope.features import descriptor
from mnemoscope.model import ablation
from mnemoscope.model.autoencoder import encode_images
from mnemoscope.prompts.prompt import as_prompts
from mnemoscope.recovery.adversarial import adversarial_embedding
from mnemoscope.recovery.run import Recovery, Target, run_recovery
from mnemoscope.run.run import read_rows
from tiny_families import model_of, pipeline

pytestmark = pytest.mark.filterwarnings("ignore")  # what the pipelines say about optional packages
ROWS = ["sd3", "flux", "pixart"]
PROMPTS = ["a cat", "two dogs"]


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8))


@pytest.mark.parametrize("name", [*ROWS, "wan", "sana", "hunyuandit"])
def test_an_attack_takes_adams_steps_on_the_training_loss_of_a_row(name: str) -> None:
    model = model_of(name)
    cond = model.family.guided(model.encode(["a cat"]), 3.0)
    x0 = encode_images(model.pipe, [picture()], model.latent_shape)
    found, history = adversarial_embedding(model, x0, cond, steps=3, lr=0.1, batch=2, seed=7)
    generator = torch.Generator().manual_seed(7)
    times = torch.randint(1, 1000, (2,), generator=generator)
    noises = torch.randn(2, *x0.shape[1:], generator=generator)
    losses = []
    for t, eps in zip(times, noises, strict=True):
        alpha, sigma = mn.schedule.alpha_sigma(model.pipe.scheduler, t)
        predicted = model.predict(alpha * x0 + sigma * eps, t, cond)
        v, flow = alpha * eps - sigma * x0[0], eps - x0[0]
        wanted = {"v_prediction": v, "flow_prediction": flow}.get(model.prediction_type, eps)
        losses.append((predicted - wanted).square().mean())
    assert history[0][0] == pytest.approx(torch.stack(losses).mean().item(), rel=1e-4)
    assert len(history[0]) == 3 and len(set(history[0])) == 3 and list(found) == list(model.family.texts)
    for key, text in found.items():
        rms = cond[key][cond[key].abs().sum(2) > 0].square().mean().sqrt()  # which Adam's steps are in units of
        assert 0.05 * rms < (text - cond[key]).abs().max() < 3 * 0.1 * 1.1 * rms


@pytest.mark.parametrize("name", ROWS)
def test_recover_tells_before_after_and_attacked_apart(name: str, tmp_path: Path) -> None:
    model = model_of(name)
    targets = [Target(p, picture(k), k == 1) for k, p in enumerate(as_prompts(PROMPTS))]
    asked = Recovery(images=1, num_inference_steps=2, attack_steps=2, attack_batch=2, threshold=0.9)
    run_recovery(model, targets, tmp_path, asked, descriptor("pixels"))
    rows = read_rows(tmp_path)
    assert [r["status"] for r in rows] == ["ok", "ok"] and rows[0]["before"] == rows[0]["after"]
    assert rows[0]["attacked"] != rows[0]["before"] and all(np.isfinite(r["loss"]).all() for r in rows)


@pytest.mark.parametrize("name", ROWS)
def test_neurons_are_located_by_the_gradient_and_blocking_them_does_what_is_said(name: str) -> None:
    model = model_of(name)
    sampling = {"num_inference_steps": 2, "guidance_scale": 3.0}
    references = {p: picture(k) for k, p in enumerate(PROMPTS)}
    found = mn.localize(model, PROMPTS, "neurons_by_gradient", points=1, seeds=1, references=references, **sampling)
    assert [each.prompt for each in found] == PROMPTS
    for each in found:
        assert ablation.checked(model, each.neurons) == each.neurons and np.isfinite(each.after)
    layers = "attn2.to_v" if name == "pixart" else "add_v_proj"
    assert all(n.endswith(layers) for n in ablation.layers(model))


@pytest.mark.parametrize("name", ROWS)
def test_regions_are_mapped_at_the_latents_and_drawn_at_the_images_size(name: str, tmp_path: Path) -> None:
    model = model_of(name)
    asked = Explanation("difference_map", seeds=1, num_inference_steps=2, params={"units": "x0"})
    run_explanation(model, as_prompts(PROMPTS), tmp_path, asked)
    rows = read_rows(tmp_path)
    assert [r["status"] for r in rows] == ["ok", "ok"] and all(r["peak"] > r["mean"] > 0 for r in rows)
    assert Image.open(tmp_path / rows[0]["file"]).size == model.size[::-1]


@pytest.mark.parametrize("name", ["sd3"])
def test_an_audit_of_a_folder_by_the_command_line(name: str, mnemoscope, tmp_path: Path) -> None:
    pipeline(name).save_pretrained(tmp_path / "model")
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    common = ["--prompts", tmp_path / "prompts.txt", "--device", "cpu", "--num-inference-steps", 2]
    drawn = ["--size", "8", "--images", 1, "--seeds", 1, "--mitigate", "none"]
    code, said, error = mnemoscope("audit", tmp_path / "model", *common, *drawn, "--out", tmp_path / "run")
    assert code == 0, said + error
    summary = json.loads((tmp_path / "run" / "detect" / "summary.json").read_text())
    assert summary["conditions"]["units"] == "x0" and (tmp_path / "run" / "report.html").is_file()
    page = (tmp_path / "run" / "report.html").read_text()
    assert "a cat" in page
