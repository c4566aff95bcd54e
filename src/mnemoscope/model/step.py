"""One sampling step with its two branches named."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from jaxtyping import Float, Int
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model import schedule
from mnemoscope.model.cond import Cond, rows

if TYPE_CHECKING:
    from mnemoscope.model.predictor import Predictor

Branch = Literal["cond", "uncond", "guided"]
Seen = dict[str, Any]  # what was seen of a sample and done to it: each mitigation may add entries of its own


@dataclass
class Step:
    """What the network predicted at x_t, for the prompt and for no prompt, in noise units and in its own.

    `x_t` is the network's input, so that one more forward pass at it recomputes attention, activations or gradients;
    `x_prev` is what the solver made of the step. `alpha` and `sigma` scale image and noise in x_t, as the solver's own
    table has them at `index`; `timesteps` and `levels` are those of the whole sampling, where the step is part of one;
    `null` conditions the unconditional branch elsewhere, where it is not the model's own that does. `swapped` says that
    guidance takes each branch for the other, away from the prompt, as released attribution code does.
    """

    index: int
    t: Tensor
    x_t: Float[Tensor, "B C h w"]
    cond: Cond
    alpha: float
    sigma: float
    guidance_scale: int | float
    model: "Predictor"
    native_cond: Float[Tensor, "B C h w"]
    null_branch: Callable[[], Float[Tensor, "B C h w"]]
    progress: float = 0.0  # share of the sampling steps done before this one
    x_prev: Float[Tensor, "B C h w"] | None = None
    timesteps: Tensor | None = None
    levels: Sequence[schedule.Level] | None = None
    null: Cond | None = None
    swapped: bool = False

    @property
    def guided(self) -> bool:
        """Whether there is an unconditional branch and a guidance scale that guides away from it."""
        return self.model.family.guides(self.guidance_scale)

    @cached_property
    def native_uncond(self) -> Float[Tensor, "B C h w"]:
        """The unconditional prediction in the network's own units; computed now if sampling did not need it."""
        return self.null_branch()

    @cached_property
    def native(self) -> Float[Tensor, "B C h w"]:
        """The prediction that the solver takes: guided, unless the guidance scale is 1 or less or guides nothing."""
        if not self.guided:
            return self.native_cond
        if self.swapped:
            return self.native_cond + self.guidance_scale * (self.native_uncond - self.native_cond)
        return self.model.family.combine(self.native_cond, self.native_uncond, self.guidance_scale)

    def _eps(self, native: Tensor) -> Tensor:
        return schedule.to_eps(native.float(), self.x_t.float(), self.alpha, self.sigma, self.model.prediction_type)

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
        native = schedule.from_eps(value, self.x_t.float(), self.alpha, self.sigma, self.model.prediction_type)
        self.native = native.to(self.native_cond.dtype)

    @property
    def push(self) -> Float[Tensor, "B C h w"]:
        """What the text changes in the predicted clean image, x0_cond - x0_uncond, in float32.

        Straight from the network's own predictions, so that it is finite at pure noise too. Raises `UsageError` where
        the model has no unconditional branch, and for predicted noise at pure noise.
        """
        difference = self.native_cond.float() - self.native_uncond.float()
        return schedule.to_push(difference, self.alpha, self.sigma, self.model.prediction_type)

    def pushed(self, units: schedule.Units | None = None) -> Float[Tensor, "B C h w"]:
        """The text's push in the unit of the model's schedule, or in another: `push`, or eps_cond - eps_uncond.

        Raises `UsageError` for the unit of noise at pure noise, where it is zero whatever the prompt.
        """
        if (units or self.model.units) == "x0":
            return self.push
        if self.pure_noise:
            raise UsageError("At pure noise the push is zero in units of eps, whatever the prompt; ask for units=x0.")
        return self.eps_cond - self.eps_uncond

    @property
    def pure_noise(self) -> bool:
        """Whether x_t holds nothing of the image, so that the predicted noise is x_t itself, whatever the prompt."""
        return self.model.prediction_type != "epsilon" and self.alpha <= schedule.PURE_NOISE

    def require_image(self, name: str) -> None:
        """Raise `UsageError` at pure noise, for a method that is undefined there."""
        if self.pure_noise:
            later = "a later one, as by steps=[1]"
            raise UsageError(f"{name} is undefined at step {self.index}, where x_t is pure noise; look at {later}.")

    @property
    def x0_cond(self) -> Float[Tensor, "B C h w"]:
        """Clean latents predicted for the prompt, in float32."""
        native, x_t = self.native_cond.float(), self.x_t.float()
        return schedule.to_x0(native, x_t, self.alpha, self.sigma, self.model.prediction_type)

    @property
    def x0_hat(self) -> Float[Tensor, "B C h w"]:
        """Clean latents that the solver's prediction implies, in float32."""
        native, x_t = self.native.float(), self.x_t.float()
        return schedule.to_x0(native, x_t, self.alpha, self.sigma, self.model.prediction_type)

    def eps_at(
        self,
        x: Float[Tensor, "N C h w"],
        *,
        t: Tensor | None = None,
        level: schedule.Level | None = None,
        branch: Branch = "cond",
        samples: Int[Tensor, " N"] | None = None,
    ) -> Float[Tensor, "N C h w"]:
        """Noise that the network predicts at other latents, or at another time, with a graph to all that wants one.

        `samples` says which sample's prompt each of the N latents belongs to; without it there is one for each sample.
        `level` is that of another time `t`, where it is not the training schedule's.
        """
        level = schedule.Level(self.alpha, self.sigma) if t is None else level
        t = self.t if t is None else t
        cond = self.cond if samples is None else rows(self.cond, samples)
        if branch == "cond" or (branch == "guided" and not self.guided):
            return self.model.predict_noise(x, t, cond, level)
        null = self.null if self.null is None or samples is None else rows(self.null, samples)
        null = null or self.model.null(len(x), x.shape[1:], self.guidance_scale)
        family = self.model.family
        if branch == "guided" and not family.combines_plainly:
            native = family.combine(
                self.model.predict(x, t, cond), self.model.predict(x, t, null), self.guidance_scale
            ).float()
            level = level or schedule.alpha_sigma(self.model.pipe.scheduler, t)
            return schedule.to_eps(native, x.float(), *level, self.model.prediction_type)
        eps_uncond = self.model.predict_noise(x, t, null, level)
        if branch == "uncond":
            return eps_uncond
        eps_cond = self.model.predict_noise(x, t, cond, level)
        one, other = (eps_uncond, eps_cond) if not self.swapped else (eps_cond, eps_uncond)
        return one + self.guidance_scale * (other - one)

    def select(self, index: Int[Tensor, " N"]) -> "Step":
        """The step of some of its samples."""
        part = replace(
            self,
            x_t=self.x_t[index],
            cond=rows(self.cond, index),
            native_cond=self.native_cond[index],
            null_branch=lambda: self.native_uncond[index],
            x_prev=None if self.x_prev is None else self.x_prev[index],
            null=None if self.null is None else rows(self.null, index),
        )
        if "native" in self.__dict__:  # an edit may have assigned it
            part.native = self.native[index]
        return part

    def detached(self) -> "Step":
        """The same step without its graph."""
        return replace(
            self,
            x_t=self.x_t.detach(),
            cond={k: v.detach() for k, v in self.cond.items()},
            native_cond=self.native_cond.detach(),
            null_branch=lambda: self.native_uncond.detach(),
        )

    def __len__(self) -> int:
        return len(self.x_t)


def refuse_null_branch(model: str, reason: str) -> Callable[[], Tensor]:
    """A null branch that raises `UsageError` when a method asks for it."""

    def refuse() -> Tensor:
        raise UsageError(f"{model} has no unconditional branch ({reason}), so this method is undefined for it.")

    return refuse
