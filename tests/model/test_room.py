"""How many samples there is room for."""

from pathlib import Path

import pytest
import torch
from torch import nn

import tiny
import tiny_families
from mnemoscope.detection.run import Detection, run_detection
from mnemoscope.model import memory, room
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import as_prompts
from mnemoscope.run.run import read_rows

FAMILIES = {
    "sd": tiny.stable_diffusion,
    "distilled": tiny.distilled,
    "xl": tiny.stable_diffusion_xl,
    "sd3": tiny_families.sd3,
    "classes": tiny.class_conditional,
    "pixels": lambda: tiny.unconditional("ddim"),
}


def test_bytes_alive_are_those_of_new_tensors_at_their_highest() -> None:
    before = torch.zeros(1000)
    with room.Alive() as alive:
        view = before.view(10, 100)  # no bytes of its own
        first = view + 1
        second = first * 2
        del first
        third = second.view(-1)[:10]
        assert alive.now == 4000 and alive.most == 8000
        del second
        assert alive.now == 4000  # the view holds them
        del third
    assert alive.now == 0 and alive.most == 8000


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample_is_measured_and_not_counted(family: str) -> None:
    model = Denoiser(FAMILIES[family]())
    room.sample_bytes(model)
    before, state = model.network_evaluations, torch.get_rng_state()
    plain = room.sample_bytes(model)
    assert plain > 4 * model.initial_noise([0]).numel() and plain == room.sample_bytes(model)
    assert model.network_evaluations == before and torch.equal(torch.get_rng_state(), state)


def test_a_graph_takes_more_and_less_of_it_where_activations_are_computed_again() -> None:
    model, pipe = Denoiser(tiny.stable_diffusion()), tiny.stable_diffusion()
    memory.save_memory(pipe, torch.device("cpu"))
    graph = room.sample_bytes(model, graph=True)
    assert graph > 2 * room.sample_bytes(model) and room.sample_bytes(Denoiser(pipe), graph=True) < 0.8 * graph


def test_a_network_that_makes_one_large_tensor_takes_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Denoiser(tiny.stable_diffusion())

    def predict(x, t, cond):
        large = torch.ones(len(x), 10**6)
        return x * large.sum(1).view(-1, 1, 1, 1)

    monkeypatch.setattr(model.family, "predict", predict)
    assert 4e6 <= room.sample_bytes(model) < 4.1e6


@pytest.mark.parametrize("free, expected", [(10**12, 64), (2 * 64 * 5e6, 32), (1.5e7, 1), (0, 1), (None, 64)])
def test_room_is_what_is_free_over_what_a_sample_takes(monkeypatch: pytest.MonkeyPatch, free, expected: int) -> None:
    model = Denoiser(tiny.stable_diffusion())
    monkeypatch.setattr(room, "UNMEASURED", 2**15)
    monkeypatch.setattr(room, "free_bytes", lambda device: free)
    monkeypatch.setattr(room, "sample_bytes", lambda model, graph: int(5e6))
    assert room.room(model) == expected
    assert room.room(model, graph=True) == max(1, min(expected, 16))


def test_room_that_is_ample_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object) -> int:
        raise AssertionError("measured")

    monkeypatch.setattr(room, "sample_bytes", refuse)
    monkeypatch.setattr(room, "free_bytes", lambda device: 2**34)
    assert room.room(Denoiser(tiny.stable_diffusion())) == 64


def test_free_memory_is_that_of_the_system_or_of_the_group(tmp_path: Path) -> None:
    meminfo, group = tmp_path / "meminfo", tmp_path / "group"
    meminfo.write_text("MemTotal:  9000 kB\nMemAvailable:    4000 kB\n")
    assert room._free_on_cpu(meminfo, group) == 4000 * 1024
    group.mkdir()
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("1000\n")
    assert room._free_on_cpu(meminfo, group) == 4000 * 1024
    (group / "memory.max").write_text("5000\n")
    assert room._free_on_cpu(meminfo, group) == 4000
    (group / "memory.max").write_text("500\n")
    assert room._free_on_cpu(meminfo, group) == 0
    assert room.free_bytes(torch.device("cpu")) > 0


def test_rows_do_not_depend_on_how_much_was_free(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    prompts, seen = as_prompts([f"prompt {k}" for k in range(5)]), []
    for name, free in (("ample", 10**12), ("short", 10)):
        monkeypatch.setattr(room, "free_bytes", lambda device, free=free: free)
        model, most = Denoiser(tiny.stable_diffusion()), []
        model.network.register_forward_pre_hook(lambda module, args, most=most: most.append(len(args[0])))
        run_detection(model, prompts, tmp_path / name, Detection(seeds=2, num_inference_steps=3))
        seen.append(max(most))
    assert seen[0] == 12 and seen[1] == 2  # ten samples and a null for each seed; a sample and its null
    ample, short = (read_rows(tmp_path / name) for name in ("ample", "short"))
    assert [r["id"] for r in ample] == [r["id"] for r in short]
    assert [r["score"] for r in ample] == pytest.approx([r["score"] for r in short], rel=1e-5)


def test_out_of_memory_in_the_network_gives_the_rows_of_smaller_batches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A network that has room for three samples, and raises what torch raises for more."""
    prompts, pipe = as_prompts([f"prompt {k}" for k in range(6)]), tiny.stable_diffusion()
    asked = Detection(num_inference_steps=3)
    run_detection(Denoiser(pipe), prompts, tmp_path / "ample", asked)
    tried: list[int] = []

    def short(module: nn.Module, args: tuple) -> None:
        tried.append(len(args[0]))
        if len(args[0]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")

    pipe.unet.register_forward_pre_hook(short)
    run_detection(Denoiser(pipe), prompts, tmp_path / "short", asked)
    ample, halved = (read_rows(tmp_path / name) for name in ("ample", "short"))
    assert tried == [7, 4, 2, 2, 2, 2, 2, 2]  # halved twice, and so for the rest
    assert [r["score"] for r in halved] == pytest.approx([r["score"] for r in ample], rel=1e-5)
