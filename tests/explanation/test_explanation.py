"""Explanation over a list of prompts: its rows, its files, resuming, and what it does with what fails."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import mnemoscope as mn
import tiny
from failing import broken_for, raising
from mnemoscope import cli
from mnemoscope.errors import UsageError
from mnemoscope.explanation.attributions import export_layer6, read_layer6, write_layer6
from mnemoscope.explanation.run import Explanation, import_explanation, run_explanation
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.words import content
from mnemoscope.prompts.prompt import Prompt, as_prompts
from mnemoscope.run.run import read_json, read_rows

TEXTS = ["memorized 1", "ordinary 2, a photo", "Kanagawa", "", "memorized 1"]
SHORT = {"num_inference_steps": 3}


def explained(model: Denoiser, out: Path, prompts: list[Prompt] | None = None, **options: Any) -> list[dict]:
    run = {k: options.pop(k) for k in ("batch", "overwrite") if k in options}
    run_explanation(model, as_prompts(TEXTS) if prompts is None else prompts, out, Explanation(**options), **run)
    return read_rows(out)


def test_rows_hold_what_mn_explain_gives(planted: Denoiser, tmp_path: Path) -> None:
    prompts = [Prompt("x", "a photo of the memorized 3", True, "vm"), Prompt("y", "Kanagawa")]
    rows = explained(planted, tmp_path, prompts, method="token_occlusion", seeds=2, seed=5)
    for row, prompt in zip(rows, prompts, strict=True):
        trajectory = mn.Trajectory(planted, prompt.text, [5, 6])
        values = mn.explain(trajectory, "token_occlusion").mean(0)
        count = len(content(planted.family, [prompt.text])[0])
        assert row["scores"] == pytest.approx(values[1 : 1 + count].tolist(), rel=1e-5, abs=1e-6)
        assert row["special"] == pytest.approx({"bos": 0, "eos": 0, "padding": 0})
        assert (row["id"], row["label"], row["kind"]) == (prompt.id, prompt.label, prompt.kind)
        assert (row["method"], row["params"], row["seeds"]) == ("token_occlusion", {}, [5, 6])
        assert row["status"] == "ok" and "series" not in row
    assert rows[0]["tokens"] == ["a", "photo", "of", "the", "memorized", "3"]
    assert [w["word"] for w in rows[0]["words"]] == rows[0]["tokens"]
    assert max(rows[0]["words"], key=lambda w: w["sum"])["word"] in ("memorized", "3")
    assert rows[1]["tokens"] == list("kanagawa") and len(rows[1]["words"]) == 1
    (word,) = rows[1]["words"]
    assert (word["word"], word["first"], word["last"]) == ("Kanagawa", 0, 7)
    assert word["sum"] == pytest.approx(sum(rows[1]["scores"])) and word["max"] == max(rows[1]["scores"])


def test_special_sums_and_words_add_up_to_all_positions(bundled: Denoiser, tmp_path: Path) -> None:
    text = "The Lion of Marrakand, oil on canvas"
    (row,) = explained(bundled, tmp_path, as_prompts([text]), **SHORT)
    values = mn.explain(mn.Trajectory(bundled, text, 0, **SHORT), "token_gradients")[0]
    assert row["special"]["bos"] == pytest.approx(float(values[0]), rel=1e-5)
    whole = sum(row["special"].values()) + sum(w["sum"] for w in row["words"])
    assert whole == pytest.approx(float(values.sum()), rel=1e-5) and row["special"]["padding"] > 0


def test_series_holds_each_step(bundled: Denoiser, tmp_path: Path) -> None:
    params = {"steps": [0, 2], "score": "score_norm", "score.compat": "layer6"}
    (row,) = explained(bundled, tmp_path, as_prompts(["an owl"]), params=params, **SHORT)
    trajectory = mn.Trajectory(bundled, "an owl", 0, **SHORT)
    for k, values in zip((0, 2), row["series"], strict=True):
        own = mn.explain(trajectory, "token_gradients", **{**params, "steps": [k]})[0, 1 : 1 + len(row["tokens"])]
        assert values == pytest.approx(own.tolist(), rel=1e-5)
    assert row["timesteps"] == [float(trajectory.timesteps[k]) for k in (0, 2)]
    mean = torch.tensor(row["series"]).mean(0).tolist()
    assert row["scores"] == pytest.approx(mean, rel=1e-5) and row["params"] == params


@pytest.mark.parametrize("params", [{}, {"compat": "wen", "steps": 2}])
def test_rows_do_not_depend_on_the_batch(tmp_path: Path, params: dict) -> None:
    small = Denoiser(tiny.stable_diffusion())
    whole = explained(small, tmp_path / "a", params=params, seeds=2, **SHORT)
    parts = explained(small, tmp_path / "b", params=params, seeds=2, batch=3, **SHORT)
    assert [r["id"] for r in whole] == [r["id"] for r in parts] == [p.id for p in as_prompts(TEXTS)]
    for one, other in zip(whole, parts, strict=True):
        assert one["scores"] == pytest.approx(other["scores"], rel=1e-4, abs=1e-6)
    assert whole[0]["scores"] == whole[4]["scores"] and whole[0]["id"] != whole[4]["id"]


def test_evaluations_are_counted_and_prompts_of_the_same_text_computed_once(planted: Denoiser, tmp_path: Path) -> None:
    explained(planted, tmp_path, seeds=2)
    summary = read_json(tmp_path / "summary.json")
    assert summary["network_evaluations"] == 4 * 2 + 2 and summary["rows"] == summary["prompts"] == 5
    assert summary["failed"] == 0 and summary["seconds"] >= 0


def test_an_interrupted_run_goes_on_to_the_same_rows(planted: Denoiser, tmp_path: Path) -> None:
    whole = explained(planted, tmp_path / "a", batch=1)
    with broken_for(planted, "ordinary", raising):
        rows = explained(planted, tmp_path / "b", batch=1)
    assert [r["status"] for r in rows] == ["ok", "failed", "ok", "ok", "ok"]
    assert "the network broke" in rows[1]["error"]
    lines = (tmp_path / "b" / "rows.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "b" / "rows.jsonl").write_text("".join(lines[:3]) + lines[3][:20])
    before = planted.network_evaluations
    assert explained(planted, tmp_path / "b", batch=1) == whole
    assert planted.network_evaluations - before == 3 * 2  # the failed one and the two that were lost


def test_what_is_not_finite_fails(planted: Denoiser, tmp_path: Path) -> None:
    with broken_for(planted, "ordinary", lambda: float("nan")):
        rows = explained(planted, tmp_path, method="token_occlusion")
    assert [r["status"] for r in rows] == ["ok", "failed", "ok", "ok", "ok"]
    assert "not finite" in rows[1]["error"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "nothing"}, "There is no explain method 'nothing'"),
        ({"params": {"p": 1}}, "has no parameter 'p'"),
        ({"method": "random", "params": {"score.p": 1}}, "has no score by name"),
        ({"params": {"value": "sum"}}, "takes .* as value"),
        ({"params": {"score": "nothing"}}, "There is no score method"),
        ({"params": {"steps": 0}}, "ask for at least 1"),
        ({"seeds": 0}, "give --seeds 1"),
    ],
)
def test_what_cannot_be_is_refused(planted: Denoiser, tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        explained(planted, tmp_path, **options)
    assert planted.network_evaluations == 0


# layer6's JSON


def test_attributions_go_there_and_back(bundled: Denoiser, tmp_path: Path) -> None:
    texts = ["The Lion of Marrakand, oil on canvas", "owl, owl"]
    rows = explained(bundled, tmp_path / "run", as_prompts(texts), **SHORT)
    export_layer6(tmp_path / "run")
    file = tmp_path / "run" / "attributions.json"
    assert file.read_text() == json.dumps(
        {r["prompt"]: [list(p) for p in zip(r["tokens"], r["scores"], strict=True)] for r in rows}, indent=4
    ) + "\n"  # fmt: skip
    back = read_layer6(file)
    for row, other in zip(rows, back, strict=True):
        assert {k: other[k] for k in ("id", "prompt", "tokens", "scores", "words", "status")} == {
            k: row[k] for k in ("id", "prompt", "tokens", "scores", "words", "status")
        }
    assert {r["method"] for r in back} == {"attributions"} and back[0]["seeds"] == []
    write_layer6(back, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == file.read_text()


def test_an_import_is_a_run(tmp_path: Path) -> None:
    pairs = [["great", 0.5], ["wave</w>", 2], ["kan", 1.5], ["agawa", 0.25]]
    (tmp_path / "cfg_norm.json").write_text(json.dumps({"Great Wave Kanagawa": pairs, "odd": pairs}, indent=4))
    summary = import_explanation(tmp_path / "cfg_norm.json", tmp_path / "run")
    rows = read_rows(tmp_path / "run")
    assert summary["prompts"] == summary["rows"] == 2 and summary["network_evaluations"] == 0
    assert [(w["word"], w["sum"]) for w in rows[0]["words"]] == [("Great", 0.5), ("Wave", 2), ("Kanagawa", 1.75)]
    assert rows[0]["tokens"] == ["great", "wave", "kan", "agawa"] and rows[0]["method"] == "cfg_norm"
    assert [w["word"] for w in rows[1]["words"]] == ["greatwave", "kanagawa"]  # the pieces do not spell "odd"
    assert read_json(tmp_path / "run" / "run.json")["command"] == "explain"


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", "nonsense", '{"a": 1}', '{"a": [["a"]]}', '{"a": [["a", "b"]]}', '{"a": [["a", NaN]]}',
     '{"a": [[1, 1]]}', '{"a": [["a", true]]}'],
)  # fmt: skip
def test_malformed_attributions_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UsageError, match="a.json"):
        read_layer6(tmp_path / "a.json")
    with pytest.raises(UsageError, match="not a readable"):
        read_layer6(tmp_path / "none.json")


# The command


def command(*words: str) -> int:
    return cli._guarded(lambda: cli.app(list(words)))


def test_the_command_writes_rows_and_attributions(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mnemoscope.model.loading.settle_threads", lambda: 1)
    (tmp_path / "p.txt").write_text("an owl\nthe fox\n")
    out = tmp_path / "run"
    words = ["explain", "demo", "--prompts", str(tmp_path / "p.txt"), "--out", str(out), "--device", "cpu"]
    words += ["--param", "score=score_norm", "--param", "steps=[0, 1]", "--num-inference-steps", "4", "--seeds", "2"]
    assert command(*words, "--format", "layer6") == 0
    rows = read_rows(out)
    assert [[w["word"] for w in r["words"]] for r in rows] == [["an", "owl"], ["the", "fox"]] and len(
        rows[0]["series"]
    ) == 2
    assert list(json.loads((out / "attributions.json").read_text())) == ["an owl", "the fox"]
    assert command("import", str(out / "attributions.json"), "--format", "layer6", "--out", str(tmp_path / "i")) == 0
    assert [r["words"] for r in read_rows(tmp_path / "i")] == [r["words"] for r in rows]
    assert command(*words, "--overwrite", "--limit", "1") == 0
    assert not (out / "attributions.json").exists()
    capsys.readouterr()
    assert command(*words, "--format", "wen") == 2
    assert "give mnemoscope or layer6" in capsys.readouterr().err
    layer6 = ["import", str(tmp_path / "p.txt"), "--format", "layer6", "--out", str(tmp_path / "j")]
    assert command(*layer6, "--end-step", "3") == 2
    assert "leave those options out" in capsys.readouterr().err
