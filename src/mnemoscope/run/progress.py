"""How far a long piece of work is: a bar with the time left on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

from rich import progress
from rich.console import Console

EVERY = 30.0  # seconds between two lines where there is no terminal
_HUSHED: ContextVar[bool] = ContextVar("hushed", default=False)
_WAITING: ContextVar["Progress | None"] = ContextVar("waiting", default=None)


@contextmanager
def hushed() -> Iterator[None]:
    """Let no progress be shown in the block."""
    token = _HUSHED.set(True)
    try:
        yield
    finally:
        _HUSHED.reset(token)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show on a terminal that work goes on whose length nobody knows, until the block ends or `waited` is called."""
    with Progress() as bar:
        bar.add_task(what, total=None)
        token = _WAITING.set(bar)
        try:
            yield
        finally:
            _WAITING.reset(token)


def waited() -> None:
    """The wait is over: what is printed now, and other progress, has the terminal to itself."""
    if (bar := _WAITING.get()) is not None:
        bar.stop()


class Progress(progress.Progress):
    """Tasks with what is done of them and the time left, on standard error, so that results can be piped.

    Where that is no terminal, as in a log, a task writes one line when `EVERY` seconds have gone since the last one.
    """

    def __init__(self, *, transient: bool = True, disable: bool = False, console: Console | None = None) -> None:
        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(elapsed_when_finished=True),
        )
        console = console or Console(stderr=True)
        is_shown = not disable and not _HUSHED.get()
        super().__init__(*columns, transient=transient, console=console, disable=not (is_shown and console.is_terminal))
        self.logs = is_shown and not console.is_terminal
        self._last = time.monotonic()

    def start(self) -> None:
        """Show it, in the place of a wait."""
        waited()
        super().start()

    def advance(self, task_id: progress.TaskID, advance: int | float = 1) -> None:
        """Say that so much more of a task is done."""
        super().advance(task_id, advance)
        self._log(task_id)

    def update(self, task_id: progress.TaskID, **how: Any) -> None:
        """Change what is known of a task: `completed`, `total`, `description`, `advance`."""
        super().update(task_id, **how)
        self._log(task_id)

    def _log(self, task_id: progress.TaskID) -> None:
        if self.logs and time.monotonic() - self._last >= EVERY:
            self._last = time.monotonic()
            self.console.print(line(self._tasks[task_id]), highlight=False, markup=False, soft_wrap=True)


def line(task: progress.Task) -> str:
    """A task in words: what is done of it, and the time left as far as the speed of late tells."""
    total = "" if task.total is None else f" of {task.total:g}"
    left = task.time_remaining
    remaining = "" if left is None else f", {timedelta(seconds=round(left))} left"
    return f"{task.description}: {task.completed:g}{total}{remaining}"
