"""The log of a training: a row for each step, in the run and in the trackers."""

import time

from accelerate import Accelerator

from mnemoscope.run.run import Run, read_rows
from mnemoscope.run.training_rows import StepLog, TrainRow

HELD, SECONDS = 200, 10.0  # rows, or time, after which they are written


class Log:
    """Rows of a run, written some at a time; nothing where there is no run, as on all processes but the first."""

    def __init__(self, run: Run | None, accelerator: Accelerator) -> None:
        self.run, self.accelerator = run, accelerator
        self._held: list[TrainRow] = []
        self._evaluations, self._seconds, self._written = 0, 0.0, time.monotonic()

    def begin(self, step: int) -> None:
        """Drop what an earlier session logged of steps that have to be done again."""
        if self.run is not None:
            kept = [row for row in read_rows(self.run.folder, TrainRow) if row["step"] <= step]
            self.run.replace_rows(kept)

    def add(self, row: StepLog, evaluations: int) -> None:
        """Log a step that took so many network evaluations."""
        if self.run is None:
            return
        self._held.append({"id": f"{row['step']:06d}", "status": "ok", **row})
        self._evaluations += evaluations
        self._seconds += row["seconds"]
        numbers = {k: v for k, v in row.items() if isinstance(v, int | float)}
        self.accelerator.log(numbers, step=row["step"])
        if len(self._held) >= HELD or time.monotonic() - self._written > SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what is held."""
        if self.run is not None and self._held:
            self.run.append(self._held, evaluations=self._evaluations, seconds=self._seconds)
        self._held, self._evaluations, self._seconds, self._written = [], 0, 0.0, time.monotonic()
