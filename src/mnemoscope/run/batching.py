"""Prompts in batches, rows out: what every command over many prompts does."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from rich.progress import Progress

from mnemoscope.errors import UsageError
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.run.run import Run

T = TypeVar("T")
Row = dict[str, Any]


def seeds_of(first: int, count: int) -> list[int]:
    """Seeds of a prompt's images: the same for every prompt, so that images pair up and x_T is shared."""
    if count < 1:
        raise UsageError(f"{count} seeds were asked for; give --seeds 1 or more.")
    if not 0 <= first <= 2**63 - count:
        raise UsageError(f"Seed {first} is out of range; give a number from 0 to {2**63 - count}.")
    return list(range(first, first + count))


def batch_size(model: Denoiser, asked: int | str) -> int:
    """Samples in one forward pass; "auto" goes by the size of the latents and the kind of device."""
    if asked != "auto":
        if not str(asked).isdecimal() or int(asked) < 1:
            raise UsageError(f"Batch size '{asked}' is neither auto nor a number from 1 up.")
        return int(asked)
    channels, height, width = model.latent_shape
    room = 2**16 if model.device.type == "cpu" else 2**19
    return max(1, min(64, room // (channels * height * width)))


def content_hash(ids: Iterable[str]) -> str:
    """What a list of prompts is recognised by when its run is resumed."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]


def in_order(rows: Sequence[Row], ids: Iterable[str]) -> list[Row]:
    """Rows in the order of the ids, whatever order they were computed in; those of other ids are left out."""
    by_id = {r["id"]: r for r in rows}
    return [by_id[i] for i in ids if i in by_id]


def chunks(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """Runs of at most `size` items, in order."""
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def run_batches(
    run: Run,
    model: Denoiser,
    prompts: Sequence[Prompt],
    size: int,
    work: Callable[[list[Prompt]], list[Row]],
    rows_of: Callable[[Prompt], list[str]],
    title: str,
) -> None:
    """Append the rows of each batch of prompts, skipping batches whose rows are all there.

    Batches are cut the same way whatever is done already, so that a resumed run computes the same numbers. Where a
    batch fails its prompts are tried one by one, and what still fails becomes a failed row.
    """
    with Progress(transient=True) as bar:
        task = bar.add_task(title, total=len(prompts))
        for batch in chunks(prompts, size):
            if not all(i in run.done for p in batch for i in rows_of(p)):
                _append(run, model, batch, work, rows_of)
            bar.advance(task, len(batch))


def _append(
    run: Run,
    model: Denoiser,
    batch: list[Prompt],
    work: Callable[[list[Prompt]], list[Row]],
    rows_of: Callable[[Prompt], list[str]],
) -> None:
    began, before = time.perf_counter(), model.network_evaluations
    rows = list(_attempt(batch, work, rows_of))
    run.append(rows, evaluations=model.network_evaluations - before, seconds=time.perf_counter() - began)


def _attempt(
    batch: list[Prompt], work: Callable[[list[Prompt]], list[Row]], rows_of: Callable[[Prompt], list[str]]
) -> Iterable[Row]:
    try:
        return work(batch)
    except (UsageError, OSError):  # what the user has to mend first, such as a full disk
        raise
    except Exception as e:  # whatever a network can raise for one prompt must not lose the others
        reason = f"{type(e).__name__}: {e}".partition("\n")[0][:300]
        out_of_memory = isinstance(e, torch.OutOfMemoryError)
    if out_of_memory:
        torch.cuda.empty_cache()  # now that the error no longer holds on to the batch
    if len(batch) > 1:
        return [row for p in batch for row in _attempt([p], work, rows_of)]
    (prompt,) = batch
    return [{"id": i, "prompt": prompt.text, "status": "failed", "error": reason} for i in rows_of(prompt)]
