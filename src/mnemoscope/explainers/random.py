"""The control that every explanation must beat."""

from random import Random

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.model.trajectory import Trajectory
from mnemoscope.model.words import content
from mnemoscope.registry import explainer


@explainer(paper="control", cost="no evaluation")
def random(trajectory: Trajectory, *, salt: str = "") -> Float[Tensor, "B L"]:
    """A number from 0 to 1 for each token of the prompt, drawn from prompt and seed alone.

    A control that knows nothing of the model; another `salt` draws other numbers. Begin, end and padding tokens get 0.
    Raises `UsageError` for a model without tokens.
    """
    family, pairs = trajectory.model.family, zip(trajectory.prompts, trajectory.seeds, strict=True)
    tokens_of = content(family, trajectory.prompts)
    values = torch.zeros(len(trajectory), len(family.tokens(trajectory.prompts[:1])[0]))
    for row, (prompt, seed), tokens in zip(values, pairs, tokens_of, strict=True):
        draw = Random(f"{salt}|{seed}|{prompt}")
        row[[token.place for token in tokens]] = torch.tensor([draw.random() for _ in tokens])
    return values
