"""The memorization filter: samples that the text pushes hard are left out of the loss."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemoscope.model.schedule import Units
from mnemoscope.run.training_rows import Filtered
from mnemoscope.training.options import Form

GROUPS = ("memorized", "base")


def text_push(
    native_cond: Float[Tensor, "B C h w"],
    native_null: Float[Tensor, "B C h w"],
    alpha: Float[Tensor, " B"],
    sigma: Float[Tensor, " B"],
    kind: str,
    *,
    form: Form = "joint",
    units: Units = "eps",
) -> Float[Tensor, " B"]:
    """Size of what the text changes in the predicted noise, ||eps_cond - eps_null||_2; no gradient.

    In units of x0 it is that of the predicted clean image, for models whose noise schedule begins at pure noise. Over
    all elements of a sample's latents for "joint", which grows with the root of their number, and by root mean square
    for "element". The predictions are the network's own and are converted, as for the score `noise_norm`.
    """
    one = torch.ones_like(alpha)
    if units == "eps":
        factor = {"epsilon": one, "sample": alpha / sigma}.get(kind, alpha)
    else:
        factor = {"epsilon": sigma / alpha, "sample": one}.get(kind, sigma)
    difference = (native_cond.detach().float() - native_null.detach().float()).flatten(1)
    norms = factor * difference.norm(dim=1)
    return norms if form == "joint" else norms / difference.shape[1] ** 0.5


def below(norms: Float[Tensor, " B"], threshold: int | float) -> Bool[Tensor, " B"]:
    """Whether each sample is kept: its norm is strictly below the threshold, and a number."""
    return norms < threshold


@dataclass(frozen=True)
class Tally:
    """Samples kept, samples seen and the kept ones' summed losses, by group; parts and processes add up.

    A row for each of `GROUPS`, three columns, one tensor: `Tally(reduced(tally.table))` is that of all processes.
    """

    table: Float[Tensor, "groups 3"]

    @classmethod
    def of(cls, losses: Float[Tensor, " B"], kept: Bool[Tensor, " B"], groups: Sequence[str] | None = None) -> "Tally":
        """That of one batch; `groups` has a group for each sample, "memorized" for all if None."""
        row = torch.tensor([GROUPS.index(g) for g in groups or [GROUPS[0]] * len(kept)], device=kept.device)
        counted = torch.stack([kept.float(), torch.ones_like(losses), losses.detach().where(kept, 0)], dim=1)
        return cls(torch.zeros(len(GROUPS), 3, device=kept.device).index_add(0, row, counted))

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.table + other.table)

    @property
    def kept(self) -> int:
        return int(self.table[:, 0].sum())

    @property
    def loss(self) -> float | None:
        """Mean loss of the kept samples; None if there is none."""
        return float(self.table[:, 2].sum()) / self.kept if self.kept else None

    def correct(self, parameters: Iterable[Tensor]) -> bool:
        """Make the gradient of the mean over all samples that of the mean over the kept ones; False if none is kept.

        To be called once an optimizer step, with the tally of all its parts on all processes, before gradients are
        clipped: the processes then all step, or all leave the step out. All parts must have equally many samples.
        """
        seen, kept = float(self.table[:, 1].sum()), self.kept
        if kept and kept < seen:
            torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], seen / kept)
        return bool(kept)

    def row(self) -> Filtered:
        """What the log says: loss and, of each group that was seen, its samples, share left out and mean loss."""
        numbers: dict[str, float | None] = {"loss": self.loss}
        for name, (kept, seen, total) in zip(GROUPS, self.table.tolist(), strict=True):
            if seen:
                mean = total / kept if kept else None
                numbers |= {f"seen_{name}": int(seen), f"excluded_{name}": 1 - kept / seen, f"loss_{name}": mean}
        return cast(Filtered, numbers)
