"""The training objective: what one batch costs, as a pure function of it and of keyed random numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.methods.amounts import Amount
from mnemoscope.model.cond import Cond
from mnemoscope.model.schedule import units
from mnemoscope.training.embedding_noise import mixed, noisy
from mnemoscope.training.filter import Tally, below, text_push
from mnemoscope.training.flow_times import FlowTimes
from mnemoscope.training.noise import Draws, noised, trained_prediction
from mnemoscope.training.options import ObjectiveOptions
from mnemoscope.training.weights import min_snr

Predict = Callable[[Tensor, Tensor, Cond], Tensor]  # (x_t, one timestep a sample, conditioning) -> native prediction


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
    times = FlowTimes.of(options, kind)
    apart = {"noise_offset": options.noise_offset, "input_perturbation": options.input_perturbation}
    pair = noised(x_0, scheduler, draws, times=times, **apart)
    native = predict(pair.x_t.to(x_0.dtype), pair.t, perturbed(cond, options, draws))
    per_sample = (native.float() - pair.target(kind)).square().flatten(1).mean(dim=1)
    if options.precondition_outputs:  # x_0 is x_t - sigma v
        per_sample = per_sample * pair.sigma**2
    if times is not None:
        per_sample = per_sample * times.weights(pair.sigma)
    if options.snr_gamma is not None:
        per_sample = per_sample * min_snr(pair.alpha, pair.sigma, options.snr_gamma, kind)
    kept, norms = torch.ones_like(per_sample, dtype=torch.bool), None
    if options.hard_threshold is not None and null is not None:
        with torch.no_grad():
            unprompted = predict(pair.x_t.to(x_0.dtype), pair.t, null)
        form, given = options.threshold_form, options.threshold_units
        limit = Amount.of(options.hard_threshold, "--hard-threshold", given)
        unit = limit.settled(units(scheduler, kind), "--hard-threshold", "--threshold-units x0").units or "eps"
        norms = text_push(native, unprompted, pair.alpha, pair.sigma, kind, form=form, units=unit)
        kept = below(norms, limit.value)
    return Objective(per_sample.where(kept, 0).mean(), per_sample.detach(), kept, norms)


def perturbed(cond: Cond, options: ObjectiveOptions, draws: Draws) -> Cond:
    """The conditioning with the embedding noise and then the mixture that the options ask for."""
    if options.embedding_noise:
        cond = noisy(cond, options.embedding_noise, draws)
    if options.embedding_mixup:
        cond = mixed(cond, options.embedding_mixup, draws, mixup=options.mixup)
    return cond
