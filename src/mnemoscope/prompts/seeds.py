"""Seeds of a prompt's own, from a column of its source."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mnemoscope.errors import UsageError
from mnemoscope.pictures.columns import short
from mnemoscope.prompts.prompt import Prompt, Prompts

LARGEST = 2**63 - 1


def seeded(prompts: Sequence[Prompt], column: str) -> Prompts:
    """The prompts, each with the seeds that a column of its row says: the first of its seeds, or a list of all.

    Raises `UsageError` for a column that there is not, and for a row where it holds anything else.
    """
    return Prompts.of((replace(p, seeds=_read(p, number, column)) for number, p in enumerate(prompts, 1)), prompts)


def _read(prompt: Prompt, number: int, column: str) -> tuple[int, ...]:
    where = f"Prompt {number}, “{short(prompt.text)[:60]}”,"
    if column not in prompt.source:
        listed = short(", ".join(prompt.source)) or "none that says more of it"
        raise UsageError(f"{where} has no seed in the column {column!r}; its further columns are {listed}.")
    value = prompt.source[column]
    held = _parsed(value) if isinstance(value, str) else value
    several = held if isinstance(held, list) else [held]
    seeds = [_whole(each) for each in several]
    if not seeds or None in seeds:
        wanted = f"a whole number from 0 to {LARGEST}, or a list of such"
        raise UsageError(f"{where} has {value!r} as its seed in the column {column!r}; write {wanted}.")
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"{where} has a seed twice in the column {column!r}: {value!r}; write each once.")
    return tuple(seed for seed in seeds if seed is not None)


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _whole(value: Any) -> int | None:
    """A seed; a float is one where a column with gaps made it a float."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        return None
    return int(value) if 0 <= value <= LARGEST else None
