"""The command `localize`: runs, resume, calibration on ordinary prompts, tables of the released code, reports."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import mnemoscope as mn
import tiny
from mnemoscope.errors import UsageError
from mnemoscope.localization import run as localization
from mnemoscope.localization import statistics
from mnemoscope.localization.run import Localization, import_localization, run_localization
from mnemoscope.localization.tables import COLUMNS, LAYERS, export_nemo, read_nemo, write_nemo
from mnemoscope.model import ablation
from mnemoscope.prompts.prompt import as_prompts
from mnemoscope.run.run import read_json, read_rows
from small_neurons import small

PROMPTS = ["a cat", "a red bicycle", "a  cat"]
QUICK = {"threshold": 0.985, "pairwise_threshold": 0.0, "seeds": 2, "initial_theta": None, "initial_k": 4}


@pytest.fixture
def model() -> mn.Denoiser:
    return small()


@pytest.fixture(autouse=True)
def tiny_is_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """`small` as a MODEL, and no `settle_threads` in the tests' own process."""
    monkeypatch.setattr(mn.Denoiser, "from_pretrained", lambda name, **how: small())
    monkeypatch.setattr("mnemoscope.model.loading.settle_threads", lambda: 1)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    texts = {"prompts": PROMPTS, "ordinary": [f"a thing {k}" for k in range(8)]}
    for name, own in texts.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(own) + "\n")
    return {name: tmp_path / f"{name}.txt" for name in texts}


def test_a_run_has_a_row_for_each_prompt_and_a_summary(model: mn.Denoiser, tmp_path: Path) -> None:
    summary = run_localization(model, as_prompts(PROMPTS), tmp_path / "r", Localization("neurons", QUICK))
    rows = read_rows(tmp_path / "r")
    assert [row["prompt"] for row in rows] == PROMPTS and all(row["status"] == "ok" for row in rows)
    found = mn.localize(model, PROMPTS, "neurons", **QUICK)
    for row, each in zip(rows, found, strict=True):
        assert row["neurons"] == each.neurons and row["initial_neurons"] == each.initial_neurons
        assert row["ssim"] == each.after and row["initial_ssim"] == each.details["initial_ssim"]
    assert summary["network_evaluations"] == sum(each.evaluations for each in found)
    assert summary["located"] == 3 and summary["threshold"] == 0.985 and summary["conditions"]["seeds"] == 2
    assert "MS-SSIM of 1 scale, kernel 5 (reduced" in summary["similarity"]
    assert summary["layer_names"] == list(ablation.layers(model))
    missed = sum(not each.details["is_enough"] for each in found)
    assert len(summary["notes"]) == (missed > 0)
    top = summary["most_frequent"][0]
    assert top["prompts"] == sum(top["neuron"] in each.neurons.get(top["layer"], []) for each in found)


def test_dedup_looks_at_each_text_once(model: mn.Denoiser, tmp_path: Path) -> None:
    summary = run_localization(model, as_prompts(PROMPTS), tmp_path, Localization("random"), dedup=True)
    assert summary["left_out"] == 1 and [row["prompt"] for row in read_rows(tmp_path)] == PROMPTS[:2]


def test_negatives_make_statistics_and_threshold_once(model: mn.Denoiser, tmp_path: Path, monkeypatch) -> None:
    ordinary = as_prompts([f"a thing {k}" for k in range(6)])
    asked = Localization("neurons", {"seeds": 2, "theta_step": 2})
    summary = run_localization(model, as_prompts(["a cat"]), tmp_path, asked, negatives=ordinary)
    assert summary["network_evaluations"] == model.network_evaluations > 12
    assert summary["threshold"] == read_json(tmp_path / "calibration.json")["threshold"]
    assert (
        summary["statistics"]["number"] == 6 and statistics.load(model, tmp_path / "statistics.safetensors").count == 6
    )
    before = model.network_evaluations
    again = run_localization(model, as_prompts(["a cat"]), tmp_path, asked, negatives=ordinary)
    assert model.network_evaluations == before and {**again, "seconds": 0} == {**summary, "seconds": 0}


def test_a_run_that_stopped_goes_on(model: mn.Denoiser, tmp_path: Path, monkeypatch) -> None:
    asked, prompts = Localization("neurons", QUICK), as_prompts(PROMPTS)
    whole = run_localization(model, prompts, tmp_path / "whole", asked)
    work = localization.locate_rows

    def dies(model, some, **how):
        if some[0].text == PROMPTS[2]:
            raise KeyboardInterrupt
        return work(model, some, **how)

    monkeypatch.setattr(localization, "locate_rows", dies)
    with pytest.raises(KeyboardInterrupt):
        run_localization(model, prompts, tmp_path / "torn", asked)
    with (tmp_path / "torn" / "rows.jsonl").open("a") as f:
        f.write('{"id": "torn')
    monkeypatch.setattr(localization, "locate_rows", work)
    before = model.network_evaluations
    summary = run_localization(model, prompts, tmp_path / "torn", asked)
    assert read_rows(tmp_path / "torn") == read_rows(tmp_path / "whole")
    assert {**summary, "seconds": 0} == {**whole, "seconds": 0}
    assert model.network_evaluations - before == read_rows(tmp_path / "whole")[2]["evaluations"]
    with pytest.raises(UsageError, match="other settings .settings: params.seeds 2 there, 3 here"):
        run_localization(model, prompts, tmp_path / "torn", Localization("neurons", {**QUICK, "seeds": 3}))


def test_a_failed_prompt_is_a_row(model: mn.Denoiser, tmp_path: Path, monkeypatch) -> None:
    def fails(model, some, *rest, **options):
        raise RuntimeError("the network broke")

    monkeypatch.setattr(localization, "locate_rows", fails)
    summary = run_localization(model, as_prompts(["a cat"]), tmp_path, Localization("random"))
    assert summary["failed"] == 1 and "the network broke" in read_rows(tmp_path)[0]["error"]


def test_models_without_neurons_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no cross-attention"):
        run_localization(mn.Denoiser(tiny.unconditional()), as_prompts(["x"]), tmp_path / "r", Localization())
    assert not (tmp_path / "r").exists()


# Tables of the released code


def test_tables_go_both_ways(model: mn.Denoiser, tmp_path: Path) -> None:
    prompts = [replace(p, source={"URL": "http://x/1;2"}) for p in as_prompts(['"a; cat"', "a\nbicycle"])]
    run_localization(model, prompts, tmp_path / "r", Localization("neurons", QUICK))
    export_nemo(tmp_path / "r")
    text = (tmp_path / "r" / "nemo.csv").read_text()
    assert text.splitlines()[0] == ";".join(COLUMNS)
    summary = import_localization(tmp_path / "r" / "nemo.csv", tmp_path / "back")
    assert summary["prompts"] == 2
    for row, back in zip(read_rows(tmp_path / "r"), read_rows(tmp_path / "back"), strict=True):
        kept = ("id", "prompt", "url", "neurons", "initial_neurons", "ssim", "initial_ssim", "count", "before")
        assert {k: row[k] for k in kept} == {k: back[k] for k in kept}
    export_nemo(tmp_path / "back")
    assert (tmp_path / "back" / "nemo.csv").read_text() == text


def test_empty_rows_survive_the_table(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    lists = "[[], [], [], [], [], [], []]"
    file.write_text(
        f"{';'.join(COLUMNS)}\nplain;;{lists};0;{lists};0\n"
        f"twice;u;{lists.replace('[]', '[3, 1, 3]', 1)};0.4;{lists};0.5\n"
    )
    plain, twice = read_nemo(file)
    assert plain["neurons"] == {} and plain["ssim"] is None and plain["count"] == 0
    assert twice["initial_neurons"] == {LAYERS[0]: [1, 3]} and twice["ssim"] == 0.5 and twice["url"] == "u"
    write_nemo([plain], tmp_path / "back.csv")
    assert read_nemo(tmp_path / "back.csv") == [plain]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x;;[];0;[];0", "row 1 has neurons that cannot be read .expected 7 lists"),
        ("x;;__import__('os');0;[];0", "neurons that cannot be read"),
        ("x;;[[-1],[],[],[],[],[],[]];0;[[],[],[],[],[],[],[]];0", "expected numbers from 0 up"),
        ("x;;[[],[],[],[],[],[],[]];high;[[],[],[],[],[],[],[]];0", "similarity 'high'; expected a number"),
    ],
)
def test_malformed_tables_are_refused(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "t.csv"
    file.write_text(";".join(COLUMNS) + "\n" + line + "\n")
    with pytest.raises(UsageError, match=said):
        read_nemo(file)
    file.write_text("Caption,URL\nx,\n")
    with pytest.raises(UsageError, match="needs the columns Caption, URL"):
        read_nemo(file)


# The command


def test_the_three_commands_work_together(mnemoscope, files: dict[str, Path], tmp_path: Path) -> None:
    kept = ("--param", "seeds=2")
    code, said, _ = mnemoscope("localize", "statistics", "tiny", "--prompts", files["ordinary"], "--out", tmp_path)
    assert code == 0 and "Mean and deviation of 56 neurons in 7 layers over 8 prompts." in said
    code, said, _ = mnemoscope(
        "localize", "threshold", "tiny", "--prompts", files["ordinary"], "--out", tmp_path / "t", *kept
    )
    made = read_json(tmp_path / "t" / "summary.json")
    assert code == 0 and f"Threshold {made['threshold']:.3f}" in said and f"{made['threshold_of_maxima']:.3f}" in said
    assert made["network_evaluations"] == 16 and len(read_rows(tmp_path / "t")[0]["similarities"]) == 1
    code, said, _ = mnemoscope(
        "localize", "tiny", "--prompts", files["prompts"], "--out", tmp_path / "r", *kept, "--dedup", "--limit", "3",
        "--statistics", tmp_path / "statistics.safetensors", "--threshold", tmp_path / "t", "--format", "nemo",
        "--param", "pairwise_threshold=0", "--param", "search=grouped", "--param", "theta_step=2",
    )  # fmt: skip
    assert code == 0 and "2 prompts searched by neurons; 2 of them have" in said
    assert (tmp_path / "r" / "nemo.csv").is_file() and (tmp_path / "r" / "report.html").is_file()
    code, said, _ = mnemoscope("import", tmp_path / "r" / "nemo.csv", "--format", "nemo", "--out", tmp_path / "back")
    assert code == 0 and (tmp_path / "back" / "report.html").is_file()
    code, _, error = mnemoscope(
        "localize", "tiny", "--prompts", files["prompts"], "--out", tmp_path / "o",
        "--statistics", tmp_path / "statistics.safetensors", "--threshold", tmp_path / "t", "--param", "seeds=3",
    )  # fmt: skip
    assert code == 2 and "holds for other conditions (seeds 2 there, 3 here)" in error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "need statistics of usual ones"),
        (("--param", "initial_theta=null"), "No threshold is known for"),
        (("--method", "nothing"), "There is no localize method 'nothing'"),
        (("--param", "strength=2"), "has no parameter 'strength'"),
        (("--layers", "nine"), "takes Literal"),
        (("--format", "wen"), "--format wen is not known"),
        (("--method", "random", "--format", "nemo"), "NeMo's table holds similarities"),
    ],
)
def test_wrong_input_is_one_sentence(mnemoscope, files: dict[str, Path], tmp_path: Path, words, said: str) -> None:
    code, _, error = mnemoscope("localize", "tiny", "--prompts", files["prompts"], "--out", tmp_path / "r", *words)
    assert code == 2 and said in error and error.count("\n") == 1


def test_help_names_the_commands_and_the_options(mnemoscope) -> None:
    code, said, _ = mnemoscope("localize", "--help")
    assert code == 0 and all(name in said for name in ("statistics", "threshold", "localize MODEL"))
    code, said, _ = mnemoscope("localize", "demo", "--help")
    assert code == 0 and "--negatives" in said and "--dedup" in said


def test_the_report_shows_what_was_found(mnemoscope, files: dict[str, Path], tmp_path: Path) -> None:
    given = [f"--param={k}={json.dumps(v)}" for k, v in QUICK.items() if k != "threshold"]
    mnemoscope("localize", "tiny", "--prompts", files["prompts"], "--out", tmp_path / "r", "--threshold", 0.985, *given)
    page, rows = (tmp_path / "r" / "report.html").read_text(), read_rows(tmp_path / "r")
    for text in (
        "Neurons of each prompt",
        "Neurons that prompts share",
        "down 0.0",
        "red bicycle",
        "MS-SSIM of 1 scale",
    ):
        assert text in page
    assert f"{rows[0]['count']} neuron" in page
    assert {p.name for p in (tmp_path / "r" / "plots").iterdir()} == {"set-sizes.png", "layers.png"}
    assert "mnemoscope localize prompts tiny --prompts" in page and "--threshold 0.985" in page


@pytest.mark.slow
def test_a_killed_run_loses_no_row(tmp_path: Path) -> None:
    """kill -9 in the middle, then the same command: each prompt once, and the rows of a run that was not killed."""
    words = ["localize", "demo", "--prompts", "random:4", "--param", "initial_theta=null", "--param", "initial_k=60"]
    words += [
        "--threshold",
        "0.99",
        "--param",
        "pairwise_threshold=0",
        "--param",
        "seeds=2",
        "--param",
        "search=grouped",
    ]
    command = [sys.executable, "-m", "mnemoscope.cli", *words, "--device", "cpu", "--out"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    rows = tmp_path / "killed" / "rows.jsonl"
    with subprocess.Popen(
        [*command, str(rows.parent)], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as p:
        while not (rows.is_file() and rows.read_bytes().count(b"\n")) and p.poll() is None:
            time.sleep(0.05)
        p.send_signal(signal.SIGKILL)
    before = read_rows(rows.parent)
    assert 0 < len(before) < 4
    for folder in ("killed", "whole"):
        subprocess.run([*command, str(tmp_path / folder)], env=env, check=True, capture_output=True)
    after = read_rows(rows.parent)
    assert [{**old, **new} for old, new in zip(before, after, strict=False)] == after[: len(before)]
    assert after == read_rows(tmp_path / "whole") and len({row["id"] for row in after}) == 4
