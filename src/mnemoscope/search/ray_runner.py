"""One function over many shards, here or over a Ray cluster, with the same results in the same order."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, TypeVar

from mnemoscope.errors import UsageError

ATTEMPTS = 3  # more, at a task whose worker died: killed, out of memory, its machine gone
Task = TypeVar("Task")
Found = TypeVar("Found")

AHEAD = 2  # tasks under way or done and not yet taken, for each processor of the cluster


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
    that each task needs. Raises `UsageError` where Ray is missing or the cluster has too few GPUs.
    """
    if runner == "local":
        return map(function, tasks)
    return _over_ray(function, tasks, address, gpus)


def _over_ray(function: Callable[[Any], Any], tasks: Iterable[Any], address: str | None, gpus: int | float) -> Iterator:
    ray, started = _connected(address)
    try:
        resources = ray.cluster_resources()
        if gpus > resources.get("GPU", 0):
            raise UsageError(
                f"Each task needs {gpus} GPUs and the Ray cluster has {resources.get('GPU', 0):g}; ask for fewer."
            )
        call = ray.remote(max_retries=ATTEMPTS, num_cpus=1, num_gpus=gpus)(_call)
        shared = ray.put(function)
        waiting: deque = deque()
        for task in tasks:
            waiting.append(call.remote(shared, task))
            if len(waiting) > AHEAD * max(1, int(resources.get("CPU", 1))):
                yield _taken(ray, waiting.popleft())
        while waiting:
            yield _taken(ray, waiting.popleft())
    finally:
        if started:
            ray.shutdown()


def _connected(address: str | None) -> tuple[Any, bool]:
    """Ray, connected, and whether the connection is this function's own."""
    try:
        import ray
    except ImportError:
        raise UsageError("Ray is not installed; install it with: pip install 'mnemoscope[ray]'.") from None
    if ray.is_initialized():
        return ray, False
    where = address or os.environ.get("RAY_ADDRESS", "local")
    try:
        ray.init(address=where, include_dashboard=False if where == "local" else None, log_to_driver=False)
    except ConnectionError:
        raise UsageError(f"No Ray cluster answers at {where}; start one there, or give no address.") from None
    return ray, True


def _call(function: Callable[[Any], Any], task: Any) -> Any:
    return function(task)


def _taken(ray: Any, result: Any) -> Any:
    try:
        return ray.get(result)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
