"""The fourth use of a score: its gradient with respect to every neuron ranks them all at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.batching import batch_size
from mnemoscope.denoiser import Denoiser
from mnemoscope.errors import UsageError
from mnemoscope.located import Located
from mnemoscope.neurons.attribution import Probe, Smallest, smallest
from mnemoscope.neurons.states import Look
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
    guidance_scale: int | float = 7.5,
    batch: int | str = "auto",
) -> list[Located]:
    """The fewest neurons of highest attribution whose blocking takes a score down to the threshold.

    A neuron's attribution is the drop of the score that blocking it is predicted to make: the score's gradient with
    respect to what the neuron is multiplied by, averaged over `points` points of the way from nothing to everything
    blocked, 1 for the gradient half way only. The shortest beginning of that ranking that is enough is found by
    doubling and halving, each test being an ablation, and looked at again on as many seeds more. `score` is a score by
    name or any differentiable function of a step; with `references`, images by prompt or a folder with captions, it
    is "closeness" unless it is said: minus the mean squared distance of the predicted clean latents to the prompt's
    own training image, seen on that image with noise. Without them the latents are sampled ones. The threshold is half
    way from the score as it is to that of all layers blocked, unless a number is given; at most a share `most` of the
    neurons is taken, and `reached` says whether that was enough. Scores compare as they do by themselves.

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
    search, check = (Probe(model, prompts, s, value, batch=batch_size(model, batch), **options) for s in states)
    drops = search.drops(points)
    before, blocked = search.values(search.nothing), search.values(search.everything)
    levels = (before + blocked) / 2 if threshold is None else torch.full_like(before, threshold)
    found = smallest(search, drops, before.tolist(), levels.tolist(), max(1, int(most * int(search.searched.sum()))))
    again = torch.stack([check.values(g) for g in (check.nothing, check.gain([one.places for one in found]))], 1)
    about = {
        "threshold": levels,
        "blocked": blocked,
        "again": again,
        "evaluations": sampling + search.evaluations + check.evaluations,
        "gradients": search.gradients,
    }
    name = looked.name if isinstance(looked.name, str) else getattr(looked.name, "__name__", "score")
    return [
        _located(prompt, k, found[k], search, drops[k], name, layers, float(before[k]), about)
        for k, prompt in enumerate(prompts)
    ]


def _located(
    prompt: str,
    k: int,
    found: Smallest,
    search: Probe,
    drops: Float[Tensor, " N"],
    name: str,
    layers: str,
    before: float,
    about: Mapping[str, Tensor],
) -> Located:
    level, (plain, ablated) = float(about["threshold"][k]), about["again"][k].tolist()
    chosen = search.neurons(found.places)
    details = {
        "threshold": level,
        "reached": found.reached,
        "blocked": float(about["blocked"][k]),
        "drops": {n: [float(drops[search.place(n, i)]) for i in own] for n, own in chosen.items()},
        "again": {"before": plain, "after": ablated, "reached": ablated <= level},
        "searched": int(search.searched.sum()),
        "tests": found.tests,
        "gradients": int(about["gradients"][k]),
    }
    initial, spent = search.neurons(found.initial), int(about["evaluations"][k])
    return Located(prompt, chosen, initial, name, before, found.value, layers, spent, details)
