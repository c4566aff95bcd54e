"""What a run folder promises: nothing half written, nothing false after a kill, damage named in one sentence."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mnemoscope import planted as truth
from mnemoscope.detection.run import Detection, run_detection
from mnemoscope.errors import UsageError, plain
from mnemoscope.generation.run import Generation, run_generation
from mnemoscope.job.batching import Batch, Pass, run_batches
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import as_prompts
from mnemoscope.run import run as run_module
from mnemoscope.run import writing
from mnemoscope.run.image_rows import GenerateRow
from mnemoscope.run.reading import ADVICE, read_bytes, read_json
from mnemoscope.run.row_kinds import KINDS
from mnemoscope.run.rows import AnyRow, DetectRow, Word
from mnemoscope.run.run import Run, read_rows
from mnemoscope.run.schema import files_of, fits, misfit
from mnemoscope.run.whole import is_whole
from mnemoscope.run.work import work_of
from mnemoscope.run.yaml_values import read_yaml, yaml_value
from places import ROOT

ASKED = {"num_inference_steps": 2, "guidance_scale": 3.0}


def row(name: str, **values: object) -> dict:
    return {"id": name, "prompt": f"prompt {name}", "score": 0.5, "status": "ok", **values}


def begun(folder: Path, *names: str) -> Path:
    """A detection's folder with these rows."""
    with Run(folder, "detect", {"seeds": 1}) as run:
        for name in names:
            run.append([row(name)], evaluations=2, seconds=1.0)
        run.finish()
    return folder


# Written whole


def test_a_file_that_cannot_be_written_leaves_the_old_one_and_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    writing.write_whole(file, "old")

    def fails(opened: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        writing.write_whole(file, fails)
    assert file.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    for content in ("one", "two"):
        with writing.whole(tmp_path / "pipeline") as partial:
            partial.mkdir()
            (partial / content).write_text(content)
    assert [p.name for p in (tmp_path / "pipeline").iterdir()] == ["two"]
    assert [p.name for p in tmp_path.iterdir()] == ["pipeline"]


def test_what_the_disk_says_through_a_library_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space left") as caught, writing.whole(tmp_path / "a"):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert caught.value.errno == 28


def test_leftovers_of_a_kill_go_when_the_run_is_opened_and_those_of_a_run_inside_stay(tmp_path: Path) -> None:
    run = begun(tmp_path / "run", "a")
    inner = begun(run / "trainings" / "x", "b")
    lost = [run / ".report.html.77.partial", run / "images" / ".a.png.77.partial", run / "pipeline" / ".u.7.partial"]
    kept = [inner / ".rows.jsonl.77.partial", run / "notes.partial"]
    for file in (*lost, *kept):
        file.parent.mkdir(exist_ok=True)
        file.write_text("half")
    (run / "checkpoints" / ".step-000004.7.partial").mkdir(parents=True)
    Run(run, "detect", {"seeds": 1}).close()
    assert not any(f.exists() for f in lost) and all(f.exists() for f in kept)
    assert not list((run / "checkpoints").iterdir())


@pytest.mark.parametrize("dies_after", range(0, 38, 3))
def test_an_overwrite_that_was_killed_never_says_what_is_no_longer_there(tmp_path, monkeypatch, dies_after) -> None:
    folder = tmp_path / "run"
    with Run(folder, "generate", {}) as run:
        Image.new("RGB", (2, 2)).save((folder / "images").mkdir() or folder / "images" / "a.png")
        made = {"prompt_id": "p", "prompt": "a", "seed": 0, "file": "images/a.png", "mitigation": [], "status": "ok"}
        run.append([{"id": "a", **made}])
        run.finish(images=1)
    left = [dies_after]
    real = run_module.remove

    def dies(path: Path) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        real(path)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "remove", dies)
        with pytest.raises(KeyboardInterrupt):
            Run(folder, "generate", {}, overwrite=True)
    has_image = (folder / "images" / "a.png").exists()
    assert has_image or not (folder / "rows.jsonl").exists() and not (folder / "summary.json").exists()
    with Run(folder, "generate", {}) as run:
        assert run.done == ({"a"} if (folder / "rows.jsonl").stat().st_size else set())


# Work


def test_the_work_of_rows_counts_once_however_often_it_was_done() -> None:
    first = {"evaluations": 4, "seconds": 1.0, "rows": ["a", "b"]}
    lost = {"evaluations": 8, "seconds": 1.0, "rows": ["c", "d", "e", "f"]}
    again = {"evaluations": 2, "seconds": 1.0, "rows": ["c"]}
    parts = [{"evaluations": n, "seconds": 1.0, "part": "calibration"} for n in (7, 5)]
    old = {"evaluations": 3, "seconds": 1.0}
    found = work_of([first, lost, again, *parts, old], ["a", "b", "c", "d"])
    assert [w["evaluations"] for w in found] == [4, 2, 2, 5, 3]


def test_a_kill_between_work_and_rows_counts_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = run_module.append_lines

    def dies(file: Path, lines: list[str]) -> None:
        if file.name == "rows.jsonl" and len(lines) and "b" in lines[0]:
            raise KeyboardInterrupt
        real(file, lines)

    with monkeypatch.context() as patch, Run(tmp_path, "detect", {}) as run:
        patch.setattr(run_module, "append_lines", dies)
        run.append([row("a")], evaluations=3)
        with pytest.raises(KeyboardInterrupt):
            run.append([row("b")], evaluations=3)
    with Run(tmp_path, "detect", {}) as run:
        run.append([row("b")], evaluations=3)
        assert run.finish()["network_evaluations"] == 6
    assert len((tmp_path / "work.jsonl").read_text().splitlines()) == 2


# Rows that are checked

DAMAGE = {
    "garbage": b"garbage\n",
    "NUL": b"\0\0\0\n",
    "a list": b"[1]\n",
    "no status": b'{"id": "a"}\n',
    "no score": b'{"id": "a", "prompt": "a", "status": "ok"}\n',
    "text for a number": b'{"id": "a", "prompt": "a", "status": "ok", "score": "high"}\n',
    "NaN": b'{"id": "a", "prompt": "a", "status": "ok", "score": NaN}\n',
    "a truth value": b'{"id": "a", "prompt": "a", "status": "ok", "score": true}\n',
    "infinity": b'{"id": "a", "prompt": "a", "status": "ok", "score": 1e999}\n',
    "a strange status": b'{"id": "a", "prompt": "a", "status": "done", "score": 1}\n',
    "digits without end": b'{"id": "a", "prompt": "a", "status": "ok", "score": ' + b"9" * 5000 + b"}\n",
    "depth": b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_row_has_the_same_advice_from_report_and_resume(tmp_path: Path, damage: bytes) -> None:
    from mnemoscope.report import write

    folder = begun(tmp_path / "run", "a", "b")
    (folder / "rows.jsonl").write_bytes((folder / "rows.jsonl").read_bytes() + damage)
    said = []
    for act in (lambda: Run(folder, "detect", {"seeds": 1}), lambda: write([folder]), lambda: read_rows(folder)):
        with pytest.raises(UsageError, match=r"rows\.jsonl, line 3 is no row") as caught:
            act()
        said.append(str(caught.value))
    assert len(set(said)) == 1 and said[0].endswith(ADVICE) and len(said[0]) < 400


@pytest.mark.parametrize("damage", [b"garbage\n", b"\0\n", b"[]\n", b'{"evaluations": "x", "seconds": 1}\n', b"{}\n"])
def test_damaged_work_has_that_advice_too(tmp_path: Path, damage: bytes) -> None:
    folder = begun(tmp_path / "run", "a")
    with (folder / "work.jsonl").open("ab") as f:
        f.write(damage)
    with pytest.raises(UsageError, match=r"work\.jsonl, line 2 .*edited or damaged"):
        Run(folder, "detect", {"seeds": 1})


@pytest.mark.parametrize(
    "record",
    [b"{", b"[]", b'{"command": 3}', b'{"command": "detect", "settings": []}', b"[" * 100_000, b"\xff\0", b""],
)
def test_a_damaged_record_has_it_as_well(tmp_path: Path, record: bytes) -> None:
    from mnemoscope.report import write

    folder = begun(tmp_path / "run", "a")
    (folder / "run.json").write_bytes(record)
    for act in (lambda: Run(folder, "detect", {"seeds": 1}), lambda: write([folder])):
        with pytest.raises(UsageError, match="run.json"):
            act()


def test_a_run_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    folder = begun(tmp_path / "run", "a")
    (folder / "run.json").write_text(json.dumps(json.loads((folder / "run.json").read_text()) | {"schema": 99}))
    with pytest.raises(UsageError, match="newer mnemoscope"):
        read_rows(folder)


@pytest.mark.parametrize("name", ["run.json", "rows.jsonl", "summary.json", "work.jsonl"])
def test_a_pipe_or_a_device_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    folder = begun(tmp_path / "run", "a")
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(UsageError, match="no plain file"):
        read_json(folder / name)
    if name != "summary.json":
        with pytest.raises(UsageError, match="no plain file"):
            Run(folder, "detect", {"seeds": 1})


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(UsageError, match="no plain file"):
        read_bytes(Path("/dev/zero"))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_of_row_names_its_columns(kind: type) -> None:
    assert kind.__doc__ and set(AnyRow.__annotations__) <= set(kind.__annotations__)
    failure = {"status": "failed", "id": "a", "error": "no"}
    assert misfit(failure | {"prompt": "a red fox"}, kind) is None
    assert misfit(failure, kind) == ("it lacks prompt" if "prompt" in kind.__required_keys__ else None)
    assert misfit({"status": "ok", "id": "a"}, kind)


def test_what_a_killed_process_left_beside_a_file_goes_and_a_living_ones_stays(tmp_path: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    names = [
        f".a.bin.{gone.stdout.strip()}.partial",
        ".a.bin.old.partial",
        f".a.bin.{os.getpid()}.partial",
        ".b.bin.1.partial",
    ]
    for name in (*names, "a.bin.7.partial", "a.bin"):
        (tmp_path / name).write_text("half")
    writing.clean_beside(tmp_path / "a.bin")
    assert {p.name for p in tmp_path.iterdir()} == {*names[2:], "a.bin.7.partial", "a.bin"}


def test_types_are_checked_to_the_bottom() -> None:
    assert misfit(row("a", per_seed=[1, "x"]), DetectRow) == "its per_seed is [1, 'x']"
    assert misfit(row("a", unheard_of={"x": 1}), DetectRow) is None
    word = {"word": "fox", "sum": 1.0, "max": 1.0, "first": 0, "last": 0}
    assert fits([word, word | {"sum": None}], list[Word]) and not fits([word | {"first": "0"}], list[Word])
    assert not fits([{k: v for k, v in word.items() if k != "sum"}], list[Word]) and not fits([3], list[Word])
    assert fits({"a": [1]}, dict[str, list[int]]) and not fits({"a": [1.5]}, dict[str, list[int]])
    assert not fits(True, int) and not fits(float("nan"), float) and fits(None, str | None)
    assert not fits(10**400, int) and not fits(-(10**400), float) and fits(10**30, int)
    assert files_of({"file": "images/a.png", "match": None, "baseline": "images/b.png"}, GenerateRow) == [
        "images/a.png",
        "images/b.png",
    ]


def test_the_page_on_runs_is_made_from_the_types() -> None:
    from mnemoscope.run.documented import inserted

    page = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    assert inserted(page) == page, "python -m mnemoscope.run.documented docs/runs.md"


# Files that rows name


def test_a_picture_that_is_lost_or_torn_is_drawn_again(tmp_path: Path, planted: Denoiser) -> None:
    prompts = as_prompts(["memorized 0", "ordinary 1", "ordinary 2"])

    def draw() -> dict:
        return run_generation(planted, prompts, tmp_path, Generation(2, **ASKED), batch=2)

    summary = draw()
    before = {p.name: p.read_bytes() for p in (tmp_path / "images").iterdir()}
    first, second, *_ = sorted((tmp_path / "images").iterdir())
    first.unlink()
    second.write_bytes(second.read_bytes()[:-20])
    again = draw()
    assert {p.name: p.read_bytes() for p in (tmp_path / "images").iterdir()} == before
    assert again["network_evaluations"] == summary["network_evaluations"] and again["images"] == 6


def test_what_ends_early_is_not_whole(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg")
    save_file({"map": np.zeros(3, np.float32)}, tmp_path / "a.safetensors")
    for file in sorted(tmp_path.iterdir()):
        assert is_whole(file), file
        file.write_bytes(file.read_bytes()[:-1])
        assert not is_whole(file), file
    assert not is_whole(tmp_path / "none.png")
    (tmp_path / "x.safetensors").write_bytes(b"\xff" * 9)
    assert not is_whole(tmp_path / "x.safetensors")


# Batches


class Watched:
    """How many samples went through a network together at most."""

    def __init__(self, model: Denoiser, monkeypatch: pytest.MonkeyPatch) -> None:
        self.most = 0
        predict, decode = model.family.predict, model.family.decode
        monkeypatch.setattr(model.family, "predict", lambda x, t, cond: predict(self.seen(x), t, cond))
        monkeypatch.setattr(model.family, "decode", lambda x: decode(self.seen(x)))

    def seen(self, x: torch.Tensor) -> torch.Tensor:
        self.most = max(self.most, len(x))
        return x


@pytest.mark.parametrize("batch", [1, 3])
def test_a_batch_bounds_seeds_and_unconditional_samples(planted, tmp_path, monkeypatch, batch: int) -> None:
    prompts = as_prompts(["memorized 0", "ordinary 1"])
    run_generation(planted, prompts, tmp_path / "all", Generation(5, **ASKED), batch=64)
    watched = Watched(planted, monkeypatch)
    run_generation(planted, prompts, tmp_path / "g", Generation(5, **ASKED), batch=batch)
    run_detection(planted, prompts, tmp_path / "d", Detection(seeds=4), batch=batch)
    assert watched.most == batch and planted.at_once is None
    for file in (tmp_path / "all" / "images").iterdir():
        one, other = (np.asarray(Image.open(f), float) for f in (file, tmp_path / "g" / "images" / file.name))
        assert np.abs(one - other).max() <= 1


@pytest.mark.parametrize("method", ["token_gradients", "token_occlusion", "bright_ending"])
def test_explanations_are_bounded_as_well(bundled, tmp_path, monkeypatch, method: str) -> None:
    from mnemoscope.explanation.run import Explanation, run_explanation

    watched = Watched(bundled, monkeypatch)
    prompts = as_prompts(["a red fox"])
    asked = Explanation(method, seeds=2, num_inference_steps=1)
    run_explanation(bundled, prompts, tmp_path, asked, batch=1)
    assert watched.most == 1


SHORT = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
    RuntimeError("[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    MemoryError(),
]


@pytest.mark.parametrize("error", SHORT, ids=["cuda", "cpu", "mps", "python"])
def test_out_of_memory_halves_prompts_first_and_samples_then_for_good(planted, tmp_path: Path, error) -> None:
    tried: list[tuple[int, int | None]] = []

    def work(prompts: list) -> list[dict]:
        tried.append((len(prompts), planted.at_once))
        if len(prompts) > 3 or (prompts[0].text == "heavy" and planted.at_once != 1):
            raise error
        return [row(p.id) for p in prompts]

    prompts = as_prompts([*(f"light {k}" for k in range(12)), "heavy", "last"])
    with Run(tmp_path, "detect", {}) as run, planted.bounded(4):
        run_batches(run, planted, prompts, 6, Pass("test", work))
        assert len(run.done) == 14 and all(r["status"] == "ok" for r in run.rows()) and planted.at_once == 4
    assert tried == [(6, 4), (3, 4), (3, 4), (3, 4), (3, 4), (2, 4), (1, 4), (1, 2), (1, 1), (1, 1)]


def test_what_does_not_fit_by_itself_is_a_failed_row_and_the_others_are_not(planted: Denoiser, tmp_path: Path) -> None:
    def work(prompts: list) -> list[dict]:
        if any(p.text == "heavy" for p in prompts):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return [row(p.id) for p in prompts]

    with Run(tmp_path, "detect", {}) as run:
        run_batches(run, planted, as_prompts(["light", "heavy", "last"]), 3, Pass("test", work))
        light, heavy, last = run.rows()
    assert (light["status"], last["status"]) == ("ok", "ok") and planted.at_once is None
    assert heavy["status"] == "failed" and "CUDA out of memory" in heavy["error"]


def test_a_batch_says_how_many_prompts_go_together(planted: Denoiser) -> None:
    assert Batch.of(planted, 8, 4) == Batch(2, 8) and Batch.of(planted, 1, 500) == Batch(1, 1)
    auto = Batch.of(planted, "auto", 1)
    assert auto.at_once == 2 * auto.prompts and Batch.of(planted, "auto", 1, graph=True).prompts == auto.prompts // 4
    assert not planted.network_evaluations
    with pytest.raises(UsageError, match="neither auto nor a number"):
        Batch.of(planted, "1" * 5000, 1)


# One bad row


def test_a_row_with_a_number_that_is_none_is_a_failed_row(planted: Denoiser, tmp_path: Path) -> None:
    def work(prompts: list) -> list[dict]:
        return [row(p.id, seed=3, series=[[1.0, float("nan") if p.text == "bad" else 2.0]]) for p in prompts]

    prompts = as_prompts(["good", "bad"])
    with Run(tmp_path, "detect", {}) as run:
        run_batches(run, planted, prompts, 2, Pass("test", work))
        summary = run.finish(mean=float("nan"))
    good, bad = read_rows(tmp_path)
    assert good["status"] == "ok" and bad["status"] == "failed" and "series is no finite number" in bad["error"]
    assert summary["failed"] == 1 and summary["mean"] is None and "NaN" not in (tmp_path / "summary.json").read_text()


@pytest.mark.parametrize("settings", [{"threshold": float("nan")}, {"params": {"lr": [1, float("inf")]}}])
def test_a_setting_that_is_no_number_is_refused(tmp_path: Path, settings: dict) -> None:
    with pytest.raises(UsageError, match="give a finite number"):
        Run(tmp_path / "run", "detect", settings)
    assert not (tmp_path / "run").exists()


# YAML

BOMBS = {
    "anchors": "a: &a [x, x]\nb: [*a, *a]",
    "a circle": "param: &a\n  x: *a",
    "depth": "a: " + "[" * 2000,
    "depth closed": "a: " + "[" * 2000 + "]" * 2000,
    "bytes": "a: !!binary aGVsbG8=",
    "a set": "a: !!set {b, c}",
    "python": "a: !!python/object/apply:os.system [id]",
    "digits": "a: " + "9" * 5000,
    "a map as key": "? {a: b}\n: c",
    "a tab": "a:\t- b",
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_yaml_that_is_no_plain_value_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        read_yaml(tmp_path / "a.yaml")
    assert str(tmp_path / "a.yaml") in str(caught.value) and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["2024-01-01", "2024-99-99", "2024-01-01 10:00:00"])
def test_a_date_stays_the_text_that_it_is(text: str) -> None:
    assert yaml_value(f"a: {text}", "x") == {"a": text}


def test_settings_that_are_too_large_or_no_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "large.yaml").write_text("a: b\n" * 300_000)
    os.mkfifo(tmp_path / "pipe.yaml")
    for name in ("large.yaml", "pipe.yaml", "none.yaml"):
        with pytest.raises(UsageError):
            read_yaml(tmp_path / name)


# What leaves the machine


def test_nothing_in_a_sentence_steers_a_terminal(mnemoscope: Callable[..., tuple], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\x1b]0;owned\x07name,b\nx,y\n")
    code, _, err = mnemoscope("detect", "demo", "--prompts", tmp_path / "a.csv", "--out", tmp_path / "o")
    assert code == 2 and "\x1b" not in err and "\x07" not in err
    assert plain("a\x1b[31mb\ncafé\ud83d\u202e") == "a[31mb café"


def test_onnxruntime_keeps_nothing_and_sends_nothing() -> None:
    unset = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    code = "import mnemoscope, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert subprocess.run([sys.executable, "-c", code], env=unset, capture_output=True, text=True).stdout == "1\n"
    sources = Path(run_module.__file__).parents[1]
    direct = re.compile(r"^\s*(import onnxruntime|from onnxruntime)", re.MULTILINE)
    assert [f.name for f in sources.rglob("*.py") if direct.search(f.read_text())] == ["onnx.py"]


def test_the_planted_prompts_are_those_that_the_tests_name() -> None:
    assert truth.prompts(memorized=True)[0] == "memorized 0"
