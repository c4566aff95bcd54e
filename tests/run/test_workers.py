"""Tasks over workers that answer in any order and die: the results of a loop, in its order."""

import random
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from mnemoscope.errors import UsageError
from mnemoscope.run import workers as dispatching
from mnemoscope.run.cluster import packed_for_workers, room
from mnemoscope.run.holder import Holder, Sent
from mnemoscope.run.workers import AHEAD, ATTEMPTS, Workers

pytest.importorskip("ray", reason="Ray is not installed: pip install 'mnemoscope[ray]'")
RayError = type("RayError", (Exception,), {})
RayTaskError = type("RayTaskError", (RayError,), {"cause": None})


class Call:
    """What a call gives back at once: something to wait for."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts


class FakeRay:
    """Ray's calls in this process: what is waited for ends in a drawn order, and `dies` says at which calls."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, rng: random.Random, dies: Callable[[Any], bool] = lambda task: False) -> None:
        self.rng, self.dies, self.ended, self.most, self.open = rng, dies, [], 0, 0

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 3.0}

    def remote(self, kind: type) -> Any:
        return SimpleNamespace(options=lambda **how: SimpleNamespace(remote=partial(self.worker, kind, how)))

    def worker(self, kind: type, how: dict[str, Any], folder: str) -> Any:
        held = SimpleNamespace(own=kind(folder), gone=False)
        later = SimpleNamespace(remote=lambda: Call("ready", held))
        held.ready = SimpleNamespace(options=lambda **how: later)
        held.call = SimpleNamespace(remote=lambda sent, task: self.begun("call", held, sent, task))
        return held

    def begun(self, *call: Any) -> "Call":
        self.open += 1
        self.most = max(self.most, self.open)
        return Call(*call)

    def put(self, value: bytes) -> bytes:
        return value

    def wait(self, under_way: list[Any], **how: Any) -> tuple[list[Any], list[Any]]:
        return [self.rng.choice(under_way)], []

    def get(self, call: Any) -> Any:
        what, held, *given = call.parts
        if what == "ready":
            if held.gone:
                raise RayError("it is gone")
            return True
        self.open -= 1
        if self.dies(given[1]):
            raise RayError("it was killed\nby somebody")
        try:
            return held.own.call(*given)
        except Exception as e:
            error = RayTaskError("it failed")
            error.cause = e  # type: ignore[attr-defined]
            raise error from e

    def kill(self, worker: Any) -> None:
        self.ended.append(worker)


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeRay], Workers]:
    def begun(ray: FakeRay) -> Workers:
        monkeypatch.setattr(dispatching, "connected", lambda address, least: (ray, False))
        return Workers()

    return begun


def squared(number: int) -> int:
    if number < 0:
        raise UsageError(f"{number} is negative; give another.")
    return number**2


@pytest.mark.parametrize("seed", range(20))
def test_results_come_in_the_order_of_the_tasks(begin, seed: int) -> None:
    """Three workers, any order of answers, a third of the calls ending in a death."""
    rng = random.Random(seed)
    ray = FakeRay(rng, lambda task: rng.random() < 0.33)
    workers = begin(ray)
    lost: list[int] = []

    def given_up(task: int, why: str) -> int:
        assert why == f"{ATTEMPTS} workers died at it: it was killed"
        lost.append(task)
        return task**2

    assert list(workers.map(squared, range(50), lost=given_up)) == [k**2 for k in range(50)]
    assert ray.most <= 3 and len(lost) < 10
    workers.close()
    assert len(ray.ended) == 3


def test_a_task_is_given_to_so_many_workers_and_no_more(begin) -> None:
    tried: list[int] = []
    ray = FakeRay(random.Random(0), lambda task: tried.append(task) or task == 2)
    results = begin(ray).map(squared, range(4))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(UsageError, match=f"^{ATTEMPTS} workers died at it: it was killed; give the command again"):
        next(results)
    assert tried.count(2) == ATTEMPTS and tried.count(0) == 1


def test_what_a_task_raises_is_raised_when_its_turn_comes(begin) -> None:
    results = begin(FakeRay(random.Random(1))).map(squared, [1, -2, 3])
    assert next(results) == 1
    with pytest.raises(UsageError, match="^-2 is negative"):
        next(results)


def test_tasks_are_made_as_they_are_needed(begin) -> None:
    made: list[int] = []

    def tasks() -> Iterator[int]:
        for k in range(1000):
            made.append(k)
            yield k

    results = begin(FakeRay(random.Random(2))).map(squared, tasks())
    for k in range(5):
        next(results)
        assert len(made) <= k + 1 + 3 * AHEAD
    results.close()


def test_workers_that_do_not_come_back_are_done_without(begin) -> None:
    ray = FakeRay(random.Random(3))
    workers = begin(ray)
    workers._workers[0].gone = True
    assert list(workers.map(squared, range(9))) == [k**2 for k in range(9)]
    assert len(workers._workers) == 2
    for worker in workers._workers:
        worker.gone = True
    with pytest.raises(UsageError, match="No worker of Ray is left"):
        list(workers.map(squared, range(9)))


def test_a_function_is_opened_once_and_keeps_what_it_holds() -> None:
    class Adding:
        """Its sum so far, with each number."""

        opened = 0

        def __init__(self) -> None:
            self.total = 0

        def __call__(self, number: int) -> int:
            self.total += number
            return self.total

    held, packed = Holder("."), packed_for_workers(Adding())
    first, again = (Sent(number, packed, None, None) for number in (1, 2))
    assert [held.call(first, 2), held.call(first, 3), held.call(again, 4)] == [2, 5, 4]


def test_how_many_workers_there_is_room_for() -> None:
    assert room({"CPU": 9.0}, 0, 2) == 4 and room({"CPU": 1.0}, 0, 2) == 1
    assert room({"CPU": 9.0, "GPU": 3.0}, 0.5, 2) == 6
    with pytest.raises(UsageError, match="need 2 GPUs and the Ray cluster has 1"):
        room({"CPU": 9.0, "GPU": 1.0}, 2, 1)


def test_what_cannot_be_sent_is_refused_in_one_sentence() -> None:
    import threading

    with pytest.raises(UsageError, match=r"cannot be sent to workers \(cannot pickle '_thread.lock' object\); open"):
        packed_for_workers(partial(squared, threading.Lock()))
