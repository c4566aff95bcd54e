"""Work sent to workers: of Ray, or to a worker in this process that is sent the same bytes."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from mnemoscope.run import runner
from mnemoscope.run.asked import now_recorded
from mnemoscope.run.cluster import packed_for_workers
from mnemoscope.run.holder import Holder, Sent


class Here:
    """As `Workers`, but that its one worker is in this process; it counts what it was sent."""

    def __init__(self) -> None:
        self.worker, self.functions, self.tasks = Holder(os.getcwd()), 0, 0
        self.sizes: list[int] = []

    def map(self, function: Callable[[Any], Any], tasks: Iterable[Any], **how: Any) -> Iterator[Any]:
        self.functions += 1
        packed = packed_for_workers(function)
        self.sizes.append(len(packed))
        sent = Sent(self.functions, packed, how["threads"], now_recorded())
        for task in tasks:
            self.tasks += 1
            yield self.worker.call(sent, task)

    def close(self) -> None:
        pass


@contextmanager
def over(workers: Any) -> Iterator[None]:
    """What `spread` does, with workers that are there and stay."""
    token = runner._SPREAD.set(runner._Spread(lambda: workers))
    try:
        yield
    finally:
        runner._SPREAD.reset(token)


def both_ways(give: Callable[..., Any], words: Callable[[Path], Any], folder: Path, workers: Any) -> tuple[Path, Path]:
    """A command given here and to workers, in folders of one name, so that what it says of them is alike."""
    place = folder / "run"
    for name in ("serial", "spread"):
        shutil.rmtree(place, ignore_errors=True)
        with over(workers) if name == "spread" else nullcontext():
            code, _, said = give(*words(place))
        assert code in (0, 1), said
        shutil.copytree(place, folder / name)
    return folder / "serial", folder / "spread"
