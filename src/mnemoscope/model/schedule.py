"""Noise schedules as pure functions: x_t = alpha x_0 + sigma eps, and the four things a network may predict of it.

`prediction_type` is diffusers' word: "epsilon", "v_prediction" (v = alpha eps - sigma x_0), "sample" (x_0) or
"flow_prediction" (v = eps - x_0, with alpha + sigma = 1). Noise levels of a sampling come from its solver's own table,
by the step's index (`mnemoscope.model.solvers`); those of any other time from the training schedule (`alpha_sigma`).
"""

import math
from typing import Any, Literal, NamedTuple

import torch
from diffusers import DDIMScheduler
from jaxtyping import Float
from torch import Tensor

from mnemoscope.errors import UsageError

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample", "flow_prediction")
SOLVERS = {  # whose noise levels are known, and whose samplings were compared with the pipelines' own
    f"{name}Scheduler"
    for name in "DDIM DDIMParallel DDPM DDPMParallel PNDM LCM TCD DEISMultistep DPMSolverMultistep DPMSolverSinglestep "
    "UniPCMultistep SASolver EulerDiscrete EulerAncestralDiscrete HeunDiscrete KDPM2Discrete KDPM2AncestralDiscrete "
    "LMSDiscrete FlowMatchEulerDiscrete FlowMatchHeunDiscrete FlowMatchLCM".split()
}
PURE_NOISE = 2**-10  # alpha up to which x_t holds nothing of the image; solvers put 2^-12 in the place of 0

Units = Literal["eps", "x0"]


class Level(NamedTuple):
    """Scales of the clean image and of the noise in x_t."""

    alpha: float
    sigma: float


def prediction_type(scheduler: Any) -> str:
    """What the network predicts, as its scheduler says; raises `UsageError` for anything unknown, as `check_levels`."""
    name = type(scheduler).__name__
    if not SOLVERS & {c.__name__ for c in type(scheduler).__mro__} or scheduler.config.get("invert_sigmas"):
        raise UsageError(
            f"{name} is not supported: its noise levels are not known; use a solver such as DDIMScheduler."
        )
    kind = scheduler.config.get("prediction_type") or "epsilon"
    if _is_flow_match(scheduler):
        kind = "flow_prediction"
    if kind not in PREDICTION_TYPES:
        raise UsageError(f"The scheduler predicts '{kind}'; mnemoscope knows {', '.join(PREDICTION_TYPES)}.")
    check_levels(scheduler)
    return kind


def check_levels(scheduler: Any) -> None:
    """Raise `UsageError` for a solver whose training schedule is none: a share of the image for each time, falling."""
    table = getattr(scheduler, "alphas_cumprod", None)
    shares = getattr(scheduler, "sigmas", None) if table is None else table
    if not isinstance(shares, Tensor):
        return
    count, asked = len(shares), scheduler.config.num_train_timesteps
    falls = bool(((shares >= 0) & (shares <= 1)).all()) and bool((shares.diff() <= 0).all())  # not those that are NaN
    if not falls or (table is not None and count != asked):
        what = f"has {count} noise levels for {asked} times" if falls else "goes to levels that there are not"
        raise UsageError(f"The noise schedule of {type(scheduler).__name__} {what}; correct its scheduler_config.json.")


def units(scheduler: Any, kind: str | None = None) -> Units:
    """Unit of the text's push: "x0" for flows and where training begins at pure noise, "eps" for all others.

    At pure noise the push in the predicted noise is zero whatever the prompt, unless the network predicts the noise.
    `kind` is what it predicts, where that is not as its scheduler says.
    """
    kind = kind or prediction_type(scheduler)
    if kind == "epsilon":
        return "eps"
    return "x0" if kind == "flow_prediction" or _zero_snr(scheduler) else "eps"


def _is_flow_match(scheduler: Any) -> bool:
    return any(c.__name__.startswith("FlowMatch") for c in type(scheduler).__mro__)


def is_flow(scheduler: Any) -> bool:
    """Whether alpha + sigma = 1, not the sum of their squares."""
    return _is_flow_match(scheduler) or bool(scheduler.config.get("use_flow_sigmas"))


def _zero_snr(scheduler: Any) -> bool:
    return bool(scheduler.config.get("rescale_betas_zero_snr")) or float(scheduler.alphas_cumprod[-1]) == 0


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


def alpha_sigma(scheduler: Any, t: Tensor | float) -> Level:
    """Scales (alpha, sigma) of the clean image and of the noise at a time of the training schedule.

    alpha is sqrt(alpha_bar) for diffusion models. Timesteps between two training steps (some solvers have them) are
    interpolated in sigma / alpha, as solvers do. For a step of a sampling take `solvers.levels`: solvers have tables
    of their own. Raises `UsageError` for a time outside the schedule.
    """
    t = float(t)
    if scheduler.config.get("timestep_type") == "continuous":
        return of_ratio(math.exp(4 * t))  # the time that such a network is given is log(sigma / alpha) / 4
    most = scheduler.config.num_train_timesteps
    if not 0 <= t <= most:
        raise UsageError(f"There is no noise level at timestep {t:g}: the model's timesteps go from 0 to {most}.")
    if is_flow(scheduler):
        return Level(1 - t / most, t / most)
    alpha_bar = scheduler.alphas_cumprod.double()
    low = min(int(t), len(alpha_bar) - 1)
    high = min(low + 1, len(alpha_bar) - 1)
    ratios = ((1 - alpha_bar[[low, high]]) / alpha_bar[[low, high]]).sqrt()
    ratio = ratios[0] if t == low else torch.lerp(ratios[0], ratios[1], t - low)  # infinite where nothing is left
    return of_ratio(ratio.item())


def of_ratio(ratio: float) -> Level:
    """The level of a sigma / alpha, where the squares of both add up to one."""
    q = torch.tensor(ratio, dtype=torch.float64)
    return Level((1 + q**2).rsqrt().item(), (1 + q**-2).rsqrt().item())


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
    """The network's own kind of prediction that a noise implies at x_t; the inverse of `to_eps`.

    Raises `UsageError` at pure noise, where the predicted noise says nothing of the image.
    """
    if kind == "epsilon":
        return eps
    if alpha == 0:
        raise UsageError(
            "At pure noise no image follows from the predicted noise; change a later step, or the prediction."
        )
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


def to_push(difference: Float[Tensor, "*shape"], alpha: float, sigma: float, kind: str) -> Float[Tensor, "*shape"]:
    """Difference of the clean images that two predictions at one x_t imply, from the difference of the predictions.

    Raises `UsageError` for predicted noise at pure noise, which says nothing of the image.
    """
    if kind == "sample":
        return difference
    if kind != "epsilon":
        return -sigma * difference
    if alpha == 0:
        raise UsageError("At pure noise no image follows from the predicted noise; look at a later step.")
    return -sigma / alpha * difference


def target(
    x_0: Float[Tensor, "*shape"], eps: Float[Tensor, "*shape"], alpha: Any, sigma: Any, kind: str
) -> Float[Tensor, "*shape"]:
    """What a network should predict at x_t = alpha x_0 + sigma eps."""
    if kind == "v_prediction":
        return alpha * eps - sigma * x_0
    return {"epsilon": eps, "sample": x_0, "flow_prediction": eps - x_0}[kind]
