"""How many steps a sweep trains for: all sizes, with early decisions, by bisection, and both.

    python benchmarks/emm_sweep.py [--seeds 3] [--stop-at 0.95] [--snapshots 6] [--trials 20]

Nothing is trained. Ratios follow a law that was fitted to six single trainings of a small network on digits, 50 to 200
images and 1,500 and 3,000 steps: a logistic function of the logarithm of the number of images, its middle at 133 images
after 3,000 steps and in proportion to steps ** 0.8. That seeds shift the middle by a tenth is assumed; each ratio is
drawn from 500 samples. All else is the code that real sweeps run. Prints a Markdown table: steps trained and EMM,
medians over trials, and how far EMM lies from that of all sizes at most.
"""

import argparse
import math
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import timing
from mnemoscope.emm.sweeps.cells import Task
from mnemoscope.emm.sweeps.file import read_sweep
from mnemoscope.emm.sweeps.running import run_sweep
from mnemoscope.emm.training.budget import Budget
from mnemoscope.stats import wilson_interval

SIZES = [25, 35, 50, 70, 100, 140, 200, 280, 400]
STEPS, SAMPLES, MIDDLE, SLOPE, GROWTH, SPREAD = 3000, 500, 132.6, 4.4, 0.8, 0.1


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--stop-at", type=float, default=0.95)
    parser.add_argument("--snapshots", type=int, default=6)
    parser.add_argument("--trials", type=int, default=20)
    args = timing.parsed(parser, seeds=1, trials=1, snapshots=2)
    results = timing.Results(args.rows)
    ways = {"all sizes": {}, "early decisions": {"early": True}, "bisection": {"adaptive": True}}
    ways["both"] = {"early": True, "adaptive": True}
    found: dict[str, list[tuple[int, float]]] = {name: [] for name in ways}
    for trial in range(args.trials):
        for name, way in ways.items():
            found[name].append(swept(trial, args, **way))
    whole, rows = found["all sizes"], []
    for name, own in found.items():
        steps = statistics.median(step for step, _ in own)
        share = statistics.median(one[0] / other[0] for one, other in zip(own, whole, strict=True))
        rows.append(timing.Row("EMM by a sweep", name, "a sweep", evaluations=steps, plain=1 / share, by="steps"))
    results.rows(rows)
    for name, own in found.items():
        apart = max(abs(one[1] / other[1] - 1) for one, other in zip(own, whole, strict=True))
        emm = statistics.median(value for _, value in own)
        results.say(f"{name}: EMM {emm:.0f}, at most {apart:.1%} from that of all sizes.")


def swept(trial: int, args: argparse.Namespace, *, early: bool = False, adaptive: bool = False) -> tuple[int, float]:
    """Steps trained in a sweep, and its EMM."""
    train: dict[str, Any] = {"steps": STEPS, "snapshots": args.snapshots, "samples": SAMPLES}
    asked = {"name": "law", "question": "How many?", "resamples": 1, "data": {"source": "digits"}, "sizes": SIZES}
    asked |= {"train": train | ({"stop_at": args.stop_at} if early else {}), "levels": {"law": {}}}
    asked |= {"network": {"width": 32, "multipliers": [1, 1], "blocks": 1, "attention": [], "preconditioning": "edm"}}

    def lawful(task: Task) -> Mapping[str, Any]:
        return planted(task, trial)

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "law.yaml"
        file.write_text(yaml.safe_dump(asked))
        out = Path(folder) / "run"
        summary = run_sweep(read_sweep(file), out, seeds=args.seeds, adaptive=adaptive, trainer=lawful)
    return summary["steps"], summary["emm"]["law"]["value"]


def planted(task: Task, trial: int) -> Mapping[str, Any]:
    """What a training of the law writes; the same for the same trial, size and seed, whichever way asks for it."""
    options, n = task.training.options, len(task.images)
    shift = SPREAD * np.random.default_rng([trial, options.seed]).normal()
    rows, step = [], 0
    for step in Budget(options, n).snapshots:
        middle = MIDDLE * math.exp(shift) * (step / STEPS) ** GROWTH
        share = 1 / (1 + (n / middle) ** SLOPE)
        memorized = int(np.random.default_rng([trial, options.seed, n, step]).binomial(SAMPLES, share))
        low, high = wilson_interval(memorized, SAMPLES)
        about = {"id": str(step), "status": "ok", "step": step, "ema": str(options.averages[0]), "part": "selection"}
        said = {"samples": SAMPLES, "ratio": memorized / SAMPLES, "ratio_low": low, "ratio_high": high}
        said |= {"ratio_apart": memorized / SAMPLES, "ratio_apart_low": low, "ratio_apart_high": high}
        said |= {"mean_distance": 0.0, "coverage": 0.0}
        rows.append(about | said)
        if options.stop_at is not None and low >= options.stop_at:
            break
    return {"rows": rows, "steps": step}


if __name__ == "__main__":
    main()
