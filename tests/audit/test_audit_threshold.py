"""An audit with a threshold of its own: a number with its unit, or an earlier detection's."""

from collections.abc import Callable
from pathlib import Path

import pytest

import tiny
from mnemoscope.run.run import read_json, read_rows

Command = Callable[..., tuple[int, str, str]]
FEW = ["--num-inference-steps", 2, "--guidance-scale", 3.0, "--seeds", 1, "--explain", "none", "--mitigate", "none"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tiny.stable_diffusion().save_pretrained(tmp_path / "model")
    (tmp_path / "prompts.txt").write_text("abc\nxyz\na b c\n")
    return tmp_path / "model"


def audited(mnemoscope: Command, model: Path, out: Path, *more: object) -> tuple[int, str, str]:
    prompts = model.parent / "prompts.txt"
    return mnemoscope("audit", model, "--prompts", prompts, "--out", out, "--images", 1, *FEW, *more)


def test_a_number_flags_what_is_above_it(mnemoscope: Command, model: Path, tmp_path: Path) -> None:
    code, out, err = audited(mnemoscope, model, tmp_path / "plain")
    assert code == 0, (out, err)
    scores = sorted(row["score"] for row in read_rows(tmp_path / "plain" / "detect"))
    between = (scores[0] + scores[1]) / 2
    code, out, err = audited(mnemoscope, model, tmp_path / "run", "--threshold", f"{between}:eps")
    assert code == 0, (out, err)
    rows = read_rows(tmp_path / "run" / "detect")
    assert [row["flagged"] for row in rows] == [row["score"] >= between for row in rows]
    assert sum(row["flagged"] for row in rows) == 2
    code, out, err = audited(mnemoscope, model, tmp_path / "again", "--threshold", f"{between}:x0")
    assert code == 2 and "x0" in err


def test_an_earlier_runs_threshold_is_taken_under_its_own_conditions(
    mnemoscope: Command, model: Path, tmp_path: Path
) -> None:
    negatives = tmp_path / "ordinary.txt"
    negatives.write_text("".join(f"thing {k}\n" for k in range(20)))
    detect = ["detect", model, "--prompts", model.parent / "prompts.txt", "--negatives", negatives, "--fpr", 0.1]
    assert mnemoscope(*detect, "--num-inference-steps", 2, "--guidance-scale", 3.0, "--out", tmp_path / "d")[0] == 0
    code, out, err = audited(mnemoscope, model, tmp_path / "run", "--threshold", tmp_path / "d")
    assert code == 0, (out, err)
    kept = read_json(tmp_path / "d" / "summary.json")["threshold"]
    assert read_json(tmp_path / "run" / "detect" / "summary.json")["threshold"] == kept
    code, out, err = audited(mnemoscope, model, tmp_path / "more", "--threshold", tmp_path / "d", "--seeds", 3)
    assert code == 2 and "seeds" in err


def test_with_training_data_each_model_gets_its_own(mnemoscope: Command, model: Path, tmp_path: Path) -> None:
    words = ["audit", model, "--data", tmp_path, "--lora", tmp_path / "x", "--out", tmp_path / "o", "--threshold", 1]
    code, out, err = mnemoscope(*words)
    assert code == 2 and "each model gets its own; leave it out" in err
