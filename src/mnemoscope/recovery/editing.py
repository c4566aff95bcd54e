"""Edits of a model by name: mitigations that act while sampling, and weights that are pruned."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from mnemoscope.errors import UsageError
from mnemoscope.mitigation.chosen import Mitigation, chosen, mitigated
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.recovery import pruning
from mnemoscope.recovery.pruning import Masks
from mnemoscope.recovery.run import Edit

PRUNING = "weight_pruning"
PRUNING_PARAMETERS = ("share", "steps", "num_inference_steps", "seed")


def edited_by(
    model: Denoiser,
    names: Sequence[str],
    parameters: Mapping[str, Any],
    memorized: Sequence[str],
    neutral: Sequence[str],
) -> Edit:
    """A context in which the named edits act on the model; pruning learns from memorized and neutral prompts.

    Raises `UsageError` for an edit or a parameter that there is not, and for pruning without neutral prompts.
    """
    of_pruning = {k.removeprefix(f"{PRUNING}."): v for k, v in parameters.items() if _is_of_pruning(k, names)}
    rest = {k: v for k, v in parameters.items() if not _is_of_pruning(k, names)}
    mitigations = chosen([name for name in names if name != PRUNING], rest)
    masks: Masks = {}
    if PRUNING in names:
        if not neutral:
            raise UsageError("weight_pruning keeps what neutral prompts need; give them as --negatives.")
        masks = pruning.memorized_weights(model, memorized, neutral, **of_pruning)
    return partial(_edited, model, mitigations, masks)


def _is_of_pruning(key: str, names: Sequence[str]) -> bool:
    return PRUNING in names and key.removeprefix(f"{PRUNING}.") in PRUNING_PARAMETERS


@contextmanager
def _edited(model: Denoiser, mitigations: Sequence[Mitigation], masks: Masks) -> Iterator[None]:
    with pruning.pruned(model, masks), mitigated(model, mitigations):
        yield
