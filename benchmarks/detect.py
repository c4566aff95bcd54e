"""Detection at the first step against the plain way of the original code, on one thread, alternating, medians.

    python benchmarks/detect.py [--prompts 64] [--rounds 3] [--large]

The plain way takes one prompt at a time, samples 4 images in 50 steps with both branches, takes each norm with
`.item()`, and decodes the images; the fair pair takes one step of one image in both. Seconds are CPU seconds. Beside
each is the AUC of verbatim against ordinary prompts of the bundled model, so that nobody buys speed with quality.
`--large` times a random U-Net of 35 million parameters instead (no AUC: it has memorized nothing).
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from mnemoscope import demo, stats
from mnemoscope.detection.run import Detection, detect_rows
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.loading import quiet
from mnemoscope.prompts.prompt import as_prompts


class Clock:
    """CPU seconds spent inside a network's forward passes."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.inside = 0.0
        network.register_forward_pre_hook(lambda *a: setattr(self, "began", time.process_time()))
        network.register_forward_hook(
            lambda *a: setattr(self, "inside", self.inside + time.process_time() - self.began)
        )


def large(model: Denoiser) -> Denoiser:
    """The bundled pipeline with a U-Net and an autoencoder of the size that the figures of others were taken on."""
    width = model.network.config.cross_attention_dim
    unet = UNet2DConditionModel(
        sample_size=32, block_out_channels=(64, 128, 256, 256), cross_attention_dim=width, attention_head_dim=2
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(32, 64, 64, 64),
        layers_per_block=1,
        sample_size=256,
    )
    model.pipe.register_modules(unet=unet, vae=vae)
    return Denoiser(model.pipe)


@torch.no_grad()
def plain(model: Denoiser, prompt: str, steps: int, images: int) -> float:
    """Mean norm of one prompt, as a script around a pipeline would take it."""
    pipe = model.pipe
    pipe.scheduler.set_timesteps(50)
    both = torch.cat(pipe.encode_prompt(prompt, "cpu", images, True)[::-1])
    latents = model.initial_noise(range(images))
    norms = []
    for t in pipe.scheduler.timesteps[:steps]:
        uncond, text = pipe.unet(torch.cat([latents] * 2), t, encoder_hidden_states=both).sample.chunk(2)
        alpha = pipe.scheduler.alphas_cumprod[t].sqrt() if model.prediction_type == "v_prediction" else 1
        norms += [(alpha * (text[i] - uncond[i])).norm().item() for i in range(images)]
        latents = pipe.scheduler.step(uncond + 7.5 * (text - uncond), t, latents).prev_sample
    pipe.vae.decode(latents / pipe.vae.config.scaling_factor)
    return statistics.fmean(norms)


def ours(model: Denoiser, prompts: list[str], batch: int) -> list[float]:
    """First-step scores of all prompts, one seed, as the command computes them."""
    parts = [as_prompts(prompts[k : k + batch]) for k in range(0, len(prompts), batch)]
    return [row["score"] for part in parts for row in detect_rows(model, part, Detection())]


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def auc(scores: list[float], memorized: int) -> float:
    return stats.auc(np.array(scores[:memorized]), np.array(scores[memorized:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", action="store_true")
    args = parser.parse_args()
    if args.prompts <= 16:
        parser.error("--prompts must be above 16, the smaller of the two batches compared")
    torch.set_num_threads(1)
    quiet()
    model = Denoiser.from_pretrained("demo", device="cpu")
    model = large(model) if args.large else model
    clock = Clock(model.network)
    memorized = demo.prompts("verbatim")[: args.prompts // 2]
    prompts = memorized + demo.prompts("ordinary")[: args.prompts - len(memorized)]
    ways: dict[str, Callable[[int], object]] = {
        "plain, 50 steps x 4 images": lambda k: plain(model, prompts[k % len(prompts)], 50, 4),
        "plain, 1 step x 1 image": lambda k: [plain(model, p, 1, 1) for p in prompts[:8]],
        "ours, first step, batch 1": lambda k: ours(model, prompts[:8], 1),
        "ours, first step, batch 16": lambda k: ours(model, prompts, 16),
        f"ours, first step, batch {len(prompts)}": lambda k: ours(model, prompts, len(prompts)),
    }
    share = {name: 1 for name in ways} | dict.fromkeys(list(ways)[1:3], 8) | dict.fromkeys(list(ways)[3:], len(prompts))
    evaluations = [400.0, 2.0, 2.0, 17 / 16, (len(prompts) + 1) / len(prompts)]
    taken: dict[str, list[float]] = {name: [] for name in ways}
    outside: dict[str, list[float]] = {name: [] for name in ways}
    for k in range(-1, args.rounds):  # the first round warms up
        for name, way in ways.items():
            clock.inside = 0.0
            spent = seconds(lambda way=way, k=k: way(k))
            if k >= 0:
                taken[name].append(spent / share[name])
                outside[name].append(1 - clock.inside / spent)
    median = {name: statistics.median(values) for name, values in taken.items()}
    first, fair = list(median.values())[:2]
    print(f"{'':30} {'evaluations':>12} {'s a prompt':>11} {'of plain':>9} {'of 1 step':>10} {'outside':>8}")
    for (name, value), count in zip(median.items(), evaluations, strict=True):
        idle = statistics.median(outside[name])
        print(f"{name:30} {count:12.2f} {value:11.4f} {first / value:8.1f}x {fair / value:9.2f}x {idle:8.0%}")
    if not args.large:
        print(f"AUC, ours, 1 seed: {auc(ours(model, prompts, 64), len(memorized)):.4f}")
        few = memorized[:6] + prompts[len(memorized) :][:6]
        print(f"AUC, plain 50 x 4, {len(few)} prompts: {auc([plain(model, p, 50, 4) for p in few], 6):.4f}")


if __name__ == "__main__":
    main()
