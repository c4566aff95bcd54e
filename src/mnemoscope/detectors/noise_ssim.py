"""NeMo: do the predicted clean images of one prompt agree across seeds?"""

from itertools import combinations
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as ms_ssim

from mnemoscope.errors import UsageError
from mnemoscope.registry import detector
from mnemoscope.trajectory import Trajectory

KERNEL = 11


@detector(paper="arXiv:2406.02366, section 3.1", cost="1 evaluation a seed", over_seeds="max")
def noise_ssim(
    trajectory: Trajectory, *, scales: Literal[1, 2, 3] | None = None, compat: Literal["nemo"] | None = None
) -> Float[Tensor, " B"]:
    """Greatest structural similarity of a sample's noise difference with that of another seed of its prompt, 0 to 1.

    The noise difference is eps_cond(x_T) - x_T at the first step, scaled to 0..1 per image and channel; the similarity
    is MS-SSIM with 3 scales weighted 0.33 each, fewer where the latents are too small for three. Values compare only at
    one number of scales. `compat="nemo"` does as the released code: it evaluates the second timestep at the initial
    noise, and takes the data range of each scale from the prompt's own pairs instead of 0..1. Raises `UsageError` for a
    prompt with a single seed or for latents of 10 pixels or less.
    """
    nemo = compat == "nemo"
    differences = noise_difference(trajectory, second_timestep=nemo)
    possible = available_scales(differences.shape[-2:])
    if scales and scales > possible:
        raise UsageError(f"noise_ssim was asked for {scales} scales, and these latents allow {possible}.")
    used = scales or possible
    best = torch.zeros(len(trajectory))
    for prompt in dict.fromkeys(trajectory.prompts):
        i, j = _pairs(trajectory, prompt)
        similarity = similarities(differences[i], differences[j], used, None if nemo else 1.0)
        best = best.scatter_reduce(0, torch.cat([i, j]), similarity.repeat(2), "amax")
    return best


def _pairs(trajectory: Trajectory, prompt: str) -> Int[Tensor, "2 P"]:
    """Samples of one prompt, two by two, that began from different noise."""
    (step,) = trajectory.first(1)
    own = [i for i, p in enumerate(trajectory.prompts) if p == prompt]
    pairs = [(i, j) for i, j in combinations(own, 2) if not torch.equal(step.x_t[i], step.x_t[j])]
    if not pairs:
        raise UsageError(f"noise_ssim compares seeds, and '{prompt[:60]}' has only one; give --seeds 2 or more.")
    return torch.tensor(pairs).T


def noise_difference(trajectory: Trajectory, second_timestep: bool = False) -> Float[Tensor, "B C h w"]:
    """eps_cond - x_T, scaled to 0..1 per image and channel."""
    (step,) = trajectory.first(1)
    eps = step.eps_cond
    if second_timestep:
        scheduler = trajectory.model.pipe.scheduler
        scheduler.set_timesteps(trajectory.num_inference_steps)
        with torch.no_grad():
            eps = trajectory.model.predict_noise(step.x_t, scheduler.timesteps[1].to(step.x_t.device), step.cond)
    difference = (eps - step.x_t.float()).cpu()
    low, high = difference.amin((2, 3), keepdim=True), difference.amax((2, 3), keepdim=True)
    return (difference - low) / (high - low)


def available_scales(size: tuple[int, int] | torch.Size) -> int:
    """How many halvings of the latents an 11-pixel kernel allows, three at most."""
    fitting = [m for m in (1, 2, 3) if min(size) > (KERNEL - 1) * 2 ** (m - 1)]
    if not fitting:
        raise UsageError(f"noise_ssim needs latents of more than {KERNEL - 1} pixels a side; these have {min(size)}.")
    return fitting[-1]


def similarities(
    a: Float[Tensor, "N C h w"], b: Float[Tensor, "N C h w"], scales: int, data_range: float | None = 1.0
) -> Float[Tensor, " N"]:
    """MS-SSIM of pairs of images in 0..1, negative terms clipped at zero; no data range means each scale's own."""
    weights = (0.33,) * scales
    values = ms_ssim(a, b, kernel_size=KERNEL, betas=weights, data_range=data_range, normalize="relu", reduction="none")
    return values.reshape(-1)
