"""Noise differences: what the network predicts at a prompt's initial noise, with any neurons blocked."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model import ablation, schedule
from mnemoscope.model.cond import Cond, rows
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.likeness import Likeness, stretched
from mnemoscope.model.solvers import first_image
from mnemoscope.run.reading import Json


@dataclass(frozen=True)
class Setting:
    """At which step, guidance and seeds noise differences are taken, and how they are compared.

    The difference is eps - x_T for a network that predicts noise, and the negative predicted image for any other, which
    is the same up to scale and a remainder of the noise; where the first step is at pure noise it is taken at the next
    of the conditional sampling. `compat="nemo"` does as the released code: the second timestep
    at the initial noise, the two branches swapped where there is guidance, all seeds from one generator, and MS-SSIM
    whose data range couples the pairs of a call.
    """

    seeds: int = 10
    seed: int = 0
    num_inference_steps: int = 50
    guidance_scale: int | float = 1  # 1 is the conditional prediction alone
    scales: int | None = None
    compat: Literal["nemo"] | None = None

    @property
    def guided(self) -> bool:
        return self.guidance_scale not in (0, 1)

    def noise(self, model: Denoiser) -> Float[Tensor, "S C h w"]:
        """Initial noise of each seed, the same for every prompt."""
        if self.seeds < 2:
            raise UsageError(f"Seeds are compared with one another, and {self.seeds} was asked for; give 2 or more.")
        if self.compat is None:
            return model.initial_noise(range(self.seed, self.seed + self.seeds))
        one = torch.Generator().manual_seed(self.seed)
        noise = torch.randn(self.seeds, *model.latent_shape, generator=one)
        return noise.to(model.device, model.dtype)

    def likeness(self, size: Any) -> Likeness:
        return Likeness.fitting(size[-2:], self.scales, None if self.compat else 1.0, "The search for neurons")

    def conditions(self, model: Denoiser) -> Json:
        """What a threshold of the similarity depends on."""
        from mnemoscope.methods.thresholds import MODEL_KEYS

        about = model.describe()
        return {
            **{k: about[k] for k in MODEL_KEYS},
            "seeds": self.seeds,
            "num_inference_steps": self.num_inference_steps,
            "step": 2 if self.compat else 1,
            "guidance_scale": self.guidance_scale if self.guided else 1,
            "similarity": self.likeness(model.latent_shape).about(),
            "compat": self.compat,
        }


class Differences:
    """Noise differences of samples of one or more prompts, stretched to 0..1; `plain` are those of nothing blocked."""

    def __init__(
        self,
        model: Denoiser,
        prompts: list[str],
        setting: Setting,
        latents: Float[Tensor, "B C h w"] | None = None,
    ) -> None:
        self.model, self.setting = model, setting
        noise = setting.noise(model) if latents is None else latents
        texts = [p for p in prompts for _ in range(len(noise))]
        sampler = model.sampler(setting.num_inference_steps, 1.0)
        start = sampler.begin(texts, [0] * len(texts), noise.repeat(len(prompts), 1, 1, 1))[1]
        index = 1 if setting.compat else first_image(sampler.levels, model.prediction_type)
        self.x_t: Tensor = start.x_t if setting.compat else start.state(index)[0]
        self.cond: Cond = start.cond
        self.null: Cond | None = start.null_rows() if setting.guided else None
        self.t: Tensor = sampler.timesteps[index]
        self.level = sampler.levels[index]
        self.plain = self.of(slice(None), None)

    def of(self, samples: Any, gain: Float[Tensor, "B N"] | None) -> Float[Tensor, "B C h w"]:
        """The differences of some samples, each with its own neurons multiplied by 1 + gain, in both branches.

        They have a graph if `gain` has one.
        """
        with torch.set_grad_enabled(gain is not None and gain.requires_grad):
            return self._stretched(self._native(samples, gain), self.x_t[samples])

    def _native(self, samples: Any, gain: Tensor | None) -> Tensor:
        model, x_t = self.model, self.x_t[samples]
        cond = _blocked(rows(self.cond, samples), gain)
        conditional = model.predict(x_t, self.t, cond)
        if self.null is None:
            return conditional
        null = rows(self.null, samples)
        first, second = model.predict(x_t, self.t, _blocked(null, gain)), conditional
        if self.setting.compat:
            first, second = second, first
        return first + self.setting.guidance_scale * (second - first)

    def _stretched(self, native: Tensor, x_t: Tensor) -> Tensor:
        model = self.model
        if model.prediction_type == "epsilon":
            return stretched(native.float() - x_t.float())
        return stretched(-schedule.to_x0(native.float(), x_t.float(), *self.level, model.prediction_type))


def _blocked(cond: Cond, gain: Tensor | None) -> Cond:
    return cond if gain is None else ablation.steer(cond, gain)
