"""A batch of prompts computed: again in parts where memory is short or a prompt fails, with what the work took."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar, cast

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from mnemoscope.errors import UsageError
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.run import runner
from mnemoscope.run.rows import AnyRow, R, ReadRow

Task = TypeVar("Task")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Pass(Generic[R]):
    """Prompts gone through once: what is computed of some of them, and the ids of the rows that each gives."""

    title: str
    work: Callable[[list[Prompt]], list[R]]
    ids: Callable[[Prompt], list[str]] = lambda prompt: [prompt.id]


@dataclass(frozen=True)
class Counted(Generic[Made]):
    """What some work made, with the network evaluations and the seconds that it took."""

    made: Made
    evaluations: int
    seconds: float


def counted(model: Denoiser, work: Callable[[Task], Made], task: Task) -> Counted[Made]:
    """What some work with a model makes of a task."""
    began, before = time.perf_counter(), model.network_evaluations
    made = work(task)
    return Counted(made, model.network_evaluations - before, time.perf_counter() - began)


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
        return self._failed(prompt, reason)

    def _failed(self, prompt: Prompt, reason: str) -> list[R]:
        failed = {"prompt": prompt.text, "status": "failed", "error": reason}
        return [cast(R, {"id": i, **failed}) for i in self.each.ids(prompt)]

    def lost(self, prompts: list[Prompt], why: str) -> Counted[list[R]]:
        """Rows of a batch at which workers died again and again: of its prompts one by one, or a failed one."""
        if len(prompts) == 1:
            return Counted(self._failed(prompts[0], why), 0, 0.0)
        alone = list(runner.each(partial(counted, self.model, self.rows), [[p] for p in prompts], self.lost))
        rows = [row for found in alone for row in found.made]
        return Counted(rows, sum(found.evaluations for found in alone), sum(found.seconds for found in alone))

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
