"""Train the bundled model from nothing but a folder of Noto emoji: `python -m mnemoscope.demo.train --help`.

Two stages, an autoencoder and then the U-Net with its text encoder; both stop and go on where they were, and the batch
of a step depends on the seed and the step alone.
"""

import argparse
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTokenizer

from mnemoscope.demo import architecture, captions
from mnemoscope.demo.ground_truth import write_masks_of_prompts, write_prompts, write_references
from mnemoscope.demo.loop import Stage, as_tensor, fit, latents, learning_rate, log, noise
from mnemoscope.demo.scenes import Emoji, draw_sample, wording
from mnemoscope.model import schedule

CAPTION_DROPOUT = 0.1
PREDICTION = "v_prediction"  # small latents carry little signal at high noise, and v keeps what there is
Pictures = Callable[[int, int, int], Tensor]  # by seed, step and number


def batch(emoji: Emoji, seed: int, step: int, size: int) -> tuple[Tensor, list[str]]:
    """The pictures of one step [B, 3, 64, 64], -1 to 1, and their captions."""
    samples = [draw_sample(emoji, seed, step, k) for k in range(size)]
    return as_tensor([s.image for s in samples]), [s.caption for s in samples]


def train_autoencoder(pictures: Pictures, out: Path, steps: int, batch_size: int = 16) -> AutoencoderKL:
    """The autoencoder, trained on absolute and squared error with a little KL, and its latents' scale."""
    vae = architecture.autoencoder()
    stage = Stage({"vae": vae}, out / "autoencoder.pt", steps, 1e-3)
    for step in stage:
        pixels = pictures(1, step, batch_size)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(pixels).latent_dist
            decoded = vae.decode(posterior.sample(torch.Generator().manual_seed(step))).sample
        error = decoded.float() - pixels
        loss = error.abs().mean() + error.square().mean() + 1e-6 * posterior.kl().mean()
        stage.descend(loss)
        if step % 50 == 0:
            log(out, stage="autoencoder", step=step, psnr=10 * math.log10(4 / error.square().mean().item()))
    scale_latents(vae, pictures(2, 0, 256))
    return vae.eval().requires_grad_(False)


@torch.no_grad()
def scale_latents(vae: AutoencoderKL, pixels: Tensor) -> None:
    """Set the scaling factor that gives the latents unit variance, as SD's is defined."""
    means = vae.encode(pixels).latent_dist.mean
    vae.register_to_config(scaling_factor=round(1 / means.std().item(), 5))


def kept_tokenizer(texts: Callable[[], list[str]], folder: Path, tokens: int = 77) -> CLIPTokenizer:
    """The tokenizer in a folder, made there first from texts: ties make a second one give other tokens."""
    if not (folder / "vocab.json").exists():
        architecture.tokenizer(texts(), folder)
    return CLIPTokenizer.from_pretrained(folder, model_max_length=tokens)


class DiffusionNetworks:
    """A U-Net and its text encoder, which learn v on SD 1's noise schedule."""

    def __init__(self, vocabulary: int) -> None:
        parts = {"unet": architecture.unet(), "text": architecture.text_encoder(vocabulary)}
        self.net = nn.ModuleDict(parts)
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.scheduler = schedule.stable_diffusion(PREDICTION)

    def loss(self, x_0: Tensor, ids: Tensor, step: int) -> Tensor:
        """Mean squared error of the predicted v."""
        eps, level = noise(x_0, step)
        t = (level * 1000).long()
        x_t = self.scheduler.add_noise(x_0, eps, t).contiguous(memory_format=torch.channels_last)
        v = self.net["unet"](x_t, t, self.net["text"](ids).last_hidden_state).sample
        return F.mse_loss(v, self.scheduler.get_velocity(x_0, eps, t))

    def export(self, net: Any, vae: AutoencoderKL, tokenizer: CLIPTokenizer, folder: Path) -> Path:
        """Write trained networks as a diffusers pipeline in half precision."""
        pipe = StableDiffusionPipeline(
            vae=vae,
            text_encoder=net["text"],
            tokenizer=tokenizer,
            unet=net["unet"],
            scheduler=self.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipe.to(torch.float16).save_pretrained(folder)
        return folder


def train_denoiser(emoji: Emoji, vae: AutoencoderKL, out: Path, steps: int, batch_size: int) -> Path:
    """Text encoder and U-Net, trained together from scratch; returns the folder of the averaged pipeline."""
    tokenizer = kept_tokenizer(lambda: tokenizer_corpus(emoji), out / "tokenizer")
    draw = partial(encoded_batch, emoji, vae, batch_size)
    network = DiffusionNetworks(len(tokenizer))
    net = fit(network, draw, tokenizer, out / "denoiser.pt", steps, 1e-3, learning_rate)
    return network.export(net, vae, tokenizer, out / "model")


def encoded_batch(emoji: Emoji, vae: AutoencoderKL, size: int, step: int) -> tuple[Tensor, list[str]]:
    """Latents and captions of a step, a tenth of the captions left out."""
    pixels, texts = batch(emoji, 0, step, size)
    return latents(vae, pixels), without_some(texts, np.random.default_rng([4, step]))


def without_some(texts: list[str], rng: np.random.Generator) -> list[str]:
    """Captions, a tenth of them empty."""
    dropped = rng.random(len(texts)) < CAPTION_DROPOUT
    return ["" if d else t for d, t in zip(dropped, texts, strict=True)]


def tokenizer_corpus(emoji: Emoji) -> list[str]:
    """The captions that the tokenizer is made from."""
    rng = np.random.default_rng(5)
    ordinary = [wording(name, rng) for name in [*emoji.ordinary, *emoji.tail] for _ in range(3)]
    return [*ordinary, *captions.VERBATIM.values(), *(t.format(name="object") for t in captions.TEMPLATES)]


def main() -> None:
    """The command line: prompts and references are written, then both stages are trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--emoji", type=Path, required=True, help="unpacked npm package emoji-datasource-google@16.0.0")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--autoencoder-steps", type=int, default=2600)
    parser.add_argument("--steps", type=int, default=10000)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    emoji = Emoji(args.emoji)
    write_prompts(emoji, args.out / "prompts.jsonl")
    write_masks_of_prompts(args.out / "masks")
    write_references(emoji, args.out / "references")
    vae = train_autoencoder(lambda *place: batch(emoji, *place)[0], args.out, args.autoencoder_steps)
    print(train_denoiser(emoji, vae, args.out, args.steps, args.batch_size))


if __name__ == "__main__":
    main()
