"""A stand-in for trainings: ratios by a known law of size, time and settings, and a count of the steps it took."""

import math
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mnemoscope.emm.sweeps.cells import Task
from mnemoscope.emm.training.budget import Budget
from mnemoscope.stats import wilson_interval

HALF = 90  # images of which 0.9 is memorized at the end of the budget, by a network of width 32


def share(n: int, spent: float, scale: float = 1.0) -> float:
    """The expected ratio of `n` images after a share of the budget: 0.9 at HALF images times both."""
    return 1 / (1 + math.exp(4 * math.log(n / (HALF * scale * spent))) / 9)


def planted(task: Task) -> Mapping[str, Any]:
    """Rows as a training writes them: twice as wide is twice as many images, a seed shifts them by a few percent.

    It stops early as a training does that has `stop_at`.
    """
    options, n = task.training.options, len(task.images)
    budget, rows, step = Budget(options, n), [], 0
    scale = task.training.network.width / 32 * math.exp(0.05 * np.random.default_rng(options.seed).normal())
    for step in budget.snapshots:
        ratio = round(share(n, step / budget.steps, scale) * options.samples) / options.samples
        low, high = wilson_interval(round(ratio * options.samples), options.samples)
        for average in map(str, options.averages):
            said = {"ratio": ratio, "ratio_low": low, "ratio_high": high, "ratio_apart": ratio, "coverage": 1.0}
            about = {"step": step, "ema": average, "part": "selection", "samples": options.samples}
            rows.append(about | said | {"mean_distance": 10.0, "id": f"{step} {average}", "status": "ok"})
        if options.stop_at is not None and low >= options.stop_at:
            break
    return {"rows": rows, "steps": step, "seconds": 1.0}


def killed(task: Task) -> Mapping[str, Any]:
    """Planted, but the third training of a folder is cut off by a kill, the first time."""
    mark = Path(task.folder.parent.parent) / "calls"
    calls = len(mark.read_text()) if mark.exists() else 0
    mark.write_text("x" * (calls + 1))
    if calls == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return planted(task)
