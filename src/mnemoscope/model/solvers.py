"""Solvers of our own beside a pipeline's: copies, others trained alike, and the noise levels of their steps."""

import copy
import inspect
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import diffusers
import torch
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.schedule import PURE_NOISE, Level, alpha_sigma, is_flow, of_ratio, prediction_type
from mnemoscope.model.weights.reading import first_line

SCHEDULERS = {
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "euler": "EulerDiscreteScheduler",
    "pndm": "PNDMScheduler",
    "unipc": "UniPCMultistepScheduler",
}
TRAINED = (  # what a solver must have as the model was trained and is sampled, whatever its own usual values
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
    "timestep_spacing",
    "steps_offset",
)
ROUNDING = 1e-4  # of a solver's float32 table against the training schedule


def copied(scheduler: Any) -> Any:
    """A solver to step without touching the original; a `step` that was put on that instance stays with it."""
    other = copy.deepcopy(scheduler)
    vars(other).pop("step", None)  # it would step the original
    return other


def scaled(scheduler: Any, x: Tensor, t: Tensor) -> Tensor:
    """The network's input for a solver's state; the state itself for solvers that do not scale it."""
    return scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x


def swapped(name: str, kept_config: Any) -> Any:
    """A solver by name in the place of a model's own, with the noise schedule that the model was trained with.

    Raises `UsageError` for a name that there is not, and for a schedule that the solver cannot have.
    """
    if name not in SCHEDULERS:
        raise UsageError(f"There is no scheduler '{name}'; use own, {', '.join(SCHEDULERS)}.")
    kind, config = getattr(diffusers, SCHEDULERS[name]), kept_config.config
    if (
        prediction_type(kept_config) == "flow_prediction"
        or is_flow(kept_config)
        or config.get("timestep_type") == "continuous"
    ):
        raise UsageError(
            f"{SCHEDULERS[name]} does not know the times of {type(kept_config).__name__}; use --scheduler own."
        )
    takes = inspect.signature(kind.__init__).parameters
    kept = {key: config[key] for key in TRAINED if key in config and key in takes}
    kept |= {"clip_sample": False} if name in ("ddim", "ddpm") and "clip_sample" not in config else {}
    kept |= {"skip_prk_steps": True} if name == "pndm" and "skip_prk_steps" not in config else {}
    made = kind.from_config(config, **kept)
    alike = torch.allclose(kept_config.alphas_cumprod, made.alphas_cumprod, rtol=1e-5, atol=1e-7)
    if prediction_type(made) != prediction_type(kept_config) or not alike:
        raise UsageError(f"{SCHEDULERS[name]} cannot have this model's noise schedule; use --scheduler own or another.")
    return made


def timed(model: Any, steps: int, shape: Sequence[int]) -> Any:
    """A model's solver with the timesteps of so many steps; raises `UsageError` where its configuration has none."""
    with _configured(model.pipe.scheduler, steps):
        return model.family.solver(steps, shape)


def set_steps(scheduler: Any, steps: int) -> None:
    """Set the timesteps of so many steps; raises `UsageError` where the solver's configuration has none."""
    check_steps(scheduler, steps)
    with _configured(scheduler, steps):
        scheduler.set_timesteps(steps)


def check_steps(scheduler: Any, steps: int) -> None:
    """Raises `UsageError` for more steps than a solver has times, and for none."""
    most = scheduler.config.num_train_timesteps
    if not 1 <= steps <= most:
        raise UsageError(f"{steps} sampling steps were asked for; this solver takes 1 to {most}.")


@contextmanager
def _configured(scheduler: Any, steps: int) -> Iterator[None]:
    try:
        yield
    except UsageError:
        raise
    except (ArithmeticError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError) as e:
        name, reason = type(scheduler).__name__, first_line(e).rstrip(".")
        raise UsageError(
            f"{name} cannot take {steps} steps as it is configured ({reason}); correct its scheduler_config.json, "
            "or choose another with --scheduler."
        ) from e


def levels(scheduler: Any) -> list[Level]:
    """Scales of image and noise in the network's input at each step of a solver whose timesteps are set.

    They are the solver's own; where its float32 table agrees with the training schedule but for rounding, they are the
    schedule's, in float64.
    """
    return [_level(scheduler, index, float(t)) for index, t in enumerate(scheduler.timesteps)]


def _level(scheduler: Any, index: int, t: float) -> Level:
    if getattr(scheduler, "sigmas", None) is None:  # DDIM and its like look their timestep up
        return alpha_sigma(scheduler, t)
    sigma = _table(scheduler, index)
    if is_flow(scheduler):
        return Level(1 - sigma, sigma)
    level, trained = of_ratio(sigma), alpha_sigma(scheduler, t)
    near = (math.isclose(a, b, rel_tol=ROUNDING) for a, b in zip(level, trained, strict=True))
    return trained if all(near) else level


def _table(scheduler: Any, index: int) -> float:
    """The solver's sigma at a step; KDPM2 evaluates every second step between two of its sigmas."""
    between = getattr(scheduler, "sigmas_interpol", None)
    if between is None or index % 2 == 0:
        return float(scheduler.sigmas[index])
    ancestral = hasattr(scheduler, "sigmas_up")
    return float(between[index - 1 if ancestral else index])


def first_image(levels: Sequence[Level], kind: str) -> int:
    """The first step of a sampling whose x_t is more than pure noise; raises `UsageError` where there is none."""
    places = [k for k, level in enumerate(levels) if kind == "epsilon" or level.alpha > PURE_NOISE]
    if not places:
        raise UsageError(f"All {len(levels)} steps of this sampling are at pure noise; sample with 2 steps or more.")
    return places[0]


def check_guidance_scale(guidance_scale: int | float) -> None:
    """Raises `UsageError` for a guidance scale that is no finite number."""
    if not math.isfinite(guidance_scale):
        raise UsageError(f"The guidance scale is {guidance_scale}; give a finite number, 1 for no guidance.")
