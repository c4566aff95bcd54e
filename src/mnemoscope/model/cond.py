"""The conditioning of a batch: a dictionary of tensors with the batch first.

Branches concatenate and samples select without the core knowing what a family puts in it. Steering of the attention may
stand beside what the network takes, of its values too; it is zero where there is none, see `attention`, `ablation`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Cond = Mapping[str, Tensor]
BIAS = "attention_bias"  # [B, L], added to the cross-attention logits of each key; -inf masks it
GAIN = "attention_gain"  # [B, L], the logits of each key are multiplied by 1 + gain
SPIKES = "attention_spikes"  # [B, 3], keys that stand out: 1 - factor, z-score, 1 for the up blocks too
NEURONS = "value_gain"  # [B, N], outputs of all cross-attention value projections are multiplied by 1 + gain
LOGITS = (BIAS, GAIN, SPIKES)
STEERING = (*LOGITS, NEURONS)


def rows(cond: Cond, index: Any) -> Cond:
    """The conditioning of some samples of a batch."""
    return {k: v[index] for k, v in cond.items()}


def concatenate(*conds: Cond) -> Cond:
    """One batch of conditionings after the other; where only some are steered, the others are not."""
    if len(conds) == 1:
        return conds[0]
    keys = [*conds[0], *(k for k in STEERING if k not in conds[0] and any(k in c for c in conds))]
    return {k: torch.cat([c[k] if k in c else _unsteered(k, c, conds) for c in conds]) for k in keys}


def joined(conds: Sequence[Cond]) -> Cond:
    """The same as tensors of their own, whatever their number, so that none of the parts is changed with them."""
    return {k: v.clone() for k, v in conds[0].items()} if len(conds) == 1 else concatenate(*conds)


def _unsteered(key: str, cond: Cond, conds: tuple[Cond, ...]) -> Tensor:
    if key not in STEERING:
        raise KeyError(key)
    like = next(c[key] for c in conds if key in c)
    return like.new_zeros(len(next(iter(cond.values()))), *like.shape[1:])
