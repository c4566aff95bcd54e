"""The fourth use of a score: its gradient with respect to every neuron ranks them all at once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mnemoscope.errors import UsageError
from mnemoscope.localization.attribution import NeuronProbe, smallest
from mnemoscope.localization.states import Look
from mnemoscope.methods.located import Located
from mnemoscope.model.batch import batch_size
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.registry import Score, localizer


@localizer(
    paper="arXiv:1703.01365, section 3, on the value masks of arXiv:2406.02366",
    cost="4 evaluations with gradient a state and branch, then about 2 log2 of the number found without",
)
def neurons_by_gradient(
    model: Denoiser,
    prompts: Sequence[str],
    *,
    score: Score | None = None,
    threshold: int | float | None = None,
    remaining: int | float = 0.1,
    references: dict | str | Path | None = None,
    layers: Literal["seven", "all"] = "all",
    steps: int | float | str | list | None = None,
    points: int = 4,
    most: int | float = 0.5,
    factor: int | float = 0.0,
    branch: Literal["both", "cond"] = "both",
    seeds: int = 2,
    seed: int = 0,
    num_inference_steps: int = 50,
    guidance_scale: int | float | None = None,
    batch: int | str = "auto",
) -> list[Located]:
    """The fewest neurons of highest attribution whose blocking takes a score down to the threshold.

    A neuron's attribution is the drop of the score that blocking it is predicted to make: the score's gradient with
    respect to what the neuron is multiplied by, averaged over `points` points of the way from nothing to everything
    blocked, 1 for the gradient half way only. The shortest beginning of that ranking that is enough is found by
    doubling and halving, each test being an ablation, and looked at again on as many seeds more. `score` is a score by
    name or any differentiable function of a step; with `references`, images by prompt or a folder with captions, it
    is "closeness" unless it is said: minus the mean squared distance of the predicted clean latents to the prompt's
    own training image, seen on that image with noise. Without them the latents are sampled ones. Unless a number is
    given, the threshold is where a share `remaining` is left of the way down to the score with all layers blocked, as
    if there were no text; at most a share `most` of the neurons is taken, and `reached` says whether that was enough.

    Raises `UsageError` for a model without cross-attention, for a prompt without its reference, and for a score that
    does not depend on the neurons.
    """
    if not 0 < most <= 1 or seeds < 1:
        wrong = f"seeds={seeds}; give 1 or more" if seeds < 1 else f"most={most}; give a share above 0 and up to 1"
        raise UsageError(f"neurons_by_gradient got {wrong}.")
    looked, began = Look(score, references, steps, num_inference_steps, guidance_scale), model.network_evaluations
    value, states = looked.at(model, prompts, range(seed, seed + seeds), range(seed + seeds, seed + 2 * seeds))
    sampling = (model.network_evaluations - began) // max(1, len(prompts))
    options: dict[str, Any] = {"layers": layers, "branch": branch, "factor": factor, "guidance_scale": guidance_scale}
    search, check = (NeuronProbe(model, prompts, s, value, batch=batch_size(model, batch), **options) for s in states)
    drops, most_of_them = search.drops(points), max(1, int(most * int(search.searched.sum())))
    level, check_level = (_levels(probe, threshold, remaining) for probe in (search, check))
    sets = smallest(search, drops, level.before, level.threshold, most_of_them)
    again = check.values(check.gain([one.places for one in sets])).tolist()
    name = looked.name if isinstance(looked.name, str) else getattr(looked.name, "__name__", "score")
    located = []
    for k, (prompt, one) in enumerate(zip(prompts, sets, strict=True)):
        chosen, spent = search.neurons(one.places), sampling + search.evaluations[k] + check.evaluations[k]
        details = {
            "threshold": level.threshold[k],
            "reached": one.reached,
            "drops": {n: [float(drops[k, search.place(n, i)]) for i in indices] for n, indices in chosen.items()},
            "again_before": check_level.before[k],
            "again_after": again[k],
            "again_reached": again[k] <= check_level.threshold[k],
            "searched": int(search.searched.sum()),
            "tests": one.tests,
            "gradients": int(search.gradients[k]),
        }
        initial = search.neurons(one.initial)
        located.append(Located(prompt, chosen, initial, name, level.before[k], one.value, layers, int(spent), details))
    return located


class _Levels(NamedTuple):
    """Each prompt's score as it is, and the one to come down to."""

    before: list[float]
    threshold: list[float]


def _levels(probe: NeuronProbe, threshold: int | float | None, remaining: int | float) -> _Levels:
    before = probe.values(probe.nothing)
    if threshold is not None:
        return _Levels(before.tolist(), [float(threshold)] * len(before))
    blocked = probe.values(probe.everything)
    return _Levels(before.tolist(), (blocked + remaining * (before - blocked)).tolist())
