"""A run folder survives kills, full disks and damage, and never touches what is not its own."""

import errno
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from mnemoscope.detection.run import Detection, run_detection
from mnemoscope.errors import UsageError
from mnemoscope.generation.run import Generation, run_generation
from mnemoscope.prompts.prompt import as_prompts
from mnemoscope.run import run as run_module
from mnemoscope.run import writing as writing_module
from mnemoscope.run.run import Run, read_rows

SETTINGS = {"method": "noise_norm", "seeds": 1}


def row(name: str, status: str = "ok", **values: object) -> dict:
    return {"id": name, "prompt": f"prompt {name}", "score": 0.5, "status": status, **values}


def begin(folder: Path, **settings: object) -> Run:
    return Run(folder, "detect", {**SETTINGS, **settings})


def ids(folder: Path) -> list[str]:
    return [r["id"] for r in read_rows(folder)]


def test_appended_rows_are_read_back_in_order_and_known_as_done(tmp_path: Path) -> None:
    with begin(tmp_path / "run") as run:
        run.append([row("a"), row("b")], evaluations=3, seconds=0.5)
        run.append([row("c")], evaluations=2, seconds=0.25)
        assert run.done == {"a", "b", "c"}
    assert read_rows(tmp_path / "run") == [row("a"), row("b"), row("c")]


def test_a_row_that_is_there_is_not_appended_again(tmp_path: Path) -> None:
    with begin(tmp_path) as run:
        run.append([row("a", score=1)])
        run.append([row("a", score=2), row("b")])
    assert [(r["id"], r.get("score")) for r in read_rows(tmp_path)] == [("a", 1), ("b", 0.5)]


def test_finish_counts_rows_failures_and_the_work_of_all_sessions(tmp_path: Path) -> None:
    with begin(tmp_path) as run:
        run.append([row("a")], evaluations=3, seconds=0.5)
    with begin(tmp_path) as run:
        run.append([row("b", "failed")], evaluations=2, seconds=0.25)
        summary = run.finish(auc=0.5)
    assert summary == {"auc": 0.5, "rows": 2, "failed": 1, "network_evaluations": 5, "seconds": 0.75}
    assert json.loads((tmp_path / "summary.json").read_text()) == summary


def test_the_record_holds_command_settings_versions_and_time(tmp_path: Path) -> None:
    with Run(tmp_path, "detect", SETTINGS, model={"weights": "abc"}):
        record = json.loads((tmp_path / "run.json").read_text())
    assert record["command"] == "detect" and record["settings"] == SETTINGS and record["model"] == {"weights": "abc"}
    assert record["versions"]["torch"] and record["started"].endswith("+00:00")


def test_a_last_row_torn_at_any_byte_is_dropped_and_nothing_else(tmp_path: Path) -> None:
    with begin(tmp_path) as run:
        run.append([row("a"), row("b"), row("c", prompt="naïve café\n☃")])
    whole = (tmp_path / "rows.jsonl").read_bytes()
    last = whole.index(b'{"id": "c"')
    for end in range(last, len(whole)):
        (tmp_path / "rows.jsonl").write_bytes(whole[:end])
        with begin(tmp_path) as run:
            assert run.done == {"a", "b"}, f"torn at byte {end}"
            assert (tmp_path / "rows.jsonl").read_bytes() == whole[:last]
            run.append([row("c", prompt="naïve café\n☃")])
        assert (tmp_path / "rows.jsonl").read_bytes() == whole


def test_a_torn_record_of_work_is_dropped_and_the_run_finishes(tmp_path: Path) -> None:
    with begin(tmp_path) as run:
        run.append([row("a")], evaluations=3)
        run.append([row("b")], evaluations=4)
    work = (tmp_path / "work.jsonl").read_bytes()
    (tmp_path / "work.jsonl").write_bytes(work[:-5])
    with begin(tmp_path) as run:
        run.append([row("c")], evaluations=10)
        assert run.finish()["network_evaluations"] == 13


def test_failed_rows_are_dropped_on_opening_so_that_they_are_tried_again(tmp_path: Path) -> None:
    with begin(tmp_path) as run:
        run.append([row("a"), row("b", "failed", error="out of memory"), row("c")])
    with begin(tmp_path) as run:
        assert run.done == {"a", "c"} and ids(tmp_path) == ["a", "c"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"seeds": 4}, "settings: seeds 1 there, 4 here"), ({"limit": 3}, "settings: limit null there, 3 here")],
)
def test_other_settings_are_refused_by_name(tmp_path: Path, settings: dict, said: str) -> None:
    with begin(tmp_path) as run:
        run.append([row("a")])
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(UsageError, match=said):
        begin(tmp_path, **settings)
    assert (tmp_path / "run.json").read_bytes() == before and ids(tmp_path) == ["a"]


def test_a_setting_deep_in_the_model_is_named_with_its_path(tmp_path: Path) -> None:
    def model(eta: int) -> dict:
        return {"weights": "abc", "scheduler_config": {"steps": 1000, "eta": eta}}

    with Run(tmp_path, "detect", SETTINGS, model=model(0)) as run:
        run.append([row("a")])
    with pytest.raises(UsageError, match=r"model: scheduler_config\.eta 0 there, 1 here"):
        Run(tmp_path, "detect", SETTINGS, model=model(1))


def test_another_command_is_refused(tmp_path: Path) -> None:
    with begin(tmp_path) as run:
        run.append([row("a")])
    with pytest.raises(UsageError, match='command: "detect" there, "generate" here'):
        Run(tmp_path, "generate", SETTINGS)


def test_a_run_that_wrote_nothing_may_change_its_settings(tmp_path: Path) -> None:
    begin(tmp_path, seeds=-1).close()
    with begin(tmp_path, seeds=2):
        assert json.loads((tmp_path / "run.json").read_text())["settings"]["seeds"] == 2


def test_a_refused_run_can_still_be_opened_with_its_own_settings(tmp_path: Path) -> None:
    with begin(tmp_path) as run:
        run.append([row("a")])
    with pytest.raises(UsageError):
        begin(tmp_path, seeds=4)
    with begin(tmp_path) as run:
        assert run.done == {"a"}


def test_overwrite_clears_the_runs_own_files_and_nothing_else(tmp_path: Path) -> None:
    with begin(tmp_path) as run:
        run.append([row("a")])
        run.finish()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_text("an image")
    (tmp_path / "notes.txt").write_text("mine")
    with Run(tmp_path, "detect", {"method": "other"}, overwrite=True) as run:
        assert not run.done and read_rows(tmp_path) == []
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert {p.name for p in tmp_path.iterdir()} - {".lock"} == {"run.json", "rows.jsonl", "work.jsonl", "notes.txt"}


@pytest.mark.parametrize("name", ["thesis.tex", "images/photo.jpg", "summary.json"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_holds_no_run_is_refused_and_untouched(tmp_path: Path, name: str, overwrite: bool) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("years of work")
    with pytest.raises(UsageError, match="not empty and holds no run"):
        Run(tmp_path, "detect", SETTINGS, overwrite=overwrite)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [file] and file.read_text() == "years of work"


def test_the_run_json_of_another_program_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"wandb": 1}')
    (tmp_path / "images").mkdir()
    with pytest.raises(UsageError, match="holds no run"):
        Run(tmp_path, "detect", SETTINGS, overwrite=True)
    assert (tmp_path / "run.json").read_text() == '{"wandb": 1}' and (tmp_path / "images").is_dir()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UsageError, match="is a file; give a folder"):
        begin(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "a file"


def test_a_run_that_died_before_its_record_was_whole_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "run.json.partial").write_text('{"comm')
    (tmp_path / ".lock").touch()
    with begin(tmp_path) as run:
        run.append([row("a")])
    assert ids(tmp_path) == ["a"]


def test_two_runs_cannot_have_one_folder_open(tmp_path: Path) -> None:
    with begin(tmp_path), pytest.raises(UsageError, match="in use by another process"):
        begin(tmp_path)
    with begin(tmp_path) as run:  # closed, so free again
        run.append([row("a")])
    with begin(tmp_path) as run:
        assert run.done == {"a"}


def test_another_process_is_kept_out_and_not_even_overwrite_gets_in(tmp_path: Path) -> None:
    with begin(tmp_path) as run:
        run.append([row("a")])
        code = f"from mnemoscope.run import Run; Run({str(tmp_path)!r}, 'detect', {SETTINGS!r}, overwrite=True)"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert other.returncode == 1 and "in use by another process" in other.stderr
        assert ids(tmp_path) == ["a"]


def test_any_prompt_stays_on_its_own_line(tmp_path: Path) -> None:
    prompts = [
        "two\nlines",
        "carriage\r\nreturn",
        "line\u2028separator\u0085and\x1cmore",
        "☃ naïve 日本語",
        '"\\',
        "\0",
    ]
    rows = [row(str(k), prompt=p) for k, p in enumerate(prompts)]
    with begin(tmp_path) as run:
        run.append(rows)
    assert (tmp_path / "rows.jsonl").read_bytes().count(b"\n") == len(rows)
    with begin(tmp_path) as run:
        assert run.rows() == rows
    assert "日本語" in (tmp_path / "rows.jsonl").read_text(encoding="utf-8")


def test_half_a_character_in_a_prompt_is_written_and_read_back(tmp_path: Path) -> None:
    with begin(tmp_path) as run:
        run.append([row("a", prompt="broken \ud83d emoji"), row("b")])
        assert run.rows()[0]["prompt"] == "broken \ud83d emoji" and ids(tmp_path) == ["a", "b"]


@pytest.mark.parametrize("damage", [b'{"id": "b", "st', b"5", b"[]", b'{"id": "b"}', b"", b"\0\0\0"])
def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path, damage: bytes) -> None:
    with begin(tmp_path) as run:
        run.append([row("a"), row("b"), row("c")])
    first, _, third = (tmp_path / "rows.jsonl").read_bytes().splitlines(keepends=True)
    damaged = first + damage + b"\n" + third
    (tmp_path / "rows.jsonl").write_bytes(damaged)
    with pytest.raises(UsageError, match=r"rows\.jsonl, line 2 is no row"):
        begin(tmp_path)
    assert (tmp_path / "rows.jsonl").read_bytes() == damaged


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    with begin(tmp_path) as run:
        run.append([row("a")])
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UsageError, match=r"run\.json is not a readable JSON file"):
        begin(tmp_path)


class FullDisk:
    """`os.fsync` that fails at the given call, after the bytes were written or as if half of them were not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails_at: int, torn: bool) -> None:
        self.calls, self.fails_at, self.torn, self.sync = 0, fails_at, torn, os.fsync
        monkeypatch.setattr(writing_module.os, "fsync", self)

    def __call__(self, descriptor: int) -> None:
        self.calls += 1
        if self.calls == self.fails_at:
            if self.torn and stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.truncate(f"/proc/self/fd/{descriptor}", max(0, os.fstat(descriptor).st_size - 7))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.sync(descriptor)


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("fails_at", range(1, 15))
def test_a_disk_full_at_any_write_leaves_a_run_that_goes_on(tmp_path: Path, fails_at: int, torn: bool) -> None:
    def work() -> None:
        with begin(tmp_path) as run:
            for name in "ab":
                run.append([row(name)], evaluations=1)
            run.finish()

    with pytest.MonkeyPatch.context() as patch:
        disk = FullDisk(patch, fails_at, torn)
        with pytest.raises(OSError, match="No space left"):
            work()
        assert disk.calls == fails_at
    work()
    assert ids(tmp_path) == ["a", "b"]
    assert json.loads((tmp_path / "summary.json").read_text())["rows"] == 2


def test_a_disk_full_while_detecting_stops_the_run_and_loses_nothing(tmp_path, planted, monkeypatch) -> None:
    prompts = as_prompts([f"ordinary {k}" for k in range(6)])
    run_detection(planted, prompts, tmp_path / "whole", Detection(), batch=2)
    with monkeypatch.context() as patch:
        FullDisk(patch, 11, torn=True)
        with pytest.raises(OSError, match="No space left"):
            run_detection(planted, prompts, tmp_path / "full", Detection(), batch=2)
    assert 0 < len(read_rows(tmp_path / "full")) < 6
    run_detection(planted, prompts, tmp_path / "full", Detection(), batch=2)
    assert (tmp_path / "full" / "rows.jsonl").read_bytes() == (tmp_path / "whole" / "rows.jsonl").read_bytes()


def test_a_disk_full_while_an_image_is_saved_is_no_failed_row(tmp_path, planted, monkeypatch) -> None:
    real = os.replace

    def full(source: Path, target: Path) -> None:
        if Path(target).suffix == ".png":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(writing_module.os, "replace", full)
        with pytest.raises(OSError, match="No space left"):
            run_generation(planted, as_prompts(["ordinary 1"]), tmp_path, Generation(1, num_inference_steps=2))
    assert read_rows(tmp_path) == [] and not list(tmp_path.rglob("*.png*"))


def test_a_read_only_folder_raises_an_error_that_names_it(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OSError, match="Permission denied"):
            begin(tmp_path / "run")
    finally:
        tmp_path.chmod(0o700)


# Kills


def forked(work: Callable[[], object]) -> int:
    """Process id of a child that does the work and ends, without importing everything anew."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that a process with threads is forked
        child = os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return child


def slowly(file: Path, lines: list[str]) -> None:
    """Append as on a slow disk, so that kills come in the middle of a row."""
    data = "".join(line + "\n" for line in lines).encode()
    with file.open("ab") as f:
        for part in (data[: len(data) // 3], data[len(data) // 3 :]):
            f.write(part)
            f.flush()
            time.sleep(0.004)


def kill_and_resume(work: Callable[[], object], folder: Path, kills: int, rng: random.Random) -> int:
    """Kill the work at random moments, each after some more bytes of rows, then let it end; how often that cut it."""
    cut = 0
    for _ in range(kills):
        child, rows = forked(work), folder / "rows.jsonl"
        begun = rows.stat().st_size if rows.exists() else 0
        further = begun + rng.randrange(1, 1500)
        deadline = time.monotonic() + 20
        while (not rows.exists() or rows.stat().st_size < further) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(rng.random() * 0.01)
        os.kill(child, signal.SIGKILL)  # also where it has ended already: it is there until it is waited for
        os.waitpid(child, 0)
        cut += rows.exists() and not (folder / "summary.json").exists()
    last = forked(work)
    assert os.waitstatus_to_exitcode(os.waitpid(last, 0)[1]) == 0
    return cut


def test_a_detection_killed_at_any_moment_goes_on_to_the_same_rows(tmp_path, planted, monkeypatch) -> None:
    prompts = as_prompts([f"{kind} {k}" for k in range(20) for kind in ("memorized", "ordinary")])

    def detect(out: Path) -> None:
        with planted.edit("step", lambda step: time.sleep(0.01)):
            run_detection(planted, prompts, out, Detection(params={"steps": 2}), batch=4)

    detect(tmp_path / "whole")
    monkeypatch.setattr(run_module, "append_lines", slowly)
    assert kill_and_resume(lambda: detect(tmp_path / "killed"), tmp_path / "killed", 5, random.Random(0)) >= 3
    assert len(read_rows(tmp_path / "killed")) == 40
    assert (tmp_path / "killed" / "rows.jsonl").read_bytes() == (tmp_path / "whole" / "rows.jsonl").read_bytes()


def test_a_generation_killed_at_any_moment_goes_on_to_the_same_images(tmp_path, planted, monkeypatch) -> None:
    prompts = as_prompts([f"{kind} {k}" for k in range(6) for kind in ("memorized", "ordinary")])

    def generate(out: Path) -> None:
        with planted.edit("step", lambda step: time.sleep(0.005)):
            run_generation(planted, prompts, out, Generation(2, num_inference_steps=3), batch=4)

    generate(tmp_path / "whole")
    monkeypatch.setattr(run_module, "append_lines", slowly)
    assert kill_and_resume(lambda: generate(tmp_path / "killed"), tmp_path / "killed", 3, random.Random(1)) >= 2
    whole, killed = (
        {p.name: p.read_bytes() for p in (tmp_path / n / "images").glob("*.png")} for n in ("whole", "killed")
    )
    assert len(whole) == 24 and killed == whole
    assert (tmp_path / "killed" / "rows.jsonl").read_bytes() == (tmp_path / "whole" / "rows.jsonl").read_bytes()
    assert all((tmp_path / "killed" / r["file"]).is_file() for r in read_rows(tmp_path / "killed"))


def test_a_machine_without_git_runs_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with Run(tmp_path / "run", "detect", {}) as run:
        run.append([{"id": "a", "status": "ok"}])
    assert json.loads((tmp_path / "run" / "run.json").read_text())["git"] is None
