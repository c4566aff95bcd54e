"""What a narrow dtype costs: a few prompts scored again in float32."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypedDict

import torch

from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.traced import Traced
from mnemoscope.run.rows import Scored, ScoredRow

PROMPTS = 4
LARGEST = 1_500_000_000  # parameters: of a larger model there may be no room for a copy of four bytes each


class DtypeError(TypedDict):
    """How far scores are from those in float32, relative to these."""

    prompts: int
    max: float
    mean: float


@contextmanager
def in_float32(model: Denoiser) -> Iterator[None]:
    """The model's networks in float32; afterwards every tensor has its own dtype again, bit for bit."""
    tensors = [t for m in model.modules.values() for t in (*m.parameters(), *m.buffers()) if t.is_floating_point()]
    dtypes = [t.dtype for t in tensors]
    try:
        for tensor in tensors:
            tensor.data = tensor.data.float()
        yield
    finally:
        for tensor, dtype in zip(tensors, dtypes, strict=True):
            tensor.data = tensor.data.to(dtype)


def measurable(model: Denoiser) -> bool:
    """Whether a model is in a narrower dtype, small enough for a copy in float32, and keeps no encodings in its own."""
    size = sum(p.numel() for m in model.modules.values() for p in m.parameters())
    return model.dtype != torch.float32 and size <= LARGEST and not isinstance(model.family, Traced)


def dtype_error(
    score: Callable[[list[Scored]], Sequence[ScoredRow]], model: Denoiser, rows: Sequence[Scored]
) -> DtypeError:
    """How far the scores of a few rows, evenly spread, are from those in float32: greatest and mean, relative.

    `score` makes new rows of some, in their order. The evaluations are not the run's and are not counted.
    """
    good = [row for row in rows if row["status"] == "ok"]
    some = good[:: max(1, len(good) // PROMPTS)][:PROMPTS]
    before = model.network_evaluations
    with in_float32(model):
        wide = [row["score"] for row in score(some)]
    model.network_evaluations = before
    errors = [abs(row["score"] - w) / max(abs(w), 1e-12) for row, w in zip(some, wide, strict=True)]
    return {"prompts": len(some), "max": max(errors), "mean": sum(errors) / len(errors)}


def told(error: DtypeError, dtype: str) -> str:
    """That error in a sentence."""
    return (
        f"In {dtype} the scores of {error['prompts']} prompts are off by up to {error['max']:.2g} of those in float32."
    )
