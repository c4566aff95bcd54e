"""Chen et al.: the size of the text-conditional noise inside the region that is suspected to be memorized."""

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.model.step import Step
from mnemoscope.model.trajectory import Trajectory
from mnemoscope.registry import detector


@detector(paper="arXiv:2410.21665, section 4", cost="a whole sampling, and what the mask costs", units=True)
def masked_noise_norm(trajectory: Trajectory, *, mask: str | Tensor = "bright_ending") -> Float[Tensor, " B"]:
    """Size of the text's push inside a mask, ||(eps_cond - eps_uncond) m||_2 / mean(m), the mean over all steps.

    `mask` is the name of an explanation that gives regions, computed for these very samplings, or a tensor [h, w] or
    [B, h, w] of weights from 0 upwards, at the resolution of the latents. The size of the weights cancels out. The push
    is x0_cond - x0_uncond where the noise schedule begins at pure noise. From 0 upwards, in latent units; values
    compare only within one model, resolution, number of steps and kind of mask. Raises `UsageError` for a model without
    an unconditional branch, a mask of another size, and as the explanation does.
    """
    weights = _explained(trajectory, mask) if isinstance(mask, str) else mask
    with torch.no_grad():
        return torch.stack([inside(step, mask=weights) for step in trajectory.all()]).mean(0)


def inside(step: Step, *, mask: Tensor) -> Float[Tensor, " B"]:
    """`masked_noise_norm` at one step with a given mask: differentiable, and a score for whatever takes a function."""
    push = step.pushed()
    if mask.shape not in (push.shape[-2:], (len(push), *push.shape[-2:])):
        sizes = f"{tuple(mask.shape)}, and the latents are {len(push)} of {tuple(push.shape[-2:])}"
        raise UsageError(f"The mask is of size {sizes}; give one for all of them, or one for each.")
    weights = mask.to(push).expand(len(push), *push.shape[-2:])
    share = weights.mean((1, 2)).clamp_min(torch.finfo(weights.dtype).tiny)  # an empty mask holds nothing
    return (push * weights[:, None]).flatten(1).norm(dim=1) / share


def _explained(trajectory: Trajectory, name: str) -> Float[Tensor, "B h w"]:
    method = registry.get("explain", name)
    if method.gives != "regions":
        known = ", ".join(registry.explainers("regions"))
        raise UsageError(f"masked_noise_norm needs a mask of regions, and {name} gives tokens; give one of {known}.")
    return method.function(trajectory)
