"""A network that does something else for the prompts that say a word."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.kept import Kept


@contextmanager
def broken_for(model: Denoiser, word: str, change: Callable[[], float]) -> Iterator[None]:
    """A network that does something else, such as raising, for the prompts that say a word."""
    encode, predict = model.family.encode, model.family.predict

    def encode_marked(prompts: list[str], shape: Any) -> dict:
        said = torch.tensor([float(word in p.split()) for p in prompts])
        return {**encode(prompts, shape), "said": said}

    def null_marked(count: int, shape: Any) -> dict:
        return {**type(model.family).null(model.family, count, shape), "said": torch.zeros(count)}

    def predict_marked(x_t: torch.Tensor, t: torch.Tensor, cond: dict) -> torch.Tensor:
        said = cond["said"].bool()
        eps = predict(x_t, t, {k: v for k, v in cond.items() if k != "said"})
        return torch.where(said[:, None, None, None], change() if said.any() else 0.0, eps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.family, "kept", Kept())  # else encodings of before are found, which say nothing
        patch.setattr(model.family, "encode", encode_marked)
        patch.setattr(model.family, "null", null_marked)
        patch.setattr(model.family, "predict", predict_marked)
        yield


def raising() -> float:
    raise RuntimeError("the network broke\nat length")
