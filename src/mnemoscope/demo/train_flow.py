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
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPTokenizer

from mnemoscope.demo import architecture, captions, scenes
from mnemoscope.demo.train import CAPTION_DROPOUT, Stage, batch, log
from mnemoscope.model import bundled

PADDING = 256  # zero tokens that diffusers' pipeline appends where SD3's third text encoder is absent
REPEATS = 3  # verbatim pairs added to each batch


def flat_then_down(step: int, steps: int, peak: float) -> float:
    """Warm-up over 200 steps, then flat, then a line to zero over the last three tenths.

    Until the last part begins the number of steps has no influence, so that it may still be changed when resuming.
    """
    return peak * min(1.0, (step + 1) / 200, (steps - step) / (0.3 * steps))


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


def encode(texts: nn.ModuleList, ids: Tensor, padding: int) -> tuple[Tensor, Tensor]:
    """Text states and pooled vectors as diffusers' pipeline computes them, with so many zero tokens after them."""
    outputs = [encoder(ids, output_hidden_states=True) for encoder in texts]
    states = torch.cat([o.hidden_states[-2] for o in outputs], dim=-1)
    return F.pad(states, (0, 0, 0, padding)), torch.cat([o.text_embeds for o in outputs], dim=-1)


class FlowLatents(Dataset):
    """Encoded batches by step: the stream of the first model's training, and verbatim pairs added to each."""

    def __init__(self, emoji: scenes.Emoji, vae: AutoencoderKL, tokenizer: CLIPTokenizer, steps: int, size: int):
        self.emoji, self.vae, self.tokenizer, self.steps, self.size = emoji, vae, tokenizer, steps, size
        samples = [scenes.verbatim(emoji, i) for i in range(len(captions.VERBATIM))]
        pixels = np.stack([np.asarray(s.image, np.float32) for s in samples])
        self.verbatim = self.latents(torch.from_numpy(pixels / 127.5 - 1).permute(0, 3, 1, 2))
        self.captions = [s.caption for s in samples]

    def __len__(self) -> int:
        return self.steps

    @torch.no_grad()
    def latents(self, pixels: Tensor) -> Tensor:
        return self.vae.encode(pixels).latent_dist.mean * self.vae.config.scaling_factor

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        pixels, texts = batch(self.emoji, 0, step, self.size - REPEATS)
        rng = np.random.default_rng([7, step])
        again = rng.integers(len(self.captions), size=REPEATS)
        texts = [*texts, *(self.captions[i] for i in again)]
        dropped = rng.random(self.size) < CAPTION_DROPOUT
        texts = ["" if d else t for d, t in zip(dropped, texts, strict=True)]
        ids = self.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return torch.cat([self.latents(pixels), self.verbatim[again]]), ids


def train(emoji: scenes.Emoji, out: Path, steps: int, batch_size: int, peak: float) -> Path:
    """Transformer and text encoders, trained together from scratch; returns the folder of the averaged pipeline."""
    parts = bundled.parts("demo-flow", torch.float32)
    vae, tokenizer = parts["vae"].eval().requires_grad_(False), parts["tokenizer"]
    texts = nn.ModuleList([architecture.projected_text_encoder(len(tokenizer)) for _ in range(2)])
    transformer = architecture.transformer()
    net = nn.ModuleDict({"transformer": transformer, "texts": texts})
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.998)).requires_grad_(False)
    transformer.set_attn_processor(MergedPadding())
    stage = Stage({"net": net, "average": average}, out / "flow.pt", steps, peak, flat_then_down)
    data = FlowLatents(emoji, vae, tokenizer, steps, batch_size)
    loader = DataLoader(data, batch_size=None, sampler=range(stage.step, steps), num_workers=1, prefetch_factor=4)
    for step, (x_0, ids) in zip(stage, loader, strict=False):
        generator = torch.Generator().manual_seed(step)
        eps = torch.randn(x_0.shape, generator=generator)
        strata = torch.arange(batch_size) + torch.rand(batch_size, generator=generator)
        sigma = 1 - (strata / batch_size)[torch.randperm(batch_size, generator=generator)]  # in (0, 1]
        s = sigma[:, None, None, None]
        states, pooled = encode(texts, ids, padding=1)
        v = transformer((1 - s) * x_0 + s * eps, states, pooled, sigma * 1000).sample
        loss = F.mse_loss(v, eps - x_0)
        stage.descend(loss)
        average.update_parameters(net)
        if step % 20 == 0:
            log(out, stage="flow", step=step, loss=loss.item())
    return export(average.module, out)


def export(net: Any, out: Path) -> Path:
    """Write the averaged network as a diffusers pipeline in half precision."""
    one, two = net["texts"]
    pipe = StableDiffusion3Pipeline(
        transformer=net["transformer"],
        scheduler=FlowMatchEulerDiscreteScheduler(),
        text_encoder=one,
        text_encoder_2=two,
        **bundled.parts("demo-flow", torch.float32),
    )
    pipe.to(torch.float16).save_pretrained(out / "model")
    return out / "model"


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
