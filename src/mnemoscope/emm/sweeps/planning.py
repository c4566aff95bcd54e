"""A dry run of a sweep: what it would train, on which data, and what that would cost."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from mnemoscope.emm.data.options import SetOptions
from mnemoscope.emm.data.sources import source_images
from mnemoscope.emm.networks import NetworkOptions
from mnemoscope.emm.networks.unet import UNet
from mnemoscope.emm.sweeps.cells import Cell, is_done, task_of
from mnemoscope.emm.sweeps.file import Sweep
from mnemoscope.emm.sweeps.level import FactorLevel, LevelTraining
from mnemoscope.emm.training.budget import Budget
from mnemoscope.errors import UsageError

BACKWARD = 2  # of a backward pass in forward ones
SAMPLES = 16  # of the batch that is timed
DAY = 86_400


@dataclass(frozen=True)
class Shape:
    """The images that a network is for."""

    channels: int
    resolution: int


@dataclass(frozen=True)
class LevelWork:
    """How many samples a training shows to the network, and how many evaluations its scores take."""

    trained: int
    scored: int

    @property
    def passes(self) -> int:
        """All of it in forward passes of one sample."""
        return self.trained * (1 + BACKWARD) + self.scored


def plan(asked: Sweep, levels: Sequence[FactorLevel], *, seeds: int = 3, cache: Path | None = None) -> list[str]:
    """The lines of a dry run; every option was checked when the file was read, and nothing is written or trained.

    Seconds are of one thread of this machine's processor, from a few passes of each network, and at the original size
    of the hardware that the file names, from the floating-point operations of each network. Trainings that a `cache`
    has are left out of them. Raises `UsageError` for no seeds, and where the size of the images is known from nowhere.
    """
    if seeds < 1:
        raise UsageError(f"--seeds {seeds} was given; give 1 or more.")
    lines = [f"{asked.name}: {asked.question}"]
    lines += [f"data: {line}" for line in dict.fromkeys(_data(asked, level.data) for level in levels)]
    whole: dict[str, float] = {}
    works: dict[str, LevelWork] = {}
    left: dict[str, int] = {}
    for level in levels:
        trainings = {_key(level, n): (n, level.training(0)) for n in level.sizes}
        shape = _shape(asked, level.data)
        each = _seconds(asked, level.training(0).network, shape)
        works |= {key: work_of(training, n) for key, (n, training) in trainings.items()}
        missing = {key: _missing(asked, level, n, seeds, cache) for key, (n, _) in trainings.items()}
        costs = {key: works[key].passes * each * missing[key] for key in trainings}
        new = math.fsum(cost for key, cost in costs.items() if key not in whole)
        lines.append(_line(level, shape, [key in whole for key in trainings], new))
        left |= missing
        whole |= costs
    trained = sum(work.trained * left[key] for key, work in works.items())
    there = len(works) * seeds - sum(left.values())
    kept = f"; {there:,} more are in the cache" if there else ""
    lines.append(f"work: {sum(left.values()):,} trainings on {trained:,} samples, seeds 0 to {seeds - 1}{kept}")
    return [*lines, f"cost: about {duration(math.fsum(whole.values()))} of {_machine(asked)}"]


def work_of(training: LevelTraining, n: int) -> LevelWork:
    """The work of one training on `n` images: each average is scored at each snapshot, and its best one once more."""
    options, budget = training.options, Budget(training.options, n)
    draws = (len(budget.snapshots) + 1) * len(options.ema) * options.samples
    return LevelWork(budget.seen(budget.steps), draws * (2 * options.inference_steps - 1))


def operations(network: NetworkOptions, shape: Shape) -> tuple[int, int]:
    """Floating-point operations of a forward pass for one image, and the parameters; nothing is computed."""
    return _counted(replace(network, skips=None), shape)


@lru_cache
def _counted(network: NetworkOptions, shape: Shape) -> tuple[int, int]:
    with torch.device("meta"), torch.no_grad():
        unet = UNet(network, channels=shape.channels, resolution=shape.resolution, num_classes=0).eval()
        x, noise = torch.empty(1, shape.channels, shape.resolution, shape.resolution), torch.empty(1)
        with FlopCounterMode(display=False) as counter:
            unet(x, noise)
    return counter.get_total_flops(), sum(parameter.numel() for parameter in unet.parameters())


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 2 * DAY else f"{seconds / DAY:,.1f} days"


def _missing(asked: Sweep, level: FactorLevel, n: int, seeds: int, cache: Path | None) -> int:
    """How many seeds are still to be trained."""
    if cache is None or asked.is_full:
        return seeds
    tasks = [task_of(Cell(level, n, seed), cache.resolve(), "cpu") for seed in range(seeds)]
    return sum(not is_done(task) for task in tasks)


def _seconds(asked: Sweep, network: NetworkOptions, shape: Shape) -> float:
    """Of a forward pass for one image."""
    if asked.is_full:
        return operations(network, shape)[0] / (asked.hardware.tflops * 1e12 * asked.hardware.utilisation)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _timed(replace(network, skips=None), shape)
    finally:
        torch.set_num_threads(threads)


@lru_cache
@torch.no_grad()
def _timed(network: NetworkOptions, shape: Shape) -> float:
    unet = UNet(network, channels=shape.channels, resolution=shape.resolution, num_classes=0).eval()
    x, noise = torch.zeros(SAMPLES, shape.channels, shape.resolution, shape.resolution), torch.zeros(SAMPLES)
    took = []
    for _ in range(4):
        began = time.process_time()
        unet(x, noise)
        took.append(time.process_time() - began)
    return min(took) / SAMPLES


def _shape(asked: Sweep, data: SetOptions) -> Shape:
    if asked.channels is not None and (data.resolution or asked.resolution):
        return Shape(asked.channels, data.resolution or asked.resolution or 0)
    if data.source in ("digits", "patches") or Path(data.source).exists():
        channels, height, _ = source_images(data.source).pixels.shape[1:]
        return Shape(channels, data.resolution or height)
    raise UsageError(f"{asked.file}: {data.source} is not here; give full: channels and resolution.")


def _key(level: FactorLevel, n: int) -> str:
    """Equal for trainings that the settings say are the same."""
    return level.training(0).key([str(level.data), n])


def _data(asked: Sweep, data: SetOptions) -> str:
    names = [data.source, *([data.mix] if data.mix and data.alpha else [])]
    here = [name in ("digits", "patches") or Path(name).exists() for name in names]
    sources = [name if there else f"{name}, which is not here" for name, there in zip(names, here, strict=True)]
    expected = f"; expected: {asked.layout}" if asked.layout and not all(here) else ""
    return " with ".join(sources) + expected


def _line(level: FactorLevel, shape: Shape, shared: Sequence[bool], seconds: float) -> str:
    network, options = level.training(0).network, level.training(0).options
    count, parameters = operations(network, shape)
    budget = [Budget(options, n).steps for n in level.sizes]
    steps = f"{budget[0]:,}" if len(set(budget)) == 1 else f"{budget[0]:,} to {budget[-1]:,}"
    sizes = ", ".join(f"{n:,}" for n in level.sizes)
    size = f"{parameters / 1e6:.2f} million weights, {count / 1e9:.3g} GFLOP a pass"
    twice = f", {sum(shared)} of {len(shared)} sizes shared with levels above" if any(shared) else ""
    return (
        f"level {level.name}: {sizes} images, {steps} steps of {options.batch_size}, {size}, {duration(seconds)}{twice}"
    )


def _machine(asked: Sweep) -> str:
    if not asked.is_full:
        return "processor time on this machine"
    hardware = asked.hardware
    return f"{hardware.name}, at {hardware.utilisation:.0%} of {hardware.tflops:g} TFLOP/s"
