"""Train the bundled model from nothing but a folder of Noto emoji: `python -m mnemoscope.demo.train --help`.

Two stages, an autoencoder and then the U-Net with its text encoder; both stop and go on where they were, and the batch
of a step depends on the seed and the step alone.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPTokenizer

from mnemoscope.demo import architecture, captions
from mnemoscope.demo.ground_truth import write_prompts, write_references
from mnemoscope.demo.scenes import Emoji, draw_sample, wording
from mnemoscope.model import schedule
from mnemoscope.run.progress import Progress
from mnemoscope.run.writing import write_whole

CAPTION_DROPOUT = 0.1
PREDICTION = "v_prediction"  # small latents carry little signal at high noise, and v keeps what there is
SAVE_EVERY = 100
Rate = Callable[[int, int, float], float]  # learning rate by step, number of steps and peak


def batch(emoji: Emoji, seed: int, step: int, size: int) -> tuple[Tensor, list[str]]:
    """The pictures of one step [B, 3, 64, 64], -1 to 1, and their captions."""
    samples = [draw_sample(emoji, seed, step, k) for k in range(size)]
    pixels = np.stack([np.asarray(s.image, np.float32) for s in samples])
    return torch.from_numpy(pixels / 127.5 - 1).permute(0, 3, 1, 2), [s.caption for s in samples]


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warm-up over 100 steps, then a half cosine down to zero."""
    return peak * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / steps))


class Stage:
    """A training stage whose modules, optimiser and step survive a kill: one file, replaced atomically."""

    def __init__(self, modules: dict[str, nn.Module], file: Path, steps: int, peak: float, rate: Rate = learning_rate):
        self.modules, self.file, self.steps, self.peak, self.rate = modules, file, steps, peak, rate
        parameters = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.99), weight_decay=0.01)
        self.step = 0
        if file.exists():
            state = torch.load(file, weights_only=True)
            for name, module in modules.items():
                module.load_state_dict(state[name])
            self.optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]

    def save(self) -> None:
        state = {name: m.state_dict() for name, m in self.modules.items()}
        held = state | {"optimizer": self.optimizer.state_dict(), "step": self.step}
        write_whole(self.file, lambda opened: torch.save(held, opened))

    def descend(self, loss: Tensor) -> None:
        group = self.optimizer.param_groups[0]
        group["lr"] = self.rate(self.step, self.steps, self.peak)
        loss.backward()
        nn.utils.clip_grad_norm_(group["params"], 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def __iter__(self) -> Iterator[int]:
        with Progress() as bar:
            task = bar.add_task(self.file.stem, total=self.steps, completed=self.step)
            while self.step < self.steps:
                yield self.step
                self.step += 1
                bar.advance(task)
                if self.step % SAVE_EVERY == 0 or self.step == self.steps:
                    self.save()


def log(folder: Path, **row: Any) -> None:
    """Append a row to `train.jsonl`."""
    with (folder / "train.jsonl").open("a") as f:
        f.write(json.dumps(row) + "\n")


def train_autoencoder(emoji: Emoji, out: Path, steps: int, batch_size: int = 16) -> AutoencoderKL:
    """The autoencoder, trained on absolute and squared error with a little KL, and its latents' scale."""
    vae = architecture.autoencoder()
    stage = Stage({"vae": vae}, out / "autoencoder.pt", steps, 1e-3)
    for step in stage:
        pixels, _ = batch(emoji, 1, step, batch_size)
        with torch.autocast("cpu", torch.bfloat16):
            posterior = vae.encode(pixels).latent_dist
            decoded = vae.decode(posterior.sample(torch.Generator().manual_seed(step))).sample
        error = decoded.float() - pixels
        loss = error.abs().mean() + error.square().mean() + 1e-6 * posterior.kl().mean()
        stage.descend(loss)
        if step % 50 == 0:
            log(out, stage="autoencoder", step=step, psnr=10 * math.log10(4 / error.square().mean().item()))
    scale_latents(vae, emoji)
    return vae.eval().requires_grad_(False)


@torch.no_grad()
def scale_latents(vae: AutoencoderKL, emoji: Emoji) -> None:
    """Set the scaling factor that gives the latents unit variance, as SD's is defined."""
    latents = vae.encode(batch(emoji, 2, 0, 256)[0]).latent_dist.mean
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 5))


class EncodedBatches(Dataset):
    """Encoded batches by step, made in the loader's own process."""

    def __init__(self, emoji: Emoji, vae: AutoencoderKL, tokenizer: CLIPTokenizer, steps: int, size: int):
        self.emoji, self.vae, self.tokenizer, self.steps, self.size = emoji, vae, tokenizer, steps, size

    def __len__(self) -> int:
        return self.steps

    @torch.no_grad()
    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        pixels, texts = batch(self.emoji, 0, step, self.size)
        dropped = np.random.default_rng([4, step]).random(self.size) < CAPTION_DROPOUT
        texts = ["" if d else t for d, t in zip(dropped, texts, strict=True)]
        ids = self.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        return self.vae.encode(pixels).latent_dist.mean * self.vae.config.scaling_factor, ids


def train_denoiser(emoji: Emoji, vae: AutoencoderKL, out: Path, steps: int, batch_size: int) -> Path:
    """Text encoder and U-Net, trained together from scratch; returns the folder of the averaged pipeline."""
    if not (out / "tokenizer" / "vocab.json").exists():  # ties make a second training give other tokens
        architecture.tokenizer(tokenizer_corpus(emoji), out / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(out / "tokenizer", model_max_length=77)
    net = nn.ModuleDict({"unet": architecture.unet(), "text": architecture.text_encoder(len(tokenizer))})
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.998)).requires_grad_(False)
    stage = Stage({"net": net, "average": average}, out / "denoiser.pt", steps, 1e-3)
    scheduler = schedule.stable_diffusion(PREDICTION)
    data = EncodedBatches(emoji, vae, tokenizer, steps, batch_size)
    loader = DataLoader(data, batch_size=None, sampler=range(stage.step, steps), num_workers=1, prefetch_factor=4)
    for step, (x_0, ids) in zip(stage, loader, strict=False):
        generator = torch.Generator().manual_seed(step)
        eps = torch.randn(x_0.shape, generator=generator)
        strata = torch.arange(batch_size) + torch.rand(batch_size, generator=generator)
        t = (strata / batch_size * 1000).long()[torch.randperm(batch_size, generator=generator)]
        x_t = scheduler.add_noise(x_0, eps, t).contiguous(memory_format=torch.channels_last)
        v = net["unet"](x_t, t, net["text"](ids).last_hidden_state).sample
        loss = F.mse_loss(v, scheduler.get_velocity(x_0, eps, t))
        stage.descend(loss)
        average.update_parameters(net)
        if step % 20 == 0:
            log(out, stage="denoiser", step=step, loss=loss.item())
    return export(average.module, vae, tokenizer, out)


def tokenizer_corpus(emoji: Emoji) -> list[str]:
    """The captions that the tokenizer is made from."""
    rng = np.random.default_rng(5)
    ordinary = [wording(name, rng) for name in [*emoji.ordinary, *emoji.tail] for _ in range(3)]
    return [*ordinary, *captions.VERBATIM.values(), *(t.format(name="object") for t in captions.TEMPLATES)]


def export(net: Any, vae: AutoencoderKL, tokenizer: CLIPTokenizer, out: Path) -> Path:
    """Write the averaged network as a diffusers pipeline in half precision."""
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=net["text"],
        tokenizer=tokenizer,
        unet=net["unet"],
        scheduler=schedule.stable_diffusion(PREDICTION),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.to(torch.float16).save_pretrained(out / "model")
    return out / "model"


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
    write_references(emoji, args.out / "references")
    vae = train_autoencoder(emoji, args.out, args.autoencoder_steps)
    print(train_denoiser(emoji, vae, args.out, args.steps, args.batch_size))


if __name__ == "__main__":
    main()
