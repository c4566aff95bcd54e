"""Noise schedules as pure functions: x_t = alpha x_0 + sigma eps, and the four things a network may predict of it.

`prediction_type` is diffusers' word: "epsilon", "v_prediction" (v = alpha eps - sigma x_0), "sample" (x_0) or
"flow_prediction" (v = eps - x_0, with alpha + sigma = 1).
"""

from typing import Any

import torch
from diffusers import DDIMScheduler
from jaxtyping import Float
from torch import Tensor

from mnemoscope.errors import UsageError

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample", "flow_prediction")


def prediction_type(scheduler: Any) -> str:
    """What the network predicts, as its scheduler says; raises `UsageError` for anything unknown."""
    kind = scheduler.config.get("prediction_type") or "epsilon"
    if type(scheduler).__name__.startswith("FlowMatch"):
        kind = "flow_prediction"
    if kind not in PREDICTION_TYPES:
        raise UsageError(f"The scheduler predicts '{kind}'; mnemoscope knows {', '.join(PREDICTION_TYPES)}.")
    if kind != "flow_prediction" and not hasattr(scheduler, "alphas_cumprod"):
        raise UsageError(f"{type(scheduler).__name__} is not supported: its noise levels are not those of a timestep.")
    return kind


def stable_diffusion(prediction_type: str = "epsilon") -> DDIMScheduler:
    """Stable Diffusion 1's noise schedule under DDIM: 50 steps go from t = 981 to t = 1."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )


def alpha_sigma(scheduler: Any, t: Tensor | float) -> tuple[float, float]:
    """Scales (alpha, sigma) of the clean image and of the noise in x_t; alpha is sqrt(alpha_bar) for diffusion models.

    Timesteps between two training steps (some solvers have them) are interpolated in sigma / alpha, as solvers do.
    """
    t = float(t)
    if prediction_type(scheduler) == "flow_prediction":
        q = t / scheduler.config.num_train_timesteps
        return 1 - q, q
    alpha_bar = scheduler.alphas_cumprod.double()
    low = min(int(t), len(alpha_bar) - 1)
    high = min(low + 1, len(alpha_bar) - 1)
    ratios = ((1 - alpha_bar[[low, high]]) / alpha_bar[[low, high]]).sqrt()
    ratio = ratios[0] if t == low else torch.lerp(ratios[0], ratios[1], t - low)  # infinite where nothing is left
    return (1 + ratio**2).rsqrt().item(), (1 + ratio**-2).rsqrt().item()


def to_eps(
    output: Float[Tensor, "*shape"], x_t: Float[Tensor, "*shape"], alpha: float, sigma: float, kind: str
) -> Float[Tensor, "*shape"]:
    """Noise that a network's prediction implies at x_t."""
    if kind == "epsilon":
        return output
    if kind == "v_prediction":
        return sigma * x_t + alpha * output
    if kind == "flow_prediction":
        return x_t + alpha * output
    return (x_t - alpha * output) / sigma


def from_eps(
    eps: Float[Tensor, "*shape"], x_t: Float[Tensor, "*shape"], alpha: float, sigma: float, kind: str
) -> Float[Tensor, "*shape"]:
    """The network's own kind of prediction that a noise implies at x_t; the inverse of `to_eps`."""
    if kind == "epsilon":
        return eps
    if kind == "sample":
        return (x_t - sigma * eps) / alpha
    shift = sigma * x_t if kind == "v_prediction" else x_t
    return (eps - shift) / alpha


def to_x0(
    output: Float[Tensor, "*shape"], x_t: Float[Tensor, "*shape"], alpha: float, sigma: float, kind: str
) -> Float[Tensor, "*shape"]:
    """Clean image that a network's prediction implies at x_t."""
    if kind == "epsilon":
        return (x_t - sigma * output) / alpha
    if kind == "v_prediction":
        return alpha * x_t - sigma * output
    if kind == "flow_prediction":
        return x_t - sigma * output
    return output
