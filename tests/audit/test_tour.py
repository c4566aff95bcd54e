"""The demo: its data as files that commands read, and the commands that it names in the end."""

import json
import shlex
from pathlib import Path

import pytest
import typer

from mnemoscope import cli
from mnemoscope.audit import tour
from mnemoscope.pictures import read_pictures
from mnemoscope.prompts.prompt import read_prompts


def test_the_exported_files_hold_what_the_demo_audits(mnemoscope, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = mnemoscope("demo", "--export", "data", "--json")
    written = json.loads(out)
    assert code == 0 and written["folder"] == "data" and not Path("demo-report").exists()
    prompts, negatives = tour.tour_prompts()
    assert [(p.text, p.label, p.kind) for p in read_prompts("data/prompts.csv")] == [
        (p.text, p.label, p.kind) for p in prompts
    ]
    assert [p.text for p in read_prompts("data/negatives.txt")] == [p.text for p in negatives]
    pictures = list(read_pictures("data/references"))
    assert len(pictures) == written["references"] and all(p.caption for p in pictures)
    code, _, err = mnemoscope("demo", "--export", "data")
    assert code == 2 and "data is not an empty folder" in err
    assert mnemoscope("demo", "--export", "data", "--overwrite")[0] == 0


def test_the_demo_ends_with_commands_that_can_be_given(mnemoscope, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(tour, "run_demo", lambda *_, **__: 0)
    monkeypatch.setattr("mnemoscope.cli.options.show", lambda *_: None)
    code, out, _ = mnemoscope("demo", "--out", tmp_path / "run")
    named = [line for line in out.splitlines() if line.startswith("  mnemoscope ")]
    assert code == 0 and len(named) == 3
    commands = typer.main.get_command(cli.app).commands
    for _, name, *words in map(shlex.split, named):
        commands[name].make_context(name, words)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_nothing_that_is_there_is_written_over(mnemoscope, tmp_path: Path, kind: str) -> None:
    there = tmp_path / "there"
    (there / "mine").mkdir(parents=True) if kind == "folder" else there.write_text("mine")
    code, _, err = mnemoscope("demo", "--export", there)
    assert code == 2 and "give another to --export" in err
