"""Less memory: the same numbers, and less of it in fact."""

import mmap
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mnemoscope as mn
import tiny
import tiny_families
from mnemoscope.errors import UsageError
from mnemoscope.model import hooks, memory
from mnemoscope.model.ablation import gain_of_masks, steer
from mnemoscope.model.denoiser import Denoiser

PROMPTS, SEEDS, CPU = ["red", "blue"], [0, 1], torch.device("cpu")
FAMILIES = {"sd": tiny.stable_diffusion, "xl": tiny.stable_diffusion_xl, "sd3": tiny_families.sd3}


def saving(pipe, place: torch.device = CPU) -> Denoiser:
    memory.save_memory(pipe, place)
    return Denoiser(pipe)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_explanations_mitigations_and_images_are_the_same(family: str) -> None:
    plain, low = Denoiser(FAMILIES[family]()), saving(FAMILIES[family]())
    assert low.network.is_gradient_checkpointing and low.pipe.vae.use_slicing and low.pipe.vae.use_tiling
    found = []
    for model in (plain, low):
        trajectory = mn.Trajectory(model, PROMPTS, SEEDS, num_inference_steps=3)
        drawn = mn.detect(trajectory, "noise_norm", steps=2), mn.explain(trajectory, "token_gradients", steps=[1])
        with mn.mitigate(model, "embedding_descent", score="noise_norm", iterations=2):
            *_, last = model.steps(PROMPTS, SEEDS, num_inference_steps=2)
        found.append([*drawn, last.x_prev, model.decode(last.x_prev)])
    for one, other in zip(*found, strict=True):
        assert one.abs().sum() > 0 and torch.allclose(one, other, rtol=1e-5, atol=1e-6)
    assert low.weights_hash == plain.weights_hash and low.network_evaluations == plain.network_evaluations


@pytest.mark.parametrize("score", ["sharpness", "flipd"])
def test_forward_derivatives_are_the_same(score: str) -> None:
    found = []
    for model in (Denoiser(tiny.stable_diffusion()), saving(tiny.stable_diffusion())):
        trajectory = mn.Trajectory(model, PROMPTS, SEEDS, num_inference_steps=3)
        found.append(mn.explain(trajectory, "token_gradients", score=score, steps=[1]))
    assert found[0].abs().sum() > 0 and torch.allclose(*found, rtol=1e-4, atol=1e-6)


def test_gradients_of_steered_predictions_are_the_same_after_the_steering_is_gone() -> None:
    found = []
    for model in (Denoiser(tiny.stable_diffusion()), saving(tiny.stable_diffusion())):
        widths = {name: model.network.get_submodule(name).weight.shape[0] for name in hooks.value_layers(model.network)}
        masks = {name: torch.full((1, width), 0.5, requires_grad=True) for name, width in widths.items()}
        cond = steer(model.encode(["red"]), gain_of_masks(model, masks))
        x, t = model.initial_noise([0]), torch.tensor(500)
        model.predict(x, t, cond).square().sum().backward()
        assert model.network.is_gradient_checkpointing is (model.pipe.vae.use_slicing is True)
        found.append(torch.cat([mask.grad for mask in masks.values()], dim=1))
    assert found[0].abs().sum() > 0 and torch.allclose(*found, rtol=1e-5, atol=1e-7)


def test_activations_are_computed_again_in_the_backward_pass_and_not_kept() -> None:
    kept = []
    for model in (Denoiser(tiny.stable_diffusion()), saving(tiny.stable_diffusion())):
        cond = {k: v.requires_grad_() for k, v in model.encode(["red"]).items()}
        held: dict[int, int] = {}

        def keep(tensor: torch.Tensor, held: dict[int, int] = held) -> torch.Tensor:
            held[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            out = model.predict(model.initial_noise([0]), torch.tensor(500), cond)
        kept.append(sum(held.values()))
        assert torch.autograd.grad(out.sum(), list(cond.values()))[0].abs().sum() > 0
    assert kept[1] < kept[0] / 2


def test_text_encoders_are_given_back_when_the_network_runs_and_read_again_when_they_are_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[int] = []

    class Told(mmap.mmap):
        def madvise(self, *advice: int) -> None:
            given.extend(advice)
            super().madvise(*advice)

    monkeypatch.setattr(mmap, "mmap", Told)
    pipe = tiny.stable_diffusion()
    model = saving(pipe)

    def encoded(prompt: str) -> torch.Tensor:
        return Denoiser(pipe).encode([prompt])["encoder_hidden_states"]  # a new one has kept nothing

    def predict() -> None:
        model.predict(model.initial_noise([0]), torch.tensor(500), model.encode(["red"]))

    before = encoded("red")
    predict()
    predict()
    assert given == [mmap.MADV_DONTNEED]  # once: nothing was encoded between the two
    assert torch.equal(encoded("red"), before)
    with torch.no_grad():
        next(pipe.text_encoder.parameters()).mul_(2)
    changed = encoded("blue")
    predict()
    assert len(given) == 1 and torch.equal(encoded("blue"), changed)  # what was changed is not read from the file


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the resident size from /proc")
def test_memory_of_a_text_encoder_is_really_given_back() -> None:
    code = """
import torch
from transformers import CLIPTextConfig, CLIPTextModel
from mnemoscope.model.memory import _Filed
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
config = CLIPTextConfig(hidden_size=1024, intermediate_size=4096, num_hidden_layers=4, num_attention_heads=4)
encoder = CLIPTextModel(config).eval()
size = sum(p.numel() * 4 for p in encoder.parameters())
filed = _Filed(encoder)
with torch.no_grad():
    first = encoder(torch.arange(8)[None])[0]
    full = resident()
    filed.give_back()
    print(size, full - resident(), torch.equal(first, encoder(torch.arange(8)[None])[0]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    size, fell, same = done.stdout.split()
    assert int(fell) > 0.3 * int(size) and same == "True"  # only what was read of the vocabulary had been there


def test_no_room_for_the_text_encoders_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(memory.tempfile, "TemporaryFile", full)
    with pytest.raises(UsageError, match="has no room for 0.0 GiB of text encoders .*No space left.*; set TMPDIR"):
        memory.save_memory(tiny.stable_diffusion(), CPU)


def test_an_accelerator_has_each_network_only_while_it_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hooks of accelerate, told to move to the CPU, as no accelerator is at hand."""
    pipe, place = tiny.stable_diffusion(), torch.device("cpu", 0)
    offload = pipe.enable_model_cpu_offload
    monkeypatch.setattr(pipe, "enable_model_cpu_offload", lambda device: offload(device=place))
    said = memory.save_memory(pipe, torch.device("cuda"))
    assert said.startswith("Low memory on cuda: a network is on the device while it is in use, gradients")
    model, plain = Denoiser(pipe), Denoiser(tiny.stable_diffusion())
    assert [type(hook.hook).__name__ for hook in pipe._all_hooks] == ["CpuOffload"] * 3
    assert model.device == place and plain.device == CPU
    options = {"num_inference_steps": 2}
    same = [m.generate(PROMPTS, SEEDS, **options)[0].tobytes() for m in (model, plain)]
    assert same[0] == same[1]


def test_the_command_says_what_it_did_and_records_it(mnemoscope, tmp_path: Path) -> None:
    words = ["detect", "demo", "--prompts", "-", "--device", "cpu", "--limit", "1", "--out", tmp_path / "run"]
    (tmp_path / "prompts.txt").write_text("a red bicycle\n")
    words[3] = tmp_path / "prompts.txt"
    code, _, said = mnemoscope(*words, "--low-memory")
    assert code == 0 and "Low memory on cpu: text encoders lie in a temporary file" in said
    row, _ = (tmp_path / "run/rows.jsonl").read_text(), (tmp_path / "run/run.json").read_text()
    assert "gradients compute activations twice" in _
    code, _, said = mnemoscope(*words)  # goes on without it, as no row depends on it
    assert code == 0 and "Low memory" not in said and (tmp_path / "run/rows.jsonl").read_text() == row
