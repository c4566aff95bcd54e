"""Mitigations on the bench: the area under a curve is exact, and planted mitigations find their place."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mnemoscope as mn
from mnemoscope import planted as truth
from mnemoscope.bench import mitigating
from mnemoscope.bench.areas import area, firsts
from mnemoscope.bench.cell import Trial
from mnemoscope.bench.judging import judge
from mnemoscope.bench.mitigating import MITIGATE
from mnemoscope.bench.run import run_bench
from mnemoscope.bench.truth import Truth
from mnemoscope.report import write
from mnemoscope.run.bench_rows import BenchFigure, BenchRow
from mnemoscope.run.run import read_rows


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnemoscope.bench.figures.RESAMPLES", 20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two verbatim pictures at two numbers of views each, and ordinary prompts."""
    (made := tmp_path / "truth" / "references").mkdir(parents=True)
    rows, captions = [], []
    for k, pixels in enumerate(truth.images()):
        rows.append({"prompt": f"memorized {k}", "kind": "verbatim", "views": 8 if k < 2 else 64, "concept": "boat"})
        Image.fromarray((pixels.permute(1, 2, 0) * 127.5 + 127.5).byte().numpy()).save(made / f"{k}.png")
        captions.append({"file": f"{k}.png", "caption": f"memorized {k}"})
    rows += [
        {"prompt": f"ordinary {k}", "kind": "ordinary", "source": ("plain", "title")[k], "concept": "owl"}
        for k in range(2)
    ]
    rows += [{"prompt": f"ordinary 5 {k}", "kind": "unseen", "source": "twin", "views": 0} for k in range(2)]
    (tmp_path / "truth" / "prompts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (made / "captions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in captions))
    return tmp_path / "truth"


class Half:
    """A judge by which every other verbatim prompt shows its object, and ordinary ones always."""

    name, range, chance = "half", (0.0, 1.0), 0.0

    def align(self, images, prompts):
        return np.array([0.0 if p in ("memorized 1", "memorized 3") else 1.0 for p in prompts])


@pytest.mark.parametrize("seed", range(5))
def test_the_area_is_the_share_of_the_square_that_some_strength_reaches(seed: int) -> None:
    pairs = np.random.default_rng(seed).random((5, 2))
    ticks = (np.arange(1000) + 0.5) / 1000
    x, y = np.meshgrid(ticks, ticks)
    inside = np.any([(x < a) & (y < 1 - c) for a, c in pairs], axis=0).mean()
    assert area([(float(a), float(c)) for a, c in pairs]) == pytest.approx(inside, abs=5e-3)
    assert (area([(1.0, 0.0)]), area([(1.0, 1.0), (0.0, 0.0)])) == (1, 0)  # all kept, none copied; either alone


def test_a_mitigation_gets_its_planted_place(planted: mn.Denoiser, folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(mitigating, "judge", lambda known: Half())
    trial = Trial(num_inference_steps=10)
    methods = ["random_caption", "padding_mask", "neuron_ablation"]
    load = {"planted": planted}.__getitem__
    summary = run_bench(MITIGATE, ["planted"], tmp_path / "b", trial, load, methods=methods, truth=folder)
    rows = {(r["method"], r["at"]): r for r in read_rows(tmp_path / "b") if "at" in r}
    by = {(k, f["quantity"], f["group"]): f["value"] for k, r in rows.items() for f in r["figures"]}
    none = ("random_caption", "none")
    assert by[none, "share", "all"] == 1 and by[none, "share", "verbatim x 64"] == 1
    assert by[none, "aligned", "all"] == 0.5 and by[none, "aligned", "ordinary"] == 1
    assert by[("random_caption", ""), "share", "all"] == 0  # the model reads nothing in a random caption
    assert by[("random_caption", ""), "area", "all"] == 0.5  # half are aligned, at no mitigation and at full
    assert by[("random_caption", ""), "area", "verbatim x 8"] == 0.5
    assert by[("padding_mask", ""), "area", "all"] == 0  # it changes nothing of a planted model's copies
    assert write([tmp_path / "b"]).read_text().count("share that is a copy") == 0  # it is in the pictures
    assert (tmp_path / "b" / "plots" / "strengths-planted-all.png").stat().st_size > 1000
    reason = next(r["left_out"] for r in read_rows(tmp_path / "b") if r["method"] == "neuron_ablation")
    assert "neurons" in reason
    wins = next(t for t in summary["tables"] if t["title"] == "Which wins where")
    column = wins["columns"].index("all")
    assert [(r["method"], r["cells"][column]["text"]) for r in wins["rows"]][:1] == [("random_caption", "first")]


def test_a_strangers_mitigation_stands_beside_them(planted: mn.Denoiser, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mute.py").write_text("def mute(caption, rng):\n    return 'zz'\n")
    load, trial = {"planted": planted}.__getitem__, Trial(num_inference_steps=10)
    for method in ("random_caption", str(tmp_path / "mute.py")):
        run_bench(MITIGATE, ["planted"], tmp_path / "b", trial, load, methods=[method], truth=folder)
    rows = {(r["method"], r.get("at")): r for r in read_rows(tmp_path / "b")}
    shares = {f["group"]: f["value"] for f in rows["mute", ""]["figures"] if f["quantity"] == "share"}
    images = [f.name for f in (tmp_path / "b" / "cells" / "planted" / "mute" / "images").iterdir()]
    assert sum(name.startswith("mute-None-") for name in images) == 6
    assert shares["all"] == 0 and ("random_caption", "") in rows


def test_the_judge_goes_by_the_concepts_of_the_truth(folder: Path) -> None:
    known = Truth.read(folder).known
    named = judge(known)
    assert named is not None and named.of_prompts["memorized 0"] == "boat" and named.of_prompts["ordinary 1"] == "owl"
    assert "ordinary 5 0" not in named.of_prompts
    assert judge([k for k in known if k.concept is None]) is None


def test_the_largest_area_is_first_and_what_reaches_into_it_is_not_told_apart() -> None:
    def row(method: str, value: float, low: float, high: float) -> BenchRow:
        figure: BenchFigure = {"quantity": "area", "group": "all", "value": value, "interval": [low, high]}  # type: ignore[typeddict-item]
        return {"id": method, "status": "ok", "model": "m", "method": method, "figures": [figure]}

    marked = firsts([row("a", 0.9, 0.8, 0.95), row("b", 0.7, 0.6, 0.81), row("c", 0.5, 0.4, 0.7)])
    assert [[f["text"] for f in r["figures"] if f["quantity"] == "first"] for r in marked] == [
        ["first"],
        ["not told apart"],
        [],
    ]
