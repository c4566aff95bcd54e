"""Workers of a Ray cluster, which each hold a function and call it for one task after the other; no task is lost.

A worker that dies, killed, out of memory or with its machine, is begun again where there is room, and its task is given
to the next one that is free.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from typing import Any

from rich.console import Console

from mnemoscope.errors import UsageError
from mnemoscope.run.asked import now_recorded
from mnemoscope.run.cluster import connected, cores, first_line, has_cuda, packed_for_workers, room
from mnemoscope.run.holder import Holder, Sent

ATTEMPTS = 4  # at a task whose workers die
AHEAD = 2  # tasks under way or done and not yet taken, for each worker
PATIENCE = 60.0  # seconds without any worker before that is said
Lost = Callable[[Any, str], Any]  # the result of a task that no worker survived, and why


class _Dispatch:
    """Tasks on their way to workers, and what has come back."""

    def __init__(self, tasks: Iterable[Any], most: int) -> None:
        self.tasks, self.most = enumerate(tasks), most
        self.free: deque[Any] = deque()
        self.waiting: deque[tuple[int, Any]] = deque()
        self.under_way: dict[Any, tuple[Any, int | None, Any]] = {}  # worker and task, by what is waited for
        self.done: dict[int, Callable[[], Any]] = {}
        self.deaths: dict[int, int] = {}

    @property
    def busy(self) -> int:
        """How many workers are at a task."""
        return sum(place is not None for _, place, _ in self.under_way.values())

    def has_more(self) -> bool:
        """Whether there is a task that no worker is at."""
        if not self.waiting:
            self.waiting.extend(islice(self.tasks, 1))
        return bool(self.waiting)

    def may_send(self) -> bool:
        """Whether a worker is free, and a task for it."""
        return bool(self.free) and self.busy + len(self.done) < self.most and self.has_more()


class Workers:
    """Processes of a Ray cluster: that at `address` or in RAY_ADDRESS, the connected one, or one on this machine.

    Without a number there are as many as the cluster has room for now; with one, a cluster that grows may grow to it.
    `threads` is how many each is to compute with, and `gpus` the share of a GPU that each has: one where the cluster
    has GPUs and this process can use one. Raises `UsageError` where Ray is missing or the cluster has too little.
    """

    def __init__(
        self,
        number: int | None = None,
        gpus: int | float | None = None,
        *,
        address: str | None = None,
        threads: int | None = None,
    ) -> None:
        width = threads or 1
        self._workers: list[Any] = []
        self._numbers = count()
        self._ray, self._is_own = connected(address, (number or 1) * width)
        try:
            resources = self._ray.cluster_resources()
            share = has_cuda() if gpus is None and resources.get("GPU") else gpus or 0
            self.number = number or room(resources, share, width)
            if self._is_own:
                room(resources, share * self.number, width)
            self._needs = f"{1 if share else width} processors and {share:g} GPUs"
            how: dict[str, Any] = {"num_cpus": 1 if share else width, "num_gpus": share, "max_restarts": -1}
            if threads:
                inner = os.environ.get("OMP_NUM_THREADS", str(cores()))
                how["runtime_env"] = {"env_vars": {"OMP_NUM_THREADS": inner}}
            held = self._ray.remote(Holder).options(**how)
            self._workers += [held.remote(os.getcwd()) for _ in range(self.number)]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the workers, and Ray where it began with them."""
        for worker in self._workers:
            self._ray.kill(worker)
        if self._is_own:
            self._ray.shutdown()

    def map(
        self,
        function: Callable[[Any], Any],
        tasks: Iterable[Any],
        *,
        threads: int | None = None,
        lost: Lost | None = None,
    ) -> Iterator[Any]:
        """Results of a function for each task, in the order of the tasks, whichever is done first.

        The function goes to each worker once, with all that it refers to. What it raises is raised here, when its turn
        comes. Of a task at which `ATTEMPTS` workers died the result is what `lost` makes of it, or a `UsageError`.
        """
        where = self._ray.put(packed_for_workers(function))
        sent = Sent(next(self._numbers), where, threads, now_recorded())
        at, wanted = _Dispatch(tasks, AHEAD * self.number), 0
        for worker in self._workers:
            self._await(at, worker)
        while True:
            while at.may_send():
                worker, task = at.free.popleft(), at.waiting.popleft()
                at.under_way[worker.call.remote(sent, task[1])] = worker, *task
            if wanted in at.done:
                yield at.done.pop(wanted)()
                wanted += 1
            elif at.busy or at.has_more():
                self._take(at, lost)
            else:
                return

    def _await(self, at: _Dispatch, worker: Any) -> None:
        """Have the worker take tasks as soon as its process is there."""
        at.under_way[worker.ready.options(max_task_retries=-1).remote()] = worker, None, None

    def _take(self, at: _Dispatch, lost: Lost | None) -> None:
        """Wait for a worker, and note what it says."""
        while not (ready := self._ray.wait(list(at.under_way), num_returns=1, timeout=PATIENCE)[0]):
            if not at.busy:
                Console(stderr=True).print(f"Waiting for a worker: the Ray cluster has no room for {self._needs}.")
        worker, place, task = at.under_way.pop(ready[0])
        try:
            result = self._ray.get(ready[0])
        except self._ray.exceptions.RayTaskError as error:
            if place is None:
                raise
            at.done[place] = _raising(error)
        except self._ray.exceptions.RayError as error:
            if place is None:
                self._gone(worker, error)
            else:
                self._await(at, worker)
                self._died(at, (place, task), error, lost)
            return
        else:
            if place is not None:
                at.done[place] = lambda: result
        at.free.append(worker)

    def _gone(self, worker: Any, error: Exception) -> None:
        """Do without a worker that Ray does not begin again; raises `UsageError` where it was the last."""
        self._workers = [other for other in self._workers if other is not worker]
        if not self._workers:
            raise UsageError(f"No worker of Ray is left: {first_line(error)} Give the command again.") from error

    def _died(self, at: _Dispatch, task: tuple[int, Any], error: Exception, lost: Lost | None) -> None:
        """Give the task to another worker, unless too many have died at it."""
        at.deaths[task[0]] = at.deaths.get(task[0], 0) + 1
        if at.deaths[task[0]] < ATTEMPTS:
            at.waiting.appendleft(task)
            return
        why = f"{ATTEMPTS} workers died at it: {first_line(error)}"
        if lost is None:
            at.done[task[0]] = _raising(
                UsageError(f"{why[0].upper()}{why[1:]}; give the command again, or run it without workers.")
            )
        else:
            at.done[task[0]] = lambda: lost(task[1], why)


def _raising(error: BaseException) -> Callable[[], Any]:
    cause = getattr(error, "cause", None)

    def fail() -> Any:
        if cause is not None:
            raise cause from error
        raise error

    return fail
