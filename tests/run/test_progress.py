"""Progress of long work: lines where there is no terminal, nothing where it is hushed, a bar on a terminal."""

import io

import pytest
from rich.console import Console

from mnemoscope.run import progress
from mnemoscope.run.progress import Progress, hushed, waiting


def shown(console: Console, **how: bool) -> str:
    """What three steps of a task of four print."""
    with Progress(console=console, **how) as bar:
        task = bar.add_task("detect [x]", total=4)
        for _ in range(3):
            bar.advance(task)
        bar.update(task, completed=4)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_log_has_a_line_now_and_then_and_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(Console(file=io.StringIO())) == ""  # not so soon
    monkeypatch.setattr(progress, "EVERY", 0.0)
    lines = shown(Console(file=io.StringIO())).splitlines()
    assert [each.partition(",")[0] for each in lines] == [f"detect [x]: {k} of 4" for k in (1, 2, 3, 4)]
    assert lines[2].endswith(" left") and "\x1b" not in "".join(lines)
    assert shown(Console(file=io.StringIO()), disable=True) == ""
    with hushed():
        assert shown(Console(file=io.StringIO())) == ""


def test_a_terminal_has_a_bar_with_the_time_left() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    text = shown(console, transient=False)
    assert "4/4" in text and "0:00:00" in text


def test_a_wait_is_shown_until_something_else_is(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    monkeypatch.setattr(progress, "Console", lambda **_: console)
    with waiting("loading"):
        (wait,) = console._live_stack
        with Progress(console=console) as bar:
            assert console._live_stack == [bar.live] and wait is not bar.live
    assert "loading" in console.file.getvalue() and not console._live_stack  # type: ignore[attr-defined]
