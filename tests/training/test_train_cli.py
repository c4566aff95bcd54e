"""The train command: every option, its files and report, wrong settings in one sentence, several processes."""

import dataclasses
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import load_file

import mnemoscope as mn
import tiny
from interrupting import interrupted
from mnemoscope import cli
from mnemoscope.cli.command import COMMON
from mnemoscope.report import train as shown
from mnemoscope.report.command import command_line
from mnemoscope.report.reading import headline, read
from mnemoscope.run.run import read_json, read_rows
from mnemoscope.training.data.options import DataOptions
from mnemoscope.training.objective import ObjectiveOptions
from mnemoscope.training.options import TrainOptions
from mnemoscope.training.watching.options import ProbeOptions
from training_data import pictures

KINDS = (DataOptions, TrainOptions, ObjectiveOptions, ProbeOptions)
OPTIONS = {p.name: p for p in typer.main.get_command(cli.app).commands["train"].params}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tiny.stable_diffusion().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pictures(tmp_path_factory.mktemp("source"))


@pytest.fixture
def train(mnemoscope: Callable[..., tuple], base: Path, source: Path) -> Callable[..., tuple]:
    """`mnemoscope train base --data source --steps 2 ...` in this process: exit code, output, errors."""
    given = ["train", base, "--data", source, "--steps", 2, "--batch-size", 2, "--device", "cpu"]
    return lambda *words: mnemoscope(*given, *words)


def test_every_field_is_an_option_with_the_same_default() -> None:
    for kind in KINDS:
        for field in dataclasses.fields(kind):
            option = OPTIONS[field.name]
            if field.default is not dataclasses.MISSING and not option.multiple:
                assert option.default == field.default, field.name
            assert option.multiple == str(field.type).startswith("tuple"), field.name
    names = {field.name for kind in KINDS for field in dataclasses.fields(kind)}
    assert set(OPTIONS) - names - set(COMMON) == {"model", "out", "unet", "text_encoder", "variant", "overwrite"}


EVERY = """
    --base {more} --base-ratio 0.5 --repeats 2 --subset 4 --subset-by random --duplication both --duplicated 0.5
    --factor 3 --duplication-by repeat --conditioning instance --captions {captions} --transform random_numbers:count=2
    --transform repeat_words --probability 0.5 --resolution 16 --random-crop --random-flip
    --prediction-type v_prediction --snr-gamma 5 --noise-offset 0.1 --input-perturbation 0.1 --embedding-noise 0.1
    --embedding-mixup 0.5 --mixup sample --hard-threshold 100 --threshold-form element
    --train scratch --unet-config {config} --accumulation 2 --learning-rate 1e-3 --scale-lr
    --lr-scheduler cosine_with_restarts --warmup 1 --optimizer adamw --adam-beta1 0.8 --adam-beta2 0.99
    --adam-epsilon 1e-7 --weight-decay 0.1 --max-grad-norm 2 --ema 0.9 --ema 0.99 --mixed-precision bf16
    --gradient-checkpointing --tf32 --checkpoint-every 1 --keep 1 --resume auto --seed 3
    --preview-every 1 --preview-prompts thing --preview-images 1 --preview-inference-steps 1 --preview-guidance 2
    --probe-every 1 --probe-count 1 --probe-detectors noise_norm --probe-detectors uncond_norm --probe-images 1
    --probe-inference-steps 1 --probe-guidance 2 --probe-features pixels --probe-seed 1
    --stop-above own_similarity=2 --stop-by max --project memory
"""


def test_every_option_at_once(train, source: Path, tmp_path: Path) -> None:
    config = tmp_path / "unet.json"
    config.write_text(tiny.unet().to_json_string())
    captions = tmp_path / "captions.json"
    captions.write_text("{" + ", ".join(f'"{k}.png": ["a word {k}", "b {k}"]' for k in range(6)) + "}")
    more = pictures(tmp_path / "more", count=4, seed=1)
    words = shlex.split(EVERY.format(more=more, captions=captions, config=config))
    code, out, err = train(*words, "--out", tmp_path / "run")
    assert (code, err) == (0, ""), err
    assert "Trained for 2 steps, with a loss of " in out
    record = read_json(tmp_path / "run" / "run.json")
    said = record["settings"] | record["free"]
    plain = {w[2:].replace("-", "_") for w in words if w.startswith("--")} - {"random_crop"}
    for name in plain:
        default = OPTIONS[name].default
        assert said[name] != default or name in ("optimizer", "resume", "probe_images", "probe_features"), name
    assert said["center_crop"] is False and said["ema"] == [0.9, 0.99]
    names = {p.name for p in (tmp_path / "run").iterdir()}
    expected = {"run.json", "rows.jsonl", "probes.jsonl", "manifest.parquet", "checkpoints", "previews", "pipeline"}
    assert expected <= names and (tmp_path / "run" / "report.html").is_file()
    again = shlex.split(command_line(record))
    assert again[:2] == ["mnemoscope", "train"] and "--random-crop" in again and again.count("--ema") == 2
    context = typer.main.get_command(cli.app).commands["train"].make_context("train", again[2:])
    assert float(context.params["hard_threshold"]) == 100.0 and context.params["transform"] == said["transform"]


def test_the_report_shows_the_curves_the_probes_and_the_previews(train, tmp_path: Path) -> None:
    words = ("--steps", 3, "--preview-every", 1, "--preview-inference-steps", 1, "--preview-images", 2)
    probes = ("--probe-every", 1, "--probe-inference-steps", 1, "--probe-count", 2, "--lr-scheduler", "linear")
    code, out, _ = train(*words, *probes, "--hard-threshold", 1.0, "--out", tmp_path / "run")
    assert code == 0 and re.search(r"\n\s+3\s+[\d.]+", out)
    plots = {p.stem for p in (tmp_path / "run" / "plots").iterdir()}
    assert plots == {"loss", "learning_rate", "excluded", "probes_noise_norm", "probes_own_similarity"}
    page = (tmp_path / "run" / "report.html").read_text()
    assert page.count("<figcaption>step ") == 4 and "image missing" not in page
    assert "What was trained: unet. On 6 pictures." in page
    record = read(tmp_path / "run")
    assert headline(record).startswith("Trained for 3 steps, with a loss of ")
    drawn = {name: figure for name, _, _, figure in shown.drawings(record)}
    (line,) = drawn["loss"].axes[0].lines
    assert line.get_xdata().tolist() == [1, 2, 3]
    assert line.get_ydata().tolist() == [row["loss"] for row in read_rows(tmp_path / "run")]


def test_a_run_that_was_cut_is_shown(train, tmp_path: Path) -> None:
    assert train("--steps", 3, "--out", tmp_path / "run")[0] == 0
    (tmp_path / "run" / "summary.json").unlink()
    rows = (tmp_path / "run" / "rows.jsonl").read_text().splitlines()[:2]
    (tmp_path / "run" / "rows.jsonl").write_text("\n".join(rows) + "\n")
    assert headline(read(tmp_path / "run")) == "Trained for 2 of 3 steps."


def test_probes_stop_the_training(train, tmp_path: Path) -> None:
    words = ("--probe-every", 1, "--probe-inference-steps", 1, "--probe-count", 2, "--stop-above", "noise_norm=1e-6")
    code, out, _ = train("--steps", 9, *words, "--out", tmp_path / "run")
    assert code == 0 and "Stopped at step 1: the mean noise_norm of 2 memorized probes" in out
    assert read_json(tmp_path / "run" / "summary.json")["steps"] == 1


def test_a_settings_file_has_lists(train, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("ema: [0.9, 0.99]\ntransform: [repeat_words]\nrandom-crop: true\n")
    code, _, err = train("--config", tmp_path / "a.yaml", "--out", tmp_path / "run")
    assert code == 2 and "random_crop" in err  # the name of the option is center_crop
    (tmp_path / "a.yaml").write_text("ema: [0.9, 0.99]\ntransform: repeat_words\ncenter_crop: false\n")
    code, _, err = train("--config", tmp_path / "a.yaml", "--out", tmp_path / "run")
    settings = read_json(tmp_path / "run" / "run.json")["settings"]
    assert (code, settings["ema"], settings["transform"]) == (0, [0.9, 0.99], ["repeat_words"]), err
    assert settings["center_crop"] is False


@pytest.mark.parametrize(
    "words,said",
    [
        (["--data", "nowhere"], "nowhere"),
        (["--train", "vae"], "--train vae is not known; give unet, unet+text, lora or scratch."),
        (["--conditioning", "loud"], "--conditioning loud is not known"),
        (["--hard-threshold", "-1"], "--hard-threshold -1.0 was given; give a number above 0"),
        (["--stop-above", "fame=1", "--probe-every", "1"], "--stop-above fame=1 is no limit"),
        (["--warmup", "1"], "The constant schedule has no warm-up; use --lr-scheduler constant_with_warmup."),
        (["--resolution", "17"], "--resolution 17 is no multiple of 2"),
        (["--transform", "shout"], "There is no caption method 'shout'"),
        (["--resume", "x"], "x is no checkpoint; give auto, or a folder step-N that a training wrote."),
    ],
)
def test_wrong_settings_are_one_sentence(train, tmp_path: Path, words, said) -> None:
    code, _, err = train(*words, "--out", tmp_path / "run")
    assert code == 2 and err.startswith("mnemoscope: ") and err.count("\n") == 1 and said in err


def launched(folder: Path, processes: int, words: list[str]) -> subprocess.CompletedProcess:
    """A command as several processes of one machine, as `torchrun` and `accelerate launch` start them."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    env = os.environ | {"PYTHONPATH": str(Path(mn.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [*launcher, "-m", "mnemoscope.cli", *map(str, words)]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow
def test_two_processes_are_one_with_the_whole_batch(train, base: Path, source: Path, tmp_path: Path) -> None:
    """On the CPU, by gloo, with a filter that the processes have to agree on."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this torch has no gloo backend")
    settings = ["--learning-rate", "1e-3", "--adam-epsilon", "1e-3", "--hard-threshold", "0.66", "--steps", "4"]
    settings += ["--ema", "0.9", "--lr-scheduler", "constant_with_warmup", "--warmup", "2", "--checkpoint-every", "2"]
    words = ["train", base, "--data", source, "--device", "cpu", "--batch-size", "2", *settings]
    done = launched(tmp_path, 2, [*words, "--out", tmp_path / "two"])
    if "gloo" in done.stderr.lower() and "connect" in done.stderr.lower():
        pytest.skip("gloo cannot connect two processes on this machine")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Trained for 4 steps") == 1
    assert train(*settings, "--batch-size", 4, "--out", tmp_path / "one")[0] == 0
    assert train(*settings, "--accumulation", 2, "--out", tmp_path / "parts")[0] == 0
    two, *others = (read_rows(tmp_path / name) for name in ("two", "one", "parts"))
    for key in ("loss", "lr", "excluded_memorized", "gradient_norm"):
        for other in others:
            assert [r[key] for r in two] == pytest.approx([r[key] for r in other], rel=1e-5)
    assert any(0 < r["excluded_memorized"] < 1 for r in two)
    assert [r["lr"] for r in two] == pytest.approx([0, 5e-4, 1e-3, 1e-3])
    for part in ("checkpoints/step-000004/unet", "checkpoints/step-000004/unet_ema_0.9"):
        file = Path(part) / "diffusion_pytorch_model.safetensors"
        own, one, parts = (load_file(tmp_path / name / file) for name in ("two", "one", "parts"))
        for name, value in own.items():
            torch.testing.assert_close(value, one[name], rtol=0, atol=1e-6)
            torch.testing.assert_close(value, parts[name], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_ctrl_c_leaves_130_and_the_same_command_goes_on(base: Path, source: Path, tmp_path: Path) -> None:
    words = ["train", base, "--data", source, "--out", tmp_path / "run", "--device", "cpu", "--steps", 500]
    checkpoint = interrupted([*words, "--checkpoint-every", "1", "--keep", "1"], tmp_path / "run")
    assert len(read_rows(tmp_path / "run")) == int(checkpoint.name[5:]) < 500
