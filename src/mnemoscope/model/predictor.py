"""What a step, a start and a sampling need of the model that they belong to."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from mnemoscope.model.cond import Cond

if TYPE_CHECKING:
    from mnemoscope.model.schedule import Level
    from mnemoscope.model.start import Start
    from mnemoscope.model.step import Step


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


@runtime_checkable
class Solver(Protocol):
    """What a start needs of the sampling that it begins."""

    model: Predictor
    guidance_scale: int | float
    num_inference_steps: int
    timesteps: Tensor
    levels: "Sequence[Level]"

    def look(self, start: "Start") -> "Step":
        """The first step as it stands, without a graph."""
        ...

    def null_alone(self, x_t: Tensor, t: Tensor, null: Cond | None) -> Tensor:
        """The unconditional prediction by itself, in the network's own units, without a graph."""
        ...

    def null(self, count: int, shape: Sequence[int]) -> Cond:
        """Conditioning of the unconditional branch, repeated."""
        ...

    def state(self, start: "Start", index: int) -> tuple[Tensor, Tensor]:
        """x_t and t of a later step, sampled plainly from the start as it stands."""
        ...
