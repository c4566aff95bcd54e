"""Which mitigations of a sweep a model can take."""

from collections.abc import Sequence
from dataclasses import replace

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.generation.run import Generation
from mnemoscope.methods.amounts import Amount
from mnemoscope.mitigation.chosen import mitigated
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.sweep.curves import SweepPoint


def fitting(
    model: Denoiser, points: Sequence[SweepPoint], prompts: Sequence[Prompt], generation: Generation
) -> tuple[list[SweepPoint], list[str]]:
    """The points whose mitigation this model can take, and a sentence for each mitigation that it cannot.

    Tries the first step of one prompt under each. Raises `UsageError` where none is left.
    """
    first: dict[str, SweepPoint] = {}
    for point in points:
        if point.mitigation is not None:
            first.setdefault(point.method, point)
    refused = {name: why for name, each in first.items() if (why := _refusal(model, each, prompts[:1], generation))}
    kept = [point for point in points if point.method not in refused]
    notes = [f"{name} is left out: {why}" for name, why in refused.items()]
    if first and refused.keys() == first.keys():
        raise UsageError(f"No mitigation suits this model; {notes[0]}")
    return kept, notes


def _refusal(model: Denoiser, point: SweepPoint, prompts: Sequence[Prompt], generation: Generation) -> str | None:
    """Why the first step of a prompt cannot be taken at a point; None where it can."""
    each = point.mitigation
    assert each is not None
    if point.parameter == "target" and model.units == "x0" and Amount.of(point.strength, "target").units is None:
        return (
            "its usual targets are in eps, and this model's push is in x0, as its noise schedule begins at pure noise; "
            f"give --strength {each.name}=NUMBER:x0, around the scores of ordinary prompts."
        )
    if "iterations" in registry.stopping(each.name).parameters:
        each = replace(each, params={**each.params, "iterations": 1})
    texts, seeds = [p.text for p in prompts], [generation.seed] * len(prompts)
    try:
        with mitigated(model, [each]):
            next(model.steps(texts, seeds, **generation.sampling))
    except UsageError as e:
        return str(e)
    except ValueError:
        pass  # of this prompt alone, as its rows will say
    return None
