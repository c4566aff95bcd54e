"""What happens in a worker's process: a function is opened once, and called for one task after the other."""

import os
import pickle
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnemoscope.run.asked import recorded
from mnemoscope.run.environment import keep_threads
from mnemoscope.run.reading import Json


@dataclass(frozen=True)
class Sent:
    """A function on its way to workers: its number, its bytes or where they are, and what it is called under."""

    number: int
    packed: Any
    threads: int | None
    asked: tuple[Json, Path] | None


def _fetched(packed: Any) -> bytes:
    if isinstance(packed, bytes):
        return packed
    import ray

    return bytes(ray.get(packed))


class Holder:
    """What a worker's process does: it opens what it is sent once, and calls it for each task."""

    def __init__(self, folder: str) -> None:
        with suppress(OSError):  # relative paths are those of the process that asks, where there is such a folder
            os.chdir(folder)
        self._number = -1
        self._function: Callable[[Any], Any] | None = None

    def ready(self) -> bool:
        """Whether the process is there."""
        return True

    def call(self, sent: Sent, task: Any) -> Any:
        """The function that was sent, at a task."""
        keep_threads(sent.threads)
        if sent.number != self._number:
            self._function = None  # before another model is opened
            self._function, self._number = pickle.loads(_fetched(sent.packed)), sent.number
            keep_threads(sent.threads)  # now that torch is there, if it was not
        assert self._function is not None
        with recorded(*sent.asked) if sent.asked else nullcontext():
            return self._function(task)
