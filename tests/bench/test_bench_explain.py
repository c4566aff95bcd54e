"""Explanations on the bench: planted words and regions get exactly their place."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mnemoscope as mn
from mnemoscope.bench.cell import Trial
from mnemoscope.bench.explaining import EXPLAIN, by_chance, masks, on_top
from mnemoscope.bench.run import run_bench
from mnemoscope.bench.truth import Truth
from mnemoscope.run.run import read_rows

FIRST = '''"""Explanations of a stranger."""

import torch

from mnemoscope.registry import explainer


@explainer(paper="mine", cost="no evaluation")
def second_word(trajectory, *, steps=1):
    """1 for the second token, 0 for all others."""
    values = torch.zeros(len(trajectory), 16)
    values[:, 2] = 1
    return values


@explainer(paper="mine", cost="no evaluation", gives="regions")
def left_half(trajectory, *, steps=1):
    """1 in the left half, 0 in the right one."""
    values = torch.zeros(len(trajectory), 16, 16)
    values[:, :, :8] = 1
    return values
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three prompts whose trigger is the second word, one whose trigger is the first, and masks of half and quarter."""
    rows = [
        {"prompt": f"photo {k} of memorized", "kind": "verbatim", "views": 8, "triggers": [str(k)]} for k in range(3)
    ]
    rows.append({"prompt": "memorized 3 of photo", "kind": "verbatim", "views": 64, "triggers": ["memorized"]})
    rows.append({"prompt": "ordinary 1", "kind": "unseen", "source": "twin", "views": 0})
    (masks := tmp_path / "truth" / "masks").mkdir(parents=True)
    (tmp_path / "truth" / "prompts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    for place, width in enumerate((8, 4)):  # of the first two prompts: the left half, and its left half
        mask = np.zeros((16, 16), np.uint8)
        mask[:, :width] = 255
        Image.fromarray(mask).save(masks / f"{place}.png")
    (tmp_path / "own.py").write_text(FIRST)
    return tmp_path / "truth"


def test_planted_explanations_get_their_planted_place(
    planted: mn.Denoiser, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnemoscope.bench.figures.RESAMPLES", 20)
    own, load = tmp_path / "own.py", {"planted": planted}.__getitem__
    methods = [f"{own}:second_word", f"{own}:left_half", "random"]
    trial = Trial(num_inference_steps=4)
    run_bench(EXPLAIN, ["planted"], tmp_path / "b", trial, load, methods=methods, truth=folder)
    by = {(r["method"], f["quantity"], f["group"]): f["value"] for r in read_rows(tmp_path / "b") for f in r["figures"]}
    assert by["second_word", "triggers", "verbatim x 8"] == 1 and by["second_word", "triggers", "verbatim x 64"] == 0
    assert by["second_word", "triggers", "all"] == 0.75
    assert by["second_word", "chance", "all"] == pytest.approx(0.25, abs=0.05)  # one word of four, one token each
    assert by["second_word", "above", "all"] == pytest.approx(0.75 - by["second_word", "chance", "all"])
    assert by["left_half", "iou", "verbatim x 8"] == pytest.approx((1 + 0.5) / 2)
    assert by["left_half", "whole", "all"] == pytest.approx((0.5 + 0.25) / 2)
    assert "0.75" in (tmp_path / "b" / "table.md").read_text()
    (folder / "masks").rename(tmp_path / "gone")
    run_bench(EXPLAIN, ["planted"], tmp_path / "c", trial, load, methods=methods[1:2], truth=folder)
    assert [r["left_out"] for r in read_rows(tmp_path / "c")] == ["the truth says no regions (a folder masks)"]


def test_masks_are_counted_in_the_whole_truth_whatever_part_is_read(folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "prompts.jsonl").read_text().splitlines()]
    rows.insert(1, {**rows[0], "prompt": "photo 0b of memorized"})  # left out by a limit of one
    (folder / "prompts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (folder / "masks" / "1.png").rename(folder / "masks" / "4.png")  # of the first at 64 views
    whole, part = (masks(Truth.read(folder, limit)) for limit in (None, 1))
    by_text = {e.prompt.text: e.prompt.id for e in Truth.read(folder, 1).members}
    assert sorted(by_text) == ["memorized 3 of photo", "photo 0 of memorized"]
    assert part[by_text["memorized 3 of photo"]].mean() == 0.25 and part[by_text["photo 0 of memorized"]].mean() == 0.5
    assert part.keys() == whole.keys()


def test_equal_values_are_as_likely_and_long_words_win_by_chance() -> None:
    own = np.array([True, False, False, True])
    assert on_top(np.array([1.0, 1.0, 1.0, 1.0]), own) == 0.5
    assert on_top(np.array([3.0, 2.0, 2.0, 2.0]), own) == pytest.approx((1 + 1 / 3) / 2)
    assert on_top(np.array([3.0, 2.0, 1.0, 2.5]), own) == 1
    rng = np.random.default_rng(0)
    one = by_chance([2, 1], np.array([True, False]), rng)  # U1 + U2 > U3 has probability 5/6
    assert one == pytest.approx(5 / 6, abs=0.05)
