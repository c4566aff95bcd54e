"""Prompts in batches, rows out: what every command over many prompts does."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from mnemoscope.errors import UsageError
from mnemoscope.model.batch import batch_size
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import Prompt, left_out
from mnemoscope.run.content import content_hash as content_hash
from mnemoscope.run.progress import Progress
from mnemoscope.run.reading import Json
from mnemoscope.run.rows import AnyRow, Kind, R, ReadRow
from mnemoscope.run.run import Run

T = TypeVar("T")


@dataclass(frozen=True)
class Pass(Generic[R]):
    """Prompts gone through once: what is computed of some of them, and the ids of the rows that each gives."""

    title: str
    work: Callable[[list[Prompt]], list[R]]
    ids: Callable[[Prompt], list[str]] = lambda prompt: [prompt.id]


@dataclass(frozen=True)
class Batch:
    """How many samples at once: `at_once` bounds what goes through a network, `prompts` are computed together."""

    prompts: int
    at_once: int

    @classmethod
    def of(cls, model: Denoiser, asked: int | str, samples: int, graph: bool = False) -> "Batch":
        """Of so many samples a prompt, unconditional ones not counted; with a graph fewer where it is "auto"."""
        size = batch_size(model, asked, graph)
        both = 2 if asked == "auto" else 1  # both branches of a batch go together
        return cls(per_batch(size, samples), both * size)


def prompt_run(
    out: Path | str,
    command: str,
    kind: Kind[R],
    settings: Mapping[str, Any],
    models: Sequence[Denoiser],
    prompts: Sequence[Prompt],
    batch: Batch,
    plan: Callable[[Run], Iterable[Pass[R]]],
    finish: Callable[[Run, list[R]], tuple[list[R], Mapping[str, Any]]],
    *,
    overwrite: bool = False,
    **record: Any,
) -> Json:
    """A run over prompts: opened, gone through in batches, its rows put in order and finished; returns its summary.

    `kind` is the type of its rows. `plan` says what is computed, once the run is open; `finish` makes of the rows, in
    the order of the passes and prompts, those that are kept and the summary. The first of the `models` is what the run
    records.
    """
    about = {"model": models[0].describe(), "device": str(models[0].device), **record}
    with Run(out, command, settings, overwrite=overwrite, **about) as run, ExitStack() as stack:
        for model in models:
            stack.enter_context(model.bounded(batch.at_once))
        passes = list(plan(run))
        for each in passes:
            run_batches(run, models[0], prompts, batch.prompts, each)
        rows, summary = finish(
            run, in_order(run.rows(kind), [i for each in passes for p in prompts for i in each.ids(p)])
        )
        run.replace_rows(rows)
        return run.finish(**summary, **left_out(prompts))


def per_batch(room: int, samples: int) -> int:
    """How many prompts of so many samples each are computed together: one at least, whatever its number of samples."""
    return max(1, room // samples)


def in_order(rows: Sequence[R], ids: Iterable[str]) -> list[R]:
    """Rows in the order of the ids, whatever order they were computed in; those of other ids are left out."""
    by_id = {r["id"]: r for r in rows}
    return [by_id[i] for i in ids if i in by_id]


def chunks(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """Runs of at most `size` items, in order."""
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def run_batches(run: Run, model: Denoiser, prompts: Sequence[Prompt], size: int, each: Pass[R]) -> None:
    """Append the rows of each batch of prompts, skipping batches whose rows are all there.

    Batches are cut the same way whatever is done already, so that a resumed run computes the same numbers. Where a
    batch fails its prompts are tried one by one, and what still fails becomes a failed row; where memory is short
    batches are halved from then on, down to one sample at once.
    """
    attempts = Attempts(model, each, size)
    with Progress(transient=True) as bar, model.bounded(model.at_once):
        task = bar.add_task(each.title, total=len(prompts))
        for batch in chunks(prompts, size):
            if not all(i in run.done for p in batch for i in each.ids(p)):
                began, before = time.perf_counter(), model.network_evaluations
                rows: list[AnyRow] = [row if is_finite(row) else unfinished(row) for row in attempts.rows(batch)]
                spent = model.network_evaluations - before
                run.append(rows, evaluations=spent, seconds=time.perf_counter() - began)
            bar.advance(task, len(batch))


@dataclass
class Attempts(Generic[R]):
    """A pass over prompts, so many of them together as there was memory for up to now."""

    model: Denoiser
    each: Pass[R]
    most: int

    def rows(self, prompts: list[Prompt]) -> list[R]:
        """Rows of some prompts; a failed one for each that a prompt should have given."""
        found: list[R] = []
        while prompts:
            part, prompts = prompts[: self.most], prompts[self.most :]
            found += self._attempt(part)
        return found

    def _attempt(self, part: list[Prompt]) -> list[R]:
        try:
            return self.each.work(part)
        except (UsageError, OSError):  # what the user has to mend first, such as a full disk
            raise
        except Exception as e:  # whatever a network can raise for one prompt must not lose the others
            reason = f"{type(e).__name__}: {e}".partition("\n")[0][:300]
            short = isinstance(e, torch.OutOfMemoryError | MemoryError) or should_reduce_batch_size(e)
        if short:
            clear_device_cache(garbage_collection=True)  # now that the error no longer holds on to the batch
            if self._halve(len(part)):
                return self.rows(part)
        if len(part) > 1:
            return [row for prompt in part for row in self._attempt([prompt])]
        (prompt,) = part
        failed = {"prompt": prompt.text, "status": "failed", "error": reason}
        return [cast(R, {"id": i, **failed}) for i in self.each.ids(prompt)]

    def _halve(self, prompts: int) -> bool:
        """Half as many prompts at once from now on or, of a single one, samples; whether that can be."""
        if prompts > 1:
            self.most = prompts // 2
            return True
        if self.model.at_once == 1:
            return False
        self.model.at_once = (self.model.at_once or 2) // 2
        return True


def is_finite(value: Any) -> bool:
    """Whether all numbers of a row are numbers."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return value.get("status") == "failed" or all(map(is_finite, value.values()))
    return not isinstance(value, list | tuple) or all(map(is_finite, value))


def unfinished(row: ReadRow) -> AnyRow:
    """The failed row in the place of one that has a number which is none: NaN is no result."""
    name = next(key for key, value in row.items() if not is_finite(value))
    kept = {k: row[k] for k in ("id", "prompt_id", "prompt", "seed", "label", "kind") if k in row}
    error = f"{name} is no finite number: the model's output is none"
    return cast(AnyRow, {**kept, "status": "failed", "error": error})
