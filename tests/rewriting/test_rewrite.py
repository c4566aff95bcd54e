"""Rewriting as a run: rows, scores before and after, resuming, failures, the command and its exit codes."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import mnemoscope as mn
from chat_server import ChatServer, chat_server
from mnemoscope import cli, planted
from mnemoscope.detection.run import Detection
from mnemoscope.errors import UsageError
from mnemoscope.explanation.run import Explanation, run_explanation
from mnemoscope.methods.thresholds import conditions
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import as_prompts
from mnemoscope.prompts.runs import run_rows
from mnemoscope.rewriting.chat import Chat
from mnemoscope.rewriting.choice import Choice
from mnemoscope.rewriting.endpoint import Connection, Endpoint
from mnemoscope.rewriting.neighbours import neighbours
from mnemoscope.rewriting.offline import Offline
from mnemoscope.rewriting.outcome import export_layer6, selected, summarised
from mnemoscope.rewriting.perturbations import is_perturbations, read_perturbations
from mnemoscope.rewriting.rescoring import Scorer, detection_of
from mnemoscope.rewriting.rewrites import run_rewriting
from mnemoscope.run.run import Run, read_json, read_rows

KEY = "sk-planted-0123456789"
PROMPTS = ["memorized 1", "ordinary 2", "memorized 3"]
SAMPLING = {"num_inference_steps": 3, "guidance_scale": 3.0}


def row(id: str, prompt: str, scores: tuple[float, ...] = (), **others: object) -> dict:
    words = prompt.split()
    scores = scores or tuple(float(len(words) - k) for k in range(len(words)))
    listed = [
        {"word": w, "sum": s, "max": s, "first": k, "last": k}
        for k, (w, s) in enumerate(zip(words, scores, strict=True))
    ]
    about = {
        "tokens": words,
        "scores": scores,
        "words": listed,
        "method": "token_gradients",
        "params": {},
        "seeds": [0],
    }
    return {"id": id, "prompt": prompt, **about, "label": None, "kind": None, "status": "ok", **others}


def explained(folder: Path, *rows: dict, **record: object) -> Path:
    with Run(folder, "explain", {"seed": 0, "seeds": 1, **SAMPLING}, **record) as run:
        run.append(rows)
        run.finish()
    return folder


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    rows = [row("a", "red lion print"), row("b", "old oil lamp"), row("c", "view of a bay")]
    return explained(tmp_path / "explained", *rows)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


def chat(server: ChatServer, out: Path) -> Chat:
    return Chat(Connection(Endpoint("small", server.base_url, retries=1), KEY), out / "cache")


def letters() -> Offline:
    """A rewriter whose answer depends on the word and the draw alone."""
    return Offline("letters", lambda before, word, after: [word + x for x in "uvwxyz"])


# Rows


def test_a_row_for_each_prompt_level_and_draw(captions: Path, tmp_path: Path) -> None:
    summary = run_rewriting(captions, tmp_path / "out", letters(), Choice((1, 2, 9), rewrites=2))
    rows = read_rows(tmp_path / "out")
    assert [r["id"] for r in rows] == [f"{p}-{level}-{k}" for p in "abc" for level in (1, 2, 9) for k in (0, 1)]
    assert (summary["rows"], summary["rewrites"], summary["failed"], summary["prompts"]) == (18, 18, 0, 3)
    assert summary["network_evaluations"] == 0 and "mean_before" not in summary
    for r in rows:
        words = r["prompt"].split()
        assert r["status"] == "ok" and r["rewriter"] == "letters" and "score_after" not in r
        assert len(r["chosen"]) == min(r["level"], len(words))
        places = [w["first"] for w in r["chosen"]]
        changed = [k for k, (a, b) in enumerate(zip(words, r["rewrite"].split(), strict=True)) if a != b]
        assert changed == places and [words[k] for k in places] == [w["word"] for w in r["chosen"]]


def test_rows_do_not_depend_on_the_order_or_the_other_prompts(captions: Path, tmp_path: Path) -> None:
    turned = explained(tmp_path / "turned", *reversed(read_rows(captions)))
    alone = explained(tmp_path / "alone", read_rows(captions)[1])
    found = []
    for given in (captions, turned, alone):
        run_rewriting(given, tmp_path / f"out-{given.name}", letters(), Choice((1, 2)))
        found.append({r["id"]: r for r in read_rows(tmp_path / f"out-{given.name}")})
    assert found[0] == found[1] and found[2].items() <= found[0].items() and len(found[2]) == 10


def test_what_cannot_be_rewritten_is_a_failed_row_with_its_reason(tmp_path: Path) -> None:
    rows = [
        row("a", "red lion"),
        {"id": "b", "prompt": "lamp", "status": "failed", "error": "out of memory"},
        row("c", "blue bay", words=[{"word": "sea", "sum": 1.0, "max": 1.0, "first": 0, "last": 0}]),
        row("d", "", words=[]),
        row("e", "big", words=[{"word": "big", "sum": float("nan"), "max": 1.0, "first": 0, "last": 0}]),
        row("f", "kept"),
    ]
    rewriter = Offline("some", lambda before, word, after: [] if word == "kept" else ["other"])
    summary = run_rewriting(explained(tmp_path / "x", *rows), tmp_path / "out", rewriter, Choice((1,), rewrites=1))
    found = {r["id"]: r for r in read_rows(tmp_path / "out")}
    assert (summary["failed"], summary["rewrites"], summary["prompts"]) == (5, 1, 6)
    said = {i: r["error"] for i, r in found.items() if r["status"] == "failed"}
    assert said["b-0-0"] == "the explanation of this prompt failed: out of memory"
    assert "'sea'" in said["c-1-0"] and "no words" in said["d-1-0"] and "not finite" in said["e-1-0"]
    assert said["f-1-0"] == "no rewrite found" and all(r["prompt_id"] == i[0] for i, r in found.items())


@pytest.mark.parametrize("words", [[{"word": "red", "first": 0, "last": 0}], [3], "red", {"word": "red"}, None])
def test_an_explanation_whose_words_were_edited_is_named(tmp_path: Path, words: object) -> None:
    folder = explained(tmp_path / "x", row("a", "red lion"))
    (folder / "rows.jsonl").write_text(json.dumps(row("a", "red lion", words=words)) + "\n")
    with pytest.raises(UsageError, match=r"rows\.jsonl, line 1 is no row \(its words is"):
        run_rewriting(folder, tmp_path / "out", letters(), Choice())
    assert not (tmp_path / "out").exists()


def test_a_failed_explanation_without_its_prompt_is_named(tmp_path: Path) -> None:
    folder = explained(tmp_path / "x", row("b", "red lion"))
    (folder / "rows.jsonl").write_text(json.dumps({"id": "b", "status": "failed", "error": "out of memory"}) + "\n")
    with pytest.raises(UsageError, match=r"line 1 is no row \(it lacks prompt\)"):
        run_rewriting(folder, tmp_path / "out", letters(), Choice())


def test_only_an_explanation_can_be_rewritten(tmp_path: Path) -> None:
    with Run(tmp_path / "d", "detect", {}) as run:
        run.append([row("a", "red lion")])
    with pytest.raises(UsageError, match="is a run of 'detect'; give the folder of a mnemoscope explain run"):
        run_rewriting(tmp_path / "d", tmp_path / "out", letters(), Choice())
    with pytest.raises(UsageError, match="holds no rows"):
        run_rewriting(explained(tmp_path / "e"), tmp_path / "out", letters(), Choice())


def test_the_layer6_file_has_prompts_levels_and_their_rewrites(captions: Path, tmp_path: Path) -> None:
    run_rewriting(captions, tmp_path / "out", letters(), Choice((1, 3), rewrites=2))
    export_layer6(tmp_path / "out")
    found = json.loads((tmp_path / "out" / "perturbations.json").read_text())
    assert list(found) == ["red lion print", "old oil lamp", "view of a bay"]
    assert {level: len(each) for level, each in found["old oil lamp"].items()} == {"1": 2, "3": 2}
    (first, _) = found["old oil lamp"]["3"]
    assert first.keys() == {"perturbed_prompt", "selected_tokens"}
    assert first["selected_tokens"] == ["old", "oil", "lamp"] and len(first["perturbed_prompt"].split()) == 3


def test_the_layer6_file_comes_back_as_a_run_whose_rewrites_can_be_drawn(
    captions: Path, tmp_path: Path, mnemoscope: Callable[..., tuple]
) -> None:
    run_rewriting(captions, tmp_path / "out", letters(), Choice((1, 3), rewrites=2))
    export_layer6(tmp_path / "out")
    file = tmp_path / "out" / "perturbations.json"
    code, printed, said = mnemoscope("import", file, "--format", "layer6", "--out", tmp_path / "in")
    assert (code, said) == (0, "") and "12 rewrites of 3 prompts by layer6" in printed
    keys = ("prompt", "level", "k", "rewrite", "status")
    there, here = read_rows(tmp_path / "out"), read_rows(tmp_path / "in")
    assert [{k: r[k] for k in keys} for r in here] == [{k: r[k] for k in keys} for r in there]
    assert [[w["word"] for w in r["chosen"]] for r in here] == [[w["word"] for w in r["chosen"]] for r in there]
    assert {row["caption"] for _, row in run_rows(tmp_path / "in")} == {r["rewrite"] for r in there}
    (tmp_path / "one.json").write_text(
        json.dumps({"a cat": {"2": [{"perturbed_prompt": " ", "selected_tokens": ["cat</w>"]}]}})
    )
    code, printed, _ = mnemoscope("import", tmp_path / "one.json", "--format", "layer6", "--out", tmp_path / "one")
    assert code == 1 and "Failed, 1 row: the file has an empty rewrite" in printed


@pytest.mark.parametrize(
    "found",
    [
        {"a": {"x": []}},
        {"a": {"1": {}}},
        {"a": {"1": [{"perturbed_prompt": 3, "selected_tokens": []}]}},
        {"a": {"1": [{"perturbed_prompt": "b"}]}},
        {"a": {"1": []}},
        {"a": {"1": [{"perturbed_prompt": "b", "selected_tokens": []}]}, "b": [["b", 1.0]]},
    ],
)
def test_other_perturbation_files_are_refused(tmp_path: Path, found: dict) -> None:
    (tmp_path / "file.json").write_text(json.dumps(found))
    assert is_perturbations(tmp_path / "file.json")
    with pytest.raises(UsageError, match="expected {prompt: {level:"):
        read_perturbations(tmp_path / "file.json")


# Scores


@pytest.fixture
def planted_run(planted: Denoiser, tmp_path: Path) -> Path:
    asked = Explanation("token_gradients", {"score": "noise_norm"}, **SAMPLING)
    run_explanation(planted, as_prompts(PROMPTS), tmp_path / "explained", asked)
    return tmp_path / "explained"


def scorer(model: Denoiser, run: Path, **how: object) -> Scorer:
    return Scorer(model, detection_of(read_json(run / "run.json"), "noise_norm", {}, None), **how)


def test_scores_before_and_after_are_the_detectors(planted: Denoiser, planted_run: Path, tmp_path: Path) -> None:
    own = scorer(planted, planted_run)
    before = planted.network_evaluations
    summary = run_rewriting(planted_run, tmp_path / "out", neighbours(planted), Choice((1,), rewrites=4), scorer=own)
    rows = read_rows(tmp_path / "out")
    texts = {p: {r["rewrite"] for r in rows if r["prompt"] == p} for p in PROMPTS}
    expected = sum(2 + len(t) for t in texts.values())  # the prompt, each new text, one shared unconditional branch
    assert summary["network_evaluations"] == planted.network_evaluations - before == expected
    for r in rows:
        pair = mn.Trajectory(planted, [r["prompt"], r["rewrite"]], 0, **SAMPLING)
        assert [r["score_before"], r["score_after"]] == pytest.approx(mn.detect(pair, "noise_norm").tolist(), rel=1e-5)


def test_without_its_planted_word_a_prompt_is_no_longer_memorized(
    planted: Denoiser, planted_run: Path, tmp_path: Path
) -> None:
    own = scorer(planted, planted_run)
    limit = min(own(["memorized 1", "memorized 3"]).values())
    (tmp_path / "summary.json").write_text(json.dumps({"threshold": limit, "conditions": own.conditions}))
    fixed = scorer(planted, planted_run, threshold=tmp_path / "summary.json")
    summary = run_rewriting(planted_run, tmp_path / "out", neighbours(planted), Choice((1,), rewrites=8), scorer=fixed)
    for r in read_rows(tmp_path / "out"):
        kept = r["rewrite"] in {f"memorized {i}" for i in range(4)}  # a number that is near may be memorized too
        assert (r["score_after"] > 0.5 * limit) == kept, r["rewrite"]
    assert summary["passing"] == 2 and summary["selected_below"] == 2 and summary["threshold"] == limit
    assert summary["mean_selected"] < summary["mean_after"] < summary["mean_before"]


def test_a_threshold_of_other_conditions_is_refused(planted: Denoiser, planted_run: Path, tmp_path: Path) -> None:
    about = {"seeds": 4, "num_inference_steps": 3, "guidance_scale": 3.0}
    other = conditions(planted, "noise_norm", {}, **about)
    (tmp_path / "summary.json").write_text(json.dumps({"threshold": 1.0, "conditions": other}))
    with pytest.raises(UsageError, match="seeds 4 there, 1 here"):
        scorer(planted, planted_run, threshold=tmp_path / "summary.json")
    with pytest.raises(UsageError, match="no parameter 'q'"):
        Scorer(planted, Detection("noise_norm", {"q": 1}))


def test_scores_that_cannot_be_had_fail_the_rows_of_their_prompt_alone(
    planted: Denoiser, planted_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, real = scorer(planted, planted_run), Scorer.__call__

    def sometimes(self: Scorer, texts: list[str], seeds: list[int]) -> dict[str, float]:
        if "ordinary 2" in texts:
            raise ValueError("the score is nan")
        return real(self, texts, seeds)

    monkeypatch.setattr(Scorer, "__call__", sometimes)
    summary = run_rewriting(planted_run, tmp_path / "out", neighbours(planted), Choice((1,), rewrites=2), scorer=own)
    failed = {r["prompt"]: r["error"] for r in read_rows(tmp_path / "out") if r["status"] == "failed"}
    assert failed == {"ordinary 2": "ValueError: the score is nan"} and summary["failed"] == 2


def outcome_rows() -> list[dict]:
    """Two prompts that score 10 and 4, rewritten at two levels."""
    made = [("a", 1, 10, 8), ("a", 1, 10, 5), ("a", 2, 10, 2), ("a", 2, 10, 1), ("b", 1, 4, 4), ("b", 2, 4, 6)]
    return [
        {
            "id": f"{p}-{level}-{k}",
            "prompt_id": p,
            "level": level,
            "score_before": float(b),
            "score_after": float(a),
            "status": "ok",
        }
        for k, (p, level, b, a) in enumerate(made)
    ]


def test_the_first_rewrite_below_the_threshold_is_selected_or_else_the_lowest() -> None:
    def taken(threshold: float | None) -> list[str]:
        return [r["id"] for r in selected(outcome_rows(), threshold) if r["selected"]]

    assert taken(6.0) == ["a-1-1", "b-1-4"] and taken(2.5) == ["a-2-2", "b-1-4"] and taken(None) == ["a-2-3", "b-1-4"]


def test_the_summary_is_worked_out_by_hand() -> None:
    found = summarised(selected(outcome_rows(), 5.0), "letters", 5.0)
    means = {k: found[k] for k in ("mean_before", "mean_after", "mean_selected", "mean_change")}
    assert means == {"mean_before": 7.0, "mean_after": 4.5, "mean_selected": 3.0, "mean_change": -2.5}
    assert found["passing"] == 1 and found["selected_below"] == 1 and found["selected_below_interval"][0] < 0.5
    none_below = summarised(selected(outcome_rows(), 1.0), "letters", 1.0)
    assert none_below["passing"] == 2 and none_below["selected_below"] == 0
    assert found["levels"]["1"] | {"mean_change_interval": 0} == {
        "mean_change": -1.75,
        "mean_change_interval": 0,
        "passing": 2,
        "share_below": 0.0,
    }
    assert found["levels"]["2"]["share_below"] == 1.0 and found["levels"]["2"]["mean_change"] == (-8.5 + 2) / 2
    assert not any(isinstance(value, np.generic) for value in found.values())


# A language model, failures and resuming


def test_a_failed_request_is_tried_again_by_the_same_command_and_nothing_else_is(
    captions: Path, tmp_path: Path, server: ChatServer
) -> None:
    out, choice = tmp_path / "out", Choice((2,), rewrites=2)
    server.script = [None, None, "", "", ""]
    first = run_rewriting(captions, out, chat(server, out), choice)
    assert (first["failed"], first["rewrites"], len(server.asked)) == (1, 5, 8)
    (failed,) = [r for r in read_rows(out) if r["status"] == "failed"]
    assert failed["id"] == "b-2-0" and failed["error"] == "the answer is empty, 3 times" and failed["rewrite"] is None
    second = run_rewriting(captions, out, chat(server, out), choice)
    assert (second["failed"], second["rewrites"], len(server.asked)) == (0, 6, 9)
    assert server.captions[8] == server.captions[2]


def test_answers_outlive_overwrite_and_serve_other_levels(captions: Path, tmp_path: Path, server: ChatServer) -> None:
    out = tmp_path / "out"
    run_rewriting(captions, out, chat(server, out), Choice((2,), rewrites=2))
    before = read_rows(out)
    assert len(server.asked) == 6
    run_rewriting(captions, out, chat(server, out), Choice((2,), rewrites=2), overwrite=True)
    assert read_rows(out) == before and len(server.asked) == 6
    run_rewriting(captions, out, chat(server, out), Choice((1, 2), rewrites=2), overwrite=True)
    assert len(server.asked) == 12


KILLED = """
import sys
from pathlib import Path
from mnemoscope.rewriting.chat import Chat
from mnemoscope.rewriting.choice import Choice
from mnemoscope.rewriting.endpoint import Connection, Endpoint
from mnemoscope.rewriting.rewrites import run_rewriting
explained, out, url, key = sys.argv[1:]
chat = Chat(Connection(Endpoint("small", url, retries=1), key), Path(out) / "cache")
run_rewriting(Path(explained), Path(out), chat, Choice((2,), rewrites=3))
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_and_asks_only_what_is_missing(captions: Path, tmp_path: Path, server: ChatServer) -> None:
    out, choice = tmp_path / "out", Choice((2,), rewrites=3)
    server.script = [None] * 5 + ["silent"]
    env = os.environ | {"PYTHONPATH": str(Path(mn.__file__).parents[1])}
    words = [sys.executable, "-c", KILLED, str(captions), str(out), server.base_url, KEY]
    with subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert server.wait_for(6)
        process.send_signal(signal.SIGKILL)
        printed, _ = process.communicate()
    server.release.set()
    assert KEY.encode() not in printed and len(read_rows(out)) == 3 and not (out / "summary.json").exists()
    summary = run_rewriting(captions, out, chat(server, out), choice)
    assert summary["rewrites"] == 9 and len(server.asked) == 9 + 1  # the one that was never answered, again
    whole = tmp_path / "whole"
    run_rewriting(captions, whole, chat(server, whole), choice)
    assert read_rows(out) == read_rows(whole)


# The command


@pytest.fixture
def rewrite(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path):
    """`mnemoscope rewrite ... --out out`: exit code and all that was printed."""
    load = mn.Denoiser.from_pretrained
    monkeypatch.setattr(
        mn.Denoiser, "from_pretrained", lambda name, **how: planted.model() if name == "planted" else load(name, **how)
    )
    monkeypatch.setattr("mnemoscope.model.loading.settle_threads", lambda: 1)
    monkeypatch.chdir(tmp_path)
    for name in ("MNEMOSCOPE_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)

    def run(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["mnemoscope", "rewrite", *map(str, words), "--out", str(tmp_path / "out")])
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        printed = capfd.readouterr()
        return left.value.code, (printed.out + printed.err).strip()

    return run


def test_the_command_needs_no_key_and_scores_with_the_explained_model(
    rewrite, planted_run: Path, tmp_path: Path
) -> None:
    code, printed = rewrite(planted_run, "--level", 1, "--level", 2, "--rewrites", 2, "--format", "layer6")
    assert code == 0 and "12 rewrites of 3 prompts by neighbours" in printed
    assert (tmp_path / "out" / "report.html").is_file()
    rows = read_rows(tmp_path / "out")
    assert len(rows) == 12 and all(r["score_after"] > 0 and r["rewriter"] == "neighbours" for r in rows)
    record = read_json(tmp_path / "out" / "run.json")
    assert record["model"]["source"] == "planted" and record["settings"]["levels"] == [1, 2]
    assert (tmp_path / "out" / "perturbations.json").is_file()
    assert rewrite(planted_run, "--level", 1, "--rewrites", 2)[0] == 2  # other settings
    assert rewrite(planted_run, "--level", 1, "--rewrites", 2, "--overwrite")[0] == 0
    assert not (tmp_path / "out" / "perturbations.json").exists()


@pytest.mark.parametrize("place", ["environment", "file"])
def test_the_key_is_never_written_or_printed(
    rewrite, captions: Path, tmp_path: Path, server: ChatServer, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    if place == "environment":
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
    else:
        (tmp_path / ".env").write_text(f"MNEMOSCOPE_API_KEY={KEY}\n")
    server.script = [500, None, "refused", "refused", "refused"]
    words = [captions, "--model", "small", "--base-url", server.base_url, "--score", "none", "--rewrites", 1]
    code, printed = rewrite(*words)
    assert code == 1 and len(server.asked) == 6 and KEY not in printed
    assert {a["headers"]["Authorization"] for a in server.asked} == {f"Bearer {KEY}"}
    assert rewrite(*words)[0] == 0
    server.script = [None] * 7 + [401]
    code, printed = rewrite(*words, "--overwrite", "--seed", 1)
    assert code == 2 and "\n" not in printed and "refused the key (status 401)" in printed and KEY not in printed
    files = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    assert len(files) > 4 and not any(KEY.encode() in p.read_bytes() for p in files)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "m", "--masked-lm", "x"], "More than one of --model, --masked-lm and --wordnet"),
        (["--base-url", "http://localhost/v1"], "--base-url was given without --model"),
        (["--model", "m"], "No key was found for https://api.openai.com/v1"),
        (["--wordnet", "nowhere", "--score", "none"], "nowhere holds no index.noun"),
        (["--masked-lm", "nowhere", "--score", "none"], "nowhere could not be loaded as a masked language model"),
        (["--wordnet", "nowhere", "--score", "none", "--seeds", "2"], "--score none was given"),
        (["--level", "0"], "--level 0 was given"),
        (["--format", "csv"], "--format csv is not known"),
        ([], "names no model; give --rescore MODEL"),
        (["--rescore", "planted", "--score", "nose"], "There is no detect method 'nose'"),
    ],
)
def test_what_the_user_has_to_mend_is_one_sentence_and_exit_code_2(
    rewrite, captions: Path, tmp_path: Path, words: list[str], said: str
) -> None:
    code, printed = rewrite(captions, *words)
    assert code == 2 and said in printed and printed.startswith("mnemoscope: ") and "\n" not in printed
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_no_longer_the_explained_one_is_refused(rewrite, planted_run: Path) -> None:
    record = read_json(planted_run / "run.json")
    record["model"]["weights"] = "0" * 16
    (planted_run / "run.json").write_text(json.dumps(record))
    code, printed = rewrite(planted_run, "--rewrites", 1)
    assert code == 2 and "planted has other weights than when it was explained" in printed
    assert rewrite(planted_run, "--rewrites", 1, "--rescore", "planted")[0] == 0


def test_a_settings_file_may_hold_the_options(rewrite, captions: Path, tmp_path: Path, server: ChatServer) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(f"model: small\nbase-url: {server.base_url}\nscore: none\nrewrites: 1\n")
    assert rewrite(captions, "--config", file)[0] == 0
    assert len(server.asked) == 3
    shutil.rmtree(tmp_path / "out")
    assert rewrite(captions, "--config", file, "--rewrites", 2)[0] == 0
    assert len(server.asked) == 9
