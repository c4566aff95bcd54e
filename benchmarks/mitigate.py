"""Descent on the embedding and on the noise against plain ways, and what a guard costs an ordinary prompt.

    python benchmarks/mitigate.py [--rounds 5] [--large]

The plain way takes one prompt at a time, keeps the network's parameters differentiable, and puts both branches of all
its images into the graph of every iteration. Both ways make the same updates over 4 images, of the joint norm where it
is the embedding that moves, and agree in what they end at. The bound of the embedding is the unconditional branch once
and the conditional one with its gradient an update; that of the noise is both branches with their gradient, as both
depend on it. The guard is compared with the bare pipeline on an ordinary prompt. `--large` takes a random U-Net of 35
million parameters.
"""

import argparse
import contextlib
import resource
from collections.abc import Callable, Mapping

import torch

import mnemoscope as mn
import timing
from detect import large
from mnemoscope import demo
from mnemoscope.model.loading import quiet

IMAGES, ITERATIONS, STEPS = 4, 10, 50


def plain(model: mn.Denoiser, prompt: str, count: int) -> torch.Tensor:
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


def ours(model: mn.Denoiser, prompts: list[str], count: int) -> torch.Tensor:
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


def plain_noise(model: mn.Denoiser, prompt: str, count: int) -> torch.Tensor:
    """The noise of each image after so many updates, as a script around a pipeline would make them."""
    pipe = model.pipe
    model.network.requires_grad_(True)
    pipe.scheduler.set_timesteps(STEPS)
    t = pipe.scheduler.timesteps[0]
    both = torch.cat(pipe.encode_prompt(prompt, "cpu", IMAGES, True)[::-1])
    leaf = model.initial_noise(range(IMAGES)).clone().requires_grad_()
    optimizer = torch.optim.AdamW([leaf], lr=0.05, weight_decay=0.01)
    alpha = pipe.scheduler.alphas_cumprod[t].sqrt() if model.prediction_type == "v_prediction" else 1
    for _ in range(count):
        uncond, cond = pipe.unet(torch.cat([leaf] * 2), t, encoder_hidden_states=both).sample.chunk(2)
        value = (alpha * (cond - uncond)).flatten(1).norm(dim=1).sum()
        (leaf.grad,) = torch.autograd.grad(value, leaf)
        optimizer.step()
    model.network.requires_grad_(False)
    return leaf.detach()


def our_noise(model: mn.Denoiser, prompt: str, count: int) -> torch.Tensor:
    """The same by the mitigation, which tests the last noise as well."""
    found = []

    def change(start: mn.Start) -> None:
        mn.mitigations.noise_descent(start, iterations=count)
        found.append(start.x_t)
        raise StopIteration

    with model.edit("start", change), contextlib.suppress(RuntimeError):
        mn.Trajectory(model, [prompt] * IMAGES, list(range(IMAGES)), num_inference_steps=STEPS).first(1)
    return found[0]


def bounds(model: mn.Denoiser, prompt: str, count: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """What cannot be left out of a descent on the embedding, and of one on the noise: the network alone."""
    texts, null = model.encode([prompt] * IMAGES)["encoder_hidden_states"], model.null(IMAGES)["encoder_hidden_states"]
    x, t = model.initial_noise(range(IMAGES)), model.sampler(STEPS, 1.0).timesteps[0]

    def embedding() -> None:
        with torch.no_grad():
            uncond = model.network(x, t, encoder_hidden_states=null)[0]
        for _ in range(count):
            leaf = texts.detach().requires_grad_()
            torch.autograd.grad((model.network(x, t, encoder_hidden_states=leaf)[0] - uncond).norm(), leaf)

    def noise() -> None:
        both = torch.cat([null, texts])
        for _ in range(count):
            leaf = x.detach().requires_grad_()
            uncond, cond = model.network(torch.cat([leaf] * 2), t, encoder_hidden_states=both)[0].chunk(2)
            torch.autograd.grad((cond - uncond).norm(), leaf)
        with torch.no_grad():
            model.network(torch.cat([x] * 2), t, encoder_hidden_states=both)

    return embedding, noise


def peak() -> float:
    """Most memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def descents(model: mn.Denoiser, args: argparse.Namespace, results: timing.Results) -> None:
    prompts, count, size = demo.prompts("verbatim")[: args.prompts], args.iterations, named(args)
    before = peak()
    ours(model, prompts[:1], 1)
    mine = peak()
    plain(model, prompts[0], 1)
    results.say(
        f"Peak memory, {size}: {before:.0f} MiB, {mine:.0f} with ours, {peak():.0f} with the plain way as well."
    )
    embedding, noise = bounds(model, prompts[0], count)
    many = f"ours, {len(prompts)} prompts at once"
    ways: dict[str, Callable[[], object]] = {
        "plain": lambda: plain(model, prompts[0], count),
        "ours": lambda: ours(model, prompts[:1], count),
        many: lambda: ours(model, prompts, count),
        "bound: the network alone": embedding,
    }
    taken = timing.in_turn(ways, args.rounds)
    what = f"embedding descent, {count} updates, {IMAGES} images, {size}"
    counts = {"plain": 2 * IMAGES * count, "bound: the network alone": IMAGES * (count + 1)}
    counts["ours"] = counts[many] = counted(model, lambda: ours(model, prompts[:1], count))
    each = {name: 1 for name in ways} | {many: len(prompts)}
    results.times(what, "a prompt", taken, each=each, evaluations=counts, bound="bound: the network alone")
    results.say(f"Embeddings differ by {apart(taken):.1e} at most.")
    ways = {
        "plain": lambda: plain_noise(model, prompts[0], count),
        "ours": lambda: our_noise(model, prompts[0], count),
        "bound: the network alone": noise,
    }
    taken = timing.in_turn(ways, args.rounds)
    counts = {"plain": 2 * IMAGES * count, "bound: the network alone": 2 * IMAGES * (count + 1)}
    counts["ours"] = counted(model, lambda: our_noise(model, prompts[0], count))
    what = f"noise descent, {count} updates, {IMAGES} images, {size}"
    results.times(what, "a prompt", taken, evaluations=counts, bound="bound: the network alone")
    results.say(f"Noise differs by {apart(taken):.1e} at most; ours tests the last one, the plain way does not.")


def named(args: argparse.Namespace) -> str:
    return "35 M" if args.large else "bundled model"


def apart(taken: Mapping[str, timing.Taken]) -> float:
    return float((taken["ours"].last - taken["plain"].last).abs().max())


def counted(model: mn.Denoiser, work: Callable[[], object]) -> int:
    before = model.network_evaluations
    work()
    return model.network_evaluations - before


def overhead(model: mn.Denoiser, args: argparse.Namespace, results: timing.Results) -> None:
    pipe, prompt = model.pipe, demo.prompts("ordinary")[0]
    pipe.set_progress_bar_config(disable=True)
    guard = mn.Guard(pipe, threshold=1e9)
    asked = {"num_inference_steps": args.steps, "guidance_scale": 3.0, "output_type": "pil"}
    ways: dict[str, Callable[[], object]] = {
        "bare pipeline": lambda: pipe(prompt, generator=torch.Generator().manual_seed(0), **asked),
        "guarded": lambda: guard(prompt, generator=torch.Generator().manual_seed(0), **asked),
    }
    taken = timing.in_turn(ways, 3 * args.rounds)
    what = f"guard of an ordinary prompt, {args.steps} steps, {named(args)}"
    results.times(what, "an image", taken, bound="bare pipeline")


def main() -> None:
    parser = timing.parser(__doc__, rounds=5)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=ITERATIONS)
    parser.add_argument("--steps", type=int, default=30, help="of the guarded image")
    parser.add_argument("--large", action="store_true")
    args = timing.parsed(parser, prompts=1, iterations=1, steps=2)
    quiet()
    torch.set_num_threads(1)
    model = mn.Denoiser.from_pretrained("demo", device="cpu")
    model = large(model) if args.large else model
    results = timing.Results(args.rows)
    descents(model, args, results)
    overhead(model, args, results)


if __name__ == "__main__":
    main()
