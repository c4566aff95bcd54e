"""Accelerate's processes, devices and trackers, opened for one training and closed behind it."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol, runtime_checkable

import torch
from accelerate import Accelerator
from accelerate.state import PartialState
from accelerate.utils import ProjectConfiguration

from mnemoscope.errors import UsageError
from mnemoscope.model.loading import pick_device
from mnemoscope.run.trackers import FOLDER, released, require


@runtime_checkable
class Placed(Protocol):
    """Options on where and how precisely to compute."""

    @property
    def device(self) -> str: ...
    @property
    def mixed_precision(self) -> str: ...
    @property
    def tf32(self) -> bool: ...
    @property
    def trackers(self) -> tuple[str, ...]: ...


@contextmanager
def accelerated(options: Placed, folder: Path) -> Iterator[Accelerator]:
    """An accelerator for these options; torch's random state is put back when it closes.

    The processes are those that `accelerate launch` or `torchrun` started, or this one. Raises `UsageError` for a
    device or a tracker that is not to be had.
    """
    require(options.trackers)
    place = pick_device(options.device)
    if place.type == "cpu" and options.mixed_precision == "fp16":
        raise UsageError("fp16 needs an accelerator, and this trains on the CPU; use --mixed-precision no or bf16.")
    if place.type == "mps" and options.mixed_precision == "bf16":
        raise UsageError("bf16 is not to be had on this device; use --mixed-precision no or fp16.")
    state = torch.get_rng_state()
    if place.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = options.tf32
        if not PartialState._shared_state and place.index is not None:
            torch.cuda.set_device(place)
    with released():
        try:
            yield Accelerator(
                mixed_precision=options.mixed_precision,
                cpu=place.type == "cpu",
                log_with=list(options.trackers) or None,
                project_config=ProjectConfiguration(str(folder), str(folder / FOLDER)),
            )
        finally:
            torch.set_rng_state(state)


def is_launched() -> bool:
    """Whether this is one of several processes that a launcher started."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def agreed(accelerator: Accelerator, *flags: bool) -> list[bool]:
    """What is so on any of the processes."""
    if accelerator.num_processes == 1:
        return list(flags)
    counts = torch.tensor([float(each) for each in flags], device=accelerator.device)
    return [count > 0 for count in accelerator.reduce(counts, "sum").tolist()]


class Interruption:
    """Whether Ctrl-C, or an order to end, came since the block was opened; a second one is not waited for."""

    def __init__(self) -> None:
        self.came = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.came:
            raise KeyboardInterrupt
        self.came = True

    def __bool__(self) -> bool:
        return self.came


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Ctrl-C is remembered while the block is open, so that the step at hand is finished first."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.signal(number, interruption) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
