"""What the text's prediction is compared with: that for no prompt, or that of another model for the same prompt."""

from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.cond import rows
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.jacobian import Field
from mnemoscope.model.schedule import Level, alpha_sigma
from mnemoscope.model.step import Step, refuse_null_branch
from mnemoscope.model.trajectory import Trajectory

Reference = Denoiser | str | None  # a model, what it is loaded from, or None for the unconditional branch


class Contrast:
    """eps_cond - eps_reference along a trajectory; without a reference that is the unconditional prediction.

    Raises `UsageError`, before anything is computed, for a model without an unconditional branch and for a reference
    with other latents or other noise levels.
    """

    def __init__(self, trajectory: Trajectory, reference: Reference) -> None:
        self.trajectory, model = trajectory, trajectory.model
        self.other = (
            _loaded(reference, model.size, str(model.device), str(model.dtype))
            if isinstance(reference, str)
            else reference
        )
        if self.other is not None:
            _require_comparable(trajectory, self.other)
        elif model.family.unguided:
            refuse_null_branch(model.source, model.family.unguided)()

    def at(self, step: Step) -> Float[Tensor, "B C h w"]:
        """The difference at the step's own latents; without a reference the sampling has it already."""
        index = torch.arange(len(step), device=step.x_t.device)
        return step.eps_cond - (step.eps_uncond if self.other is None else self._reference(step, step.x_t, index))

    def push(self, step: Step) -> Float[Tensor, "B C h w"]:
        """The difference of the predicted clean images; without a reference straight from the network's own numbers."""
        if self.other is None:
            return step.push
        step.require_image("The difference to a reference")
        return -step.sigma / step.alpha * self.at(step)

    def field(self, step: Step) -> Field:
        """The difference at the step's time as a function of latents, with a graph to them."""

        def difference(x: Float[Tensor, "N C h w"], samples: Int[Tensor, " N"]) -> Float[Tensor, "N C h w"]:
            x = x.to(step.x_t.dtype)
            return step.eps_at(x, samples=samples) - self._reference(step, x, samples)

        return difference

    def _reference(self, step: Step, x: Tensor, samples: Tensor) -> Tensor:
        other = self.other
        if other is None:
            return step.eps_at(x, branch="uncond", samples=samples)
        cond = other.encode(self.trajectory.prompts, x.shape[1:])
        cond = rows(other.family.guided(cond, step.guidance_scale), samples.to(other.device))
        state = x.to(other.device, other.dtype), step.t.to(other.device), cond, Level(step.alpha, step.sigma)
        return other.predict_noise(*state).to(x.device)


@lru_cache(maxsize=1)
def _loaded(name: str, size: tuple[int, int], device: str, dtype: str) -> Denoiser:
    return Denoiser.from_pretrained(name, size=size, device=device, dtype=dtype.removeprefix("torch."))


def _require_comparable(trajectory: Trajectory, other: Denoiser) -> None:
    model = trajectory.model
    if other.latent_shape != model.latent_shape:
        shapes = " and ".join(str(each.latent_shape) for each in (other, model))
        raise UsageError(f"The reference's latents and the model's are {shapes}; give a reference of the same size.")
    ours, theirs = ([alpha_sigma(m.pipe.scheduler, t) for t in trajectory.timesteps] for m in (model, other))
    if not torch.allclose(torch.tensor(ours), torch.tensor(theirs), rtol=0, atol=1e-5):
        raise UsageError("The reference's noise levels are not the model's; give a reference of the same schedule.")
