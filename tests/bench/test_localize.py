"""Localizers on the bench: planted sets of neurons have their exact share, and random ones beside them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnemoscope.bench.cell import Trial
from mnemoscope.bench.localizing import LOCALIZE
from mnemoscope.bench.run import run_bench
from mnemoscope.model import ablation
from mnemoscope.run.run import read_rows
from small_neurons import small

OWN = '''"""A localizer of a stranger."""

from mnemoscope.methods.located import Located
from mnemoscope.model import ablation


def firsts(model, prompts, *, count=2):
    """The first neurons of the first layer, one more for the second prompt."""
    layer = next(iter(ablation.layers(model)))
    sets = [{layer: list(range(count + ("two" in p)))} for p in prompts]
    return [Located(p, s, s, "none", None, None, "seven", 0) for p, s in zip(prompts, sets, strict=True)]
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (made := tmp_path / "truth" / "references").mkdir(parents=True)
    rows = [{"prompt": p, "kind": "verbatim", "views": 8} for p in ("one", "two")]
    rows += [
        {"prompt": f"ordinary {k}", "kind": "ordinary", "source": ("plain", "title")[k], "concept": "boat"}
        for k in range(2)
    ]
    (tmp_path / "truth" / "prompts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    captions = [{"file": f"{p}.png", "caption": p} for p in ("one", "two")]
    for k, row in enumerate(captions):
        pixels = np.random.default_rng(k).integers(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(made / row["file"])
    (made / "captions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in captions))
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path / "truth"


def test_planted_neurons_have_their_share_and_random_ones_beside(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnemoscope.bench.figures.RESAMPLES", 20)
    monkeypatch.setattr("mnemoscope.bench.localizing.COUNTS", (2, 9))
    model = small()
    trial, load = Trial(num_inference_steps=2), {"small": model}.__getitem__
    run_bench(LOCALIZE, ["small"], tmp_path / "b", trial, load, methods=[str(tmp_path / "own.py")], truth=folder)
    rows = {r["at"]: {(f["quantity"], f["group"]): f["value"] for f in r["figures"]} for r in read_rows(tmp_path / "b")}
    assert list(rows) == [
        "none",
        "own",
        "own, random",
        "2 of all",
        "2 of all, random",
    ]  # of three in all, nine are none
    total = sum(ablation.widths(model, "all").values())
    assert [rows[at]["neurons", ""] * total for at in ("none", "own", "2 of all, random")] == pytest.approx([0, 2.5, 2])
    assert rows["own"]["kept", "ordinary"] == pytest.approx(1)  # they have no neurons of their own
    assert rows["2 of all"]["kept", "ordinary"] < 1 - 1e-6 and rows["2 of all, random"]["kept", "ordinary"] < 1 - 1e-6
    assert {("share", "verbatim x 8"), ("share", "all")} < set(rows["none"])
    assert (tmp_path / "b" / "cells" / "small" / "firsts" / "ablate" / "curves.csv").is_file()


def test_a_set_of_most_of_a_layer_has_no_random_one_beside(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnemoscope.bench.figures.RESAMPLES", 20)
    model = small()
    width = next(iter(ablation.widths(model, "all").values()))
    (tmp_path / "wide.py").write_text(OWN.replace("count=2", f"count={width - 2}"))
    trial, load = Trial(num_inference_steps=2), {"small": model}.__getitem__
    run_bench(LOCALIZE, ["small"], tmp_path / "b", trial, load, methods=[str(tmp_path / "wide.py")], truth=folder)
    assert [r["at"] for r in read_rows(tmp_path / "b")] == ["none", "own"] + ["4 of all"] * (width > 4)


def test_a_model_without_cross_attention_is_left_out(planted, folder: Path, tmp_path: Path) -> None:
    trial, load = Trial(num_inference_steps=2), {"planted": planted}.__getitem__
    run_bench(LOCALIZE, ["planted"], tmp_path / "b", trial, load, methods=["random"], truth=folder)
    assert ["no cross-attention" in r["left_out"] for r in read_rows(tmp_path / "b")] == [True]
