"""A run that has its rows at hand while they are made, and what a search has spent by the price of each."""

from collections.abc import Sequence
from typing import Any

from mnemoscope.job.batching import Batch, Pass, run_batches
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.run.extract_rows import ExtractRow
from mnemoscope.run.run import Run


class Journal(Run):
    """A run whose rows are known by their ids, those of an earlier session and those that are appended."""

    known: dict[str, ExtractRow]

    def __init__(self, *given: Any, **how: Any) -> None:
        self.known = {}
        super().__init__(*given, **how)
        self.known = {row["id"]: row for row in self.rows(ExtractRow)}

    def __enter__(self) -> "Journal":
        return self

    def append(self, rows: Any, **work: Any) -> None:
        made = list(rows)
        super().append(made, **work)
        self.known.update({row["id"]: row for row in made})


class Purse:
    """A budget of evaluations: what was made before is paid again, so that a resumed search is the same."""

    def __init__(self, budget: int) -> None:
        self.budget, self.spent = budget, 0
        self.gradients = 0  # of what was spent, on proposals

    def affords(self, price: int) -> int:
        """How many more of a price there is room for."""
        return max(0, self.budget - self.spent) // price


class PaidWork:
    """Prompts gone through in a journal: scored for one evaluation each, or drawn."""

    def __init__(self, run: Journal, model: Denoiser, batch: Batch, purse: Purse) -> None:
        self.run, self.model, self.batch, self.purse = run, model, batch, purse

    def rows(self, each: Pass[ExtractRow], prompts: Sequence[Prompt], price: int) -> list[ExtractRow]:
        """The rows of as many prompts as are paid for."""
        paid = list(prompts)[: self.purse.affords(price)]
        self.purse.spent += price * len(paid)
        if any(i not in self.run.done for p in paid for i in each.ids(p)):
            run_batches(self.run, self.model, paid, self.batch.prompts, each)
        return [self.run.known[i] for p in paid for i in each.ids(p)]


def draw_ids(prompt: Prompt) -> list[str]:
    """The id of the row of a prompt that is drawn."""
    return [f"{prompt.id}-draw"]
