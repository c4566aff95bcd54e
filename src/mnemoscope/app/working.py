"""Work beside the page: in a thread of its own, with word of how far it is, and ended when it is asked to end."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, Queue
from typing import Any, Generic, TypeVar

from mnemoscope.model.denoiser import Denoiser
from mnemoscope.run.progress import hushed

T = TypeVar("T")
EVERY = 0.5  # seconds between two words of how far it is


class Stopped(BaseException):
    """Somebody asked for the work to end; no part of it may take this for a failure of its own."""


@dataclass(frozen=True)
class News(Generic[T]):
    """Something that was found, or word of how far the work is: evaluations of the network, and seconds."""

    found: T | None
    evaluations: int
    seconds: float


@contextmanager
def stoppable(model: Denoiser, stop: threading.Event) -> Iterator[None]:
    """Let each evaluation of the network raise `Stopped` once it is asked to."""

    def look(*_: Any) -> None:
        if stop.is_set():
            raise Stopped

    handle = model.network.register_forward_pre_hook(look)
    try:
        yield
    finally:
        handle.remove()


def followed(
    model: Denoiser, lock: threading.Lock, work: Callable[[], Iterable[T]], stop: threading.Event
) -> Iterator[News[T]]:
    """What the work finds, as it finds it, and in between word of how far it is; it ends early once `stop` is set.

    The work has the model to itself. What it raises is raised here, but for `Stopped`.
    """
    news: Queue[tuple[bool, Any]] = Queue()  # whether it goes on, and what was found or raised
    before, began = model.network_evaluations, time.perf_counter()

    def run() -> None:
        try:
            with lock, hushed(), stoppable(model, stop):
                for found in work():
                    news.put((True, found))
            news.put((False, None))
        except BaseException as e:
            news.put((False, e))

    def told(found: T | None = None) -> News[T]:
        return News(found, model.network_evaluations - before, time.perf_counter() - began)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        while True:
            try:
                goes_on, found = news.get(timeout=EVERY)
            except Empty:
                yield told()
                continue
            if not goes_on:
                if found is not None and not isinstance(found, Stopped):
                    raise found
                return
            yield told(found)
    finally:  # also where nobody listens any more
        stop.set()
        thread.join()
