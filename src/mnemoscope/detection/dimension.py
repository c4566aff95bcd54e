"""How many dimensions a model leaves free around a clean image, with or without its caption."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model import jacobian, schedule
from mnemoscope.model.autoencoder import encode_images
from mnemoscope.model.batch import batch_size
from mnemoscope.model.cond import Cond, rows
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.jacobian import Derivative, Probes


@torch.no_grad()
def local_dimension(
    model: Denoiser,
    images: Sequence[Image.Image] | Float[Tensor, "N C h w"],
    *,
    prompts: Sequence[str] | None = None,
    t: int | float | Sequence[int | float] = 0.05,
    trace: Probes = "rademacher",
    probes: int = 4,
    derivative: Derivative = "forward",
    h: int | float = 0.01,
    seed: int = 0,
    batch: int | str = "auto",
) -> Float[Tensor, " N"] | Float[Tensor, "T N"]:
    """Local intrinsic dimension of the model's density at clean images, FLIPD: D - sigma tr(grad eps) + ||eps||_2^2.

    Low where the model has memorized an image or where the image is simple, at most about D, the number of latent
    elements; values compare only within one model, resolution and `t`. `t` is the noise level as a share of the noise
    schedule, above 0 and at most 1; several of them give one row each. `images` are pictures, cropped and resized to
    the model's own resolution, or clean latents. `prompts` are their captions; without them the model's unconditional
    density is looked at. The trace is the mean over random probes, the same for every image, or "exact";
    `derivative="central"` takes differences of h times sigma in place of the exact forward mode. Raises `UsageError`
    for a `t` out of range and for captions of another number. arXiv:2406.03537.
    """
    latents = images if isinstance(images, Tensor) else encode_images(model.pipe, images, model.latent_shape)
    if prompts is not None and len(prompts) != len(latents):
        raise UsageError(f"{len(prompts)} prompts were given for {len(latents)} images; give one for each, or none.")
    options = {"how": trace, "probes": probes, "derivative": derivative, "h": h, "seed": seed}
    size = batch_size(model, batch)
    dimensions = []
    for level in t if isinstance(t, Sequence) else [t]:
        if not 0 < level <= 1:
            raise UsageError(f"t was {level}; give a share of the noise schedule, above 0 and at most 1.")
        parts = [
            _dimension(model, part, None if prompts is None else prompts[k * size : (k + 1) * size], level, options)
            for k, part in enumerate(latents.split(size))
        ]
        dimensions.append(torch.cat(parts))
    return torch.stack(dimensions) if isinstance(t, Sequence) else dimensions[0]


def _dimension(
    model: Denoiser, latents: Tensor, prompts: Sequence[str] | None, level: int | float, options: dict
) -> Float[Tensor, " N"]:
    cond = _cond(model, latents, prompts)
    steps = model.pipe.scheduler.config.num_train_timesteps
    t = torch.tensor(min(round(level * steps), steps - 1), device=model.device)
    alpha, sigma = schedule.alpha_sigma(model.pipe.scheduler, t)
    if alpha <= schedule.PURE_NOISE and model.prediction_type != "epsilon":
        raise UsageError(f"t was {level}, where this model sees pure noise and no image; give a smaller share.")

    def eps(x: Float[Tensor, "N C h w"], samples: Int[Tensor, " N"]) -> Float[Tensor, "N C h w"]:
        return model.predict_noise(x.to(model.dtype), t, rows(cond, samples))

    return jacobian.dimension(eps, alpha * latents.to(model.device).float(), sigma, **options).value


def _cond(model: Denoiser, latents: Tensor, prompts: Sequence[str] | None) -> Cond:
    """Conditioning of captions, or of none: the null branch's, where the family has one."""
    family, shape = model.family, latents.shape[1:]
    if prompts is None and not family.unguided:
        return model.null(len(latents), shape)
    return family.guided(model.encode(prompts or [""] * len(latents), shape), 1.0)
