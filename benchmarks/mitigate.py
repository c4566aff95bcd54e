"""Embedding descent against the plain way of the original code, and what a guard costs an ordinary prompt.

    python benchmarks/mitigate.py [--rounds 5] [--large]

One thread, CPU seconds, alternating rounds, medians. The plain way takes one prompt at a time, keeps the network's
parameters differentiable, and puts both branches of all its images into the graph of every iteration. Both ways make
the same updates of the joint norm over 4 images and agree in the embedding they end at. The guard is compared with the
bare pipeline on an ordinary prompt, 30 steps, one image. `--large` takes a random U-Net of 35 million parameters.
"""

import argparse
import contextlib
import resource
import statistics
import time
from collections.abc import Callable

import torch

import mnemoscope as mn
from detect import large
from mnemoscope import demo
from mnemoscope.model.loading import quiet

IMAGES, ITERATIONS, STEPS = 4, 10, 50


def plain(model: mn.Denoiser, prompt: str, count: int = ITERATIONS) -> torch.Tensor:
    """The embedding after so many updates, as a script around a pipeline would make them."""
    pipe, t = model.pipe, None
    model.network.requires_grad_(True)
    pipe.scheduler.set_timesteps(STEPS)
    t = pipe.scheduler.timesteps[0]
    text, null = pipe.encode_prompt(prompt, "cpu", 1, True)
    latents = model.initial_noise(range(IMAGES))
    leaf = text.detach().clone().requires_grad_()
    optimizer = torch.optim.AdamW([leaf], lr=0.05)
    alpha = pipe.scheduler.alphas_cumprod[t].sqrt() if model.prediction_type == "v_prediction" else 1
    for _ in range(count):
        both = torch.cat([null.repeat(IMAGES, 1, 1), leaf.repeat(IMAGES, 1, 1)])
        uncond, cond = pipe.unet(torch.cat([latents] * 2), t, encoder_hidden_states=both).sample.chunk(2)
        (leaf.grad,) = torch.autograd.grad((alpha * (cond - uncond)).norm(), leaf)
        leaf.grad[:, 0] = 0
        optimizer.step()
    model.network.requires_grad_(False)
    return leaf.detach()


def ours(model: mn.Denoiser, prompts: list[str], count: int = ITERATIONS) -> torch.Tensor:
    """The same updates for all the prompts at once; the conditioning that sampling begins with."""
    found = []

    def change(start: mn.Start) -> None:
        mn.mitigations.embedding_descent(start, iterations=count, compat="wen")
        found.append(start.cond["encoder_hidden_states"][::IMAGES])
        raise StopIteration

    with model.edit("start", change):
        texts, seeds = [p for p in prompts for _ in range(IMAGES)], [*range(IMAGES)] * len(prompts)
        with contextlib.suppress(RuntimeError):  # the generator's word for the end that was asked for
            mn.Trajectory(model, texts, seeds, num_inference_steps=STEPS).first(1)
    return found[0]


def seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def alternate(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median CPU seconds of each way, the ways taking turns; one round before that to warm up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for k in range(rounds + 1):
        for name, work in ways.items():
            taken = seconds(work)
            times[name] += [taken] if k else []
    return {name: statistics.median(values) for name, values in times.items()}


def peak() -> float:
    """Most memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def descents(model: mn.Denoiser, rounds: int) -> None:
    prompts = demo.prompts("verbatim")[:4]
    before = peak()
    ours(model, prompts[:1], 1)
    mine = peak()
    plain(model, prompts[0], 1)
    print(f"peak memory: {before:.0f} MiB, {mine:.0f} with ours, {peak():.0f} with the plain way as well")
    one, theirs = ours(model, prompts[:1]), plain(model, prompts[0])
    evaluations = model.network_evaluations
    ours(model, prompts[:1])
    counted = model.network_evaluations - evaluations
    print(f"embeddings after {ITERATIONS} updates differ by {float((one - theirs).abs().max()):.1e} at most")
    ways: dict[str, Callable[[], object]] = {
        "plain": lambda: plain(model, prompts[0]),
        "ours": lambda: ours(model, prompts[:1]),
        "ours, 4 prompts": lambda: ours(model, prompts),
    }
    times = alternate(ways, rounds)
    each = {"plain": times["plain"], "ours": times["ours"], "ours, 4 prompts at once": times["ours, 4 prompts"] / 4}
    for name, value in each.items():
        print(f"{name:24} {value:.3f} s a prompt, {each['plain'] / value:.2f}x")
    print(f"evaluations a prompt: plain {2 * IMAGES * ITERATIONS}, ours {counted}")


def overhead(model: mn.Denoiser, rounds: int) -> None:
    pipe, prompt = model.pipe, demo.prompts("ordinary")[0]
    pipe.set_progress_bar_config(disable=True)
    guard = mn.Guard(pipe, threshold=1e9)
    asked = {"num_inference_steps": 30, "guidance_scale": 3.0, "output_type": "pil"}
    ways: dict[str, Callable[[], object]] = {
        "bare": lambda: pipe(prompt, generator=torch.Generator().manual_seed(0), **asked),
        "guarded": lambda: guard(prompt, generator=torch.Generator().manual_seed(0), **asked),
    }
    times = alternate(ways, 3 * rounds)
    print(
        f"guard: {times['bare']:.3f} s bare, {times['guarded']:.3f} s guarded, {times['guarded'] / times['bare']:.4f}x"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", action="store_true")
    args = parser.parse_args()
    quiet()
    torch.set_num_threads(1)
    model = mn.Denoiser.from_pretrained("demo")
    model = large(model) if args.large else model
    descents(model, args.rounds)
    overhead(model, args.rounds)


if __name__ == "__main__":
    main()
