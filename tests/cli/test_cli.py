"""The command line: exit codes, one-sentence errors, settings files, light help, and methods dropped in as files."""

import importlib
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import typer
from PIL import Image

import mnemoscope as mn
from mnemoscope import cli, features, planted, registry
from mnemoscope.errors import UsageError
from mnemoscope.planted import model as planted_model
from mnemoscope.run.run import read_rows
from mnemoscope.run.settings import parameters, read_settings

COMMANDS = ["demo", "audit", "detect", "explain", "localize", "rewrite", "generate", "sweep", "measure", "recover"]
COMMANDS += [
    "extract",
    "verify-list",
    "membership",
    "train",
    "experiment",
    "emm",
    "index",
    "import",
    "report",
    "list",
    "gate",
    "seal",
    "verify",
    "watch",
    "repair",
    "app",
    "bench",
]
HEAVY = ["torch", "gradio", "diffusers", "transformers", "pyarrow", "matplotlib", "PIL", "numpy"]
PROMPTS = ["memorized 0", "memorized 1", "ordinary 0", "ordinary 1"]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.txt"
    file.write_text("\n".join(PROMPTS) + "\n")
    return file


@pytest.fixture(autouse=True)
def planted_is_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """`planted` as a MODEL beside what can be loaded, and no `settle_threads` in the tests' own process."""
    load = mn.Denoiser.from_pretrained
    monkeypatch.setattr(
        mn.Denoiser, "from_pretrained", lambda name, **how: planted_model() if name == "planted" else load(name, **how)
    )
    monkeypatch.setattr("mnemoscope.model.loading.settle_threads", lambda: 1)
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def detect(mnemoscope, prompts: Path, tmp_path: Path):
    """`mnemoscope detect planted --prompts ... --out run` with further words."""

    def run(*words: object) -> tuple[int, str, str]:
        return mnemoscope("detect", "planted", "--prompts", prompts, "--out", tmp_path / "run", *words)

    return run


def python(code: str, *, path: Path | None = None, **options: object) -> subprocess.CompletedProcess:
    """Run code in a fresh interpreter that finds mnemoscope where this one does, or at another path."""
    found = str(path or Path(mn.__file__).parents[1])
    env = os.environ | {"PYTHONPATH": found, "COLUMNS": "200"}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, **options)


# Help


def test_help_of_every_command_imports_nothing_heavy() -> None:
    done = python(f"""
import sys
from mnemoscope import cli
for words in [[], *[[c] for c in {COMMANDS}]]:
    sys.argv = ["mnemoscope", *words, "--help"]
    try:
        cli.main()
    except SystemExit as left:
        assert left.code == 0, words
print([m for m in {HEAVY} if m in sys.modules])
""")
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("[]")
    assert all(f" {command} " in done.stdout for command in COMMANDS) and done.stdout.count("Usage: ") == 1 + len(
        COMMANDS
    )


def test_importing_the_package_imports_nothing_heavy() -> None:
    done = python(f"import sys, mnemoscope; print([m for m in {HEAVY} if m in sys.modules])")
    assert done.stdout.strip() == "[]"


def test_a_registry_of_names_imports_no_torch() -> None:
    done = python("import sys; from mnemoscope import registry; print(registry.names('score'), 'torch' in sys.modules)")
    assert "noise_norm" in done.stdout and done.stdout.strip().endswith("False")


def test_the_commands_are_those_that_the_help_tests_know(mnemoscope) -> None:
    code, out, _ = mnemoscope("--help")
    assert code == 0
    assert set(typer.main.get_command(cli.app).commands) == set(COMMANDS)


# Exit codes


def test_a_detection_ends_with_0_and_prints_its_result(detect, tmp_path: Path) -> None:
    code, out, err = detect()
    assert code == 0 and err == ""
    assert "4 prompts ranked" in out and "memorized 1" in out and "report.html" in out
    assert (tmp_path / "run" / "report.html").is_file()
    assert [r["prompt"] for r in read_rows(tmp_path / "run")] == PROMPTS


def test_a_run_with_failed_rows_ends_with_1(detect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("mnemoscope.detection.run.detect_rows", lambda *_: 1 / 0)
        code, out, _ = detect()
    assert code == 1 and "4 rows failed" in out
    assert detect()[0] == 0 and {r["status"] for r in read_rows(tmp_path / "run")} == {"ok"}


def test_an_interruption_ends_with_130_and_one_sentence_and_goes_on(detect, tmp_path: Path, monkeypatch) -> None:
    from mnemoscope.detection import run as detection

    detect_rows, calls = detection.detect_rows, []

    def interrupted(*given: object) -> list:
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return detect_rows(*given)

    with monkeypatch.context() as patch:
        patch.setattr(detection, "detect_rows", interrupted)
        code, _, err = detect("--batch-size", 1)
    assert code == 130 and err.strip() == "mnemoscope: interrupted; the same command goes on where it was."
    assert len(read_rows(tmp_path / "run")) == 2
    assert detect("--batch-size", 1)[0] == 0 and [r["prompt"] for r in read_rows(tmp_path / "run")] == PROMPTS


def test_a_full_disk_is_told_in_one_sentence(detect, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "rows.jsonl")

    monkeypatch.setattr("mnemoscope.run.run.append_lines", full)
    code, _, err = detect()
    assert code == 2
    assert err == "mnemoscope: No space left on device: rows.jsonl; mend that and give the same command to go on.\n"


def test_a_bug_of_ours_is_not_hidden(detect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnemoscope.detection.run.calibrate", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        detect()


# Errors in one sentence


WRONG = {
    "method": (["--method", "nosie_norm"], "There is no detect method 'nosie_norm'; available: "),
    "parameter": (
        ["--param", "width=3"],
        "score method 'noise_norm' has no parameter 'width'; it takes: p, units, steps.",
    ),
    "no value": (["--param", "steps"], "--param 'steps' is not a parameter; write name=value"),
    "no name": (["--param", "=1"], "--param '=1' is not a parameter"),
    "no YAML": (["--param", "steps=[1"], "--param 'steps=[1' could not be read as YAML, line 1: "),
    "step": (["--param", "steps=[99]"], "Step 99 was asked for, and the solver takes 50"),
    "steps": (["--param", "steps=most"], "steps was 'most'; give a number, a list of indices, all, or last."),
    "format": (["--format", "nemo"], "--format nemo is not known; give mnemoscope or wen."),
    "format of another method": (["--format", "wen", "--method", "random"], "--format wen holds noise_norm"),
    "batch size": (["--batch-size", "0"], "Batch size '0' is neither auto nor a number from 1 up."),
    "limit": (["--limit", "0"], "limit is 0 and must be at least 1"),
    "column": (["--column", "kaption"], "there is no column 'kaption'; give one of its columns: prompt"),
    "rate": (["--fpr", "0"], "fpr 0 was given; give a number between 0 and 1"),
    "seeds": (["--method", "noise_ssim"], "noise_ssim compares seeds"),
    "negatives": (["--negatives", "nowhere.txt"], "nowhere.txt: no such file"),
    "threshold": (["--threshold", "nowhere.json"], "There is no nowhere.json; give a detection's run or its summary"),
    "unit": (["--threshold", "0.4:kg"], "The threshold was '0.4:kg'; give a number, with a unit where it needs one"),
    "prompts twice": (["--prompts", "other.txt"], "--prompts was given 2 times, and only one would be read; give it"),
    "settings": (["--config", "nowhere.yaml"], "nowhere.yaml could not be read as YAML"),
}


def one_sentence(code: int, err: str) -> str:
    """What an error says, after checking that it is one line without a traceback and that the exit code is 2."""
    assert code == 2 and err.startswith("mnemoscope: ") and err.endswith("\n") and err.count("\n") == 1, err
    return err.removeprefix("mnemoscope: ").strip()


@pytest.mark.parametrize(("words", "said"), WRONG.values(), ids=WRONG.keys())
def test_what_the_user_can_mend_is_one_sentence(detect, words: list[str], said: str) -> None:
    code, _, err = detect(*words)
    assert said in one_sentence(code, err)


def test_of_a_number_that_is_given_twice_the_last_counts(detect, tmp_path: Path) -> None:
    assert detect("--limit", "3", "--limit", "1")[0] == 0
    assert [row["prompt"] for row in read_rows(tmp_path / "run")] == PROMPTS[:1]


@pytest.mark.parametrize("words", [["--method", "nosie_norm"], ["--param", "steps=[99]"], ["--fpr", "0"]])
def test_the_same_folder_serves_the_corrected_command(detect, words: list[str]) -> None:
    assert detect(*words)[0] == 2
    assert detect()[0] == 0


def test_a_missing_prompt_file_is_one_sentence(mnemoscope, tmp_path: Path) -> None:
    code, _, err = mnemoscope("detect", "planted", "--prompts", "nowhere.txt", "--out", tmp_path / "run")
    assert "nowhere.txt: no such file" in one_sentence(code, err)
    assert not (tmp_path / "run").exists()


def test_a_missing_model_is_one_sentence(mnemoscope, prompts: Path, tmp_path: Path) -> None:
    code, _, err = mnemoscope("detect", "nowhere", "--prompts", prompts, "--out", tmp_path / "run")
    assert "There is no model at 'nowhere'" in one_sentence(code, err)


def test_other_settings_in_the_folder_are_one_sentence_and_overwrite_helps(detect) -> None:
    assert detect()[0] == 0
    code, _, err = detect("--seeds", 2)
    assert "holds a run with other settings (settings: seeds 1 there, 2 here)" in one_sentence(code, err)
    assert detect("--seeds", 2, "--overwrite")[0] == 0


def test_a_threshold_of_other_conditions_is_one_sentence(mnemoscope, detect, tmp_path: Path, prompts: Path) -> None:
    ordinary = tmp_path / "ordinary.txt"
    ordinary.write_text("\n".join(f"ordinary {k}" for k in range(100)))
    assert detect("--negatives", ordinary)[0] == 0
    again = ["detect", "planted", "--prompts", prompts, "--threshold", tmp_path / "run"]
    code, out, _ = mnemoscope(*again, "--out", tmp_path / "same")
    assert code == 0 and "2 of 4 prompts look memorized" in out
    code, _, err = mnemoscope(*again, "--out", tmp_path / "other", "--seeds", 3)
    assert "holds for other conditions (seeds 1 there, 3 here); calibrate again" in one_sentence(code, err)


@pytest.mark.parametrize("command", ["audit", "generate"])
def test_a_missing_references_folder_is_one_sentence(mnemoscope, prompts: Path, tmp_path: Path, command: str) -> None:
    words = [command, "planted", "--prompts", prompts, "--references", tmp_path / "none", "--out", tmp_path / "run"]
    code, _, err = mnemoscope(*words)
    said = one_sentence(code, err)
    assert said.startswith(f"There is nothing at {tmp_path / 'none'}; give a folder")
    assert "Did you mean" not in said  # prompts.txt is beside it, and nothing like it


def test_a_report_of_no_run_is_one_sentence(mnemoscope, tmp_path: Path) -> None:
    code, _, err = mnemoscope("report", tmp_path / "nowhere")
    assert "is not a folder" in one_sentence(code, err)


@pytest.mark.parametrize("words", [["detect"], ["detect", "planted", "--sedes", "3"], ["dtect"]])
def test_a_command_that_cannot_be_parsed_ends_with_2_and_no_traceback(mnemoscope, words: list[str]) -> None:
    code, _, err = mnemoscope(*words)
    assert code == 2 and "Usage: " in err and "Traceback" not in err


# Options


def test_limit_reads_only_the_first_prompts(detect, tmp_path: Path) -> None:
    assert detect("--limit", 2)[0] == 0
    assert [r["prompt"] for r in read_rows(tmp_path / "run")] == PROMPTS[:2]


def test_parameters_and_sampling_reach_the_method(detect, tmp_path: Path) -> None:
    words = ["--param", "steps=[0, 2]", "--param", "p=1.0", "--seeds", 2, "--seed", 7, "--num-inference-steps", 5]
    assert detect(*words)[0] == 0
    row = read_rows(tmp_path / "run")[0]
    assert row["params"] == {"steps": [0, 2], "p": 1.0} and row["seeds"] == [7, 8] and row["timesteps"] == [801, 401]


def test_prompts_come_from_standard_input(mnemoscope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("ordinary 3\n\nnaïve ☃\n".encode()), "ascii"))
    assert mnemoscope("detect", "planted", "--prompts", "-", "--out", tmp_path / "run")[0] == 0
    assert [r["prompt"] for r in read_rows(tmp_path / "run")] == ["ordinary 3", "naïve ☃"]


def test_random_prompts_are_drawn_from_the_models_vocabulary_by_the_seed(mnemoscope, tmp_path: Path) -> None:
    for out, seed in (("a", 1), ("b", 1), ("c", 2)):
        words = ["--prompts", "random:5", "--seed", seed, "--method", "random", "--out", tmp_path / out]
        assert mnemoscope("detect", "planted", *words)[0] == 0
    a, b, c = ([r["prompt"] for r in read_rows(tmp_path / out)] for out in "abc")
    assert len(a) == 5 and a == b != c


def test_a_column_may_be_named(mnemoscope, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("id;legend;label\n1;memorized 1;1\n2;ordinary 1;0\n")
    words = ["--prompts", tmp_path / "p.csv", "--column", "legend", "--out", tmp_path / "run"]
    assert mnemoscope("detect", "planted", *words)[0] == 0
    assert [(r["prompt"], r["label"]) for r in read_rows(tmp_path / "run")] == [
        ("memorized 1", True),
        ("ordinary 1", False),
    ]
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["auc"] == 1


def test_format_wen_writes_prompts_and_negatives_to_files_of_their_own(mnemoscope, detect, prompts, tmp_path) -> None:
    assert detect("--format", "wen", "--negatives", prompts, "--param", "steps=2", "--seeds", 3)[0] == 0
    for name in ("wen.jsonl", "wen-negatives.jsonl"):
        records = [json.loads(line) for line in (tmp_path / "run" / name).read_text().splitlines()]
        assert [r["prompt"] for r in records] == PROMPTS and len(records[0]["uncond_noise_norm"]) == 3
    words = [tmp_path / "run" / "wen.jsonl", "--negatives", tmp_path / "run" / "wen-negatives.jsonl"]
    code, out, _ = mnemoscope("import", *words, "--first-step", 1, "--out", tmp_path / "imported")
    assert code == 0
    summary = json.loads((tmp_path / "imported" / "summary.json").read_text())
    assert summary["auc"] == pytest.approx(0.5) and summary["rows"] == 8
    second = [[s[1] for s in r["series"]] for r in read_rows(tmp_path / "run")]
    assert [r["score"] for r in read_rows(tmp_path / "imported")] == pytest.approx([sum(s) / 3 for s in second])


def test_import_refuses_a_broken_file_by_its_line(mnemoscope, tmp_path: Path) -> None:
    (tmp_path / "mem.jsonl").write_text('{"prompt": "a"}\n')
    code, _, err = mnemoscope("import", tmp_path / "mem.jsonl", "--out", tmp_path / "run")
    assert "mem.jsonl, line 1 is not a record of Wen et al." in one_sentence(code, err)


def test_generate_draws_and_compares(mnemoscope, prompts: Path, tmp_path: Path) -> None:
    sampling = ["--images", 1, "--num-inference-steps", 3]
    assert mnemoscope("generate", "planted", "--prompts", prompts, *sampling, "--out", tmp_path / "one")[0] == 0
    references = tmp_path / "one" / "images"
    words = ["--prompts", prompts, "--references", references, *sampling, "--out", tmp_path / "two"]
    code, out, _ = mnemoscope("generate", "planted", *words)
    assert code == 0 and "4 images generated for 4 prompts" in out
    assert [r["similarity"] for r in read_rows(tmp_path / "two")] == pytest.approx([1] * 4, abs=1e-3)


def test_audit_writes_one_report_of_both_parts(mnemoscope, prompts: Path, tmp_path: Path) -> None:
    words = ["--prompts", prompts, "--seeds", 1, "--images", 1, "--most", 1, "--num-inference-steps", 3]
    code, out, _ = mnemoscope("audit", "planted", *words, "--out", tmp_path / "run")
    assert code == 0 and "4 prompts ranked" in out and "generated for" in out
    assert (tmp_path / "run" / "report.html").is_file()
    assert mnemoscope("report", tmp_path / "run", "--out", tmp_path / "page.html")[0] == 0
    assert (tmp_path / "page.html").is_file()


def test_list_says_of_every_method_what_it_registers(mnemoscope) -> None:
    code, out, _ = mnemoscope("list", "--json")
    listed = {(each["kind"], each["name"]): each for each in json.loads(out)}
    assert code == 0 and set(listed) == {(kind, name) for kind in registry.PACKAGES for name in registry.names(kind)}
    for (kind, name), said in listed.items():
        found = registry.get(kind, name)
        assert (said["summary"], said["paper"], said["cost"]) == (found.summary, found.paper, found.cost)
        own = {k: "..." if p.default is p.empty else p.default for k, p in found.parameters.items()}
        steps = {"steps": found.steps} if kind == "score" else {}
        assert said["parameters"] == json.loads(json.dumps({**steps, **own}, default=str)), name
        assert said["strength"] == (found.strength and json.loads(json.dumps(found.strength)))


def test_list_fits_a_screen_imports_nothing_heavy_and_tells_near_misses(mnemoscope) -> None:
    done = python(f"""
import sys
from mnemoscope import cli
sys.argv = ["mnemoscope", "list"]
try:
    cli.main()
except SystemExit:
    print([m for m in {HEAVY} if m in sys.modules])
""")
    lines = done.stdout.splitlines()
    assert lines[-1] == "[]" and len(lines) < 40 and max(map(len, lines)) <= 90
    code, out, _ = mnemoscope("list", "measure")
    assert code == 0 and len(out.splitlines()) == len(registry.names("measure"))
    code, out, _ = mnemoscope("list", "random")
    assert code == 0 and "random (detect)" in out and "random (explain)" in out and "random (localize)" in out
    code, _, err = mnemoscope("list", "flipdd")
    assert one_sentence(code, err).endswith("Did you mean flipd?")


@pytest.mark.parametrize("words", [["--limit", "2", "--param", "steps=1"], ["--method", "random"]])
def test_the_bundled_model_is_called_demo(mnemoscope, prompts: Path, tmp_path: Path, words: list[str]) -> None:
    out = tmp_path / "run"
    code, _, _ = mnemoscope("detect", "demo", "--device", "cpu", "--prompts", prompts, "--out", out, *words)
    assert code == 0
    record = json.loads((out / "run.json").read_text())
    assert record["model"]["source"] == "demo" and record["device"] == "cpu"


# Settings files


def test_a_settings_file_gives_options_and_the_command_line_wins(detect, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("seeds: 3\nlimit: 3\nnum-inference-steps: 5\nbatch_size: 8\nparam:\n  steps: [0, 1]\n")
    assert detect("--config", file, "--limit", 1)[0] == 0
    (row,) = read_rows(tmp_path / "run")
    assert row["seeds"] == [0, 1, 2] and row["params"] == {"steps": [0, 1]} and row["timesteps"] == [801, 601]


def test_a_settings_file_may_give_the_model_and_everything_else(mnemoscope, prompts: Path, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(f"model: planted\nprompts: {prompts}\nout: {tmp_path / 'run'}\nparam: steps=2\noverwrite: true\n")
    for _ in range(2):
        assert mnemoscope("detect", "--config", file)[0] == 0
    assert read_rows(tmp_path / "run")[0]["params"] == {"steps": 2}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("sedes: 3", "sets 'sedes', which this command does not have; it has: batch_size, "),
        ("[1, 2]", "holds no options; write one a line, name: value."),
        ("a: [", "could not be read as YAML"),
        ("sedes: 3", "Did you mean seeds?"),
        ("config: a.yaml", "sets 'config', which this command does not have"),
        ("seed: true", "gives 'seed' true; give it a value that is no truth value"),
        ("overwrite: 3", "gives 'overwrite' 3; give it true or false."),
        ("seeds: [{a: 1}]", "gives 'seeds' more than one value; give it one."),
        ("prompts: {a: 1}", "gives 'prompts' more than one value; give it one."),
    ],
)
def test_a_wrong_settings_file_is_one_sentence(detect, tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "settings.yaml").write_text(content)
    code, _, err = detect("--config", tmp_path / "settings.yaml")
    assert said in one_sentence(code, err)


@pytest.mark.parametrize("content", ["seeds: many", "seeds: 0", "fpr: 2", "seeds: 2024-01-01"])
def test_a_value_of_the_wrong_kind_in_a_settings_file_is_no_traceback(detect, tmp_path: Path, content: str) -> None:
    (tmp_path / "settings.yaml").write_text(content)
    code, _, err = detect("--config", tmp_path / "settings.yaml")
    assert code == 2 and "Invalid value" in err and "Traceback" not in err


def test_settings_are_read_as_the_command_line_would_give_them(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "out: 2024-01-01\nseeds: 3\noverwrite: true\nlimit:\nparam: {p: 1.5, steps: all}\n"
    )
    known = ["out", "seeds", "overwrite", "limit", "param"]
    assert read_settings(tmp_path / "s.yaml", known, flags=["overwrite"]) == {
        "out": "2024-01-01",
        "seeds": "3",
        "overwrite": True,
        "limit": None,
        "param": ["p=1.5", "steps=all"],
    }


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("a=1", 1),
        ("a=0.5", 0.5),
        ("a=all", "all"),
        ("a=[0, 10]", [0, 10]),
        ("a=x=y", "x=y"),
        ("a=", None),
        (" a =1", 1),
    ],
)
def test_parameter_values_are_read_as_yaml(pair: str, value: object) -> None:
    assert parameters([pair]) == {"a": value}


# Real processes


@pytest.mark.slow
def test_the_command_in_a_process_of_its_own_tells_an_error_in_one_line(prompts: Path, tmp_path: Path) -> None:
    main = "import sys; from mnemoscope.cli import main; sys.argv = {}; main()"
    words = [
        "mnemoscope",
        "detect",
        "demo",
        "--prompts",
        str(prompts),
        "--out",
        str(tmp_path / "run"),
        "--param",
        "q=1",
    ]
    done = python(main.format(words))
    assert done.returncode == 2
    own = [line for line in done.stderr.splitlines() if not line.startswith("[transformers]")]
    assert own == ["mnemoscope: score method 'noise_norm' has no parameter 'q'; it takes: p, units, steps."]


@pytest.mark.slow
def test_an_interrupt_from_the_keyboard_ends_with_130_and_the_run_goes_on(mnemoscope, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("\n".join(f"a photo of the number {k}" for k in range(20)))
    words = ["detect", "demo", "--device", "cpu", "--prompts", str(tmp_path / "prompts.txt"), "--batch-size", "1"]
    words += ["--out", str(tmp_path / "run")]
    main = f"""
import signal, sys, time
from mnemoscope import cli
from mnemoscope.detection import run as detection
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may start its background jobs deaf to it
rows = detection.detect_rows
detection.detect_rows = lambda *given: time.sleep(0.5) or rows(*given)
sys.argv = {["mnemoscope", *words]}
cli.main()
"""
    env = os.environ | {"PYTHONPATH": str(Path(mn.__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-c", main], env=env, stderr=subprocess.PIPE, text=True) as process:
        rows, deadline = tmp_path / "run" / "rows.jsonl", time.monotonic() + 120
        while not (rows.exists() and rows.stat().st_size > 500) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert error.splitlines()[-1] == "mnemoscope: interrupted; the same command goes on where it was."
    assert 0 < len(read_rows(tmp_path / "run")) < 20
    assert mnemoscope(*words)[0] == 0
    assert len({r["id"] for r in read_rows(tmp_path / "run")}) == len(read_rows(tmp_path / "run")) == 20


# Methods


@pytest.mark.parametrize("package", ["scores", "detectors"])
def test_importing_the_file_of_a_method_does_not_hide_the_method(package: str, monkeypatch) -> None:
    name = {"scores": "noise_norm", "detectors": "random"}[package]
    methods = getattr(mn, package)
    monkeypatch.setattr(methods, name, getattr(methods, name))  # put back what is imported now
    monkeypatch.delitem(sys.modules, f"mnemoscope.{package}.{name}")
    module = importlib.import_module(f"mnemoscope.{package}.{name}")
    assert getattr(methods, name) is getattr(module, name) and callable(getattr(methods, name))


def test_an_unknown_method_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="nosie_norm"):
        mn.scores.nosie_norm  # noqa: B018
    with pytest.raises(UsageError, match="There is no score method 'nosie_norm'; available: .*noise_norm"):
        registry.get("score", "nosie_norm")
    assert dir(mn.scores) == registry.names("score") and dir(mn.detectors) == registry.names("detect")


STRANGER = '''
from jaxtyping import Float
from torch import Tensor

from mnemoscope.registry import score
from mnemoscope.model.step import Step


@score(paper="arXiv:9999.00001", cost="1 pair of evaluations")
def push_peak(step: Step, *, times: float = 1.0) -> Float[Tensor, " B"]:
    """Greatest element of the push that the text gives, in latent units."""
    return times * (step.eps_cond - step.eps_uncond).abs().flatten(1).amax(1)
'''


@pytest.mark.slow
def test_a_score_dropped_in_as_a_file_is_a_method_like_the_others(tmp_path: Path, prompts: Path) -> None:
    home, copy = Path(mn.__file__).parent, tmp_path / "src" / "mnemoscope"
    (copy / "scores").mkdir(parents=True)
    for source in [p for p in home.iterdir() if p.name not in ("scores", "__pycache__")]:
        (copy / source.name).symlink_to(source)
    for source in (home / "scores").glob("*.py"):
        (copy / "scores" / source.name).symlink_to(source)
    (copy / "scores" / "push_peak.py").write_text(STRANGER)
    done = python(
        textwrap.dedent(f"""
            import sys
            import mnemoscope as mn
            from mnemoscope import cli, planted, registry
            from mnemoscope.model.loading import quiet
            assert mn.__file__.startswith({str(copy)!r}) and "push_peak" in registry.names("score")
            model, prompts = planted.model(), planted.prompts(True) + planted.prompts(False)
            found = mn.detect(mn.Trajectory(model, prompts, 0), "push_peak", times=3.0)
            (step,) = mn.Trajectory(model, prompts, 0).first(1)
            assert found.equal(mn.scores.push_peak(step, times=3.0))
            assert found[:4].min() > found[4:].max()
            mn.Denoiser.from_pretrained = lambda *_, **__: model
            detect = ["detect", "planted", "--prompts", {str(prompts)!r}, "--out", {str(tmp_path / "run")!r}]
            for words in (["list"], ["list", "push_peak"], [*detect, "--method", "push_peak", "--param", "times=2.0"]):
                sys.argv = ["mnemoscope", *words]
                try:
                    cli.main()
                except SystemExit as left:
                    assert left.code == 0
        """),
        path=copy.parent,
    )
    assert done.returncode == 0, done.stderr
    names, _, about = done.stdout.partition("push_peak (score)\n")
    assert (
        "push_peak" in names
        and about.lstrip().startswith("Greatest element")
        and "arXiv:9999.00001" in done.stdout
        and "times=1.0" in done.stdout
    )
    assert [(r["prompt"], r["method"]) for r in read_rows(tmp_path / "run")] == [(p, "push_peak") for p in PROMPTS]


# Mitigation


def test_generate_mitigates_only_what_passes_a_threshold(mnemoscope, prompts: Path, tmp_path: Path) -> None:
    words = ["--images", 1, "--num-inference-steps", 10, "--mitigate", "embedding_descent", "--mitigate", "pad_fix"]
    words += ["--param", "iterations=3", "--param", "pad_fix.also_negative=true", "--threshold", "0.8", "--baseline"]
    code, out, err = mnemoscope("generate", "planted", "--prompts", prompts, *words, "--out", tmp_path / "run")
    assert code == 0, err
    rows = {r["prompt"]: r for r in read_rows(tmp_path / "run")}
    assert rows["ordinary 0"]["mitigation"] == [] and rows["ordinary 0"]["flagged"] is False
    assert rows["memorized 0"]["mitigation"] == ["embedding_descent", "pad_fix"]
    assert (tmp_path / "run" / rows["memorized 1"]["baseline"]).is_file()
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert settings["mitigations"][1] == {"name": "pad_fix", "params": {"also_negative": True}}


REFUSED = {
    "no mitigation": (["--threshold", "1"], "--threshold and --baseline say how to mitigate; give --mitigate NAME"),
    "no such one": (["--mitigate", "hope"], "There is no mitigate method 'hope'"),
    "no parameter": (
        ["--mitigate", "pad_fix", "--param", "tau=1"],
        "--param tau was given for pad_fix, and none of them",
    ),
    "no threshold": (["--mitigate", "pad_fix", "--threshold", "none.json"], "There is no none.json; give"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_mitigation_that_cannot_be_is_refused_before_any_work(mnemoscope, prompts, tmp_path, case: str) -> None:
    words, said = REFUSED[case]
    code, _, err = mnemoscope("generate", "planted", "--prompts", prompts, *words, "--out", tmp_path / "run")
    assert code == 2 and said in err and "Traceback" not in err and not (tmp_path / "run").exists()


def test_a_sweep_writes_its_curves_and_a_report(mnemoscope, prompts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "references"
    folder.mkdir()
    pixels = planted.images()[0].permute(1, 2, 0) * 127.5 + 127.5
    Image.fromarray(pixels.byte().numpy()).save(folder / "0.png")
    (folder / "captions.jsonl").write_text('{"file": "0.png", "caption": "memorized 0"}\n')
    words = ["--references", folder, "--mitigate", "embedding_noise", "--strength", "0.5", "--num-inference-steps", 5]
    code, out, err = mnemoscope("sweep", "planted", "--prompts", prompts, *words, "--out", tmp_path / "run")
    assert code == 0, err
    assert (tmp_path / "run" / "report.html").is_file()
    assert (tmp_path / "run" / "curves.csv").read_text().count("\n") == 3
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert [c["strength"] for c in summary["curves"]] == [None, 0.5] and summary["failed"] == 0
    assert summary["similarity"].startswith("cosine of mean-removed pixels") and summary["replication_threshold"] == 0.8


def test_a_sweep_compares_by_the_features_that_are_asked_for(mnemoscope, prompts: Path, tmp_path: Path) -> None:
    folder = tmp_path / "references"
    folder.mkdir()
    pixels = planted.images()[0].permute(1, 2, 0) * 127.5 + 127.5
    Image.fromarray(pixels.byte().numpy()).save(folder / "0.png")
    (folder / "captions.jsonl").write_text('{"file": "0.png", "caption": "memorized 0"}\n')
    words = ["--references", folder, "--mitigate", "pad_fix", "--num-inference-steps", 3, "--out", tmp_path / "run"]
    asked = ["--features", "sscd", "--weights", "distilled"]
    code, _, err = mnemoscope("sweep", "planted", "--prompts", prompts, *words, *asked)
    assert code == 0, err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["similarity"].startswith("cosine of sscd vectors, preset ")
    sscd = features.descriptor("sscd", weights="distilled")
    assert summary["replication_threshold"] == sscd.threshold
    rows = [r for r in read_rows(tmp_path / "run") if r["own_similarity"] is not None]
    for row in rows:
        drawn, own = sscd([Image.open(tmp_path / "run" / row["file"]), Image.open(folder / "0.png")])
        assert row["own_similarity"] == pytest.approx(float(drawn @ own), abs=1e-5)
    assert rows
    small = f"{summary['curves'][0]['images'] * 2 + summary['curves'][0]['other_images'] * 2} images and 1 references"
    assert summary["notes"] == [
        f"{small} are smaller than what the network sees: enlarged, they score too low against sharp ones."
    ]
    code, _, err = mnemoscope("sweep", "planted", "--prompts", prompts, *words)
    assert code == 2 and "holds a run with other settings" in err
