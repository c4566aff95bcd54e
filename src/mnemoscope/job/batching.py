"""Prompts in batches, rows out: what every command over many prompts does."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from mnemoscope.job.attempts import Attempts as Attempts
from mnemoscope.job.attempts import Pass as Pass
from mnemoscope.job.attempts import counted, is_finite, unfinished
from mnemoscope.model.batch import batch_size
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import Prompt, left_out
from mnemoscope.run import runner
from mnemoscope.run.content import content_hash as content_hash
from mnemoscope.run.progress import Progress
from mnemoscope.run.reading import Json
from mnemoscope.run.rows import AnyRow, Kind, R
from mnemoscope.run.run import Run

T = TypeVar("T")


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
    batches are halved from then on, down to one sample at once. Inside `mnemoscope.run.runner.spread` workers compute
    them, and their rows are appended in the same order.
    """
    attempts, sent = Attempts(model, each, size), deque[list[Prompt]]()
    with Progress(transient=True) as bar, model.bounded(model.at_once):
        task, spent = bar.add_task(each.title, total=len(prompts)), model.network_evaluations

        def left() -> Iterator[list[Prompt]]:
            for batch in chunks(prompts, size):
                if all(i in run.done for p in batch for i in each.ids(p)):
                    bar.advance(task, len(batch))
                else:
                    sent.append(batch)
                    yield batch

        for found in runner.each(partial(counted, model, attempts.rows), left(), attempts.lost):
            rows: list[AnyRow] = [row if is_finite(row) else unfinished(row) for row in found.made]
            if runner.is_spread():
                run.require_files(rows)
            run.append(rows, evaluations=found.evaluations, seconds=found.seconds)
            spent += found.evaluations
            model.network_evaluations = spent  # also where another process has made them
            bar.advance(task, len(sent.popleft()))
