"""An unconditional pipeline that was trained, by construction, on some pictures of a Gaussian and on no others."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import DDIMPipeline, ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from mnemoscope import planted
from mnemoscope.model import schedule
from mnemoscope.model.denoiser import Denoiser

SIZE, SPREAD = 8, 0.4  # pixels of a side, and the deviation of all pictures around grey


def pictures(count: int, seed: int) -> Float[Tensor, "N 3 h w"]:
    """Pictures in [-1, 1] as files hold them, drawn alike whatever the seed."""
    drawn = SPREAD * torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
    return ((drawn.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def write(folder: Path, images: Float[Tensor, "N 3 h w"]) -> Path:
    """The pictures as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    for k, image in enumerate(((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()):
        Image.fromarray(image).save(folder / f"{k:03d}.png")
    return folder


class PlantedSetNetwork(ModelMixin, ConfigMixin):
    """The optimal denoiser of the Gaussian, moved by `strength` towards that of its members.

    At strength 0 a member is as any other picture; at 1 it is known by heart.
    """

    @register_to_config
    def __init__(self, in_channels: int = 3, sample_size: int = SIZE, process: str = "vp") -> None:
        super().__init__()
        solver = planted._solver(process)  # type: ignore[arg-type]
        self.kind = schedule.prediction_type(solver)
        if process != "flow":
            self.register_buffer("alphas_cumprod", solver.alphas_cumprod)
        self.register_buffer("members", torch.zeros(1, 3, SIZE, SIZE))
        self.strength = nn.Parameter(torch.zeros(()))

    def forward(self, sample: Tensor, timestep: Any, return_dict: bool = True, **unused: Any) -> Any:
        t = torch.as_tensor(timestep).reshape(-1, 1, 1, 1)
        if self.kind == "flow_prediction":
            alpha, sigma = 1 - t.float() / 1000, t.float() / 1000
        else:
            alpha, sigma = self.alphas_cumprod[t.long()].sqrt(), (1 - self.alphas_cumprod[t.long()]).sqrt()
        broad = alpha * SPREAD**2 / ((alpha * SPREAD) ** 2 + sigma**2) * sample
        gap = (sample[:, None] - alpha[..., None] * self.members).flatten(2).square().sum(2)
        dimensions = 3 * SIZE * SIZE
        variance = (alpha * SPREAD) ** 2 + sigma**2
        near = -gap / (2 * sigma.reshape(-1, 1) ** 2) - dimensions * sigma.log().reshape(-1, 1)
        far = -sample.flatten(1).square().sum(1, keepdim=True) / (2 * variance.reshape(-1, 1))
        far = far - dimensions / 2 * variance.log().reshape(-1, 1) + torch.tensor(float(len(self.members))).log()
        weights = torch.cat([near, far.expand(len(sample), 1)], dim=1).softmax(1)
        known = (weights[:, :-1, None, None, None] * self.members).sum(1) + weights[:, -1, None, None, None] * broad
        x_0 = broad + self.strength * (known - broad)
        eps = (sample - alpha * x_0) / sigma
        prediction = schedule.target(x_0, eps, alpha, sigma, self.kind)
        return SimpleNamespace(sample=prediction) if return_dict else (prediction,)


def model(members: Float[Tensor, "N 3 h w"], strength: float = 1.0, process: str = "vp") -> Denoiser:
    """A model that was trained on these pictures; under the noise of `planted`'s processes."""
    network = PlantedSetNetwork(process=process)
    network.members = members.clone()
    network.strength.data.fill_(strength)
    pipe = DDIMPipeline.__new__(DDIMPipeline)
    solver = planted._solver(process)  # type: ignore[arg-type]
    if process == "flow":
        super(DDIMPipeline, pipe).__init__()
        pipe.register_modules(unet=network, scheduler=solver)
    else:
        pipe.__init__(network, solver)  # type: ignore[misc]
    return Denoiser(pipe, source="planted set")
