"""The trainings of a sweep: which ones its levels, sizes and seeds need, done once each, and what is read of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import torch
from filelock import FileLock

from mnemoscope.emm.data.images import Images
from mnemoscope.emm.sweeps.level import FactorLevel, LevelTraining
from mnemoscope.emm.training.average import Average
from mnemoscope.emm.training.loop import train
from mnemoscope.emm.training.watching import curve
from mnemoscope.errors import UsageError
from mnemoscope.run.emm_rows import EmmSweepRow, EmmTrainRow
from mnemoscope.run.run import read_json, read_rows


@dataclass(frozen=True)
class Cell:
    """A level at a size with a seed: one number of a sweep."""

    level: FactorLevel
    n: int
    seed: int

    @property
    def id(self) -> str:
        """Its name in the run."""
        return f"{self.level.name}-n{self.n}-s{self.seed}"


@dataclass(frozen=True)
class Task:
    """A training to be done in a folder; it may go to another process."""

    images: Images
    folder: Path
    training: LevelTraining


class Trained(TypedDict):
    """What is read of a training: its scored snapshots, its steps, its time."""

    rows: list[EmmTrainRow]
    steps: int
    seconds: float


def task_of(cell: Cell, place: Path, device: str) -> Task:
    """The training that a cell is read from: cells of equal images, settings and seed have the same folder."""
    images, training = cell.level.data.images(cell.n, cell.seed), cell.level.training(cell.seed, device)
    return Task(images, place / f"n{cell.n}-s{cell.seed}-{training.key(images.sha256())}", training)


def is_done(task: Task) -> bool:
    """Whether a training is there, done."""
    return (task.folder / "summary.json").is_file()


def distinct(tasks: Iterable[Task]) -> list[Task]:
    """The tasks without those that have the folder of an earlier one."""
    return list({task.folder: task for task in reversed(list(tasks))}.values())[::-1]


def trained(task: Task) -> Trained:
    """Do a training, go on with it, or wait for another process that does; rows of its scored snapshots and its steps.

    On a processor it has one thread, which small networks are fastest with, and which makes its numbers the same
    however many trainings run beside it.
    """
    task.folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(task.folder.with_name(f".{task.folder.name}.lock")):
        if not is_done(task):
            _train(task)
    summary = read_json(task.folder / "summary.json")
    return {"rows": read_rows(task.folder, EmmTrainRow), "steps": summary["steps"], "seconds": summary["seconds"]}


def _train(task: Task) -> None:
    threads = torch.get_num_threads()
    on_processor = task.training.options.device == "cpu" or not torch.cuda.is_available()
    torch.set_num_threads(1 if on_processor else threads)
    try:
        train(task.images, task.folder, task.training.network, task.training.options)
    finally:
        torch.set_num_threads(threads)


def row_of(cell: Cell, task: Task, finished: Trained) -> EmmSweepRow:
    """What a cell's row says: the ratio that its level reads of the training."""
    reading, options = cell.level.reading, task.training.options
    step = cell.level.read_step(cell.n)
    average = str(Average.of(reading.ema or options.ema[0]))
    up_to_step = [row for row in curve(finished["rows"], average) if row["step"] <= step]
    if not up_to_step:
        raise UsageError(f"{task.folder} has no scored snapshot up to step {step}; delete it to train it again.")
    chosen = max(up_to_step, key=lambda row: row["ratio"]) if reading.pick == "max" else up_to_step[-1]
    return {
        "id": cell.id,
        "status": "ok",
        "level": cell.level.name,
        "x": cell.level.x,
        "n": cell.n,
        "seed": cell.seed,
        "step": chosen["step"],
        "ema": chosen["ema"],
        "samples": chosen["samples"],
        "ratio": chosen["ratio"],
        "ratio_low": chosen["ratio_low"],
        "ratio_high": chosen["ratio_high"],
        "ratio_apart": chosen["ratio_apart"],
        "mean_distance": chosen["mean_distance"],
        "coverage": chosen["coverage"],
        "stopped": up_to_step[-1]["step"] < step,
        "training": task.folder.name,
        "steps": finished["steps"],
    }


def ratios(rows: Sequence[EmmSweepRow], level: str) -> dict[tuple[int, int], float]:
    """Ratios of a level by size and seed."""
    return {(row["n"], row["seed"]): row["ratio"] for row in rows if row["level"] == level}
