"""Detectors on the bench: planted scores get exactly their planted place, and a stranger's file stands beside all."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score

import mnemoscope as mn
from mnemoscope import planted as truth
from mnemoscope import stats
from mnemoscope.bench import doses
from mnemoscope.bench.cell import Trial
from mnemoscope.bench.detecting import DETECT, FORMS, HALF, Judged
from mnemoscope.bench.figures import UNTOLD, Form, figure, figures, pictures
from mnemoscope.bench.run import run_bench
from mnemoscope.bench.truth import Truth
from mnemoscope.detection.scoring import detect_rows
from mnemoscope.errors import UsageError
from mnemoscope.run.run import read_json, read_rows

TWINS, FOUND = 100, {8: 0, 16: 1, 32: 3, 64: 4}  # of four prompts at each number of views
TOLD = '''"""A detector of a stranger: the number that a prompt ends with, in letters."""

import torch


def told(trajectory):
    """The last two letters of the prompt, as a number of base 26."""
    return torch.tensor([26.0 * (ord(p[-2]) - 97) + ord(p[-1]) - 97 for p in trajectory.prompts])
'''
PICKY = """from mnemoscope.errors import UsageError


def picky(trajectory):
    raise UsageError("It needs a | b.")
"""
OWN = '''"""A score of a stranger."""

from jaxtyping import Float
from torch import Tensor

from mnemoscope.registry import score
from mnemoscope.step import Step


@score(paper="mine", cost="1 pair of evaluations")
def largest_push(step: Step) -> Float[Tensor, " B"]:
    """The largest element of the text's push.

    From 0 upwards.
    """
    return (step.eps_cond - step.eps_uncond).flatten(1).abs().amax(dim=1)
'''


def letters(number: int) -> str:
    """A number as two letters, which the planted model reads nothing in."""
    return chr(97 + number // 26) + chr(97 + number % 26)


def planted_rows() -> list[dict]:
    """Members of four doses, whose prompts end with a score: 120 where found, 20 where not; twins of 0 to 99."""
    rows = []
    for dose, found in FOUND.items():
        for k in range(4):
            text = f"memorized {k} {letters(dose)} {letters(120 if k < found else 20)}"
            rows.append({"prompt": text, "kind": "verbatim", "views": dose, "entry": f"v-{dose}-{k}"})
    rows += [
        {"prompt": f"ordinary {k % 10} {letters(k)}", "kind": "unseen", "source": "twin", "views": 0}
        for k in range(TWINS)
    ]
    return rows


@pytest.fixture(autouse=True)
def few_resamples(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "intervals" not in request.node.name:
        monkeypatch.setattr("mnemoscope.bench.figures.RESAMPLES", 20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "truth"
    (made / "references").mkdir(parents=True)
    rows = planted_rows()
    (made / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    captions = []
    for row in (r for r in rows if r["views"]):
        pixels = truth.images()[int(row["prompt"].split()[1])].permute(1, 2, 0)
        Image.fromarray((pixels * 127.5 + 127.5).byte().numpy()).save(made / "references" / f"{row['entry']}.png")
        captions.append({"file": f"{row['entry']}.png", "caption": "another wording", "entry": row["entry"]})
    (made / "references" / "captions.jsonl").write_text("".join(json.dumps(c) + "\n" for c in captions))
    return made


def benched(planted: mn.Denoiser, folder: Path, out: Path, *methods: str, **how: object) -> dict:
    asked = Trial(num_inference_steps=10, **how)  # type: ignore[arg-type]
    load = {"planted": planted}.__getitem__
    return run_bench(DETECT, ["planted"], out, asked, load, methods=methods, truth=folder, batch=32)


def by_key(out: Path) -> dict[tuple[str, str, str], dict]:
    return {(r["method"], f["quantity"], f["group"]): f for r in read_rows(out) for f in r["figures"]}


@pytest.fixture
def told(tmp_path: Path) -> str:
    (tmp_path / "told.py").write_text(TOLD)
    return str(tmp_path / "told.py")


def test_a_planted_score_gets_its_planted_place(planted, folder: Path, tmp_path: Path, told: str) -> None:
    benched(planted, folder, tmp_path / "b", told)
    found = by_key(tmp_path / "b")
    for dose, count in FOUND.items():
        assert found["told", "share", f"verbatim x {dose}"]["value"] == count / 4
    assert found["told", "share", "all"]["value"] == 0.5
    assert found["told", "half", "verbatim"]["value"] == pytest.approx(16 * math.sqrt(2))
    negatives = list(range(TWINS))
    members = [120 if k < n else 20 for n in FOUND.values() for k in range(4)]
    exact = roc_auc_score([1] * 16 + [0] * TWINS, members + negatives)
    assert found["told", "auc", "verbatim"]["value"] == pytest.approx(exact)
    assert found["told", "auc_source", "twin"]["value"] == pytest.approx(exact)
    assert found["told", "alarms", "twin"]["value"] == 0.01
    assert found["told", "evaluations", ""]["value"] == 0
    assert found["copied-images", "share", "verbatim x 8"] == {
        **found["copied-images", "share", "verbatim x 64"],
        "group": "verbatim x 8",
    }
    assert found["copied-images", "half", "verbatim"]["text"].startswith("<= 8")
    assert found["told", "earlier", "verbatim"]["value"] == pytest.approx(8 / (16 * math.sqrt(2)))


def test_intervals_draw_pictures_and_not_their_prompts(tmp_path: Path) -> None:
    """Four prompts of each of ten pictures, all alike within a picture: the interval is that of ten values."""
    rows = [
        {"prompt": f"m {k} {n}", "kind": "duplicated", "views": 8, "entry": f"e{k}"} for k in range(10) for n in "abcd"
    ]
    rows += [{"prompt": f"o {k}", "kind": "unseen", "views": 0} for k in range(TWINS)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    known = Truth.read(tmp_path)
    scores = np.array([float(e.prompt.text.split()[1] < "5") if e.is_member else 0 for e in known.known])
    judged = Judged(known, known.known, scores)
    made = figures(known.known, judged.statistics, pictures(known.known), {**FORMS, HALF: Form()})
    assert {f["quantity"]: f["count"] for f in made if f["quantity"].startswith("auc")} == {"auc": 10, "auc_source": 10}
    (share,) = [f for f in made if (f["quantity"], f["group"]) == ("share", "duplicated x 8")]
    assert (share["value"], share["count"]) == (0.5, 10)
    low, high = share["interval"]
    assert (low, high) == pytest.approx((0.2, 0.8))  # the middle 95 % of a binomial of 10 at a half


def test_a_single_picture_has_no_interval_and_says_so() -> None:
    share, rest = Form(bounded=True), Form()
    assert figure("share", "a", 0.67, [0.67] * 20, 1, share)["text"] == f"0.67 [{UNTOLD}]"
    assert figure("area", "a", 0.67, [], 12, rest)["interval"] is None  # none could be drawn anew
    assert figure("share", "a", 0.5, [0.5] * 20, 12, share)["interval"] == list(stats.wilson_interval(6, 12))
    assert figure("area", "a", 0.5, [0.4, 0.5, 0.6], 12, rest)["interval"] == [0.4, 0.6]
    assert figure("half", "a", math.inf, [64.0, math.inf], 12, rest)["interval"] == [64, None]


def test_pictures_of_which_each_is_alone_in_its_group_give_no_interval(tmp_path: Path) -> None:
    rows = [{"prompt": f"m {dose}", "kind": "verbatim", "views": dose} for dose in (8, 16)]
    rows += [{"prompt": f"o {k}", "kind": "unseen", "source": str(k), "views": 0} for k in range(2)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    known = Truth.read(tmp_path).known
    made = figures(known, lambda places: {("share", "all"): 0.5}, pictures(known), {"share": Form(bounded=True)})
    assert [f["interval"] for f in made] == [None] and UNTOLD in made[0]["text"]


@pytest.mark.parametrize("seed", range(5))
def test_half_is_that_of_isotonic_regression(seed: int) -> None:
    rng = np.random.default_rng(seed)
    views, values, weights = 2.0 ** np.arange(9), rng.random(9), rng.integers(1, 9, 9)
    values[[0, -1]] = 0, 1
    rising = IsotonicRegression().fit_transform(np.arange(9), values, sample_weight=weights)
    above = int(np.argmax(rising >= 0.5))
    expected = 2 ** np.interp(0.5, rising[above - 1 : above + 1], [above - 1, above])
    assert doses.at_half(views.tolist(), values.tolist(), weights.tolist()) == pytest.approx(expected)


def test_half_is_interpolated_over_the_logarithm_and_said_where_it_lies_outside() -> None:
    assert doses.at_half([8, 16, 32], [0, 0.25, 0.75], [4] * 3) == pytest.approx(2**4.5)
    assert doses.at_half([8, 16, 32], [0.5, 0.6, 1], [4] * 3) == 8
    assert doses.at_half([8, 16, 32], [0, 0.1, 0.4], [4] * 3) == math.inf
    assert [doses.said(d, [8, 1024]) for d in (8, 2**4.5, math.inf)] == ["<= 8", "23", "> 1,024"]


def test_a_strangers_score_joins_those_that_are_there(planted, folder, tmp_path, told, monkeypatch) -> None:
    (tmp_path / "own.py").write_text(OWN)
    benched(planted, folder, tmp_path / "b", "noise_norm", told)
    done = {f: f.stat().st_mtime_ns for f in (tmp_path / "b" / "cells").rglob("*.json*")}
    benched(planted, folder, tmp_path / "b", str(tmp_path / "own.py"))
    assert done == {f: f.stat().st_mtime_ns for f in done}  # nothing of the others was touched
    rows = read_rows(tmp_path / "b")
    assert [r["method"] for r in rows] == ["copied-images", "noise_norm", "told", "largest_push"]
    assert rows[-1]["origin"]["file"] == "own.py" and rows[-1]["cell"] == "cells/planted/largest_push"
    table = (tmp_path / "b" / "table.md").read_text()
    lines = [line.split("|")[2].strip() for line in table.splitlines() if line.startswith("| planted")]
    assert lines[:4] == ["copied-images", "noise_norm", "told", "largest_push"]
    (tmp_path / "own.py").write_text(OWN.replace("amax", "amin"))
    with pytest.raises(UsageError, match="is not what the rows of"):
        benched(planted, folder, tmp_path / "b", str(tmp_path / "own.py"))


def test_what_a_model_cannot_take_is_a_row_with_its_reason(planted, folder, tmp_path, told) -> None:
    (tmp_path / "picky.py").write_text(PICKY)
    summary = benched(planted, folder, tmp_path / "b", str(tmp_path / "picky.py"), told, images=0)
    rows = {r["method"]: r for r in read_rows(tmp_path / "b")}
    assert rows["picky"]["left_out"] == "It needs a | b." and "left_out" not in rows["told"]
    assert rows["copied-images"]["left_out"] == "no images were asked for (--images)"
    lines = (tmp_path / "b" / "table.md").read_text().splitlines()
    assert summary["failed"] == 0 and sum("| picky | left out: It needs a \\| b." in line for line in lines) == 1


def test_an_interrupted_bench_goes_on_to_the_same_rows(planted, folder, tmp_path, told, monkeypatch) -> None:
    whole = benched(planted, folder, tmp_path / "whole", "noise_norm", told)
    calls = iter(range(10))

    def stopped(*args, **how):
        if next(calls) == 2:  # in the midst of the first score's batches
            raise KeyboardInterrupt
        return detect_rows(*args, **how)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("mnemoscope.detection.run.detect_rows", stopped)
        benched(planted, folder, tmp_path / "b", "noise_norm", told)
    assert len(read_rows(tmp_path / "b" / "cells" / "planted" / "noise_norm")) == 64
    again = benched(planted, folder, tmp_path / "b", "noise_norm", told)

    def timeless(value):
        if isinstance(value, dict):
            return {k: timeless(v) for k, v in value.items() if k != "seconds"}
        return [timeless(v) for v in value] if isinstance(value, list) else value

    assert timeless(again) == timeless(whole)
    assert timeless(read_rows(tmp_path / "b")) == timeless(read_rows(tmp_path / "whole"))


def test_the_bundled_truth_is_one_dose_and_says_so() -> None:
    known = Truth.of("demo", None, limit=5)
    assert known.doses("verbatim") == [] and any("does not say how often" in note for note in known.notes)
    prompts, references = known.captioned()
    assert {p.reference for p in prompts} <= {c for picture in references.items for c in picture.captions}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "is not there|has no prompts"),
        ([{"prompt": "a", "kind": "duplicated"}], "does not say whether 'a' was trained"),
        ([{"prompt": "a", "views": 8}], "trained and others"),
    ],
)
def test_a_truth_that_says_too_little_is_refused(tmp_path: Path, rows: list, said: str) -> None:
    if rows:
        (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    with pytest.raises(UsageError, match=said):
        Truth.read(tmp_path)
    with pytest.raises(UsageError, match="give --truth"):
        Truth.of("somewhere", None)


def test_the_command_writes_a_page_and_a_table(mnemoscope, planted, folder, tmp_path, told, monkeypatch) -> None:
    monkeypatch.setattr(mn.Denoiser, "from_pretrained", lambda name, **how: planted)
    words = ["bench", "detect", "--model", "planted", "--truth", folder, "--num-inference-steps", 2]
    code, out, err = mnemoscope(*words, "--method", told, "--out", tmp_path / "b")
    assert code == 0, err
    page = (tmp_path / "b" / "report.html").read_text()
    assert "Model planted" in page and "Model not recorded" not in page
    assert "Views at which half is reached" in page and "copied-images" in page and "told" in out
    assert read_json(tmp_path / "b" / "summary.json")["tables"][0]["columns"][:2] == ["all", "verbatim x 8"]
    code, out, _ = mnemoscope(*words, "--dry-run", "--out", tmp_path / "c")
    assert code == 0 and "num_inference_steps: 2" in out and "method" not in out  # none named: all
    shutil.rmtree(folder)
    code, _, err = mnemoscope(*words, "--method", told, "--out", tmp_path / "c")
    assert code == 2 and "has no prompts.jsonl" in err
