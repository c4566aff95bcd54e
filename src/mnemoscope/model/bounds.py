"""A bound on how many samples go through a network at once, however many are asked of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mnemoscope.model.cond import Cond, rows


class Bounded:
    """What sends samples through a network in parts; all of them at once while `at_once` is None."""

    at_once: int | None = None

    def parts(self, count: int) -> list[slice]:
        """Which of so many samples go through a network together."""
        size = self.at_once or count
        return [slice(start, min(start + size, count)) for start in range(0, count, size)] or [slice(0, 0)]

    @contextmanager
    def bounded(self, at_once: int | None) -> Iterator[None]:
        """Send no more samples through a network at once while the block is open, unconditional ones counted too."""
        before, self.at_once = self.at_once, at_once
        try:
            yield
        finally:
            self.at_once = before

    def piecewise(self, change: Callable[[Tensor], Tensor], samples: Tensor) -> Tensor:
        """A function of each sample, computed of some at a time."""
        return torch.cat([change(samples[part]) for part in self.parts(len(samples))])

    def in_parts(self, predict: Callable[[Tensor, Tensor, Cond], Tensor], x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        """A prediction of all samples, some of them at a time; `t` is one time, or one of each sample."""
        parts = self.parts(len(x_t))
        if len(parts) == 1:
            return predict(x_t, t, cond)
        each = t.ndim > 0 and len(t) == len(x_t)
        return torch.cat([predict(x_t[part], t[part] if each else t, rows(cond, part)) for part in parts])
