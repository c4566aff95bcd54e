"""Which neurons bring a noise difference back: its gradient with respect to what they are multiplied by."""

from collections.abc import Sequence

import torch

from mnemoscope.job.batching import chunks
from mnemoscope.localization.blocking import Blocking
from mnemoscope.localization.space import Blocked


def least_important_first(blocking: Blocking, blocked: Blocked, candidates: Sequence[int]) -> list[int]:
    """Candidates by how little unblocking each would bring the blocked differences back to the plain ones.

    To first order: minus the derivative of their squared distance, summed over the seeds, one backward pass in all.
    """
    total = torch.zeros(blocking.space.width)
    for seeds in chunks(sorted(blocking.seeds), blocking.batch):
        gain = blocking.space.gain([blocked] * len(seeds), blocking.factor).requires_grad_()
        differences = blocking.differences.of(seeds, gain)
        distance = (differences - blocking.differences.plain[seeds]).square().sum()
        total -= torch.autograd.grad(distance, gain)[0].sum(0).cpu()
    return sorted(candidates, key=lambda i: float(total[i]))
