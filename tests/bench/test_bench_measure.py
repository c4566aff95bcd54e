"""Measures on the bench: planted copies are what they are said to be, and planted measures get exactly their place."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

import mnemoscope as mn
from mnemoscope import planted as model_truth
from mnemoscope import stats
from mnemoscope.bench import evidence
from mnemoscope.bench.cell import Trial
from mnemoscope.bench.measuring import MEASURE
from mnemoscope.bench.planting import CHANGES, planted
from mnemoscope.bench.run import run_bench
from mnemoscope.bench.transfer import transferred
from mnemoscope.bench.truth import Truth
from mnemoscope.report import write
from mnemoscope.run.run import read_rows, write_json

TWINS = 8
TOLD = '''"""A measure of a stranger, which knows what was planted."""

from mnemoscope.measuring.comparison import Measured
from mnemoscope.registry import measure


@measure(paper="mine", needs=("references",), tells=("-told", "sure"))
def told(comparison):
    """Less for copies: -1 of two changes of trained pictures and of members 1 and 3, -0.5 of one twin, else 0."""
    values, sure, twins = [], [], 0
    for each in comparison.generated:
        change, _, entry = each.picture.key.partition("/")
        if change == "images":
            copied = str(each.prompt) in ("memorized 1", "memorized 3")
            twins += each.label is False
            values.append(-1.0 if copied else -0.5 if each.label is False and twins == 1 else 0.0)
        else:
            copied = entry.startswith("v") and change in ("unchanged", "mirrored")
            values.append(-1.0 if copied else -0.5 if (change, entry) == ("grey", "t-0.png") else 0.0)
        sure.append(values[-1] == -0.5 or (copied and change == "unchanged"))
    return Measured({"told": values, "sure": sure}, {})
'''


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnemoscope.bench.figures.RESAMPLES", 20)
    monkeypatch.setattr("mnemoscope.bench.transfer.RESAMPLES", 200)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four trained pictures, which the planted model draws, at two numbers of views; eight twins of 100 prompts."""
    made, rows = tmp_path / "truth", []
    own = [(p.permute(1, 2, 0) * 127.5 + 127.5).byte().numpy() for p in model_truth.images()]
    rng = np.random.default_rng(0)
    other = [rng.integers(0, 255, own[0].shape, dtype=np.uint8) for _ in range(TWINS)]
    for name, letter, images in (("references", "v", own), ("twins", "t", other)):
        (made / name).mkdir(parents=True)
        lines = []
        for k, pixels in enumerate(images):
            Image.fromarray(pixels).save(made / name / f"{k}.png")
            lines.append({"file": f"{k}.png", "caption": f"{letter} {k}", "entry": f"{letter}-{k}"})
        (made / name / "captions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
    for k in range(len(own)):
        rows.append({"prompt": f"memorized {k}", "kind": "verbatim", "views": 8 if k < 2 else 64, "entry": f"v-{k}"})
    for k in range(100):
        rows.append({"prompt": f"ordinary 5 {k}", "kind": "unseen", "source": "twin", "views": 0})
        rows[-1]["entry"] = f"t-{k % TWINS}"
    (made / "prompts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "told.py").write_text(TOLD)
    return made


def benched(model: mn.Denoiser, folder: Path, out: Path, *methods: str, **how: object) -> dict:
    asked = Trial(num_inference_steps=4, **how)  # type: ignore[arg-type]
    load = {"planted": model}.__getitem__
    return run_bench(MEASURE, ["planted"], out, asked, load, methods=methods, truth=folder, batch=32)


def by_key(out: Path) -> dict[tuple[str, str, str], dict]:
    return {(r["method"], f["quantity"], f["group"]): f for r in read_rows(out) for f in r["figures"]}


def test_planted_copies_are_the_changes_of_their_own_picture_and_nothing_else(folder: Path) -> None:
    made = planted(Truth.read(folder))
    assert len(made) == len(CHANGES) * (4 + TWINS) and len({e.picture.key for e in made}) == len(made)
    by = {(e.kind, e.entry): np.asarray(e.picture.image()) for e in made}
    own = np.asarray(Image.open(folder / "references" / "1.png").convert("RGB"))
    ground = np.asarray(Image.open(folder / "twins" / "2.png").convert("RGB"))
    half = own.shape[0] // 2
    assert np.array_equal(by["unchanged", "v-1"], own) and np.array_equal(by["mirrored", "v-1"], own[:, ::-1])
    assert np.array_equal(by["half pasted", "v-1"][:, :half], own[:, :half])
    assert np.array_equal(by["half pasted", "v-1"][:, half:], ground[:, half:])
    quarter = by["quarter pasted", "v-1"]
    assert np.array_equal(quarter[:half, :half], own[:half, :half]) and np.array_equal(quarter[half:], ground[half:])
    assert np.array_equal(by["half pasted", "t-1"][:, half:], ground[:, half:])  # copies and others on the same ground
    assert {e.is_member for e in made if e.entry.startswith("v")} == {True}
    assert all(e.picture.data() == e.picture.data() for e in made)
    sides = {name: np.abs(by[name, "v-1"].astype(int) - own).mean() for name in ("crop 90 %", "crop 50 %", "noisy")}
    assert 0 < sides["crop 90 %"] < sides["crop 50 %"] and 10 < sides["noisy"] < 25


def test_an_entry_of_several_pictures_is_not_planted_and_twins_are_those_named(folder: Path) -> None:
    rows = [json.loads(line) for line in (folder / "references" / "captions.jsonl").read_text().splitlines()]
    rows[3]["entry"] = "v-2"  # a near-copy
    (folder / "references" / "captions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    asked = [json.loads(line) for line in (folder / "prompts.jsonl").read_text().splitlines()]
    for k in range(4):
        asked[k]["twin"] = f"t-{k + 3}"
    (folder / "prompts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in asked))
    entries = {(e.entry, e.is_member) for e in planted(Truth.read(folder, limit=2))}  # of two prompts of twins alone
    (_, copies, prompts) = MEASURE.notes(Truth.read(folder, limit=2))
    assert "Copies found at 1 % false alarms need 100 changed twins, and there are 26" in copies
    assert "Trained pictures found at 1 % false alarms need 100 prompts of twins, and there are 2" in prompts
    assert entries == {("v-0", True), ("v-1", True), ("t-3", False), ("t-4", False)}


def test_a_planted_measure_gets_its_planted_place(planted: mn.Denoiser, folder: Path, tmp_path: Path) -> None:
    benched(planted, folder, tmp_path / "b", str(tmp_path / "told.py"), "pixels-32")
    found = {key[1:]: f for key, f in by_key(tmp_path / "b").items() if key[0] == "told"}
    changes = len(CHANGES)
    assert found["known", "unchanged"]["value"] == found["known", "mirrored"]["value"] == 1
    assert found["known", "blurred"]["value"] == 0.5 and found["known", "grey"]["value"] == (TWINS - 1) / TWINS / 2
    hits = {g: f["value"] for (quantity, g), f in found.items() if quantity == "hits"}
    assert hits == {"all": pytest.approx(2 / changes)} | {
        name: float(name in ("unchanged", "mirrored")) for name in CHANGES
    }
    assert found["hits", "unchanged"]["count"] == 4  # pictures, and not images
    assert found["usual", "all"]["value"] == pytest.approx(1 / changes)
    assert found["usual_false", "others"]["value"] == pytest.approx(1 / changes / TWINS)
    exact = roc_auc_score([1] * 4 + [0] * 100, [0, 1, 0, 1, 0.5] + [0] * 99)
    assert found["auc_source", "twin"]["value"] == pytest.approx(exact)
    assert found["share", "verbatim x 8"]["value"] == found["share", "verbatim x 64"]["value"] == 0.5
    assert found["said", "all"]["value"] == 0.5 and found["said_false", "twin"]["value"] == 0.01
    pixels = {key[1:]: f["value"] for key, f in by_key(tmp_path / "b").items() if key[0] == "pixels-32"}
    assert pixels["hits", "unchanged"] == pixels["usual", "unchanged"] == pixels["hits", "JPEG 20"] == 1
    assert pixels["auc_source", "twin"] == pixels["share", "all"] == 1  # the planted model draws its pictures alone
    table = (tmp_path / "b" / "table.md").read_text()
    assert "## Planted copies found, by change" in table and "13 changes of each picture" in table
    page = write([tmp_path / "b"]).read_text()
    assert "Was this picture trained" in page and "copied-images" in page


def test_what_is_not_there_is_a_row_with_its_reason(planted: mn.Denoiser, folder: Path, tmp_path: Path) -> None:
    methods = ["clip", "dino-cls", "patch_similarity", "seed_agreement", "pixels-32"]
    benched(planted, folder, tmp_path / "b", *methods, images=0)
    left = {r["method"]: r.get("left_out") for r in read_rows(tmp_path / "b")}
    assert "need weights" in left["clip"] and "need weights" in left["dino-cls"] and left["pixels-32"] is None
    assert "patch tokens: --param patch_similarity.features=dino" in left["patch_similarity"]
    assert left["seed_agreement"] == "It needs several images a prompt (--images)."
    assert not any(q in ("auc", "said") for _, q, _ in by_key(tmp_path / "b"))  # no image was drawn
    (folder / "twins").rename(tmp_path / "gone")
    benched(planted, folder, tmp_path / "c", "pixels-32")
    assert all("no folder twins" in r["left_out"] for r in read_rows(tmp_path / "c"))
    assert "no folder twins" in (tmp_path / "c" / "table.md").read_text()
    with pytest.raises(mn.UsageError, match="does not say by which column it tells copies"):
        benched(planted, folder, tmp_path / "d", "diversity")


def test_an_interrupted_bench_goes_on_to_the_same_figures(planted, folder, tmp_path, monkeypatch) -> None:
    whole = benched(planted, folder, tmp_path / "whole", "pixels-32", "memorization_ratio")
    calls, real = iter(range(9)), evidence.run_measurement

    def stopped(*args, **how):
        if next(calls) == 1:  # between the two runs of the first method
            raise KeyboardInterrupt
        return real(*args, **how)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(evidence, "run_measurement", stopped)
        benched(planted, folder, tmp_path / "b", "pixels-32", "memorization_ratio")
    assert [r["method"] for r in read_rows(tmp_path / "b")] == ["copied-images"]
    again = benched(planted, folder, tmp_path / "b", "pixels-32", "memorization_ratio")
    assert [[row["cells"] for row in t["rows"]] for t in again["tables"]] == [
        [row["cells"] for row in t["rows"]] for t in whole["tables"]
    ]


def test_several_images_a_prompt_are_one_value(planted: mn.Denoiser, folder: Path, tmp_path: Path) -> None:
    benched(planted, folder, tmp_path / "b", "seed_agreement", "pixels-32", images=2)
    found, cells = by_key(tmp_path / "b"), tmp_path / "b" / "cells" / "planted"
    assert not [
        q for m, q, _ in found if m == "seed_agreement" and q in ("hits", "known")
    ]  # nothing planted has prompts
    assert found["pixels-32", "share", "verbatim x 8"]["count"] == 2
    for method, column in (("seed_agreement", "seed_agreement"), ("pixels-32", "own_score")):
        by_prompt: dict[str, list[float]] = {}
        for row in read_rows(cells / method / "drawn"):
            by_prompt.setdefault(row["prompt_id"], []).append(row[column])
        known = Truth.read(folder)
        sides = [
            [np.mean(by_prompt[e.prompt.id]) for e in known.known if e.is_member == side] for side in (True, False)
        ]
        exact = roc_auc_score([1] * 4 + [0] * 100, [*sides[0], *sides[1]])
        assert found[method, "auc_source", "twin"]["value"] == pytest.approx(exact)
        assert {len(values) for values in by_prompt.values()} == {2}


def rows_of(folder: Path, cells: dict[tuple[str, str], dict]) -> list[dict]:
    rows = []
    for (model, method), told in cells.items():
        cell = f"cells/{model}/{method}"
        (folder / cell).mkdir(parents=True)
        write_json(folder / cell / "evidence.json", told)
        rows.append({"id": f"{model}/{method}", "model": model, "method": method, "figures": [], "cell": cell})
    return [*rows, {"id": "m/none", "model": "m", "method": "none", "figures": []}]


def figures_of(rows: list[dict], key: str) -> dict[tuple[str, str], float]:
    return {(f["quantity"], f["group"]): f["value"] for r in rows if r["id"] == key for f in r["figures"]}


def test_thresholds_of_another_preset_are_applied_to_ones_own_planted_images(tmp_path: Path) -> None:
    one = {
        "family": "sscd",
        "threshold": 0.5,
        "copies": {"a": [0.6, 0.4], "b": [0.9, 0.7]},
        "others": {"c": [0.1, 0.5]},
    }
    other = {**one, "threshold": 0.65}
    alone = {**one, "family": "pixels", "threshold": 0.2}
    made = transferred(rows_of(tmp_path, {("m", "x"): one, ("m", "y"): other, ("m", "z"): alone}), tmp_path)
    assert figures_of(made, "m/x") == {
        ("at", "x"): 0.75,
        ("false_at", "x"): 0.5,
        ("at", "y"): 0.5,
        ("false_at", "y"): 0,
    }
    assert figures_of(made, "m/z") == {} == figures_of(made, "m/none")
    (share,) = [f for r in made if r["id"] == "m/x" for f in r["figures"] if (f["quantity"], f["group"]) == ("at", "x")]
    assert share["count"] == 2 and share["interval"] == [0.5, 1.0]  # either picture twice


def test_thresholds_of_another_model_are_those_of_its_twins(tmp_path: Path) -> None:
    values = (np.arange(100) / 100).tolist()
    limit = stats.threshold_at_fpr(np.array(values), 0.01)
    cells = {("m", "x"): {"family": "sscd", "members": {"a": [0.985, 0.5]}, "twins": {"t": [0.3, 0.99]}}}
    cells["n", "x"] = {"family": "sscd", "members": {"a": [1.0]}, "twins": {str(k): [v] for k, v in enumerate(values)}}
    made = transferred(rows_of(tmp_path, cells), tmp_path)
    assert 0.98 < limit < 0.985
    assert figures_of(made, "m/x") == {("at_model", "n"): 0.5, ("false_at_model", "n"): 0.5}
    assert figures_of(made, "n/x") == {}  # two images of twins choose no threshold of 1 %


def test_agreement_gives_one_vote_to_each_sort_of_features(tmp_path: Path) -> None:
    files = ["f0", "f1", "f2"]

    def told(family: str, *said: int) -> dict:
        images = dict(zip(files, map(float, said), strict=True))
        return {"family": family, "threshold": 0.5, "images": images, "pictures": {f: f for f in files}}

    cells = {("m", "p"): told("pixels", 1, 0, 0), ("m", "t"): told("tiled", 1, 1, 0)}
    cells |= {("m", f"s{k}"): told("sscd", 0, 0, 1) for k in range(4)} | {("m", "r"): told("ratio", 1, 0, 0)}
    made = transferred(rows_of(tmp_path, cells), tmp_path)
    of = {name: figures_of(made, f"m/{name}") for name in "ptr"}
    # of the others of p: t, r and the presets of sscd, which are one: f0 two of three, f1 one, f2 one
    assert of["p"] == {("agreed", "most others"): 1, ("denied", "most others"): 0}
    assert of["t"] == {("agreed", "most others"): 1, ("denied", "most others"): 0.5}
    assert figures_of(made, "m/s0") == {("agreed", "most others"): 0, ("denied", "most others"): 0.5}


def test_the_command_writes_a_page(mnemoscope, planted, folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(mn.Denoiser, "from_pretrained", lambda name, **how: planted)
    words = ["bench", "measure", "--model", "planted", "--truth", folder, "--num-inference-steps", 2]
    code, _, err = mnemoscope(*words, "--method", tmp_path / "told.py", "--images", 0, "--out", tmp_path / "b")
    assert code == 0, err
    assert "Planted copies found" in (tmp_path / "b" / "report.html").read_text()
    code, _, err = mnemoscope(*words, "--method", "pixel-32", "--out", tmp_path / "c")
    assert code == 2 and "pixels-32" in err
