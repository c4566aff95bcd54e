"""Chen et al.: where in the image the end token is attended to in the end."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import interpolate

from mnemoscope.model import attention
from mnemoscope.model.cond import rows
from mnemoscope.model.step import Step
from mnemoscope.model.trajectory import Trajectory
from mnemoscope.registry import explainer


@explainer(
    paper="arXiv:2410.21665, section 3", cost="1 evaluation a sample and step beyond the sampling", gives="regions"
)
def bright_ending(trajectory: Trajectory, *, steps: int | float | str | list = "last") -> Float[Tensor, "B h w"]:
    """Cross-attention to the end token at each latent pixel: mean over the finest down block's layers and heads.

    A probability, 0 to 1, the same for all models; the mean over the chosen steps. The end token is the prompt's own,
    the first one after its words. Where the block is coarser than the latents (SDXL), values are interpolated.
    Attention is computed anew at the stored latents, for the prompt's branch alone, with whatever steers it. Raises
    `UsageError`, before anything is computed, for a model without tokens or without cross-attention.
    """
    ends = torch.tensor(trajectory.model.family.ends(trajectory.prompts))
    names = attention.layers(trajectory.model.network, up=False)
    finest = [name for name in names if name.split(".")[:2] == names[0].split(".")[:2]]
    with torch.no_grad():
        return torch.stack([_of_step(step, ends, finest) for step in trajectory.chosen(steps)]).mean(0)


def _of_step(step: Step, ends: Int[Tensor, " B"], layers: list[str]) -> Float[Tensor, "B h w"]:
    parts = step.model.parts(len(ends))
    maps = torch.cat([_of_samples(step, part, ends[part], layers) for part in parts])
    height, width = step.x_t.shape[-2:]
    while height * width > maps.shape[1]:
        height, width = math.ceil(height / 2), math.ceil(width / 2)
    return interpolate(maps.unflatten(1, (1, height, width)), step.x_t.shape[-2:], mode="bilinear")[:, 0]


def _of_samples(step: Step, part: slice, ends: Int[Tensor, " b"], layers: list[str]) -> Float[Tensor, "b Q"]:
    seen: list[Tensor] = []

    def look(probabilities: Tensor, name: str) -> None:
        seen.append(probabilities.mean(1)[torch.arange(len(ends)), :, ends])

    with attention.watched(step.model.network, look, layers):
        step.model.predict(step.x_t[part], step.t, rows(step.cond, part))
    return torch.stack(seen).mean(0)
