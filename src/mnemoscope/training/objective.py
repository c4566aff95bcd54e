"""The training objective: what one batch costs, as a pure function of it and of keyed random numbers."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.cond import Cond
from mnemoscope.model.schedule import PREDICTION_TYPES
from mnemoscope.training.embedding_noise import mixed, noisy
from mnemoscope.training.filter import Form, Tally, below, text_push
from mnemoscope.training.noise import Draws, noised, trained_prediction
from mnemoscope.training.weights import min_snr

Predict = Callable[[Tensor, Tensor, Cond], Tensor]  # (x_t, one timestep a sample, conditioning) -> native prediction
Mixup = Literal["batch", "sample"]


@dataclass(frozen=True)
class ObjectiveOptions:
    """What the network has to predict, from which noise, and which samples count how much.

    `prediction_type` replaces the scheduler's own, and is then to be saved with it. Raises `UsageError` for a value
    that is out of range.
    """

    prediction_type: str | None = None
    snr_gamma: int | float | None = None
    noise_offset: int | float = 0
    input_perturbation: int | float = 0
    embedding_noise: int | float = 0
    embedding_mixup: int | float = 0
    mixup: Mixup = "batch"
    hard_threshold: int | float | None = None
    threshold_form: Form = "joint"

    def __post_init__(self) -> None:
        for name in ("snr_gamma", "hard_threshold"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise UsageError(f"{_option(name)} {value} was given; give a number above 0, or leave it out.")
        for name in ("noise_offset", "input_perturbation", "embedding_noise", "embedding_mixup"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{_option(name)} {value} was given; give a number from 0 up, where 0 is none.")
        known = {"mixup": get_args(Mixup), "threshold_form": get_args(Form)}
        known |= {} if self.prediction_type is None else {"prediction_type": PREDICTION_TYPES}
        for name, values in known.items():
            if (value := getattr(self, name)) not in values:
                said = f"{', '.join(values[:-1])} or {values[-1]}"
                raise UsageError(f"{_option(name)} {value} is not known; give {said}.")


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


@dataclass(frozen=True)
class Objective:
    """What one batch costs.

    `loss` is what to go backward from: the mean over all samples, in which those left out are zero. Its gradient is
    that of the mean over the kept ones after `Tally.correct`. `per_sample` are the weighted losses, of those left out
    too, `norms` what the filter compared with its threshold; neither has a graph.
    """

    loss: Float[Tensor, ""]
    per_sample: Float[Tensor, " B"]
    kept: Bool[Tensor, " B"]
    norms: Float[Tensor, " B"] | None = None

    def tally(self, groups: Sequence[str] | None = None) -> Tally:
        """Samples kept and seen and their losses, by group."""
        return Tally.of(self.per_sample, self.kept, groups)


def loss(
    predict: Predict,
    x_0: Float[Tensor, "B C h w"],
    cond: Cond,
    scheduler: Any,
    draws: Draws,
    options: ObjectiveOptions | None = None,
    *,
    null: Cond | None = None,
) -> Objective:
    """Mean squared error of what the network predicts for noised latents, in float32.

    `x_0` are latents in the network's own scale, `cond` their captions' conditioning, `null` that of no caption, which
    the filter needs: it costs one more evaluation a sample, without gradient. `scheduler` gives noise levels and
    prediction type. Raises `UsageError` for what the model cannot do.
    """
    options = options or ObjectiveOptions()
    kind = trained_prediction(scheduler, options.prediction_type)
    if options.hard_threshold is not None and null is None:
        raise UsageError("--hard-threshold needs the prediction for no caption, and this model has none; leave it out.")
    pair = noised(
        x_0, scheduler, draws, noise_offset=options.noise_offset, input_perturbation=options.input_perturbation
    )
    native = predict(pair.x_t.to(x_0.dtype), pair.t, perturbed(cond, options, draws))
    per_sample = (native.float() - pair.target(kind)).square().flatten(1).mean(dim=1)
    if options.snr_gamma is not None:
        per_sample = per_sample * min_snr(pair.alpha, pair.sigma, options.snr_gamma, kind)
    kept, norms = torch.ones_like(per_sample, dtype=torch.bool), None
    if options.hard_threshold is not None and null is not None:
        with torch.no_grad():
            unprompted = predict(pair.x_t.to(x_0.dtype), pair.t, null)
        norms = text_push(native, unprompted, pair.alpha, pair.sigma, kind, form=options.threshold_form)
        kept = below(norms, options.hard_threshold)
    return Objective(per_sample.where(kept, 0).mean(), per_sample.detach(), kept, norms)


def perturbed(cond: Cond, options: ObjectiveOptions, draws: Draws) -> Cond:
    """The conditioning with the embedding noise and then the mixture that the options ask for."""
    if options.embedding_noise:
        cond = noisy(cond, options.embedding_noise, draws)
    if options.embedding_mixup:
        cond = mixed(cond, options.embedding_mixup, draws, mixup=options.mixup)
    return cond
