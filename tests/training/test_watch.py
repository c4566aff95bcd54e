"""A folder of checkpoints is followed: what comes back is found where it was planted, once each, whatever kills it."""

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import mnemoscope as mn
import tiny
import training_data
from mnemoscope import planted
from mnemoscope.errors import UsageError
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.run.run import read_json, read_rows
from mnemoscope.training.data.options import DataOptions
from mnemoscope.training.watching.following import run_watch
from mnemoscope.training.watching.options import WatchOptions
from mnemoscope.training.watching.returning import ReturnLevel, came_back
from mnemoscope.training.watching.saved import number_in, saved_in
from places import HELPERS, PACKAGE

ONCE: dict[str, Any] = {"wait": 0, "probe_inference_steps": 8, "probe_guidance": 1.0}


def pictures(folder: Path) -> Path:
    """The planted memorized images, with the captions that own them."""
    folder.mkdir()
    for k, image in enumerate(planted.images()):
        pixels = ((image + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{k}.png")
        (folder / f"{k}.txt").write_text(f"memorized {k}")
    return folder


def trained(known: int) -> Denoiser:
    """The planted model as a training would leave it that has learnt the first so many pictures."""
    model = planted.model()
    with torch.no_grad():
        model.network.word_keys[1 + known :] = 0
    return model


def load(name: str, **parts: Any) -> Denoiser:
    """A stand-in for opening: a checkpoint's file says how many pictures it knows."""
    if "lora" not in parts:
        return trained(0)
    return trained(int(parts["lora"][0].name.partition("=")[2][0]))


def lora(folder: Path, name: str, known: int) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}={known}.safetensors"
    save_file({"unet.x.lora_A.weight": torch.full((1, 1), float(known))}, file)
    return file


@pytest.fixture
def data(tmp_path: Path) -> DataOptions:
    return DataOptions(str(pictures(tmp_path / "data")), resolution=planted.SIZE)


def watched(tmp_path: Path, data: DataOptions, **options: Any) -> dict[str, Any]:
    return run_watch("base", tmp_path / "ckpt", data, tmp_path / "run", WatchOptions(**{**ONCE, **options}), load=load)


def test_pictures_come_back_at_the_checkpoint_that_learnt_them(tmp_path: Path, data: DataOptions) -> None:
    for step, known in ((100, 0), (200, 1), (300, 3)):
        lora(tmp_path / "ckpt", f"x-step{step:06d}", known)
    summary = watched(tmp_path, data, stop_share=1)
    assert [p["checkpoint"] for p in summary["came_back"]] == ["x-step000200=1.safetensors"] + [
        "x-step000300=3.safetensors"
    ] * 2
    assert [p["picture"] for p in summary["came_back"]] == ["0.png", "1.png", "2.png"]
    assert summary["last_without_copies"] == "x-step000100=0.safetensors" and summary["stop"] is None
    rows = read_rows(tmp_path / "run")
    assert len(rows) == 4 * planted.MEMORIZED
    returning = [row for row in rows if row["returning"]]
    assert all(row["own_similarity"] > 0.95 for row in returning) and len(returning) == 4
    assert all((tmp_path / "run" / row["file"]).is_file() for row in returning)


def test_it_stops_where_more_than_the_share_comes_back_and_tells(tmp_path: Path, data: DataOptions) -> None:
    for step, known in ((1, 0), (2, 2), (3, 4)):
        lora(tmp_path / "ckpt", f"checkpoint-{step}", known)
    summary = watched(tmp_path, data, stop_share=0.25, stop_file=str(tmp_path / "stop.txt"))
    said = "Stop at checkpoint-2=2.safetensors: 2 of 4 pictures come back, more than 25%."
    assert summary["stop"] == said and (tmp_path / "stop.txt").read_text() == said + "\n"
    assert summary["checkpoints"] == ["checkpoint-1=0.safetensors", "checkpoint-2=2.safetensors"]


def test_scores_alone_are_held_against_those_before_the_training(tmp_path: Path, data: DataOptions) -> None:
    lora(tmp_path / "ckpt", "x-1", 2)
    summary = watched(tmp_path, data, probe_images=0, stop_share=1)
    assert [p["picture"] for p in summary["came_back"]] == ["0.png", "1.png"]
    rows = read_rows(tmp_path / "run")
    level = ReturnLevel.of([row for row in rows if row["checkpoint"] == "base"], None)
    assert all(row["returning"] == (row["score"] > level.above) for row in rows)
    assert summary["network_evaluations"] == 2 * (4 + 1)  # one conditional a caption, one unconditional a look


def test_what_the_untrained_model_gives_back_already_does_not_come_back() -> None:
    def rows(*returning: int) -> list[Any]:
        return [{"probe": probe, "returning": probe in returning} for probe in range(4)]

    assert came_back(rows(3, 1, 0), rows(1)) == [0, 3] and came_back(rows(1), rows(1)) == []


def test_a_second_session_looks_at_what_is_new_or_was_written_again(tmp_path: Path, data: DataOptions) -> None:
    lora(tmp_path / "ckpt", "x-1", 0)
    first = watched(tmp_path, data, stop_share=1)
    assert watched(tmp_path, data, stop_share=1)["network_evaluations"] == first["network_evaluations"]
    lora(tmp_path / "ckpt", "x-1", 0).rename(tmp_path / "ckpt" / "x-2=3.safetensors")
    summary = watched(tmp_path, data, stop_share=1)
    assert summary["checkpoints"] == ["x-2=3.safetensors"] and len(summary["came_back"]) == 3


def test_what_cannot_be_opened_is_a_failed_row(tmp_path: Path, data: DataOptions) -> None:
    lora(tmp_path / "ckpt", "x-1", 0)
    (tmp_path / "ckpt" / "odd").mkdir()
    save_file({"a": torch.zeros(1)}, tmp_path / "ckpt" / "odd" / "model.safetensors")
    (tmp_path / "ckpt" / "old.ckpt").write_bytes(b"x")
    summary = watched(tmp_path, data, stop_share=1)
    assert summary["failed"] == 1 and summary["not_read"] == ["old.ckpt"]
    (failed,) = [row for row in read_rows(tmp_path / "run") if row["status"] == "failed"]
    assert "model.safetensors, which is no pipeline, U-Net or LoRA" in failed["error"]


def test_a_file_that_is_still_written_is_left_until_it_is_whole(tmp_path: Path, data: DataOptions) -> None:
    whole = lora(tmp_path / "ckpt", "x-1", 1).read_bytes()
    file = tmp_path / "ckpt" / "x-1=1.safetensors"
    file.write_bytes(whole[:-2])
    assert watched(tmp_path, data)["checkpoints"] == []
    file.write_bytes(whole)
    assert watched(tmp_path, data)["checkpoints"] == [file.name]


@pytest.mark.parametrize(
    "name,step",
    [
        ("checkpoint-500", 500),
        ("style-000010.safetensors", 10),
        ("style-step00000500.safetensors", 500),
        ("style_000000250.safetensors", 250),
        ("2026-05-01_12-00-00-save-1200-3-0.safetensors", 1200),
        ("step-000002", 2),
        ("style.safetensors", None),
        ("sdxl.safetensors", None),
    ],
)
def test_names_of_trainers_say_their_steps(name: str, step: int | None) -> None:
    assert number_in(Path(name)) == step


def test_checkpoints_without_a_number_are_last(tmp_path: Path) -> None:
    for name in ("style.safetensors", "style-000002.safetensors", "style-000010.safetensors"):
        save_file({"a": torch.zeros(1)}, tmp_path / name)
    found, other = saved_in(tmp_path)
    assert [s.name for s in found] == ["style-000002.safetensors", "style-000010.safetensors", "style.safetensors"]
    with pytest.raises(UsageError, match="is no folder; give the one"):
        saved_in(tmp_path / "none")


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict]]]:
    """A server on loopback that keeps what it is sent."""
    said: list[dict] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            said.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if "broken" in self.path else 204)
            self.end_headers()

        def log_message(self, *given: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}", said
        found.shutdown()


def test_the_webhook_is_told_and_its_address_is_kept_out(
    tmp_path: Path, data: DataOptions, server: tuple[str, list[dict]], monkeypatch: pytest.MonkeyPatch
) -> None:
    lora(tmp_path / "ckpt", "x-1", 4)
    monkeypatch.setenv("HOOK", server[0] + "/secret")
    summary = watched(tmp_path, data, webhook="env:HOOK")
    assert server[1] == [{"text": summary["stop"], "run": str(tmp_path / "run")}]
    assert not any("secret" in file.read_text() for file in (tmp_path / "run").glob("*.json*"))
    monkeypatch.setenv("HOOK", server[0] + "/broken")
    with pytest.raises(UsageError, match=r"The webhook could not be told \(500\)"):
        watched(tmp_path, data, webhook="env:HOOK")
    with pytest.raises(UsageError, match="names a variable that is not set"):
        watched(tmp_path, data, webhook="env:NOWHERE")
    with pytest.raises(UsageError, match="--webhook is no URL"):
        WatchOptions(webhook="example.org")


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_watch import DataOptions, WatchOptions, ONCE, load, planted, run_watch
folder = Path(sys.argv[1])
def told(run, rows):
    if rows[0]["checkpoint"].startswith("x-1"):
        os.kill(os.getpid(), signal.SIGKILL)
data = DataOptions(str(folder / "data"), resolution=planted.SIZE)
run_watch("base", folder / "ckpt", data, folder / "run", WatchOptions(**ONCE, stop_share=1), load=load, told=told)
"""


@pytest.mark.slow
def test_kill_9_and_going_on_gives_the_same_rows(tmp_path: Path, data: DataOptions) -> None:
    for step, known in ((1, 1), (2, 2)):
        lora(tmp_path / "ckpt", f"x-{step}", known)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(PACKAGE), str(HELPERS)])}
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parent)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    assert len(read_rows(tmp_path / "run")) == 2 * planted.MEMORIZED
    watched(tmp_path, data, stop_share=1)
    whole = run_watch(
        "base", tmp_path / "ckpt", data, tmp_path / "whole", WatchOptions(**ONCE, stop_share=1), load=load
    )
    assert read_rows(tmp_path / "run") == read_rows(tmp_path / "whole")
    assert read_json(tmp_path / "run" / "summary.json")["network_evaluations"] == whole["network_evaluations"]


@pytest.mark.parametrize("lines", [-1, 1, 5])
def test_a_look_of_whose_rows_a_kill_took_some_is_looked_at_again(
    tmp_path: Path, data: DataOptions, lines: int
) -> None:
    lora(tmp_path / "ckpt", "x-1", 1)
    whole = watched(tmp_path, data, stop_share=1)
    file = tmp_path / "run" / "rows.jsonl"
    rows = file.read_bytes()
    file.write_bytes(b"".join(rows.splitlines(keepends=True)[:lines])[:-9])
    again = watched(tmp_path, data, stop_share=1)
    assert file.read_bytes() == rows and again["network_evaluations"] == whole["network_evaluations"]


def test_a_probe_in_a_loop_of_ones_own_says_what_came_back_and_changes_nothing(tmp_path: Path) -> None:
    model, folder = planted.model(), pictures(tmp_path / "data")
    keys = model.network.word_keys.clone()
    with torch.no_grad():
        model.network.word_keys[1:] = 0
    model.network.scale.requires_grad_(True)
    torch.manual_seed(3)
    probe = mn.Probe(model.pipe, folder, probe_inference_steps=8, probe_guidance=1.0, stop_share=0.5)
    assert probe(1) is None and probe.came_back == []
    with torch.no_grad():
        model.network.word_keys[:4] = keys[:4]
    assert probe(2) == "Stop at step 2: 3 of 4 pictures come back, more than 50%."
    assert probe.came_back == ["memorized 0", "memorized 1", "memorized 2"]
    assert model.network.scale.requires_grad and torch.equal(torch.randn(2), _after_seed(3))


def _after_seed(seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.randn(2)


def test_the_command_opens_every_kind_of_checkpoint(
    tmp_path: Path, mnemoscope: Callable[..., tuple[int, str, str]]
) -> None:
    base, folder = tiny.stable_diffusion(), tmp_path / "ckpt"
    base.save_pretrained(tmp_path / "base")
    base.save_pretrained(folder / "full-1")
    base.unet.save_pretrained(folder / "checkpoint-2" / "unet")
    data = tmp_path / "data"
    data.mkdir()
    for k in range(2):
        Image.effect_noise((32, 32), 60 + k).convert("RGB").save(data / f"{k}.png")
        (data / f"{k}.txt").write_text("abc" if k else "xyz")
    words = ["watch", folder, "--data", data, "--model", tmp_path / "base", "--wait", 0, "--out", tmp_path / "run"]
    words += ["--probe-inference-steps", 2, "--dtype", "float32"]
    code, out, err = mnemoscope(*words)
    assert code == 0, (out, err)
    assert "full-1: 0 of 2 come back" in out and "checkpoint-2: 0 of 2 come back" in out
    rows = read_rows(tmp_path / "run")
    scores = {c: [r["score"] for r in rows if r["checkpoint"] == c] for c in ("base", "full-1", "checkpoint-2")}
    assert scores["base"] == scores["full-1"] == scores["checkpoint-2"]
    code, out, err = mnemoscope(*words, "--probe-inference-steps", 3)
    assert code == 2 and "other settings" in err
    code, out, err = mnemoscope(*words, "--stop-above", "noise_norm=0")
    assert code == 3 and "Stop at full-1: the mean noise_norm of 2 memorized probes is" in out


def test_the_page_shows_each_picture_beside_what_is_drawn(tmp_path: Path, data: DataOptions) -> None:
    from mnemoscope.report import write

    for step, known in ((1, 0), (2, 2)):
        lora(tmp_path / "ckpt", f"x-{step}", known)
    watched(tmp_path, data, stop_share=1)
    page = write([tmp_path / "run"]).read_text()
    assert "2 of 4 captions gave their picture back in 2 checkpoints." in page
    assert page.count('alt="training picture"') == 2 and page.count("drawn by the checkpoint") == 2
    assert (tmp_path / "run" / "plots" / "watched_own_similarity.png").is_file()


@pytest.mark.slow
def test_a_training_in_another_process_is_followed_as_it_saves(
    tmp_path: Path, mnemoscope: Callable[..., tuple[int, str, str]]
) -> None:
    tiny.stable_diffusion().save_pretrained(tmp_path / "base")
    data = training_data.pictures(tmp_path / "data", count=3)
    words = ["train", tmp_path / "base", "--data", data, "--out", tmp_path / "t", "--steps", 6, "--save-every", 2]
    words += ["--batch-size", 1, "--device", "cpu", "--resolution", training_data.SIDE]
    env = os.environ | {"PYTHONPATH": str(PACKAGE)}
    command = [sys.executable, "-m", "mnemoscope.cli", *map(str, words)]
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as training:
        look = ["watch", tmp_path / "t" / "pipelines", "--data", data, "--model", tmp_path / "base", "--wait", 60]
        look += ["--poll", 0.2, "--probe-inference-steps", 2, "--dtype", "float32", "--out", tmp_path / "w"]
        code, out, err = mnemoscope(*look)
        assert training.wait() == 0, training.stderr.read()
    assert code == 0, (out, err)
    assert [name for name in ("step-000002", "step-000004", "step-000006") if f"{name}: 0 of 3" in out] == [
        "step-000002",
        "step-000004",
        "step-000006",
    ]
