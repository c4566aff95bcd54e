"""Seeds of a prompt's samples: the same for all prompts of a run, or a prompt's own."""

from collections.abc import Iterable

from mnemoscope.errors import UsageError
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.run.content import content_hash

MOST_SEEDS = 10**6


def seeds_of(first: int, count: int) -> list[int]:
    """Seeds of a prompt's images: the same for every prompt, so that images pair up and x_T is shared."""
    if count < 1:
        raise UsageError(f"{count} seeds were asked for; give --seeds 1 or more.")
    if count > MOST_SEEDS:
        raise UsageError(f"{count} seeds of a prompt are more than any memory holds; give {MOST_SEEDS} at most.")
    if not 0 <= first <= 2**63 - count:
        raise UsageError(f"Seed {first} is out of range; give a number from 0 to {2**63 - count}.")
    return list(range(first, first + count))


def own_seeds(prompt: Prompt, first: int, count: int) -> list[int]:
    """Seeds of one prompt: its own, where it has some, or those of `seeds_of`.

    Raises `UsageError` where a list of its own is not of `count` seeds.
    """
    if len(prompt.seeds) > 1 and len(prompt.seeds) != count:
        raise UsageError(
            f"“{prompt.text[:60]}” has {len(prompt.seeds)} seeds of its own, and {count} are drawn of each prompt; "
            f"give one of them, or {count}."
        )
    return list(prompt.seeds) if len(prompt.seeds) > 1 else seeds_of(prompt.seeds[0] if prompt.seeds else first, count)


def content_of(prompts: Iterable[Prompt]) -> str:
    """What a run over prompts is recognised by: their ids, and the seeds of those that have their own."""
    return content_hash([f"{p.id} {list(p.seeds)}" if p.seeds else p.id for p in prompts])


def samples(prompts: Iterable[Prompt], first: int, count: int) -> list[tuple[Prompt, int]]:
    """Each prompt with each of its seeds, those of a prompt side by side; raises `UsageError` for what is no seed."""
    seeds_of(first, count)
    return [(prompt, seed) for prompt in prompts for seed in own_seeds(prompt, first, count)]
