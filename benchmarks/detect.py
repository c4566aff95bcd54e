"""Detection at the first step against the plain way of the original code, on one thread, alternating, medians.

    python benchmarks/detect.py [--prompts 64] [--rounds 3] [--large]

The plain way takes one prompt at a time, samples 4 images in 50 steps with both branches, takes each norm with
`.item()`, and decodes the images; the fair pair takes one step of one image in both. Beside them is the AUC of verbatim
against ordinary prompts of the bundled model, so that nobody buys speed with quality.
`--large` times a random U-Net of 35 million parameters instead (no AUC: it has memorized nothing).
"""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

import timing
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


@torch.no_grad()
def bare(model: Denoiser, prompts: list[str]) -> Callable[[], object]:
    """What cannot be left out: the network once for each prompt and once for none, in one batch."""
    null = model.null(1)
    cond = {name: torch.cat([value, null[name]]) for name, value in model.encode(prompts).items()}
    x, t = model.initial_noise([0]), model.sampler(50, 1.0).timesteps[0]
    return torch.no_grad()(lambda: model.network(x.expand(len(prompts) + 1, -1, -1, -1), t, **cond))


def outside(clock: Clock, work: Callable[[], object]) -> Callable[[], float]:
    """The work, as a function that says which share of it was not the network's."""

    def run() -> float:
        clock.inside, began = 0.0, time.process_time()
        work()
        return 1 - clock.inside / (time.process_time() - began)

    return run


def auc(scores: list[float], memorized: int) -> float:
    return stats.auc(np.array(scores[:memorized]), np.array(scores[memorized:]))


def main() -> None:
    parser = timing.parser(__doc__, rounds=3)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--steps", type=int, default=50, help="of the plain way")
    parser.add_argument("--large", action="store_true")
    args = timing.parsed(parser, prompts=4, steps=1)
    results = timing.Results(args.rows)
    torch.set_num_threads(1)
    quiet()
    model = Denoiser.from_pretrained("demo", device="cpu")
    model = large(model) if args.large else model
    clock = Clock(model.network)
    memorized = demo.prompts("verbatim")[: args.prompts // 2]
    prompts = memorized + demo.prompts("ordinary")[: args.prompts - len(memorized)]
    few, steps, count = prompts[:8], args.steps, len(prompts)
    ways: dict[str, Callable[[], object]] = {
        f"plain, {steps} steps x 4 images": lambda: plain(model, prompts[0], steps, 4),
        "plain, 1 step x 1 image": lambda: [plain(model, p, 1, 1) for p in few],
        "ours, first step, a prompt at a time": lambda: ours(model, few, 1),
        "ours, first step, batches of 16": lambda: ours(model, prompts, 16),
        f"ours, first step, one batch of {count}": lambda: ours(model, prompts, count),
        "bound: the network alone": bare(model, prompts),
    }
    units = dict(zip(ways, [1, len(few), len(few), count, count, count], strict=True))
    evaluations = [8.0 * steps, 2, 2, 1 + 1 / min(16, count), 1 + 1 / count, 1 + 1 / count]
    taken = timing.in_turn({name: outside(clock, way) for name, way in ways.items()}, args.rounds)
    what = f"detection, {'35 M' if args.large else 'bundled model'}"
    counts = dict(zip(ways, evaluations, strict=True))
    results.times(what, "a prompt", taken, each=units, evaluations=counts, bound="bound: the network alone")
    shares = ", ".join(f"{found.last:.0%}" for found in taken.values())
    results.say(f"Outside the network, of each way: {shares}.")
    if not args.large:
        results.say(f"AUC, ours, 1 seed: {auc(ours(model, prompts, 64), len(memorized)):.4f}.")
        some = memorized[:6] + prompts[len(memorized) :][:6]
        plainly = auc([plain(model, p, steps, 4) for p in some], min(6, len(memorized)))
        results.say(f"AUC, plain, {len(some)} prompts: {plainly:.4f}.")


if __name__ == "__main__":
    main()
