"""NeMo: do the predicted clean images of one prompt agree across seeds?"""

from itertools import combinations
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.likeness import KERNEL, Likeness, stretched
from mnemoscope.model.solvers import first_image
from mnemoscope.model.trajectory import Trajectory
from mnemoscope.registry import detector


@detector(paper="arXiv:2406.02366, section 3.1", cost="1 evaluation a seed", over_seeds="max")
def noise_ssim(
    trajectory: Trajectory, *, scales: Literal[1, 2, 3] | None = None, compat: Literal["nemo"] | None = None
) -> Float[Tensor, " B"]:
    """Greatest structural similarity of a sample's noise difference with that of another seed of its prompt, 0 to 1.

    The noise difference is eps_cond(x_T) - x_T at the first step, scaled to 0..1 per image and channel; where that step
    is at pure noise, it is minus the clean image predicted at the first later step. The similarity
    is MS-SSIM with 3 scales weighted 0.33 each, fewer where the latents are too small for three. Values compare only at
    one number of scales. `compat="nemo"` does as the released code: it evaluates the second timestep at the initial
    noise, and takes the data range of each scale from the prompt's own pairs instead of 0..1. Raises `UsageError` for a
    prompt with a single seed or for latents of 10 pixels or less.
    """
    nemo = compat == "nemo"
    differences = noise_difference(trajectory, second_timestep=nemo)
    if min(size := differences.shape[-2:]) < KERNEL:
        raise UsageError(f"noise_ssim needs latents of more than {KERNEL - 1} pixels a side; these have {min(size)}.")
    likeness = Likeness.fitting(size, scales, None if nemo else 1.0, "noise_ssim")
    best = torch.zeros(len(trajectory))
    for prompt in dict.fromkeys(trajectory.prompts):
        i, j = _pairs(trajectory, prompt)
        similarity = likeness(differences[i], differences[j])
        best = best.scatter_reduce(0, torch.cat([i, j]), similarity.repeat(2), "amax")
    return best


def _pairs(trajectory: Trajectory, prompt: str) -> Int[Tensor, "2 P"]:
    """Samples of one prompt, two by two, that began from different noise."""
    (step,) = trajectory.first(1)
    samples = [i for i, p in enumerate(trajectory.prompts) if p == prompt]
    pairs = [(i, j) for i, j in combinations(samples, 2) if not torch.equal(step.x_t[i], step.x_t[j])]
    if not pairs:
        raise UsageError(f"noise_ssim compares seeds, and '{prompt[:60]}' has only one; give --seeds 2 or more.")
    return torch.tensor(pairs).T


def noise_difference(trajectory: Trajectory, second_timestep: bool = False) -> Float[Tensor, "B C h w"]:
    """eps_cond - x_T, scaled to 0..1 per image and channel; minus x0_cond at the next step if x_T is pure noise."""
    (step,) = trajectory.first(1)
    assert step.levels is not None
    if second_timestep:
        with torch.no_grad():
            return stretched(step.eps_at(step.x_t, t=trajectory.timesteps[1], level=step.levels[1]) - step.x_t.float())
    if not step.pure_noise:
        return stretched(step.eps_cond - step.x_t.float())
    return stretched(-trajectory.chosen([first_image(step.levels, step.model.prediction_type)])[0].x0_cond)
