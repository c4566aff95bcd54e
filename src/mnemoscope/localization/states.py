"""Latents that a search for neurons looks at: those of a sampling, or training images with noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.localization.attribution import State, Value
from mnemoscope.model.autoencoder import encode_images
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.step import Step
from mnemoscope.model.trajectory import Steps, Trajectory
from mnemoscope.registry import Score, scoring, usual_steps

SHARES = (0.2, 0.5, 0.8)  # of the sampling, where images with noise are looked at unless it is said
CLOSENESS = "closeness"


@dataclass(frozen=True)
class Look:
    """Which score is looked at, and on what: steps of each prompt's sampling, or its training image with noise.

    Without a score it is "closeness" to the training image where there are references, and noise_norm where there are
    none. Raises `UsageError` for closeness without references.
    """

    score: Score | None = None
    references: Mapping[str, Image.Image] | str | Path | None = None
    steps: Steps | None = None
    num_inference_steps: int = 50
    guidance_scale: int | float | None = None  # the pipeline's own if None

    @property
    def name(self) -> Score:
        return self.score or ("noise_norm" if self.references is None else CLOSENESS)

    def indices(self, model: Denoiser) -> list[int]:
        """Which steps are meant: the score's own, or those at 0.2, 0.5 and 0.8 of the sampling for training images."""
        sampling = Trajectory(model, "", num_inference_steps=self.num_inference_steps)
        if self.steps is not None:
            return sampling.indices(self.steps)
        if self.references is None:
            return sampling.indices(usual_steps(self.name))
        return sampling.indices([int(share * len(sampling.timesteps)) for share in SHARES])

    def at(self, model: Denoiser, prompts: Sequence[str], *seeds: Sequence[int]) -> tuple[Value, list[list[State]]]:
        """The score as a function of a step, and the states for each of several lists of seeds."""
        if self.name == CLOSENESS and self.references is None:
            raise UsageError("The score closeness is that to training images; give references or another score.")
        indices = self.indices(model)
        if self.references is None:
            rest = self.num_inference_steps, self.guidance_scale
            return self._scored(), [sampled(model, prompts, seeds_of, indices, *rest) for seeds_of in seeds]
        latents = latents_of(model, prompts, self.references)
        value = closeness(latents) if self.name == CLOSENESS else self._scored()
        return value, [noised(model, latents, seeds_of, indices, self.num_inference_steps) for seeds_of in seeds]

    def _scored(self) -> Value:
        function = scoring(self.name)
        return lambda step, prompts: function(step)


def sampled(
    model: Denoiser,
    prompts: Sequence[str],
    seeds: Sequence[int],
    steps: Sequence[int],
    num_inference_steps: int,
    guidance_scale: int | float | None,
) -> list[State]:
    """Latents on the way of each prompt's own sampling; those of the first step cost nothing."""
    sampler = model.sampler(num_inference_steps, guidance_scale)
    _, start, _ = sampler.begin([p for p in prompts for _ in seeds], list(seeds) * len(prompts))
    states = []
    for index in steps:
        x_t, t = start.state(index)
        states.append(State(index, t, x_t.unflatten(0, (len(prompts), len(seeds))), sampler.levels))
    return states


def noised(
    model: Denoiser,
    latents: Float[Tensor, "P R C h w"],
    seeds: Sequence[int],
    steps: Sequence[int],
    num_inference_steps: int,
) -> list[State]:
    """Each prompt's first training image with the noise of each seed, at the timesteps of these steps."""
    noise = model.initial_noise(seeds)
    sampler = model.sampler(num_inference_steps, 1)
    states = []
    for index in steps:
        alpha, sigma = sampler.levels[index]
        x_t = alpha * latents[:, :1] + sigma * noise[None]
        states.append(State(index, sampler.timesteps[index], x_t.to(model.dtype), sampler.levels))
    return states


def closeness(latents: Float[Tensor, "P R C h w"]) -> Value:
    """Minus the mean squared distance of the predicted clean latents to each prompt's training image; 0 is a copy.

    Of several training images of a prompt it is the one that is nearest.
    """

    def value(step: Step, prompts: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
        clean = step.x0_cond
        return -(clean[:, None] - latents[prompts].to(clean)).flatten(2).square().mean(2).amin(1)

    return value


def latents_of(
    model: Denoiser, prompts: Sequence[str], references: Mapping[str, Image.Image] | str | Path
) -> Float[Tensor, "P R C h w"]:
    """Clean latents of each prompt's training images, from one by prompt or from a source of images with captions.

    Where a prompt has fewer than another, its first stands in the place of those that lack. Raises `UsageError` for a
    prompt that has none.
    """
    is_given = isinstance(references, Mapping)
    images = {p: [image] for p, image in references.items()} if is_given else _by_caption(references, prompts)  # type: ignore[union-attr,arg-type]
    if missing := [prompt for prompt in prompts if not images.get(prompt)]:
        wanted = "each prompt must be the caption of one"
        raise UsageError(f"There is no training image of '{missing[0][:60]}' among the references; {wanted}.")
    latents: dict[str, Tensor] = {}
    for prompt in prompts:  # one by one, so that a result does not depend on the batch
        if prompt not in latents:
            latents[prompt] = torch.cat([encode_images(model.pipe, [i], model.latent_shape) for i in images[prompt]])
    most = max(map(len, latents.values()))
    several = {
        prompt: torch.cat([each, each[:1].expand(most - len(each), -1, -1, -1)]) for prompt, each in latents.items()
    }
    return torch.stack([several[prompt] for prompt in prompts]).float()


def _by_caption(references: str | Path, prompts: Sequence[str]) -> dict[str, list[Image.Image]]:
    from mnemoscope.pictures import read_pictures, required
    from mnemoscope.pictures.columns import folded

    asked: dict[str, list[Image.Image]] = {folded(prompt): [] for prompt in prompts}
    for picture in read_pictures(references):
        for caption in {folded(text) for text in picture.captions} & set(asked):
            asked[caption].append(required(picture))
    return {prompt: asked[folded(prompt)] for prompt in prompts}
