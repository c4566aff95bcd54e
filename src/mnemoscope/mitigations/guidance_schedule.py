"""Jain et al.: guidance begins where it no longer pulls every sample to the same image."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.start import Start
from mnemoscope.model.step import Step
from mnemoscope.registry import mitigation


@mitigation(
    paper="arXiv:2411.16738",
    cost="no evaluation more",
    strength=("tau", (900, 700, 500, 400, 300, 200, 100)),
)
def guidance_schedule(
    start: Start, *, mode: Literal["static", "dynamic"] = "static", tau: int | float = 600, before: int | float = 0.0
) -> None:
    """Samples with the guidance scale `before` at first, and with the sampling's own from a transition point on.

    `static`: the point is the first step whose timestep is at most `tau`. `dynamic`: it is, for each image by itself,
    the step at which ||eps_cond - eps_uncond|| has passed its first local minimum, and `tau` at the latest; where the
    noise schedule begins at pure noise it is that of the network's own velocity, ||v_cond - v_uncond||. A negative
    `before` is opposite guidance, away from the prompt; the paper has 0 there, its code 1. Raises `UsageError` where
    the sampling has no guidance to switch.
    """
    family = start.model.family
    if not family.guides(start.solver.guidance_scale):
        given = family.unguided or family.distilled or f"the guidance scale is {start.solver.guidance_scale}"
        raise UsageError(f"guidance_schedule switches guidance, and there is none ({given}); use a scale above 1.")
    start.each_step(_Schedule(start, mode == "dynamic", tau, before))


def _pull(step: Step) -> Float[Tensor, "B C h w"]:
    """What the text changes in the direction that the solver goes."""
    if step.model.units == "x0":
        return step.push / step.sigma
    return step.eps_cond - step.eps_uncond


class _Schedule:
    """Which images of one sampling have passed their transition point."""

    def __init__(self, start: Start, dynamic: bool, tau: int | float, before: int | float) -> None:
        self.dynamic, self.tau, self.before, self.seen = dynamic, tau, before, start.seen
        self.on = torch.zeros(len(start), dtype=torch.bool)
        self.pushes: list[Tensor] = []

    def __call__(self, step: Step) -> None:
        now = torch.full_like(self.on, float(step.t) <= self.tau)
        if self.dynamic:
            self.pushes = [*self.pushes[-2:], _pull(step).flatten(1).norm(dim=1).cpu()]
            now |= past_minimum(self.pushes)
        for i in (now & ~self.on).nonzero()[:, 0].tolist():
            self.seen[i]["guidance_schedule"] = {"guided_from": float(step.t)}
        self.on |= now
        if not self.on.all():
            early = step.native_uncond + self.before * (step.native_cond - step.native_uncond)
            step.native = torch.where(self.on.to(early.device)[:, None, None, None], step.native, early)


def past_minimum(pushes: list[Tensor]) -> Bool[Tensor, " B"]:
    """Whether the last three values of each image fell and then rose."""
    if len(pushes) < 3:
        return torch.zeros_like(pushes[0], dtype=torch.bool)
    first, second, third = pushes[-3:]
    return (second < first) & (third > second)
