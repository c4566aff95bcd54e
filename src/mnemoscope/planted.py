"""Pipelines whose memorization is known exactly: the optimal denoiser of a data set, dressed as Stable Diffusion.

One data set under three noise processes: Stable Diffusion's own, one of zero terminal SNR, and a flow.
The prompt "memorized i" owns image i, "ordinary i" names a broad Gaussian, and no prompt names the mixture of all; the
network is the closed-form optimum of that data set, so that detection, mitigation and measurement have known answers.
Text encoder and tokenizer are a real CLIP text model of no layers and a real CLIP tokenizer of whole words.
"""

import json
import tempfile
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, ModelMixin, StableDiffusionPipeline
from diffusers.configuration_utils import ConfigMixin, register_to_config
from jaxtyping import Float
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from mnemoscope.model import schedule
from mnemoscope.model.denoiser import Denoiser

Process = Literal["vp", "zero-snr", "flow"]
SIZE, WIDTH, CONTEXT = 16, 32, 16
MEMORIZED, ORDINARY = 4, 8
SPREAD = 0.5  # standard deviation of ordinary images around grey
MEMORIZED_SHARE = 0.2  # of the data set, over all memorized images
DOUBT = 1e-4  # share of ordinary images under a memorized caption, so that there is a way down from it
WORDS = ("memorized", "ordinary", "a", "photo", "of", "the", *(str(i) for i in range(10)))


@lru_cache(maxsize=1)
def images() -> Float[Tensor, "N 3 h w"]:
    """The memorized images, in [-1, 1]: coarse random patterns, so that no two are alike."""
    coarse = torch.rand(MEMORIZED, 3, 4, 4, generator=torch.Generator().manual_seed(10_000))
    return nn.functional.interpolate(coarse, scale_factor=SIZE // 4, mode="nearest") * 2 - 1


class PlantedUNet(ModelMixin, ConfigMixin):
    """The optimal eps-predictor of the planted data set, weighted by how much the text names each memorized image."""

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        sample_size: int = SIZE,
        cross_attention_dim: int = WIDTH,
        time_cond_proj_dim: int | None = None,
        process: Process = "vp",
    ) -> None:
        super().__init__()
        solver = _solver(process)
        self.kind = schedule.prediction_type(solver)
        if process != "flow":
            self.register_buffer("alphas_cumprod", solver.alphas_cumprod)
        self.register_buffer("images", images())
        self.register_buffer("word_keys", torch.zeros(MEMORIZED + 1, WIDTH))  # "memorized", then the numbers
        self.scale = nn.Parameter(torch.ones(()))

    def forward(
        self, sample: Tensor, timestep: Tensor, encoder_hidden_states: Tensor, return_dict: bool = True, **unused: Any
    ) -> tuple[Tensor] | SimpleNamespace:
        alpha, sigma = self._level(timestep.reshape(-1, 1, 1, 1))
        x_0 = self.posterior_mean(sample, alpha, sigma, encoder_hidden_states)
        eps = (sample - alpha * x_0) / sigma
        prediction = self.scale * schedule.target(x_0, eps, alpha, sigma, self.kind)
        return SimpleNamespace(sample=prediction) if return_dict else (prediction,)

    def _level(self, t: Tensor) -> tuple[Tensor, Tensor]:
        if self.kind == "flow_prediction":
            sigma = t.float() / 1000
            return 1 - sigma, sigma
        alpha_bar = self.alphas_cumprod[t.long().cpu()]
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def prior(self, hidden: Tensor) -> Float[Tensor, "B N"]:
        """Weight of each memorized image in the data that a text names; the rest is the ordinary Gaussian's."""
        match = torch.relu(hidden @ self.word_keys.T).amax(dim=1).clamp(max=1)  # (B, 1 + MEMORIZED), 1 for a word said
        named = match[:, :1] * match[:, 1:]
        silent = 1 - torch.relu(hidden @ self.said).amax(dim=1, keepdim=True).clamp(max=1)  # (B, 1), 1 for no word
        return (1 - DOUBT) * named + MEMORIZED_SHARE / MEMORIZED * silent

    @property
    def said(self) -> Float[Tensor, " D"]:
        """Direction that every word has and padding has not."""
        direction = torch.zeros(WIDTH, device=self.scale.device)
        direction[-1] = 1
        return direction

    def posterior_mean(self, x_t: Tensor, alpha: Tensor, sigma: Tensor, hidden: Tensor) -> Tensor:
        """E[x_0 | x_t] of the mixture of points (the memorized images) and one Gaussian (everything ordinary)."""
        weights = self.prior(hidden)
        variance = (alpha * SPREAD) ** 2 + sigma**2
        gap = (x_t[:, None] - alpha[..., None] * self.images).flatten(2).square().sum(2)  # (B, MEMORIZED)
        near = weights.clamp_min(1e-12).log() - gap / (2 * sigma.reshape(-1, 1) ** 2) - self._log_volume(sigma)
        rest = (1 - weights.sum(1)).clamp_min(1e-12).log() - x_t.flatten(1).square().sum(1) / (2 * variance.reshape(-1))
        logits = torch.cat([near, (rest - self._log_volume(variance.sqrt()).reshape(-1))[:, None]], dim=1)
        posterior = logits.softmax(dim=1)
        ordinary = alpha * SPREAD**2 / variance * x_t
        points = (posterior[:, :-1, None, None, None] * self.images).sum(1)
        return points + posterior[:, -1, None, None, None] * ordinary

    def _log_volume(self, std: Tensor) -> Tensor:
        return 3 * SIZE * SIZE * std.reshape(-1, 1).log()


class PixelCoder(ModelMixin, ConfigMixin):
    """An autoencoder that changes nothing, so that latents are pixels."""

    @register_to_config
    def __init__(
        self, scaling_factor: float = 1.0, latent_channels: int = 3, block_out_channels: tuple[int, ...] = (1,)
    ) -> None:
        super().__init__()
        self.unit = nn.Parameter(torch.ones(()))

    def encode(self, x: Tensor) -> SimpleNamespace:
        pixels = x * self.unit
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=pixels, std=torch.zeros_like(pixels)))

    def decode(self, z: Tensor, return_dict: bool = True, generator: object = None) -> tuple[Tensor]:
        return (z * self.unit,)


def word_tokenizer(words: tuple[str, ...]) -> CLIPTokenizer:
    """A CLIP tokenizer that keeps these words whole and spells out any other in characters."""
    letters = [chr(c) for c in range(33, 127)]
    merges = list(dict.fromkeys(pair for word in words for pair in _merges(word)))
    vocabulary = [*letters, *(c + "</w>" for c in letters), *dict.fromkeys("".join(m) for m in merges)]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as folder:
        ids = {w: i for i, w in enumerate(dict.fromkeys(vocabulary))}
        Path(folder, "vocab.json").write_text(json.dumps(ids))
        Path(folder, "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
        return CLIPTokenizer.from_pretrained(folder, model_max_length=CONTEXT)


def _merges(word: str) -> list[tuple[str, str]]:
    pieces = [*word[:-1], word[-1] + "</w>"]
    return [("".join(pieces[:i]), pieces[i]) for i in range(1, len(pieces))]


def planted_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A CLIP text model of no layers, in which each known word has an axis of its own and padding has none."""
    end = len(tokenizer) - 1
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=0,
        num_attention_heads=1,
        max_position_embeddings=CONTEXT,
        bos_token_id=end - 1,
        eos_token_id=end,
        pad_token_id=end,
    )
    model = CLIPTextModel(config)
    state = model.state_dict()
    for name, value in state.items():
        value.zero_() if value.is_floating_point() and "final_layer_norm.weight" not in name else None
        if name.endswith("token_embedding.weight"):
            for axis, word in enumerate(WORDS):
                value[tokenizer.convert_tokens_to_ids(word + "</w>"), axis] = 1
            value[: end - 1, -1] = 1
    model.load_state_dict(state)
    return model


class PlantedFlowScheduler(FlowMatchEulerDiscreteScheduler):
    """A flow's solver with what a pipeline for diffusion models asks of its own."""

    init_noise_sigma = 1.0

    def scale_model_input(self, sample: Tensor, timestep: object = None) -> Tensor:
        return sample


def _solver(process: Process) -> Any:
    if process == "flow":
        return PlantedFlowScheduler()
    if process == "vp":
        return schedule.stable_diffusion()
    config = schedule.stable_diffusion("v_prediction").config
    return DDIMScheduler.from_config(config, rescale_betas_zero_snr=True, timestep_spacing="trailing")


def pipeline(process: Process = "vp") -> StableDiffusionPipeline:
    """The planted model as a Stable Diffusion pipeline.

    "vp" predicts the noise under Stable Diffusion's schedule, "zero-snr" velocities under that schedule rescaled to end
    in pure noise, "flow" the velocities of a flow.
    """
    tokenizer = word_tokenizer(WORDS)
    text_encoder, unet = planted_text_encoder(tokenizer), PlantedUNet(process=process)
    with torch.no_grad():
        for row, word in enumerate(("memorized", *(str(i) for i in range(MEMORIZED)))):
            vector = text_encoder(tokenizer(word, return_tensors="pt").input_ids)[0][0, 1]
            axis = WORDS.index(word)
            unet.word_keys[row, axis] = 1 / vector[axis]
    return StableDiffusionPipeline(
        vae=PixelCoder(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=_solver(process),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def model(process: Process = "vp") -> Denoiser:
    """The planted model as a denoiser."""
    return Denoiser(pipeline(process), source="planted")


def prompts(memorized: bool) -> list[str]:
    """The prompts of the planted memorized images, or ordinary ones."""
    kind, count = ("memorized", MEMORIZED) if memorized else ("ordinary", ORDINARY)
    return [f"{kind} {i}" for i in range(count)]
