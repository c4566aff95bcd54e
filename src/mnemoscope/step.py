"""One sampling step with its two branches named."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from mnemoscope import schedule
from mnemoscope.errors import UsageError
from mnemoscope.families import Cond


@dataclass
class Step:
    """What the network predicted at x_t, for the prompt and for no prompt, in noise units and in its own.

    `x_t` is the network's input, so that one more forward pass at it recomputes attention, activations or gradients;
    `x_prev` is what the solver made of the step. `alpha` and `sigma` scale image and noise in x_t.
    """

    index: int
    t: Tensor
    x_t: Float[Tensor, "B C h w"]
    cond: Cond
    alpha: float
    sigma: float
    guidance_scale: float
    prediction_type: str
    guided: bool  # whether there is an unconditional branch to guide away from
    native_cond: Float[Tensor, "B C h w"]
    null_branch: Callable[[], Float[Tensor, "B C h w"]]
    progress: float = 0.0  # share of the sampling steps done before this one
    x_prev: Float[Tensor, "B C h w"] | None = None

    @cached_property
    def native_uncond(self) -> Float[Tensor, "B C h w"]:
        """The unconditional prediction in the network's own units; computed now if sampling did not need it."""
        return self.null_branch()

    @cached_property
    def native(self) -> Float[Tensor, "B C h w"]:
        """The prediction that the solver takes: guided, unless the guidance scale is 1 or less or guides nothing."""
        if self.guidance_scale <= 1 or not self.guided:
            return self.native_cond
        return self.native_uncond + self.guidance_scale * (self.native_cond - self.native_uncond)

    def _eps(self, native: Tensor) -> Tensor:
        return schedule.to_eps(native.float(), self.x_t.float(), self.alpha, self.sigma, self.prediction_type)

    @property
    def eps_cond(self) -> Float[Tensor, "B C h w"]:
        """Noise predicted for the prompt, in float32."""
        return self._eps(self.native_cond)

    @property
    def eps_uncond(self) -> Float[Tensor, "B C h w"]:
        """Noise predicted for no prompt, in float32; raises `UsageError` where the model has no such branch."""
        return self._eps(self.native_uncond)

    @property
    def eps(self) -> Float[Tensor, "B C h w"]:
        """Noise that the solver removes, in float32; assign to it from a step edit to change the sampling."""
        return self._eps(self.native)

    @eps.setter
    def eps(self, value: Float[Tensor, "B C h w"]) -> None:
        native = schedule.from_eps(value, self.x_t.float(), self.alpha, self.sigma, self.prediction_type)
        self.native = native.to(self.native_cond.dtype)

    @property
    def x0_hat(self) -> Float[Tensor, "B C h w"]:
        """Clean latents that the solver's prediction implies, in float32."""
        native, x_t = self.native.float(), self.x_t.float()
        return schedule.to_x0(native, x_t, self.alpha, self.sigma, self.prediction_type)

    def __len__(self) -> int:
        return len(self.x_t)


def refuse_null_branch(model: str, reason: str) -> Callable[[], Tensor]:
    """A null branch that raises `UsageError` when a method asks for it."""

    def refuse() -> Tensor:
        raise UsageError(f"{model} has no unconditional branch ({reason}), so this method is undefined for it.")

    return refuse
