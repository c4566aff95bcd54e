"""The conditioning of a batch: a dictionary of tensors with the batch first.

Branches concatenate and samples select without the core knowing what a family puts in it.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

Cond = Mapping[str, Tensor]


def rows(cond: Cond, index: Any) -> Cond:
    """The conditioning of some samples of a batch."""
    return {k: v[index] for k, v in cond.items()}


def concatenate(*conds: Cond) -> Cond:
    """One batch of conditionings after the other."""
    return {k: torch.cat([c[k] for c in conds]) for k in conds[0]}
