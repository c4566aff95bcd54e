"""Where the work of a run is done: in this process, or by the workers of a Ray cluster, with the same results."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.util import find_spec
from typing import Any, Literal, TypeVar

from mnemoscope.errors import UsageError
from mnemoscope.run.environment import threads_now
from mnemoscope.run.workers import Lost, Workers

Task = TypeVar("Task")
Found = TypeVar("Found")
RUNNERS = ("local", "ray")


class _Spread:
    """Workers that begin with the first work that there is for them."""

    def __init__(self, begin: Callable[[], Workers]) -> None:
        self._begin = begin
        self._workers: Workers | None = None

    def map(self, function: Callable[[Any], Any], tasks: Iterable[Any], lost: Lost | None) -> Iterator[Any]:
        self._workers = self._workers or self._begin()
        return self._workers.map(function, tasks, threads=threads_now(), lost=lost)

    def close(self) -> None:
        if self._workers is not None:
            self._workers.close()


_SPREAD: ContextVar[_Spread | None] = ContextVar("spread", default=None)


@contextmanager
def spread(
    runner: Literal["local", "ray"] = "ray",
    *,
    workers: int | None = None,
    gpus_per_worker: int | float | None = None,
    address: str | None = None,
) -> Iterator[None]:
    """Have the work of the runs in the block done by workers of a Ray cluster, or, as without the block, here.

    Each worker holds its model as long as the block is open, and computes with as many threads as this process. What
    `workers` and the rest mean, `mnemoscope.run.workers.Workers` says. Raises `UsageError` where Ray is missing and for
    numbers that cannot be.
    """
    if runner == "local":
        if workers is not None or gpus_per_worker is not None:
            raise UsageError("--workers and --gpus-per-worker are of --runner ray; give it, or leave them out.")
        yield
        return
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers} was given; give 1 or more.")
    if find_spec("ray") is None:
        raise UsageError("Ray is not installed; install it with: pip install 'mnemoscope[ray]'.")
    begun = _Spread(lambda: Workers(workers, gpus_per_worker, address=address, threads=threads_now()))
    token = _SPREAD.set(begun)
    try:
        yield
    finally:
        _SPREAD.reset(token)
        begun.close()


def is_spread() -> bool:
    """Whether work goes to other processes."""
    return _SPREAD.get() is not None


def each(
    function: Callable[[Task], Found], tasks: Iterable[Task], lost: Callable[[Task, str], Found] | None = None
) -> Iterator[Found]:
    """Results of a function for each task, in order: called here when the result is asked for, or by workers.

    `lost` makes the result of a task at which workers died again and again, from the task and why.
    """
    begun = _SPREAD.get()
    return map(function, tasks) if begun is None else begun.map(function, tasks, lost)


def map_shards(
    function: Callable[[Task], Found],
    tasks: Iterable[Task],
    *,
    runner: Literal["local", "ray"] = "local",
    address: str | None = None,
    gpus: int | float = 0,
) -> Iterator[Found]:
    """Results of `function` for each task, in the order of the tasks, whichever is done first.

    `runner="local"` calls it here, one task after the other, when the result is asked for. `runner="ray"` sends tasks
    to a Ray cluster: that at `address` or in the environment's RAY_ADDRESS, the one this process is connected to, or
    one started on this machine until the last result is taken. A task whose worker dies is done again elsewhere, so a
    function must leave nothing half written behind; what it raises is raised here. It goes to the workers with all it
    refers to, once: the package and the files it reads must be there under the same names. `gpus` is the share of a GPU
    that each worker needs. Raises `UsageError` where Ray is missing or the cluster has too few GPUs.
    """
    return map(function, tasks) if runner == "local" else _over_ray(function, tasks, address, gpus)


def _over_ray(function: Callable[[Any], Any], tasks: Iterable[Any], address: str | None, gpus: int | float) -> Iterator:
    workers = Workers(gpus=gpus, address=address)
    try:
        yield from workers.map(function, tasks)
    finally:
        workers.close()
