"""A control: neurons drawn at random, whatever the prompt."""

import random as generators
from collections.abc import Sequence
from typing import Literal

from mnemoscope.methods.located import Located
from mnemoscope.model import ablation
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.registry import localizer


@localizer(paper="control", cost="no evaluation")
def random(
    model: Denoiser,
    prompts: Sequence[str],
    *,
    count: int = 24,
    layers: Literal["seven", "all"] = "seven",
    seed: int = 0,
) -> list[Located]:
    """Neurons drawn at random over all layers, the same for a prompt and a seed: they locate nothing.

    What ablating them does is what ablating any neurons does. At most as many as the layers have. Raises `UsageError`
    for a model without cross-attention.
    """
    every = [(name, i) for name, width in ablation.widths(model, layers).items() for i in range(width)]
    located = []
    for prompt in prompts:
        drawn = generators.Random(f"{seed}|{prompt}").sample(every, min(count, len(every)))
        chosen = ablation.lists({name: [i for n, i in drawn if n == name] for name, _ in every})
        located.append(Located(prompt, chosen, chosen, "none", None, None, layers, 0))
    return located
