"""Methods by name: what `mnemoscope.detect` and its like do with a trajectory."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.step import Step
from mnemoscope.trajectory import Trajectory

Steps = int | str | Sequence[int]  # the first n, "all", or these indices


def detect(trajectory: Trajectory, method: str, *, steps: Steps = 1, **parameters: Any) -> Float[Tensor, " B"]:
    """Score of each sample by a method's name, higher = more memorized; a score is averaged over the chosen steps.

    `steps` is a number n for the first n sampling steps, "all", or a list of indices; the other parameters are the
    method's own. Raises `UsageError` for a method, a parameter or a step that there is not.
    """
    found = registry.detection(method)
    if found.kind == "score":
        return series(trajectory, method, steps=steps, **parameters).mean(dim=0)
    if steps != 1:
        raise UsageError(f"detect method '{method}' chooses its steps itself; leave out steps.")
    return found.function(trajectory, **registry.checked(found, parameters))


def series(trajectory: Trajectory, method: str, *, steps: Steps = 1, **parameters: Any) -> Float[Tensor, "steps B"]:
    """A score's value at each of the chosen steps, for each sample."""
    found = registry.get("score", method)
    registry.checked(found, parameters, extra=("steps",))
    with torch.no_grad():
        return torch.stack([found.function(step, **parameters) for step in chosen(trajectory, steps)])


def chosen(trajectory: Trajectory, steps: Steps) -> list[Step]:
    """The steps of a trajectory that `steps` names; none after the last of them is computed."""
    if steps == "all":
        return trajectory.all()
    if isinstance(steps, int) and not isinstance(steps, bool):
        return trajectory.first(steps)
    if isinstance(steps, str) or not isinstance(steps, Sequence):
        raise UsageError(f"steps was '{steps}'; give a number, a list of indices, or all.")
    indices = sorted({i for i in steps if isinstance(i, int) and not isinstance(i, bool) and i >= 0})
    if not indices or len(indices) != len(set(steps)):
        raise UsageError(f"steps was {list(steps)}; give the indices of one or more steps, counted from 0.")
    known = trajectory.first(indices[-1] + 1)
    if indices[-1] >= len(known):
        raise UsageError(f"Step {indices[-1]} was asked for, and the solver takes {len(known)}, counted from 0.")
    return [known[i] for i in indices]
