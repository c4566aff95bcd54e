"""The list of runs: what each is, how far it is, its report, and nothing from outside the folder."""

import fcntl
import os
import threading
from pathlib import Path

import pytest

from mnemoscope import UsageError
from mnemoscope.app.fragments import framed, listed
from mnemoscope.app.runs import DAMAGED, FINISHED, RUNNING, STOPPED, Runs
from mnemoscope.run.activity import MOMENT, is_open
from mnemoscope.run.run import Run
from pages import make_detect, make_generate

NAME = "<img src=x onerror=alert(1)>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    runs = tmp_path / "runs"
    make_detect(runs / "first", memorized=4, ordinary=100, tested=2)
    make_detect(runs / NAME, memorized=4, ordinary=100, tested=2)
    return runs


def test_each_run_is_told_by_kind_model_state_and_headline(folder: Path) -> None:
    make_detect(folder / "audit" / "detect", memorized=4, ordinary=8, tested=2)
    (folder / "audit" / "run.json").write_text('{"command": "audit"}')
    (folder / "broken").mkdir()
    (folder / "broken" / "run.json").write_text("{")
    (folder / "notes").mkdir()
    (folder / NAME / "summary.json").unlink()
    lines = {line.name: line for line in Runs(folder).lines()}
    assert set(lines) == {"first", NAME, "audit", "broken"}
    assert (lines["first"].kind, lines["first"].model, lines["first"].state) == ("detect", "demo", FINISHED)
    assert "look memorized" in lines["first"].headline and len(lines["first"].date) == 16
    assert lines["audit"].kind == "audit" and lines["audit"].model == "demo"
    assert lines[NAME].state == STOPPED and lines["broken"].state == DAMAGED
    page = listed(list(lines.values()), "runs")
    assert "<img src=x" not in page and 'href="reports/%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E/"' in page
    assert "There are no runs" in listed([], "runs") and Runs(folder / "none").lines() == []


def test_a_run_that_somebody_has_open_is_running(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    with Run(tmp_path / "run", "detect", {}):
        (line,) = runs.lines()
        assert line.state == RUNNING and line.headline == "No row yet." and runs.is_running("run")
    assert not is_open(tmp_path / "run") and not is_open(tmp_path)
    assert runs.lines()[0].state == STOPPED


def test_a_question_whether_a_run_is_open_is_in_nobodys_way(tmp_path: Path) -> None:
    with Run(tmp_path / "run", "detect", {}):
        pass
    asking = (tmp_path / "run" / ".lock").open()
    fcntl.flock(asking, fcntl.LOCK_SH)
    threading.Timer(MOMENT / 4, asking.close).start()
    with Run(tmp_path / "run", "detect", {}):
        assert is_open(tmp_path / "run")


def test_the_newest_run_is_first(folder: Path) -> None:
    file = folder / "first" / "run.json"
    file.write_text(file.read_text().replace('{"command"', '{"started": "2020-01-01T00:00:00+00:00", "command"'))
    assert Runs(folder).names == [NAME, "first"]


def test_a_report_is_written_anew_where_its_run_has_changed(folder: Path) -> None:
    runs = Runs(folder)
    page = runs.report("first")
    assert page == folder / "first" / "report.html" and "look memorized" in page.read_text()
    written = page.stat().st_mtime_ns
    assert runs.report("first").stat().st_mtime_ns == written
    later = written + 10**9
    os.utime(folder / "first" / "rows.jsonl", ns=(later, later))
    assert runs.report("first").stat().st_mtime_ns > written


def test_two_runs_are_compared_in_a_page_of_their_own(folder: Path, tmp_path: Path) -> None:
    runs = Runs(folder)
    page = runs.comparison(["first", NAME], tmp_path / "both.html")
    assert "2 runs compared" in page.read_text() and not (folder / "first" / "report.html").exists()
    with pytest.raises(UsageError, match="choose another one"):
        runs.comparison(["first", "first"], tmp_path / "one.html")
    assert "comparison?run=a%26b&amp;run=%3Cc%3E" in framed(["a&b", "<c>"]) and "<c>" not in framed(["a", "<c>"])


@pytest.mark.parametrize("name", ["..", "", "none", "../runs/first", "elsewhere"])
def test_nothing_outside_the_folder_is_a_run(folder: Path, tmp_path: Path, name: str) -> None:
    make_detect(tmp_path / "secret", memorized=4, ordinary=100, tested=2)
    (folder / "elsewhere").symlink_to(tmp_path / "secret")
    runs = Runs(folder)
    assert "elsewhere" not in runs.names
    with pytest.raises(UsageError, match="There is no run"):
        runs.report(name)


def test_only_pictures_of_a_run_are_given_away(folder: Path, tmp_path: Path) -> None:
    run = make_generate(folder / "images", 1, 1)
    runs, (image, *_) = Runs(folder), sorted((run / "images").iterdir())
    assert runs.picture("images", f"images/{image.name}") == (image.resolve(), "image/png")
    (tmp_path / "secret.png").write_bytes(b"x")
    (run / "link.png").symlink_to(tmp_path / "secret.png")
    for inside in ("run.json", "../first/run.json", "../../secret.png", "link.png", "images", str(image) + "x", ""):
        with pytest.raises(UsageError, match="no such picture"):
            runs.picture("images", inside)
