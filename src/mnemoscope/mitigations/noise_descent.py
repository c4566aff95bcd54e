"""Han et al. and SAIL: begin from noise at which the prompt pulls less."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.methods.amounts import Amount, aimed
from mnemoscope.methods.descent import descend
from mnemoscope.model.cond import rows
from mnemoscope.model.solvers import first_image
from mnemoscope.model.start import Start
from mnemoscope.model.step import Step
from mnemoscope.registry import Score, mitigation

Variant = Literal["per_sample", "batch_wise", "sail", "sail_released"]
SD_LATENT = 16384  # elements of Stable Diffusion 1's latents, which the published `rho` belongs to


@mitigation(
    paper="arXiv:2510.08625; SAIL: arXiv:2412.04140",
    cost="2 evaluations with gradient an iteration and image (SAIL 4); batch_wise 4 an update, without gradient",
    strength=("target", (2.5, 2.0, 1.5, 1.0, 0.7, 0.5)),
)
def noise_descent(
    start: Start,
    *,
    variant: Variant = "per_sample",
    score: Score = "noise_norm",
    target: int | float | str | Amount | None = None,
    lr: int | float = 0.05,
    iterations: int = 50,
    weight_decay: int | float = 0.01,
    alpha: int | float = 0.05,
    gamma: int | float = 0.7,
    rho: int | float = 50,
    updates: int = 2,
    tau: int | float | None = None,
) -> None:
    """Moves each image's initial noise to where the prompt pulls less; prompt and weights stay as they are.

    `per_sample` descends a score by AdamW, whose `weight_decay` keeps the noise small, until it is at most `target`.
    `sail` descends ||s(x + s/||s||) - s(x)||^2 + alpha ||x||^2, s the difference of the two scores (its equation), and
    `sail_released` ||D(x + d)|| + alpha ||x|| with D = eps_cond - eps_uncond and d the direction of D at the first
    noise (its code). `batch_wise` needs no gradient: `updates` times, x becomes x - gamma (D(x + rho D/||D||) - D(x)),
    `rho` being in units of the noise of a Stable Diffusion 1 latent. With `tau`, guidance is off while t > tau. At pure
    noise no push depends on the noise: there all look at the first later noise level, with the image that is predicted
    for no prompt, D is x0_cond - x0_uncond, and a target needs its unit, "40:x0". Raises `UsageError` for
    a model without an unconditional branch.
    """
    if iterations < 1 or updates < 1 or lr <= 0:
        given = f"iterations={iterations}, updates={updates} and lr={lr}"
        raise UsageError(f"noise_descent got {given}; give 1 or more, 1 or more, and above 0.")
    if variant == "batch_wise":
        _batch_wise(start, gamma, rho * (start.x_t[0].numel() / SD_LATENT) ** 0.5, updates)
    else:
        look = _Look(start)
        objectives = {"sail": _sail, "sail_released": _sail_released}
        if variant in objectives:  # with targets of their own
            value, limit = objectives[variant](look, alpha), _plain(target)
        else:
            function, limit = aimed(score, target, start.model)
            value = _scored(look, function)
        decay = weight_decay if variant == "per_sample" else 0.0
        begun = start.x_t.detach().float()
        noise, history = descend(begun, value, target=limit, lr=lr, iterations=iterations, weight_decay=decay)
        start.change(x_t=noise.to(start.x_t.dtype), known=look.last)
        for seen, values in zip(start.seen, history, strict=True):
            seen["noise_descent"] = {"objective": values}
    if tau is not None:
        start.each_step(lambda step: _unguided_above(step, tau))


class _Look:
    """Steps at other noise; keeps the last predictions of each image at its own place, if they are the first step's."""

    def __init__(self, start: Start) -> None:
        self.start, levels = start, start.solver.levels
        self.last: tuple[Tensor, Tensor] | None = None
        self.index = first_image(levels, start.model.prediction_type)
        self.t, level = start.solver.timesteps[self.index], levels[self.index]
        if (
            self.index
        ):  # where the sampling without a prompt would be: at pure noise its image is the same for all noise
            with torch.no_grad():
                self.mean = level.alpha * (start.first.x0_cond - start.first.push)
        self.sigma = level.sigma

    def __call__(self, x: Float[Tensor, "N C h w"], going: Int[Tensor, " N"], keep: bool = True) -> Step:
        start = self.start
        if self.index:
            x = self.mean[going] + self.sigma * x
        x_t, cond = x.to(start.x_t.dtype), rows(start.cond, going)
        step = start.observe(x_t, cond, self.t, self.index, samples=going)
        if keep and not self.index:
            self.last = self.last or (torch.empty_like(start.x_t), torch.empty_like(start.x_t))
            self.last[0][going], self.last[1][going] = step.native_cond.detach(), step.native_uncond.detach()
        return step

    def plain(self) -> Step:
        """The step looked at, as it is before any noise is changed."""
        if not self.index:
            return self.start.first
        x = self.start.x_t.float()
        return self(x, torch.arange(len(x), device=x.device), keep=False)


def _plain(target: Any) -> float | None:
    return None if target is None else Amount.of(target, "target").value


def _scored(look: _Look, score: Callable[..., Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, going: score(look(x, going))


def _push(step: Step) -> Float[Tensor, "N C h w"]:
    return step.pushed()


def _unit(push: Float[Tensor, "N C h w"]) -> Float[Tensor, "N C h w"]:
    tiny = torch.finfo(push.dtype).tiny  # no push has no direction
    return push / push.flatten(1).norm(dim=1).clamp_min(tiny)[:, None, None, None]


def _sail(look: _Look, alpha: int | float) -> Callable[[Tensor, Tensor], Tensor]:
    def value(x: Tensor, going: Tensor) -> Tensor:
        step = look(x, going)
        here = -_push(step) / step.sigma
        there = -_push(look(x + _unit(here), going, keep=False)) / step.sigma
        return (there - here).flatten(1).square().sum(1) + alpha * x.flatten(1).square().sum(1)

    return value


def _sail_released(look: _Look, alpha: int | float) -> Callable[[Tensor, Tensor], Tensor]:
    with torch.no_grad():
        direction = _unit(_push(look.plain()))

    def value(x: Tensor, going: Tensor) -> Tensor:
        there = look(x + direction[going], going, keep=False)
        return _push(there).flatten(1).norm(dim=1) + alpha * x.flatten(1).norm(dim=1)

    return value


@torch.no_grad()
def _batch_wise(start: Start, gamma: int | float, rho: float, updates: int) -> None:
    look, every = _Look(start), torch.arange(len(start), device=start.x_t.device)
    x = start.x_t.float()
    for _ in range(updates):
        here = _push(look(x, every))
        x = x - gamma * (_push(look(x + rho * _unit(here), every)) - here)
    start.change(x_t=x.to(start.x_t.dtype))


def _unguided_above(step: Step, tau: int | float) -> None:
    if float(step.t) > tau:
        step.native = step.native_uncond
