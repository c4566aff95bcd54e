"""What a step, a start and a sampling need of the model that they belong to."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from mnemoscope.model.cond import Cond


@runtime_checkable
class Predictor(Protocol):
    """A denoiser as its own parts see it; `mnemoscope.Denoiser` is the one there is."""

    pipe: Any
    family: Any
    source: str
    prediction_type: str
    network_evaluations: int
    opened: Any

    @property
    def network(self) -> Any: ...

    @property
    def modules(self) -> Any: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    @property
    def size(self) -> tuple[int, int]: ...

    @property
    def latent_shape(self) -> tuple[int, int, int]: ...

    @property
    def units(self) -> Any: ...

    def encode(self, *args: Any, **kwargs: Any) -> Cond: ...

    def null(self, *args: Any, **kwargs: Any) -> Cond: ...

    def noise_from(self, *args: Any, **kwargs: Any) -> Tensor: ...

    def predict(self, *args: Any, **kwargs: Any) -> Tensor: ...

    def predict_noise(self, *args: Any, **kwargs: Any) -> Tensor: ...

    def predict_null(self, *args: Any, **kwargs: Any) -> Tensor: ...

    def parts(self, *args: Any, **kwargs: Any) -> Any: ...

    def sampler(self, *args: Any, **kwargs: Any) -> Any: ...

    def describe(self) -> Mapping[str, Any]: ...

    def step(self, *args: Any, **kwargs: Any) -> Any: ...
