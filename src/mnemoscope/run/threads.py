"""The number of threads that a run computes with on a processor, the same in all its sessions."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from mnemoscope.errors import UsageError
from mnemoscope.run.run import read_json, write_json


def recorded_threads(folder: Path) -> int:
    """How many threads a run began with; this session's where it begins now, which its `run.json` then says.

    Sums over threads differ in their last bits with their number, which otherwise follows how busy the machine is.
    """
    record = read_json(folder / "run.json")
    threads = record.get("threads", torch.get_num_threads())
    if not isinstance(threads, int) or threads < 1:
        raise UsageError(
            f"{folder / 'run.json'} says threads {threads!r}; write a number from 1 on, or train it again."
        )
    if "threads" not in record:
        write_json(folder / "run.json", record | {"threads": threads})
    return threads


@contextmanager
def computing_with(threads: int) -> Iterator[None]:
    """Compute with so many threads while the block is open."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
