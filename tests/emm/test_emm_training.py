"""Training from scratch: budget, batches, steps, snapshots and their scores, early stops, and going on bit for bit."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

import mnemoscope as mn
from mnemoscope.emm.data.images import Images
from mnemoscope.emm.data.readers import read_images
from mnemoscope.emm.data.subset import make_subset
from mnemoscope.emm.networks import NetworkOptions, build
from mnemoscope.emm.networks.losses import loss
from mnemoscope.emm.ratio.memorization import memorization
from mnemoscope.emm.sampling.drawing import sample_images
from mnemoscope.emm.training import checkpoints, snapshots
from mnemoscope.emm.training.average import Average
from mnemoscope.emm.training.averaging import decay
from mnemoscope.emm.training.batches import EmmBatches
from mnemoscope.emm.training.budget import Budget
from mnemoscope.emm.training.loop import train
from mnemoscope.emm.training.loss_log import read_losses
from mnemoscope.emm.training.options import EmmTrainOptions
from mnemoscope.emm.training.snapshots import Snapshots, read_network
from mnemoscope.emm.training.stepping import EmmTraining
from mnemoscope.emm.training.watching import SnapshotScorer, decided, result
from mnemoscope.errors import UsageError
from mnemoscope.run.run import read_json, read_rows
from mnemoscope.run.threads import computing_with
from mnemoscope.training.noise import keyed
from mnemoscope.training.processes import Interruption
from places import HELPERS

NETWORK = NetworkOptions(width=4, multipliers=(1,), blocks=1, attention=(), dropout=0, preconditioning="edm")
SHORT: dict[str, Any] = {
    **{"steps": 8, "batch_size": 4, "ramp_up": 3, "snapshots": 2, "samples": 6, "inference_steps": 2},
    **{"ema": ("0.9", "mode1"), "device": "cpu", "checkpoint_every": 3},
}


def digits(count: int = 6, **how: Any) -> Images:
    return make_subset(read_images("digits"), count, **how)


def short(**changed: Any) -> EmmTrainOptions:
    return EmmTrainOptions(**{**SHORT, **changed})


def trained(out: Path, network: NetworkOptions = NETWORK, images: Images | None = None, **changed: Any) -> dict:
    return train(images or digits(), out, network, short(**changed))


def weights(folder: Path) -> dict[str, bytes]:
    """The tensors of every snapshot and of the checkpoint, byte for byte."""
    found = {}
    for file in sorted(folder.rglob("*.safetensors")):
        for name, tensor in load_file(file).items():
            found[f"{file.relative_to(folder)} {name}"] = tensor.numpy().tobytes()
    return found


def scores(folder: Path) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_rows(folder)]


# Budget and options


def test_the_budget_is_in_steps_or_in_epochs() -> None:
    assert Budget(short(), 6).steps == 8
    in_epochs = Budget(short(steps=None, epochs=40_000, batch_size=512, ramp_up_epochs=200), 1000)
    assert in_epochs.steps == 78_125 and in_epochs.ramp_up == 391
    assert in_epochs.epochs(78_125) == 40_000
    assert Budget(short(steps=None, epochs=0.5), 6).steps == 1
    assert Budget(short(steps=None), 6).steps == 3000


def test_the_learning_rate_rises_from_nothing() -> None:
    budget = Budget(short(learning_rate=0.3), 6)
    assert [budget.rate(step) for step in range(5)] == pytest.approx([0, 0.1, 0.2, 0.3, 0.3])
    assert Budget(short(learning_rate=0.3, ramp_up=0), 6).rate(0) == 0.3


@pytest.mark.parametrize(
    "asked,steps",
    [
        ({"snapshots": 4}, (250, 500, 750, 1000)),
        ({"snapshots": 3, "spacing": "log"}, (10, 100, 1000)),
        ({"snapshots": 1, "spacing": "log"}, (1000,)),
        ({"snapshot_at": (0.3, 0.1)}, (100, 300, 1000)),
        ({"snapshot_at": (1.0,)}, (1000,)),
    ],
)
def test_snapshots_are_shares_of_the_budget(asked: dict, steps: tuple) -> None:
    assert Budget(short(steps=1000, **asked), 6).snapshots == steps


WRONG = [
    ({"epochs": 3}, "--steps and by --epochs"),
    ({"steps": 0}, "--steps 0 was given; give a number above 0"),
    ({"optimizer": "lion"}, "--optimizer lion is not known; give adam or sgd."),
    ({"ema": ("0.9", "0.90")}, "each once"),
    ({"ema": ("1.5",)}, "A decay of 1.5"),
    ({"ema": ("mode9",)}, "There is no average mode9"),
    ({"snapshot_at": (1.5,)}, "--snapshot-at 1.5 is no share"),
    ({"samples": 0, "stop_at": 0.9}, "give --samples above 0"),
    ({"flat_from": 2}, "--flat-from 2 was given; give a number from 0 to 1."),
    ({"patience": 2}, "--patience 2 needs more snapshots than that"),
    ({"accumulation": 3}, "cannot be shared evenly by 1 processes with 3 passes"),
    ({"augment": 0.1}, "go together"),
    ({"mixed_precision": "fp16"}, "fp16 needs an accelerator"),
]


@pytest.mark.parametrize("changed,said", WRONG, ids=lambda value: str(value)[:30])
def test_what_cannot_be_is_said(changed: dict, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said.replace(".", r"\.")):
        trained(tmp_path / "run", **changed)


# Batches


def batches(images: Images | None = None, network: NetworkOptions = NETWORK, **changed: Any) -> EmmBatches:
    place = {name: changed.pop(name) for name in ("process", "processes", "augmentation") if name in changed}
    return EmmBatches(images or digits(), network, short(**changed), device=torch.device("cpu"), **place)


def places(made: EmmBatches, step: int) -> list[int]:
    (batch,) = made.of(step)
    back = ((batch.images + 1) * 127.5).round().to(torch.uint8)
    return [int((made.pixels == image).flatten(1).all(1).nonzero()[0, 0]) for image in back]


def test_epochs_follow_one_another_without_a_gap() -> None:
    shown = [place for step in range(3) for place in places(batches(), step)]
    assert sorted(shown[:6]) == sorted(shown[6:]) == list(range(6)) and shown[:6] != shown[6:]
    fixed = [place for step in range(3) for place in places(batches(order="fixed"), step)]
    assert fixed[:6] == fixed[6:] == shown[:6]
    drawn = [place for step in range(30) for place in places(batches(order="replacement"), step)]
    assert any(len(set(drawn[k : k + 6])) < 6 for k in range(0, 120, 6)) and set(drawn) == set(range(6))


def test_parts_and_processes_share_what_one_would_see() -> None:
    images = digits(6, label_mode="true")
    flipped = {"x_flip": True, "augmentation": reversed_images}
    told = dataclasses.replace(NETWORK, augmentation=True, dropout=0.5)
    (whole,) = batches(images, told, **flipped).of(5)
    parts = batches(images, told, accumulation=2, **flipped).of(5)
    ranks = [batches(images, told, process=k, processes=2, **flipped).of(5)[0] for k in range(2)]
    for shared in (parts, ranks):
        for read in (
            lambda b: b.images,
            lambda b: b.labels,
            lambda b: b.augment,
            lambda b: b.draws.sigma,
            lambda b: b.draws.noise,
        ):
            assert torch.equal(torch.cat([read(each) for each in shared]), read(whole))
    assert [each.seed for each in parts] == [each.seed for each in ranks]


def reversed_images(images: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    return images.flip(2), torch.rand(len(images), 9, generator=generator)


def test_half_of_the_views_are_mirrored() -> None:
    plain, flipped = batches(), batches(x_flip=True)
    pairs = [(plain.of(step)[0].images, flipped.of(step)[0].images) for step in range(50)]
    mirrored = [torch.equal(a.flip(2), b) for one, two in pairs for a, b in zip(one, two, strict=True)]
    same = [torch.equal(a, b) for one, two in pairs for a, b in zip(one, two, strict=True)]
    assert 70 < sum(mirrored) < 130 and all(m or s for m, s in zip(mirrored, same, strict=True))


# Steps


def plainly(images: Images, options: EmmTrainOptions, network: NetworkOptions) -> tuple[dict, dict]:
    """Weights and their first average after a training as the formulas have it: Adam or momentum by hand, float64."""
    made = build(network, channels=1, resolution=8, num_classes=images.num_classes, seed=options.seed)
    made.train()
    own = {name: p for name, p in made.named_parameters()}
    average = {name: p.detach().double().clone() for name, p in own.items()}
    m, v = ({name: torch.zeros_like(p, dtype=torch.float64) for name, p in own.items()} for _ in range(2))
    feed = EmmBatches(images, network, options, device=torch.device("cpu"))
    for step in range(options.steps or 0):
        (batch,) = feed.of(step)
        made.zero_grad()
        loss(made, batch.images, batch.labels, draws=batch.draws).mean().backward()
        rate = options.learning_rate * min(1, step / options.ramp_up)
        kept = decay(Average.of(options.ema[0]), batch=options.batch_size, images_seen=step * 4, n=len(images))
        for name, p in own.items():
            g = p.grad.double() + options.weight_decay * p.detach().double()
            if options.optimizer == "sgd":
                m[name] = options.momentum * m[name] + g
                change = m[name]
            else:
                m[name] = 0.9 * m[name] + 0.1 * g
                v[name] = 0.999 * v[name] + 0.001 * g**2
                change = m[name] / (1 - 0.9 ** (step + 1)) / ((v[name] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8)
            p.data -= (rate * change).float()
            average[name] = kept * average[name] + (1 - kept) * p.detach().double()
    return own, average


@pytest.mark.parametrize("changed", [{}, {"weight_decay": 0.1}, {"optimizer": "sgd", "learning_rate": 1e-4}], ids=str)
def test_training_is_that_of_the_formulas(changed: dict, tmp_path: Path) -> None:
    images = digits(6, label_mode="true")
    asked = {"adam_epsilon": 1e-8, "samples": 0, "ema": ("0.5", "0"), **changed}
    own, average = plainly(images, short(**asked), NETWORK)
    trained(tmp_path / "run", images=images, **asked)
    snapshots = Snapshots(tmp_path / "run")
    plain, averaged = snapshots.read(8, "0"), snapshots.read(8, "0.5")
    for name, value in own.items():
        torch.testing.assert_close(plain[name], value.detach(), atol=2e-5, rtol=0)
        torch.testing.assert_close(averaged[name].double(), average[name], atol=2e-5, rtol=0)


def test_the_log_is_the_mean_loss_of_its_steps(tmp_path: Path) -> None:
    trained(tmp_path / "run", samples=0)
    rows = read_losses(tmp_path / "run")
    assert [row["step"] for row in rows] == list(range(1, 9))
    made = build(NETWORK, channels=1, resolution=8, seed=0)
    (batch,) = batches().of(0)
    first = float(loss(made.train(), batch.images, draws=batch.draws).detach().mean())
    assert rows[0]["loss"] == pytest.approx(first, rel=1e-5) and rows[0]["lr"] == 0
    assert all(row["bad_gradients"] == row["skipped"] == 0 for row in rows)


@pytest.fixture
def spoiled(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """The gradients of the first weights have one entry that is no number, at step 3."""

    def spoil(value: float) -> None:
        backward = EmmTraining._backward

        def wrong(self: EmmTraining, *given: Any) -> torch.Tensor:
            found = backward(self, *given)
            if self.step == 3:
                self.parameters[0].grad.flatten()[0] = value
            return found

        monkeypatch.setattr(EmmTraining, "_backward", wrong)

    return spoil


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_bad_gradients_are_counted_and_taken_for_numbers(spoiled, value: float, tmp_path: Path) -> None:
    spoiled(value)
    sgd = {"samples": 0, "optimizer": "sgd", "momentum": 0, "learning_rate": 1e-6, "ramp_up": 0, "ema": ("0",)}
    summary = trained(tmp_path / "run", **sgd, snapshot_at=(3 / 8, 0.5))
    assert summary["bad_gradients"] == 1 and [row["bad_gradients"] for row in read_losses(tmp_path / "run")][3] == 1
    before, after = (Snapshots(tmp_path / "run").read(step, "0") for step in (3, 4))
    name = next(iter(dict(build(NETWORK, channels=1, resolution=8).named_parameters())))
    change = float((after[name] - before[name]).flatten()[0])
    assert change == pytest.approx({"nan": 0, "inf": -0.1, "-inf": 0.1}[str(value)], abs=1e-4)


def test_a_loss_that_is_no_number_any_more_ends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    forward = EmmTraining._backward
    monkeypatch.setattr(EmmTraining, "_backward", lambda self, *given: forward(self, *given) * float("nan"))
    with pytest.raises(UsageError, match="no number any more at step 1; use a lower --learning-rate"):
        trained(tmp_path / "run")


def test_precision_bf16_trains_and_keeps_weights_in_float32(tmp_path: Path) -> None:
    trained(tmp_path / "run", mixed_precision="bf16", samples=0)
    trained(tmp_path / "plain", samples=0)
    one, two = (Snapshots(tmp_path / name).read(8, "0.9") for name in ("run", "plain"))
    assert all(value.dtype == torch.float32 for value in one.values())
    gaps = [float((value - two[name]).abs().max()) for name, value in one.items()]
    assert 0 < max(gaps) < 0.02


# Going on


class Power(Exception):
    """The power fails."""


def failing(monkeypatch: pytest.MonkeyPatch, kind: type, name: str, at: int) -> None:
    """A method fails when it is called for the `at`-th time."""
    own, calls = getattr(kind, name), []

    def fail(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == at:
            raise Power
        return own(*given)

    monkeypatch.setattr(kind, name, fail)


KINDS = [
    {"network": dataclasses.replace(NETWORK, dropout=0.5), "accumulation": 2},
    {"optimizer": "sgd", "order": "fixed", "x_flip": True},
    {"mixed_precision": "bf16", "order": "replacement"},
    {"network": dataclasses.replace(NETWORK, augmentation=True), "augment": 0.5},
    {"images": digits(6, label_mode="unique"), "network": dataclasses.replace(NETWORK, embedding="fourier")},
]


@pytest.mark.parametrize("changed", KINDS, ids=["dropout", "sgd", "bf16", "augment", "labels"])
def test_a_training_that_was_cut_goes_on_bit_for_bit(changed: dict, tmp_path: Path, monkeypatch) -> None:
    whole = trained(tmp_path / "whole", **changed)
    with monkeypatch.context() as patched, pytest.raises(Power):
        failing(patched, EmmTraining, "update", 6)
        trained(tmp_path / "cut", **changed)
    torch.manual_seed(77)
    cut = trained(tmp_path / "cut", **changed)
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut") and len(weights(tmp_path / "cut")) > 50
    assert scores(tmp_path / "whole") == scores(tmp_path / "cut")
    assert read_losses(tmp_path / "whole") == read_losses(tmp_path / "cut")
    assert {**whole, "seconds": 0} == {**cut, "seconds": 0}


@pytest.mark.parametrize("at", [1, 2, 4, 5])
def test_scoring_that_was_cut_goes_on(at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(tmp_path / "whole", keep="best")
    with monkeypatch.context() as patched, pytest.raises(Power):
        failing(patched, SnapshotScorer, "score", at)
        trained(tmp_path / "cut", keep="best")
    rows = read_rows(tmp_path / "cut")
    assert len(rows) == at - 1
    again = trained(tmp_path / "cut", keep="best")
    assert scores(tmp_path / "whole") == scores(tmp_path / "cut") and rows == read_rows(tmp_path / "cut")[: at - 1]
    assert {**whole, "seconds": 0} == {**again, "seconds": 0}


KILLED = """
import os, signal, sys
sys.path[:0] = {tests!r}
import torch
torch.set_num_threads(1)
from pathlib import Path
import test_emm_training as t
own = t.{kind}.{name}
calls = []
def kill(*given):
    calls.append(1)
    if len(calls) == {at}:
        os.kill(os.getpid(), signal.SIGKILL)
    return own(*given)
t.{kind}.{name} = kill
t.trained(Path({out!r}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind,name,at", [("EmmTraining", "update", 8), ("SnapshotScorer", "score", 2)])
def test_kill_9_and_going_on_gives_the_same_bits(kind: str, name: str, at: int, tmp_path: Path) -> None:
    tests = [str(Path(__file__).parent), str(HELPERS)]
    code = KILLED.format(tests=tests, kind=kind, name=name, at=at, out=str(tmp_path / "cut"))
    env = os.environ | {"PYTHONPATH": str(Path(mn.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert not (tmp_path / "cut" / "summary.json").exists()
    for folder in ("whole", "cut"):
        trained(tmp_path / folder)
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")
    assert scores(tmp_path / "whole") == scores(tmp_path / "cut")


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_what_a_kill_left_half_done_is_gone_when_the_training_has_gone_on(tmp_path: Path, monkeypatch) -> None:
    trained(tmp_path / "whole", keep="best")
    with monkeypatch.context() as patched, pytest.raises(Power):
        failing(patched, EmmTraining, "update", 6)
        trained(tmp_path / "cut", keep="best")
    (tmp_path / "cut" / "checkpoints" / ".step-000006.77.partial").mkdir()
    left = ("checkpoints/.step-000006.77.partial/state.safetensors", "snapshots/.step-000007.safetensors.77.partial")
    for name in (*left, ".data.zip.77.partial", ".rows.jsonl.77.partial", ".summary.json.77.partial"):
        (tmp_path / "cut" / name).write_bytes(b"half")
    trained(tmp_path / "cut", keep="best")
    assert tree(tmp_path / "cut") == tree(tmp_path / "whole")
    assert weights(tmp_path / "cut") == weights(tmp_path / "whole")


FULL = "Error while serializing: I/O error: No space left on device (os error 28)"


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_full_disk_is_an_error_of_the_system_and_the_training_goes_on(at: int, tmp_path: Path, monkeypatch) -> None:
    calls, own = [], snapshots.save_file

    def full(tensors: dict, file: Path) -> None:
        calls.append(file)
        own(tensors, file)
        if len(calls) == at:
            raise SafetensorError(FULL)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space left") as caught:
        patched.setattr(snapshots, "save_file", full)
        patched.setattr(checkpoints, "save_file", full)
        trained(tmp_path / "run")
    assert caught.value.errno == errno.ENOSPC and caught.value.filename
    assert not [name for name in tree(tmp_path / "run") if name.endswith(".partial")]
    trained(tmp_path / "run")
    trained(tmp_path / "whole")
    assert weights(tmp_path / "run") == weights(tmp_path / "whole") and tree(tmp_path / "run") == tree(
        tmp_path / "whole"
    )


@pytest.mark.slow
def test_a_training_keeps_the_threads_that_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    own = EmmTraining.update

    def update(training: EmmTraining, parts: Any) -> None:
        seen.append(torch.get_num_threads())
        if len(seen) == 5:
            raise Power
        own(training, parts)

    monkeypatch.setattr(EmmTraining, "update", update)
    before = torch.get_num_threads()
    with computing_with(2), pytest.raises(Power):
        trained(tmp_path / "run")
    with computing_with(1):
        trained(tmp_path / "run")
    assert set(seen) == {2} and read_json(tmp_path / "run" / "run.json")["threads"] == 2
    assert torch.get_num_threads() == before


def test_an_interruption_leaves_a_checkpoint_of_the_last_step(tmp_path: Path, monkeypatch) -> None:
    update = EmmTraining.update
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):

        def interrupted(self: EmmTraining, parts: Any) -> None:
            update(self, parts)
            if self.step == 2:
                signal.raise_signal(signal.SIGINT)

        patched.setattr(EmmTraining, "update", interrupted)
        trained(tmp_path / "cut")
    assert [path.name for path in (tmp_path / "cut" / "checkpoints").iterdir()] == ["step-000002"]
    trained(tmp_path / "cut"), trained(tmp_path / "whole")
    assert weights(tmp_path / "whole") == weights(tmp_path / "cut")


def test_an_interruption_is_heard_while_images_are_drawn(tmp_path: Path, monkeypatch) -> None:
    said = iter([False] * 4 + [True] * 2)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Interruption, "__bool__", lambda self: next(said))  # 4 steps, then the first batch of images
        trained(tmp_path / "run", score_batch=2)
    assert not read_rows(tmp_path / "run") and Snapshots(tmp_path / "run").steps() == [4]


def test_a_finished_training_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = trained(tmp_path / "run")
    monkeypatch.setattr(EmmTraining, "update", None)
    assert trained(tmp_path / "run") == first
    with pytest.raises(UsageError, match="learning_rate 0.001 there, 0.1 here"):
        trained(tmp_path / "run", learning_rate=0.1)
    with pytest.raises(UsageError, match="other settings"):
        trained(tmp_path / "run", images=digits(5))


def test_a_damaged_checkpoint_is_said(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    (file,) = (tmp_path / "run" / "checkpoints").rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UsageError, match="is no checkpoint of this training, or damaged"):
        trained(tmp_path / "run")


# Scores


def test_rows_do_not_depend_on_when_or_how_is_scored(tmp_path: Path) -> None:
    trained(tmp_path / "few", samples=7)
    trained(tmp_path / "many", samples=7, snapshots=8, score_batch=3, checkpoint_every=100)
    few, many = (
        {row["id"]: row for row in scores(tmp_path / name) if row["part"] == "selection"} for name in ("few", "many")
    )
    assert len(few) == 4 and len(many) == 16 and few.items() <= many.items()
    one, other = (Snapshots(tmp_path / name) for name in ("few", "many"))
    for average in ("0.9", "mode1"):
        own, others = one.read(8, average), other.read(8, average)
        assert all(torch.equal(own[name], others[name]) for name in own)


def test_a_row_is_what_sampling_and_comparing_say(tmp_path: Path) -> None:
    images = digits(6, label_mode="true")
    summary = trained(tmp_path / "run", images=images, threshold=0.95, sample_seed=5)
    rows = {(row["step"], row["ema"], row["part"]): row for row in read_rows(tmp_path / "run")}
    top = summary["averages"]["mode1"]["step_max"]
    for step, part, first in ((8, "selection", 5), (top, "confirmation", 11)):
        network = read_network(tmp_path / "run", snapshot=step, ema="mode1")
        drawn, _ = sample_images(network, range(first, first + 6), shape=(1, 8, 8), num_inference_steps=2)
        found = memorization(drawn.reshape(6, -1), images.rows(), threshold=0.95)
        row = rows[step, "mode1", part]
        assert (row["ratio"], row["mean_distance"]) == (found.ratio, found.mean_distance)
        assert [row["ratio_low"], row["ratio_high"]] == list(found.interval) and row["first_seed"] == first
    assert summary["network_evaluations"] == 8 * 4 + 6 * 6 * 3
    assert summary["failed"] == 0 and summary["images"] == 32 and summary["epochs"] == pytest.approx(32 / 6)
    copies = read_images(tmp_path / "run" / "data.zip")
    assert np.array_equal(copies.pixels, images.pixels) and np.array_equal(copies.labels, images.labels)


def row(step: int, ratio: float, ema: str = "0.9", part: str = "selection") -> dict[str, Any]:
    spread = {"ratio_low": ratio - 0.02, "ratio_high": ratio + 0.02, "mean_distance": 100 * (1 - ratio)}
    return {"step": step, "ema": ema, "part": part, "ratio": ratio, **spread}


def rows_of(*ratios: float, ema: str = "0.9") -> list[dict]:
    return [row(k + 1, ratio, ema) for k, ratio in enumerate(ratios)]


def test_a_training_is_decided_when_the_ratio_is_surely_as_high() -> None:
    one = short(ema=("0.9",), stop_at=0.9)
    assert decided(rows_of(0.5, 0.91), one) is None
    assert decided(rows_of(0.5, 0.93), one) == "Stopped at step 2: the ratio is 0.9 or more."
    two = short(stop_at=0.9)
    assert decided([*rows_of(0.5, 0.93), *rows_of(0.5, 0.8, ema="mode1")], two) is None
    assert decided([*rows_of(0.5, 0.93), *rows_of(0.5, 0.99, ema="mode1")], two)
    assert decided([], two) is None and decided(rows_of(0.99), two) is None
    assert decided(rows_of(1.0, 1.0), short(ema=("0.9",))) is None


def test_a_training_is_decided_when_the_ratio_is_flat() -> None:
    flat = short(ema=("0.9",), patience=2, snapshots=8)
    assert decided(rows_of(0.3, 0.5, 0.5), flat) is None
    assert decided(rows_of(0.3, 0.5, 0.5, 0.4), flat) == ("Stopped at step 4: the ratio has not risen for 2 snapshots.")
    assert decided(rows_of(0.3, 0.5, 0.5, 0.6), flat) is None
    assert decided(rows_of(0, 0, 0, 0, 0), flat) is None  # copies come late: no ratio yet says nothing
    assert decided(rows_of(0, 0, 0, 0, 0), dataclasses.replace(flat, flat_from=0))


def test_a_training_that_came_to_its_end_was_not_stopped(tmp_path: Path) -> None:
    summary = trained(tmp_path / "run", stop_at=0.0, snapshots=1)
    assert summary["steps"] == 8 and summary["stopped"] is None


def test_an_early_stop_ends_the_run_and_is_the_same_after_a_cut(tmp_path: Path, monkeypatch) -> None:
    whole = trained(tmp_path / "whole", stop_at=0.0)
    assert whole["steps"] == 4 and whole["stopped"] == "Stopped at step 4: the ratio is 0 or more."
    assert whole["step_last"] == 4 and whole["network_evaluations"] == 4 * 4 + 4 * 6 * 3
    with monkeypatch.context() as patched, pytest.raises(Power):
        failing(patched, SnapshotScorer, "score", 3)
        trained(tmp_path / "cut", stop_at=0.0)
    assert {**trained(tmp_path / "cut", stop_at=0.0), "seconds": 0} == {**whole, "seconds": 0}


def test_the_highest_ratio_is_that_of_images_that_did_not_choose_it() -> None:
    rows = [*rows_of(0.1, 0.7, 0.7, 0.4), row(2, 0.6, part="confirmation"), *rows_of(0.9, ema="mode1")]
    found = result(rows, "0.9")
    assert (found["step_max"], found["ratio_max"], found["ratio_max_corrected"]) == (2, 0.7, 0.6)
    assert (found["step_last"], found["ratio_last"]) == (4, 0.4)
    assert found["ratio_max_corrected_interval"] == [0.58, 0.62] and found["mean_distance_max"] == pytest.approx(30)
    assert result([], "0.9") == {}


def test_only_the_best_and_the_last_snapshot_stay(tmp_path: Path) -> None:
    summary = trained(tmp_path / "run", snapshots=8, keep="best", threshold=0.95, ema=("0.9",))
    assert Snapshots(tmp_path / "run").steps() == sorted({summary["step_max"], 8})
    assert len(read_rows(tmp_path / "run")) == 9


def test_networks_are_read_by_step_and_average(tmp_path: Path) -> None:
    summary = trained(tmp_path / "run", threshold=0.95)
    best, last = (read_network(tmp_path / "run", snapshot=which) for which in ("best", "last"))
    assert isinstance(last, nn.Module) and not last.training and last.resolution == 8
    named = read_network(tmp_path / "run", snapshot=8, ema="0.90")
    other = read_network(tmp_path / "run", ema="mode1")
    pairs = [(last, named, True), (last, other, False), (best, last, summary["step_max"] == 8)]
    for one, two, same in pairs:
        own, others = one.state_dict(), two.state_dict()
        assert all(torch.equal(own[name], others[name]) for name in own) is same
    for wrong in ({"snapshot": 5}, {"ema": "0.5"}, {"ema": "mode9"}):
        with pytest.raises(UsageError):
            read_network(tmp_path / "run", **wrong)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text(json.dumps({"command": "train"}))
    with pytest.raises(UsageError, match="no run of emm train"):
        read_network(tmp_path / "other")


def test_a_training_of_another_network_under_that_name_is_refused(tmp_path: Path) -> None:
    """What was trained before a network became the published one is neither read nor gone on with."""
    network, run = dataclasses.replace(NETWORK, architecture="ncsnpp"), tmp_path / "run"
    trained(run, network, steps=2, samples=0)
    assert read_network(run).resolution == 8
    record = read_json(run / "run.json")
    assert record["network"].pop("version") == 2
    (run / "run.json").write_text(json.dumps(record))
    for again in (lambda: read_network(run), lambda: trained(run, network, steps=2, samples=0)):
        with pytest.raises(UsageError, match="not the published one .* train it again"):
            again()
    assert train(digits(), run, network, short(steps=2, samples=0), overwrite=True)["steps"] == 2


def test_what_is_drawn_at_random_has_a_generator_for_each_purpose() -> None:
    one, again, other = (torch.randn(4, generator=keyed(*key)) for key in (("a", 1, 2), ("a", 1, 2), ("a", 12)))
    assert torch.equal(one, again) and not torch.equal(one, other)


@pytest.mark.slow
def test_ten_digits_are_memorized(tmp_path: Path) -> None:
    """The fast tier of the reference: a ratio of 1.00 was measured there."""
    network = NetworkOptions(width=16, multipliers=(1, 1), blocks=1, attention=(), dropout=0, preconditioning="edm")
    asked = {"steps": 600, "batch_size": 64, "learning_rate": 2e-3, "ramp_up": 100, "ema": ("0.99",), "snapshots": 2}
    summary = train(digits(10), tmp_path / "run", network, EmmTrainOptions(**asked, samples=100, device="cpu"))
    assert summary["ratio_last"] > 0.9 and summary["ratio_max_corrected"] > 0.9
    first, last, _ = read_rows(tmp_path / "run")
    assert first["ratio"] < last["ratio"] and last["mean_distance"] < 8 < first["mean_distance"]
    assert read_json(tmp_path / "run" / "summary.json") == summary
