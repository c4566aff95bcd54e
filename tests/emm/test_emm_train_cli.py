"""The command `emm train`: every option, its files and report, wrong settings in one sentence, several processes."""

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
from safetensors import SafetensorError

import mnemoscope as mn
from interrupting import interrupted
from mnemoscope import cli
from mnemoscope.cli.command import COMMON
from mnemoscope.emm.data.options import SubsetOptions
from mnemoscope.emm.networks import NetworkOptions
from mnemoscope.emm.training.command import PAPER, SMALL, AskedTraining
from mnemoscope.emm.training.options import EmmTrainOptions
from mnemoscope.emm.training.snapshots import Snapshots
from mnemoscope.errors import UsageError
from mnemoscope.report import emm_train as shown
from mnemoscope.report.command import command_line
from mnemoscope.report.reading import headline, read
from mnemoscope.run.run import read_json, read_rows

COMMAND = typer.main.get_command(cli.app).commands["emm"].commands["train"]
OPTIONS = {p.name: p for p in COMMAND.params}
KINDS = (SubsetOptions, NetworkOptions, EmmTrainOptions)
TINY = ["--data", "digits", "--subset-size", 6, "--width", 4, "--multipliers", "1", "--device", "cpu"]
TINY += ["--steps", 6, "--batch-size", 4, "--snapshots", 2, "--samples", 6, "--inference-steps", 2, "--ema", "0.9"]


@pytest.fixture
def train(mnemoscope: Callable[..., tuple], tmp_path: Path) -> Callable[..., tuple]:
    """`mnemoscope emm train` of a tiny network in this process: exit code, output, errors."""
    return lambda *words: mnemoscope("emm", "train", *TINY, *words, "--out", tmp_path / "run")


def test_every_field_is_an_option() -> None:
    names = {field.name for kind in KINDS for field in dataclasses.fields(kind)} - {"source", "augmentation"}
    assert set(OPTIONS) - {"help", *COMMON} == names | {"data", "out", "preset", "overwrite"}
    assert all(option.help for option in COMMAND.params if option.name != "context")
    for field in dataclasses.fields(EmmTrainOptions):
        assert OPTIONS[field.name].multiple == str(field.type).startswith("tuple"), field.name


def test_what_is_given_goes_before_a_preset() -> None:
    small = AskedTraining.of("small", {"data": "digits", "width": 64, "ema": ["0.9", "mode1"], "x_flip": True})
    network = {name: value for name, value in SMALL.items() if name != "learning_rate"}
    assert small.network == NetworkOptions(**{**network, "width": 64})
    assert small.options == EmmTrainOptions(learning_rate=2e-3, ema=("0.9", "mode1"), x_flip=True)
    paper = AskedTraining.of("paper", {"data": "digits", "attention": "none", "classes": "4"})
    assert paper.network == NetworkOptions(attention=()) and paper.options == EmmTrainOptions(**PAPER)
    assert paper.data.classes == 4
    shorter = AskedTraining.of(
        "paper", {"data": "digits", "steps": 100, "ramp_up": 5, "classes": "4,2", "augment": 0.1}
    )
    assert shorter.options.steps == 100 and shorter.options.epochs is None and shorter.options.ramp_up_epochs is None
    assert shorter.data.classes == (4, 2) and shorter.network.augmentation
    with pytest.raises(UsageError, match="--skips 1,x is no list"):
        AskedTraining.of("small", {"data": "digits", "skips": "1,x"})
    with pytest.raises(UsageError, match="--preset tiny is not known; give small or paper"):
        AskedTraining.of("tiny", {"data": "digits"})


EVERY = """
    --preset paper --subset-seed 3 --classes 0,1,2 --mix {other} --alpha 0.5 --label-mode random --label-classes 4
    --resolution 8 --unbalanced --dedupe --architecture ncsnpp --multipliers 1,2 --blocks 1 --attention 4
    --embedding fourier --dropout 0.1 --skips 1,1,0,0 --preconditioning ve --noise-input log --label-scale constant
    --accumulation 2 --learning-rate 1e-3 --ramp-up 2 --optimizer adam --adam-beta1 0.8 --adam-beta2 0.99
    --adam-epsilon 1e-7 --momentum 0.5 --weight-decay 0.1 --ema mode4x --order replacement --x-flip --augment 0.2
    --ema-half-life 1000
    --spacing log --snapshot-at 0.5 --keep best --sample-seed 4 --threshold 0.5 --score-batch 4 --stop-at 0.99
    --patience 1 --flat-from 0.1 --mixed-precision bf16 --tf32 --checkpoint-every 2 --seed 3 --project copies
"""


def test_every_option_at_once_makes_a_run_whose_command_makes_it_again(train, tmp_path: Path) -> None:
    from mnemoscope.emm.data.readers import read_images
    from mnemoscope.emm.data.writers import write_images

    other = write_images(read_images("digits", limit=20), tmp_path / "other.zip")
    words = shlex.split(EVERY.format(other=other).replace("mode4x", "mode1"))
    code, out, err = train(*words)
    assert (code, err) == (0, ""), err
    assert "Trained for 6 steps on 6 images." in out
    record = read_json(tmp_path / "run" / "run.json")
    again = shlex.split(command_line(record))
    assert again[:3] == ["mnemoscope", "emm", "train"] and "--unbalanced" in again and again.count("--ema") == 2
    asked = []
    for given in (["--preset", "paper", *map(str, TINY), *words], again[3:-2]):
        context = COMMAND.make_context("train", [*given, "--out", "x"])
        asked.append(AskedTraining.of(context.params["preset"], context.params))
    first, second = asked
    assert first.options == second.options
    assert (first.data, first.network, first.subset_size) == (second.data, second.network, second.subset_size)


def test_a_dry_run_says_what_it_would_cost_and_does_nothing(train, tmp_path: Path) -> None:
    code, out, err = train("--dry-run", "--ema", "mode1", "--label-mode", "true")
    assert (code, err) == (0, "") and not (tmp_path / "run").exists()
    assert "\nsubset_size: 6\n" in out and '\npreset: "small"  # default\n' in out
    assert "Set: 6 images of 1 x 8 x 8, 10 classes." in out and "Network: ddpmpp" in out
    assert "Training: 6 steps of 4 images, 4.0 epochs." in out
    assert "Snapshots: after step 3, 6; averages 0.9, mode1." in out
    assert "24 of images in training, 108 in at most 6 scores." in out
    assert train("--dry-run", "--patience", 5)[0] == 2


def test_a_full_disk_is_one_sentence_and_the_same_command_goes_on(train, tmp_path: Path, monkeypatch) -> None:
    def full(tensors: dict, file: Path) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patched:
        patched.setattr("mnemoscope.emm.training.snapshots.save_file", full)
        code, _, err = train("--samples", 0)
    assert code == 2 and err.count("\n") == 1 and "No space left on device" in err and "same command to go on" in err
    assert train("--samples", 0)[0] == 0


def test_a_training_begins_with_the_weights_of_another(train, mnemoscope, tmp_path: Path) -> None:
    assert train("--samples", 0, "--snapshots", 1)[0] == 0
    before = Snapshots(tmp_path / "run").read(6, "0.9")
    words = [*TINY, "--samples", 0, "--snapshots", 1, "--transfer", tmp_path / "run", "--label-mode", "true"]
    slow = ["--learning-rate", 1e-12, "--ema-half-life", 10**9, "--out", tmp_path / "next"]
    code, _, err = mnemoscope("emm", "train", *words, *slow)
    assert (code, err) == (0, "")
    after, record = Snapshots(tmp_path / "next").read(6, "0.9"), read_json(tmp_path / "next" / "run.json")
    assert all(torch.allclose(after[name], value, atol=1e-6) for name, value in before.items())
    assert record["transfer"]["new"] == ["network.conditioning.label.weight", "network.conditioning.label.bias"]
    assert record["transfer"]["taken"] == len(before) and len(record["transfer"]["sha256"]) == 64
    for more, said in (
        (["--width", 8], "no weight of which fits"),
        (["--transfer", "digits"], "neither a run of emm train nor"),
    ):
        code, _, err = mnemoscope("emm", "train", *words, *more, "--out", tmp_path / "third")
        assert code == 2 and said in err


def test_the_report_shows_ratios_and_losses(train, tmp_path: Path) -> None:
    code, out, _ = train("--ema", "mode1", "--threshold", 0.95, "--label-mode", "true")
    assert code == 0 and re.search(r"\n\s+mode1\s+6\s+[\d.]+ %", out)
    assert {p.stem for p in (tmp_path / "run" / "plots").iterdir()} == {"ratio", "distance", "loss"}
    summary, record = read_json(tmp_path / "run" / "summary.json"), read(tmp_path / "run")
    said = headline(record)
    assert said.startswith("Trained for 6 steps on 6 images. After ")
    assert f" {100 * summary['ratio_max_corrected']:.1f} % of what it draws is memorized" in said
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Averages of the weights" in page and "with 6 classes" not in page and "mnemoscope emm train" in page
    drawn = {name: figure for name, _, _, figure in shown.drawings(record)}
    lines = drawn["ratio"].axes[0].lines
    assert list(lines[0].get_ydata()) == [90, 90]
    for line, average in zip(lines[1:], ("0.9", "mode1"), strict=True):
        rows = [r for r in read_rows(tmp_path / "run") if r["ema"] == average and r["part"] == "selection"]
        assert line.get_xdata().tolist() == [3, 6] and line.get_label() == average
        assert line.get_ydata() == pytest.approx([100 * r["ratio"] for r in rows])
    names = {p.name for p in (tmp_path / "run").iterdir()} - {".lock"}
    files = {"run.json", "rows.jsonl", "work.jsonl", "losses.jsonl", "summary.json", "report.html", "data.zip"}
    assert names == files | {"snapshots", "checkpoints", "plots"}


def test_runs_without_scores_or_without_an_end_are_shown(train, tmp_path: Path) -> None:
    code, out, _ = train("--samples", 0)
    assert code == 0 and "Trained for 6 steps; nothing was scored." in out
    assert train("--overwrite")[0] == 0
    (tmp_path / "run" / "summary.json").unlink()
    assert headline(read(tmp_path / "run")) == "6 steps are scored; the training is not finished."


@pytest.mark.parametrize(
    "words,said",
    [
        (["--data", "nowhere"], "nowhere"),
        (["--subset-size", "5000"], "5000"),
        (["--alpha", "0.5"], "alpha is 0.5 and there is no mix; give a second source."),
        (["--width", "6"], "A width of 6 was given; give a multiple of 4."),
        (["--skips", "1,1,1"], "The skip mask 1,1,1 does not fit"),
        (["--preconditioning", "cosine"], "cosine"),
        (["--architecture", "dit"], "dit"),
        (["--label-mode", "loud"], "loud"),
        (["--epochs", "3"], "The budget is given by --steps and by --epochs; give one of them."),
        (["--ema", "often"], "There is no average often"),
        (["--resolution", "0"], "resolution"),
    ],
)
def test_wrong_settings_are_one_sentence(train, words: list[str], said: str) -> None:
    code, _, err = train(*words)
    assert code == 2 and err.startswith("mnemoscope: ") and err.count("\n") == 1 and said in err


def test_a_settings_file_has_lists(train, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("ema: [mode1, mode2]\nsnapshot_at: [0.5]\nskips: 1,0\nx_flip: true\n")
    code, _, err = train("--config", tmp_path / "a.yaml")
    record = read_json(tmp_path / "run" / "run.json")
    assert code == 0 and record["settings"]["ema"] == ["0.9"], err  # the command line wins
    assert record["settings"]["snapshot_at"] == [0.5] and record["network"]["options"]["skips"] == [1, 0]
    assert record["settings"]["x_flip"] is True


ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(mn.__file__).parents[1]), "OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_two_processes_are_one_with_two_passes(train, tmp_path: Path) -> None:
    """As `torchrun` and `accelerate launch` start them, on the CPU, by gloo; both share the images of a score."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this torch has no gloo backend")
    settings = ["--dropout", "0.2", "--ema", "mode1", "--samples", "7", "--threshold", "0.95", "--label-mode", "true"]
    settings += ["--learning-rate", "1e-4", "--snapshots", "3", "--keep", "best"]
    words = ["emm", "train", *TINY, *settings, "--out", tmp_path / "two"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, "-m", "mnemoscope.cli", *map(str, words)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=300)
    if "gloo" in done.stderr.lower() and "connect" in done.stderr.lower():
        pytest.skip("gloo cannot connect two processes on this machine")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Trained for 6 steps") == 1
    assert train(*settings, "--accumulation", 2)[0] == 0
    two, one = (Snapshots(tmp_path / name) for name in ("two", "run"))
    assert two.steps() == one.steps()
    for average in ("0.9", "mode1"):
        own, other = two.read(6, average), one.read(6, average)
        for name, value in own.items():
            torch.testing.assert_close(value, other[name], rtol=0, atol=1e-5)
    rows = [[(r["id"], r["ratio"]) for r in read_rows(tmp_path / name)] for name in ("two", "run")]
    assert rows[0] == rows[1] and len(rows[0]) == 8
    assert read_json(tmp_path / "two" / "run.json")["free"]["processes"] == 2


@pytest.mark.slow
def test_ctrl_c_leaves_130_and_the_same_command_goes_on(tmp_path: Path) -> None:
    words = ["emm", "train", *TINY, "--steps", 3000, "--checkpoint-every", 1, "--samples", 0, "--out", tmp_path / "run"]
    checkpoint = interrupted(words, tmp_path / "run")
    assert 0 < int(checkpoint.name[5:]) < 3000
