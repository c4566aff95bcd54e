"""A sweep, level by level, size by size, seed by seed; killed at any point it goes on from there."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from mnemoscope.emm.sweeps.bisection import wanted
from mnemoscope.emm.sweeps.cells import Cell, Task, Trained, distinct, ratios, row_of, task_of, trained
from mnemoscope.emm.sweeps.comparing import COLUMNS, flat, summary_of
from mnemoscope.emm.sweeps.file import Sweep
from mnemoscope.emm.sweeps.level import FactorLevel
from mnemoscope.errors import UsageError
from mnemoscope.run.emm_rows import EmmSweepRow
from mnemoscope.run.reading import Json
from mnemoscope.run.run import Run
from mnemoscope.run.runner import map_shards
from mnemoscope.run.writing import write_csv

Trainer = Callable[[Task], Trained]


def run_sweep(
    asked: Sweep,
    out: Path | str,
    *,
    seeds: int = 3,
    levels: Sequence[str] = (),
    adaptive: bool = False,
    cache: Path | str | None = None,
    runner: Literal["local", "ray"] = "local",
    gpus: int | float = 0,
    device: str = "auto",
    overwrite: bool = False,
    trainer: Trainer = trained,
    tell: Callable[[str], None] | None = None,
) -> Json:
    """Train each level of a factor at each size with so many seeds, and return the summary: EMM, differences, verdicts.

    All levels have the same images, weights to start from, order and noise for a seed, as far as their settings let
    them. Trainings that are alike are done once, in `cache`, which sweeps may share, or in the run's `trainings/`. What
    is there is not done again: seeds and levels can be added. `adaptive` trains only what tells the crossing of each
    level (`wanted`). With `runner="ray"` trainings go to the workers of a Ray cluster, which must have the same files,
    each with a share of `gpus`. `tell` is given a line for each training. Raises `UsageError` for no
    seeds, levels that there are not, and as training does.
    """
    if seeds < 1:
        raise UsageError(f"--seeds {seeds} was given; give 1 or more.")
    chosen = chosen_levels(asked, levels)
    settings = {"file": asked.file, "full": asked.is_full, "content": asked.given}
    began = time.perf_counter()
    with Run(out, "emm-sweep", settings, overwrite=overwrite) as run:
        place = Path(cache).resolve() if cache else run.folder.resolve() / "trainings"
        done = _rows(run, chosen, seeds)
        while cells := _missing(asked, chosen, seeds, done, adaptive):
            tasks = [task_of(cell, place, device) for cell in cells]
            each = distinct(tasks)
            results = map_shards(trainer, each, runner=runner, gpus=gpus)
            for number, (task, result) in enumerate(zip(each, results, strict=True), 1):
                of_folder = [cell for cell, its in zip(cells, tasks, strict=True) if its.folder == task.folder]
                rows = [row_of(cell, task, result) for cell in of_folder]
                run.append(rows, seconds=time.perf_counter() - began)
                began = time.perf_counter()
                if tell is not None:
                    ratios_said = ", ".join(f"{row['level']} {row['ratio']:.3f}" for row in rows)
                    tell(f"{number} of {len(each)}: {of_folder[0].n} images, seed {of_folder[0].seed}: {ratios_said}")
            done = _rows(run, chosen, seeds)
        summary = summary_of(asked, done)
        write_csv(run.folder / "table.csv", COLUMNS, map(flat, summary["table"]))
        return run.finish(seeds=seeds, levels=[level.name for level in chosen], adaptive=adaptive, **summary)


def chosen_levels(asked: Sweep, names: Sequence[str]) -> list[FactorLevel]:
    """The levels of these names in the file's order, all if none is named, the baseline always among them."""
    for name in names:
        if name not in asked.levels:
            raise UsageError(f"{asked.file} has no level {name}; it has {', '.join(asked.levels)}.")
    return [level for level in asked.levels.values() if not names or level.name in (*names, asked.baseline)]


def _missing(
    asked: Sweep, levels: Sequence[FactorLevel], seeds: int, done: Sequence[EmmSweepRow], adaptive: bool
) -> list[Cell]:
    """What is to be trained next: all that there is not yet, or what the bisections of all levels ask for."""
    cells = []
    for level in levels:
        known = ratios(done, level.name)
        if adaptive:
            pairs = wanted(level.sizes, range(seeds), known, asked.eps)
        else:
            pairs = [(n, seed) for n in level.sizes for seed in range(seeds) if (n, seed) not in known]
        cells += [Cell(level, n, seed) for n, seed in pairs]
    return sorted(cells, key=lambda cell: cell.seed)


def _rows(run: Run, levels: Sequence[FactorLevel], seeds: int) -> list[EmmSweepRow]:
    names = {level.name for level in levels}
    return [row for row in run.rows(EmmSweepRow) if row["level"] in names and row["seed"] < seeds]
