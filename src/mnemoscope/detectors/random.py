"""The control that every detector must beat."""

import hashlib

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.model.trajectory import Trajectory
from mnemoscope.registry import detector


@detector(paper="control", cost="no evaluation")
def random(trajectory: Trajectory, *, salt: str = "") -> Float[Tensor, " B"]:
    """A number from 0 to 1 that depends on prompt and seed alone and knows nothing of the model.

    A control: its AUC is 0.5 up to chance, and another `salt` draws other numbers.
    """
    keys = (f"{salt}|{seed}|{prompt}" for prompt, seed in zip(trajectory.prompts, trajectory.seeds, strict=True))
    digests = [int.from_bytes(hashlib.sha256(k.encode()).digest()[:6]) for k in keys]
    return torch.tensor(digests, dtype=torch.float64).div(2**48).float()
