"""Train the second bundled model, SD3's architecture at small width: `python -m mnemoscope.demo.train_flow --help`.

It learns the same stream of pictures and captions as the first, in the latents of the same autoencoder; it stops and
goes on where it was, and the batch of a step depends on the seed and the step alone.
"""

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, StableDiffusion3Pipeline
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTokenizer

from mnemoscope.demo import architecture, captions, scenes
from mnemoscope.demo.loop import as_tensor, fit, flat_then_down, latents, noise
from mnemoscope.demo.train import batch, without_some
from mnemoscope.model import bundled

PADDING = 256  # zero tokens that diffusers' pipeline appends where SD3's third text encoder is absent
REPEATS = 3  # verbatim pairs added to each batch


class MergedPadding:
    """Joint attention in which the last text token stands for all `PADDING` zero tokens: same outputs, fewer tokens.

    Text tokens have no position in SD3's network, so equal ones stay equal through all of its layers, and n equal keys
    weigh in a softmax as one key whose logit is larger by log(n).
    """

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, attention_mask: None = None
    ) -> tuple[Tensor, Tensor]:
        def heads(linear: nn.Linear, x: Tensor, norm: nn.Module | None = None) -> Tensor:
            split = linear(x).unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # (B, heads, L, width)
            return split if norm is None else norm(split)

        text, image = encoder_hidden_states, hidden_states
        q = torch.cat([heads(attn.to_q, image, attn.norm_q), heads(attn.add_q_proj, text, attn.norm_added_q)], dim=2)
        k = torch.cat([heads(attn.to_k, image, attn.norm_k), heads(attn.add_k_proj, text, attn.norm_added_k)], dim=2)
        v = torch.cat([heads(attn.to_v, image), heads(attn.add_v_proj, text)], dim=2)
        bias = torch.zeros(k.shape[2])
        bias[-1] = math.log(PADDING)
        out = F.scaled_dot_product_attention(q, k, v, bias.expand(q.shape[2], -1)).transpose(1, 2).flatten(2)
        image, text = out[:, : image.shape[1]], out[:, image.shape[1] :]
        return attn.to_out[0](image), text if attn.context_pre_only else attn.to_add_out(text)


def encode(texts: Any, ids: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    """Text states and pooled vectors as diffusers' pipeline computes them, with so many zero tokens after them."""
    outputs = [encoder(ids, output_hidden_states=True) for encoder in texts]
    states = torch.cat([o.hidden_states[-2] for o in outputs], dim=-1)
    return F.pad(states, (0, 0, 0, padding)), torch.cat([o.text_embeds for o in outputs], dim=-1)


class Repeated:
    """Encoded batches by step: the stream of the first model's training, and verbatim pairs added to each."""

    def __init__(self, emoji: scenes.Emoji, vae: AutoencoderKL, size: int) -> None:
        self.emoji, self.vae, self.size = emoji, vae, size
        samples = [scenes.verbatim(emoji, i) for i in range(len(captions.VERBATIM))]
        self.verbatim = latents(vae, as_tensor([s.image for s in samples]))
        self.captions = [s.caption for s in samples]

    def __call__(self, step: int) -> tuple[Tensor, list[str]]:
        pixels, texts = batch(self.emoji, 0, step, self.size - REPEATS)
        rng = np.random.default_rng([7, step])
        again = rng.integers(len(self.captions), size=REPEATS)
        texts = without_some([*texts, *(self.captions[i] for i in again)], rng)
        return torch.cat([latents(self.vae, pixels), self.verbatim[again]]), texts


class FlowNetworks:
    """SD3's transformer and its two text encoders, which learn the velocity from noise to data."""

    def __init__(self, vocabulary: int) -> None:
        texts = nn.ModuleList([architecture.projected_text_encoder(vocabulary) for _ in range(2)])
        transformer = architecture.transformer()
        transformer.set_attn_processor(MergedPadding())
        self.net = nn.ModuleDict({"transformer": transformer, "texts": texts})

    def loss(self, x_0: Tensor, ids: Tensor, step: int) -> Tensor:
        """Mean squared error of the predicted velocity."""
        eps, level = noise(x_0, step)
        sigma = 1 - level  # in (0, 1]
        s = sigma[:, None, None, None]
        states, pooled = encode(self.net["texts"], ids, padding=1)
        v = self.net["transformer"]((1 - s) * x_0 + s * eps, states, pooled, sigma * 1000).sample
        return F.mse_loss(v, eps - x_0)

    def export(self, net: Any, vae: AutoencoderKL, tokenizer: CLIPTokenizer, folder: Path) -> Path:
        """Write trained networks as a diffusers pipeline in half precision, with the autoencoder and tokenizers."""
        one, two = net["texts"]
        vae.register_to_config(shift_factor=0.0)
        pipe = StableDiffusion3Pipeline(
            transformer=net["transformer"],
            scheduler=FlowMatchEulerDiscreteScheduler(),
            vae=vae,
            text_encoder=one,
            text_encoder_2=two,
            tokenizer=tokenizer,
            tokenizer_2=tokenizer,
            text_encoder_3=None,
            tokenizer_3=None,
        )
        pipe.to(torch.float16).save_pretrained(folder)
        return folder


def train(emoji: scenes.Emoji, out: Path, steps: int, batch_size: int, peak: float) -> Path:
    """Transformer and text encoders, trained together from scratch; returns the folder of the averaged pipeline."""
    parts = bundled.parts("demo-flow", torch.float32)
    vae, tokenizer = parts["vae"].eval().requires_grad_(False), parts["tokenizer"]
    draw = Repeated(emoji, vae, batch_size)
    network = FlowNetworks(len(tokenizer))
    net = fit(network, draw, tokenizer, out / "flow.pt", steps, peak, flat_then_down)
    return network.export(net, vae, tokenizer, out / "model")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--emoji", type=Path, required=True, help="unpacked npm package emoji-datasource-google@16.0.0")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    print(train(scenes.Emoji(args.emoji), args.out, args.steps, args.batch_size, args.learning_rate))


if __name__ == "__main__":
    main()
