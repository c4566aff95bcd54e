"""Checkpoints: a training that was stopped, killed or damaged goes on bit for bit, or says why it does not."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import mnemoscope as mn
import tiny
from mnemoscope.errors import UsageError
from mnemoscope.run.run import read_rows
from mnemoscope.training.checkpoints import Checkpoints
from places import HELPERS, PACKAGE
from training_data import data, pictures, trained


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory):
    return data(pictures(tmp_path_factory.mktemp("data")), random_flip=True)


def files(folder: Path) -> dict[str, object]:
    """The files of a folder by their names; of weights the header, whose order is no one's, and the bytes behind it."""
    return {p.relative_to(folder).as_posix(): content(p) for p in folder.rglob("*") if p.is_file()}


def content(file: Path) -> object:
    data = file.read_bytes()
    if file.suffix != ".safetensors":
        return data
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


class Power(Exception):
    """The power fails."""


def failing_at(step: int):
    def fail(at: int, pipe, run) -> None:
        if at == step:
            raise Power

    return fail


KINDS = [
    {"ema": (0.9, 0.99), "lr_scheduler": "cosine", "warmup": 1, "accumulation": 2},
    {"train": "unet+text", "ema": (0.9,)},
    {"train": "lora", "lora_rank": 2, "ema": (0.9,)},
    {"train": "scratch", "mixed_precision": "bf16"},
]


@pytest.mark.parametrize("options", KINDS, ids=lambda options: options.get("train", "unet"))
def test_a_training_that_was_cut_goes_on_bit_for_bit(found, tmp_path, options):
    options = {**options, "steps": 4, "checkpoint_every": 2}
    trained(found, tmp_path / "whole", **options)
    with pytest.raises(Power):
        trained(found, tmp_path / "cut", **options, callbacks=[failing_at(3)])
    assert [p.name for p in Checkpoints(tmp_path / "cut" / "checkpoints").all()] == ["step-000002"]
    trained(found, tmp_path / "cut", **options)
    for part in ("checkpoints/step-000004", "lora" if options.get("train") == "lora" else "pipeline"):
        assert files(tmp_path / "whole" / part) == files(tmp_path / "cut" / part)
    rows = [[r["loss"] for r in read_rows(tmp_path / name)] for name in ("whole", "cut")]
    assert rows[0] == rows[1] and len(rows[0]) == 4


@pytest.mark.parametrize("options", KINDS[1:3], ids=lambda options: options["train"])
def test_whole_pipelines_of_steps_change_nothing_and_are_those_of_shorter_trainings(found, tmp_path, options):
    for name, steps, every in (("kept", 5, 2), ("plain", 5, 0), ("short", 2, 0)):
        trained(found, tmp_path / name, **options, steps=steps, save_every=every)
    last = "lora" if options["train"] == "lora" else "pipeline"
    assert files(tmp_path / "kept" / last) == files(tmp_path / "plain" / last)
    assert sorted(p.name for p in (tmp_path / "kept" / "pipelines").iterdir()) == ["step-000002", "step-000004"]
    assert files(tmp_path / "kept" / "pipelines" / "step-000002") == files(tmp_path / "short" / last)
    assert not (tmp_path / "plain" / "pipelines").exists()
    trained(found, tmp_path / "kept", **options, steps=5, save_every=1)  # may differ when a run goes on


def test_dropout_is_a_function_of_the_step(found, tmp_path):
    """Dropout draws from torch's own state, which a new process does not have."""

    def pipe():
        made = tiny.stable_diffusion(network=tiny.unet(dropout=0.5))
        return made

    options = {"steps": 3, "checkpoint_every": 1}
    whole, _ = trained(found, tmp_path / "whole", pipe=pipe(), **options)
    with pytest.raises(Power):
        trained(found, tmp_path / "cut", pipe=pipe(), **options, callbacks=[failing_at(2)])
    torch.manual_seed(77)
    cut, _ = trained(found, tmp_path / "cut", pipe=pipe(), **options)
    assert files(tmp_path / "whole" / "pipeline") == files(tmp_path / "cut" / "pipeline")
    plain, _ = trained(found, tmp_path / "plain", **options)
    assert not torch.allclose(plain.unet.conv_out.weight, cut.unet.conv_out.weight, atol=1e-5)


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from training_data import data, trained
found = data(Path({data!r}), random_flip=True)
def kill(step, pipe, run):
    if step == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
trained(found, Path({out!r}), steps=5, checkpoint_every=2, ema=(0.9,), callbacks=[kill])
"""


def python(code: str) -> subprocess.CompletedProcess:
    paths = os.pathsep.join([str(PACKAGE), str(HELPERS)])
    env = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_kill_9_and_going_on_gives_the_same_bits(found, tmp_path):
    there = {"tests": str(HELPERS), "data": found.options.data, "out": str(tmp_path / "cut")}
    done = python(KILLED.format(**there, step=3))
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert [p.name for p in Checkpoints(tmp_path / "cut" / "checkpoints").all()] == ["step-000002"]
    for name in ("whole", "cut"):
        trained(found, tmp_path / name, steps=5, checkpoint_every=2, ema=(0.9,))
    for part in ("checkpoints/step-000005", "pipeline"):
        assert files(tmp_path / "whole" / part) == files(tmp_path / "cut" / part)
    assert [r["step"] for r in read_rows(tmp_path / "cut")] == [1, 2, 3, 4, 5]


def test_what_a_kill_left_half_done_is_no_checkpoint(found, tmp_path, monkeypatch):
    def torn(place):
        if place.is_dir():
            raise Power

    options = {"steps": 4, "checkpoint_every": 2}
    with monkeypatch.context() as patched:
        patched.setattr("mnemoscope.run.writing.flush", torn)
        patched.setattr("mnemoscope.run.writing.remove", lambda path: None)  # a kill tidies nothing
        with pytest.raises(Power):
            trained(found, tmp_path / "run", **options)
    folder = tmp_path / "run" / "checkpoints"
    (left,) = folder.iterdir()
    assert left.name == f".step-000002.{os.getpid()}.partial" and not Checkpoints(folder).all()
    trained(found, tmp_path / "run", **options)
    assert sorted(p.name for p in folder.iterdir()) == ["step-000002", "step-000004"]


def test_the_newest_are_kept(found, tmp_path):
    trained(found, tmp_path / "run", steps=5, checkpoint_every=1, keep=2)
    assert sorted(p.name for p in (tmp_path / "run" / "checkpoints").iterdir()) == ["step-000004", "step-000005"]


def test_ctrl_c_finishes_the_step_and_leaves_a_checkpoint(found, tmp_path):
    def interrupt(step, pipe, run):
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trained(found, tmp_path / "run", ema=(0.9,), callbacks=[interrupt])
    assert signal.getsignal(signal.SIGINT) is before
    (checkpoint,) = Checkpoints(tmp_path / "run" / "checkpoints").all()
    assert checkpoint.name in ("step-000002", "step-000003")  # the signal comes when Python looks for it
    assert len(read_rows(tmp_path / "run")) == int(checkpoint.name[5:])
    trained(found, tmp_path / "run", ema=(0.9,))
    trained(found, tmp_path / "whole", ema=(0.9,))
    assert files(tmp_path / "run" / "pipeline") == files(tmp_path / "whole" / "pipeline")


def test_a_finished_training_is_not_done_again(found, tmp_path):
    began = time.monotonic()
    _, summary = trained(found, tmp_path / "run")
    stamp = (tmp_path / "run" / "pipeline" / "model_index.json").stat().st_mtime_ns
    assert trained(found, tmp_path / "run")[1] == summary and time.monotonic() > began
    assert (tmp_path / "run" / "pipeline" / "model_index.json").stat().st_mtime_ns == stamp
    assert trained(found, tmp_path / "run", overwrite=True)[1]["steps"] == 4
    assert (tmp_path / "run" / "pipeline" / "model_index.json").stat().st_mtime_ns > stamp


def test_another_run_begins_from_a_checkpoint(found, tmp_path):
    """More steps of a constant schedule are those of a longer run; the learning rate may be another."""
    trained(found, tmp_path / "short", steps=2, checkpoint_every=2)
    trained(found, tmp_path / "long", steps=4)
    start = str(tmp_path / "short" / "checkpoints" / "step-000002")
    trained(found, tmp_path / "more", steps=4, resume=start)
    assert files(tmp_path / "more" / "pipeline") == files(tmp_path / "long" / "pipeline")
    assert [r["step"] for r in read_rows(tmp_path / "more")] == [3, 4]


@pytest.mark.parametrize(
    "options,said",
    [
        ({"learning_rate": 2e-3}, "settings: learning_rate 0.001 there, 0.002 here"),
        ({"steps": 5}, "settings: steps 4 there, 5 here"),
        ({"objective": {"snr_gamma": 5}}, "settings: snr_gamma null there, 5 here"),
    ],
)
def test_other_settings_are_refused_and_what_changes_no_weight_is_not(found, tmp_path, options, said):
    with pytest.raises(Power):
        trained(found, tmp_path / "run", callbacks=[failing_at(2)], checkpoint_every=1)
    with pytest.raises(UsageError, match=said):
        trained(found, tmp_path / "run", **options)
    assert trained(found, tmp_path / "run", checkpoint_every=3, keep=1, preview_images=2)[1]["steps"] == 4


def test_other_data_are_refused(found, tmp_path):
    with pytest.raises(Power):
        trained(found, tmp_path / "run", callbacks=[failing_at(2)], checkpoint_every=1)
    folder = pictures(tmp_path / "data", seed=1)
    with pytest.raises(UsageError, match="holds a run with other settings"):
        trained(data(folder, random_flip=True), tmp_path / "run")


def damaged(checkpoint: Path, how: str) -> None:
    if how == "state":
        (checkpoint / "state.json").write_text("{}")
    if how == "types":
        state = json.loads((checkpoint / "state.json").read_text())
        (checkpoint / "state.json").write_text(json.dumps({**state, "scaler": "x"}))
    if how == "inner":
        state = json.loads((checkpoint / "state.json").read_text())
        (checkpoint / "state.json").write_text(json.dumps({**state, "optimizer": {"0.exp_avg": None, "x": 1}}))
    if how == "cut":
        file = checkpoint / "optimizer.safetensors"
        file.write_bytes(file.read_bytes()[:500])
    if how == "shape":
        file = checkpoint / "unet" / "diffusion_pytorch_model.safetensors"
        save_file({k: v[:1] for k, v in load_file(file).items()}, file)
    if how == "gone":
        (checkpoint / "unet" / "config.json").unlink()


@pytest.mark.parametrize("how", ["state", "types", "inner", "cut", "shape", "gone"])
def test_a_damaged_checkpoint_is_one_sentence(found, tmp_path, how):
    with pytest.raises(Power):
        trained(found, tmp_path / "run", callbacks=[failing_at(2)], checkpoint_every=1)
    checkpoint = tmp_path / "run" / "checkpoints" / "step-000001"
    damaged(checkpoint, how)
    with pytest.raises(UsageError) as refused:
        trained(found, tmp_path / "run")
    assert str(refused.value).startswith(f"{checkpoint} is no checkpoint of this training, or damaged: ")
    assert "\n" not in str(refused.value)


def test_a_checkpoint_of_other_networks_is_one_sentence(found, tmp_path):
    trained(found, tmp_path / "lora", train="lora", steps=1, checkpoint_every=1)
    start = str(tmp_path / "lora" / "checkpoints" / "step-000001")
    with pytest.raises(UsageError, match="is no checkpoint of this training, or damaged"):
        trained(found, tmp_path / "run", resume=start)


def test_checkpoints_are_models(found, tmp_path):
    """`--unet` takes a checkpoint's network and an average of it, in this layout and in that of Wen et al."""
    trained(found, tmp_path / "run", ema=(0.9,), checkpoint_every=2)
    tiny.stable_diffusion().save_pretrained(tmp_path / "base")
    checkpoint = tmp_path / "run" / "checkpoints" / "step-000004"
    wen = tmp_path / "checkpoint-4"
    wen.mkdir()
    (checkpoint / "unet").rename(wen / "unet")
    average = checkpoint / "unet_ema_0.9"
    config = json.loads((average / "config.json").read_text())
    config |= {"decay": 0.9999, "optimization_step": 4, "update_after_step": 0, "use_ema_warmup": False}
    (average / "config.json").write_text(json.dumps(config))  # as diffusers' average writes it
    average.rename(wen / "unet_ema")
    found_weights = []
    for unet in (wen, wen / "unet_ema"):
        model = mn.Denoiser.from_pretrained(tmp_path / "base", unet=unet, device="cpu")
        found_weights.append(model.pipe.unet.conv_out.weight)
    exported = mn.Denoiser.from_pretrained(tmp_path / "run" / "pipeline", device="cpu").pipe.unet
    assert torch.equal(found_weights[1], exported.conv_out.weight)
    assert not torch.equal(found_weights[0], found_weights[1])
