"""Descending a score on many tensors at once, each with a target and an end of its own."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Value = Callable[[Float[Tensor, "G *shape"], Int[Tensor, " G"]], Float[Tensor, " G"]]


@torch.enable_grad()
def descend(
    begun: Float[Tensor, "N *shape"],
    value: Value,
    *,
    target: int | float | None,
    lr: int | float,
    iterations: int,
    weight_decay: int | float = 0.0,
    movable: Bool[Tensor, "N *_"] | None = None,
    decay_all: bool = False,
    penalty: Callable[[Float[Tensor, "G *shape"], Int[Tensor, " G"], Float[Tensor, " G"]], Tensor] | None = None,
    test_last: bool = True,
) -> tuple[Float[Tensor, "N *shape"], list[list[float]]]:
    """Rows of a tensor moved by AdamW until `value(rows, their indices)` is at most the target, and every value met.

    A row is tested before each update and, unless `test_last` is off, after the last one; where it is at the target
    it stays for good. What is not `movable` does not move, but by weight decay with `decay_all`. `penalty` turns
    values into losses. Raises `ValueError` for a value that is not finite.
    """
    leaf = begun.detach().float().clone().requires_grad_()
    optimizer = torch.optim.AdamW([leaf], lr=lr, weight_decay=weight_decay)
    free = torch.ones_like(leaf, dtype=torch.bool) if movable is None else movable.expand_as(leaf)
    history: list[list[float]] = [[] for _ in leaf]
    going = torch.arange(len(leaf), device=leaf.device)
    for update in range(iterations + test_last):
        last = update == iterations
        with torch.set_grad_enabled(not last):
            values = value(leaf[going], going)
        for i, v in zip(going.tolist(), values.tolist(), strict=True):
            if not math.isfinite(v):
                raise ValueError(f"the score became {v} on its way down")
            history[i].append(v)
        above = torch.ones_like(going, dtype=torch.bool) if target is None else values.detach() > target
        if last or not above.any():
            break
        losses = values if penalty is None else penalty(leaf[going], going, values)
        going = going[above]
        before = leaf.detach().clone()
        leaf.grad = torch.autograd.grad(losses[above].sum(), leaf)[0] * free
        optimizer.step()
        moves = torch.zeros_like(free).index_fill(0, going, True) & (free | decay_all)
        leaf.data = torch.where(moves, leaf.data, before)
    return leaf.detach(), history
