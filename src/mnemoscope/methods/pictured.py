"""Pictures as a model sees them: clean latents with their captions, and what it predicts at any noise of them."""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.autoencoder import encode_images
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.noising import noised, time_at
from mnemoscope.model.step import Step


class NoisedLook(NamedTuple):
    """What the model predicts at a picture's own noised latents, and the noise that is in them."""

    step: Step
    noise: Float[Tensor, "C h w"]

    @property
    def error(self) -> Float[Tensor, "B C h w"]:
        """Predicted noise less the noise that is there, in float32."""
        return self.step.eps_cond - self.noise


class SeenPictures:
    """Clean latents of pictures, conditioned by their captions, or by nothing where they have none.

    All pictures see the same noises, one of its own for each seed and time, so that none depends on the others.
    What the model predicts at a time is kept, and shared by all signals that look there.
    """

    def __init__(
        self,
        model: Denoiser,
        x_0: Float[Tensor, "B C h w"],
        captions: Sequence[str] | None = None,
        seeds: Sequence[int] = (0,),
    ) -> None:
        self.model, self.x_0, self.seeds = model, x_0.to(model.device).float(), list(seeds)
        self.captioned = captions is not None
        self.cond = _unprompted(model, len(x_0)) if captions is None else model.encode(captions)
        self._looks: dict[tuple[float, int], NoisedLook] = {}

    @classmethod
    def of(
        cls,
        model: Denoiser,
        images: Sequence[Image.Image],
        captions: Sequence[str] | None = None,
        seeds: Sequence[int] = (0,),
    ) -> "SeenPictures":
        """Pictures as the model's own autoencoder has them, cut and scaled to the model's resolution."""
        parts = model.parts(len(images))
        x_0 = torch.cat([encode_images(model.pipe, images[part], model.latent_shape) for part in parts])
        return cls(model, x_0, captions, seeds)

    @property
    def known(self) -> set[str]:
        """What signals may need: "captions", where a caption is given that the model can also do without."""
        return known(self.model, self.captioned)

    def __len__(self) -> int:
        return len(self.x_0)

    def look(self, time: int | float, seed: int) -> NoisedLook:
        """What the model predicts with the noise of a seed at a share of the training schedule; 0 is clean, 1 noise."""
        if (time, seed) not in self._looks:
            key = random.Random(f"{seed}|{float(time)}").getrandbits(63)
            noise = self.model.noise_from([torch.Generator().manual_seed(key)])[0].float()
            self._looks[time, seed] = NoisedLook(self.at(time, noise), noise)
        return self._looks[time, seed]

    def at(self, time: int | float, noise: Float[Tensor, "..."]) -> Step:
        """The step that the network sees at the pictures with this noise."""
        scheduler = self.model.pipe.scheduler
        return self.seen(noised(scheduler, self.x_0, time_at(scheduler, time), noise)[0], time)

    def seen(self, x_t: Float[Tensor, "B C h w"], time: int | float) -> Step:
        """The step that the network sees at latents that are taken for those of a time."""
        t = time_at(self.model.pipe.scheduler, time).to(self.model.device)
        return self.model.observe(x_t.to(self.model.dtype), t, self.cond, guidance_scale=1.0)

    def over(self, times: Iterable[Any], value: Callable[[NoisedLook], Float[Tensor, "B *K"]]) -> Float[Tensor, "B F"]:
        """The mean over seeds of a value, or of several, at each of the times. Raises `UsageError` for no time."""
        values = [torch.stack([value(self.look(time, seed)) for seed in self.seeds]).mean(0) for time in some(times)]
        return torch.stack(values, dim=1).flatten(1)


def some(times: Iterable[Any]) -> list[int | float]:
    """The times that a signal looks at. Raises `UsageError` where there are none, and for what is none."""
    listed = list(times)
    if not listed:
        raise UsageError("No time was given to look at; give times from 0 (clean) to 1 (noise), as times=[0.2].")
    for time in listed:
        if not isinstance(time, int | float) or isinstance(time, bool) or not 0 <= time <= 1:
            raise UsageError(f"{time!r} is no time to look at; give times from 0 (clean) to 1 (noise), as times=[0.2].")
    return listed


def known(model: Denoiser, captioned: bool) -> set[str]:
    """What signals of a model's pictures may need, and have."""
    return {"captions"} if captioned and model.family.unguided is None else set()


def _unprompted(model: Denoiser, count: int) -> dict[str, Tensor]:
    """The conditioning of no caption, where the model has one, else of an empty one."""
    return dict(model.encode([""] * count) if model.family.unguided else model.null(count))
