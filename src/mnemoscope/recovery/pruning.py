"""Weights that carry memorized prompts and no others, and a model without them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.hooks import capture, matching
from mnemoscope.model.trajectory import Trajectory

if TYPE_CHECKING:
    from mnemoscope.model.denoiser import Denoiser

INNER, OUTER = "*.ff.net.0", ".ff.net.2"  # what the second linear map of a feed-forward block reads, and that map
Masks = Mapping[str, Bool[Tensor, "out in"]]


@torch.no_grad()
def activation_norms(
    model: "Denoiser",
    prompts: Sequence[str],
    *,
    seed: int = 0,
    steps: int = 10,
    num_inference_steps: int = 50,
    guidance_scale: int | float | None = None,
    batch: int = 8,
) -> dict[str, Float[Tensor, " in"]]:
    """L2 norm of each input of the feed-forward blocks' second maps, over prompts, positions and the first `steps`.

    Only the conditional branch is looked at, by one more forward pass at each state of a guided sampling. Raises
    `UsageError` for a model without such blocks.
    """
    matching(model.network, INNER)
    sums: dict[str, Tensor] = {}
    for start in range(0, len(prompts), batch):
        part = list(prompts[start : start + batch])
        trajectory = Trajectory(model, part, [seed], None, num_inference_steps, guidance_scale)
        for step in trajectory.first(steps):
            with capture(model.network, INNER) as seen:
                model.predict(step.x_t, step.t, step.cond)
            for name, (output,) in seen.items():
                squares = output.double().square().flatten(0, -2).sum(0)
                sums[name] = squares + sums[name] if name in sums else squares
    return {name.removesuffix(INNER[1:]) + OUTER: total.sqrt().float() for name, total in sums.items()}


def memorized_weights(
    model: "Denoiser",
    memorized: Sequence[str],
    neutral: Sequence[str],
    *,
    share: int | float = 0.01,
    **sampling: int | float,
) -> dict[str, Bool[Tensor, "out in"]]:
    """Weights among the top `share` of their row for memorized prompts but not for neutral ones, by Wanda's score.

    The score of a weight is |W| times the norm of its input. Which blocks, which share and how many steps are taken are
    those of a later account of the method, whose own code is not public. arXiv:2406.18566; Wanda, arXiv:2306.11695.
    Raises `UsageError` for a share outside (0, 1).
    """
    if not 0 < share < 1:
        raise UsageError(f"share {share} of the weights was given; give a number above 0 and below 1.")
    both = [activation_norms(model, prompts, **sampling) for prompts in (memorized, neutral)]  # type: ignore[arg-type]
    weights = {}
    for name in both[0]:
        weight = model.network.get_submodule(name).weight.detach().float().abs()
        high, usual = (_top(weight * norms[name].to(weight), share) for norms in both)
        weights[name] = high & ~usual
    return weights


def _top(scores: Float[Tensor, "out in"], share: float) -> Bool[Tensor, "out in"]:
    count = max(1, round(share * scores.shape[1]))
    return torch.zeros_like(scores, dtype=torch.bool).scatter(1, scores.topk(count, dim=1).indices, True)


@contextmanager
def pruned(model: "Denoiser", masks: Masks) -> Iterator[None]:
    """Set these weights to zero while the block is open; afterwards they are what they were, bit for bit."""
    parameters = {name: model.network.get_submodule(name).weight for name in masks}
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    try:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.masked_fill_(masks[name].to(parameter.device), 0)
        yield
    finally:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(before[name])
