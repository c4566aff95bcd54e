"""Token gradients against the plain way of the original code, on one thread, alternating, medians.

    python benchmarks/explain.py [--prompts 4] [--images 2] [--steps 5] [--rounds 3] [--large] [--agreement]

The plain way takes one prompt at a time, puts both branches through the network with a graph, leaves the parameters
differentiable, and keeps the norm of the conditional embedding's gradient. Ours has no graph for the unconditional
branch, frozen parameters, and all prompts in one batch. Both take the same first steps of the same 50, the same noise
and guidance; the values are compared. Seconds are CPU seconds a prompt; memory is what the tensors of one backward pass
hold beside the weights. `--large` times a random U-Net of 35 million parameters. `--agreement` says how well the first
step alone ranks the words of the bundled model's verbatim captions as all 50 steps do (Spearman).
"""

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

import mnemoscope as mn
import timing
from detect import large
from mnemoscope import demo
from mnemoscope.explanation.run import Explanation, explain_rows
from mnemoscope.model.loading import quiet
from mnemoscope.prompts.prompt import as_prompts


class Kept:
    """Bytes that graphs keep for a backward pass, each storage once and weights not at all, at their most."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.now, self.most = 0, 0
        self.weights = {p.untyped_storage().data_ptr() for p in network.parameters()}
        self.counts: dict[int, int] = {}

    def hooks(self) -> torch.autograd.graph.saved_tensors_hooks:
        return torch.autograd.graph.saved_tensors_hooks(partial(Saved, self), lambda saved: saved.tensor)


class Saved:
    """A tensor that a graph keeps."""

    def __init__(self, kept: Kept, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        self.kept, self.tensor, self.key = kept, tensor, storage.data_ptr()
        self.size = 0 if self.key in kept.weights else storage.nbytes()
        kept.counts[self.key] = kept.counts.get(self.key, 0) + 1
        kept.now += self.size * (kept.counts[self.key] == 1)
        kept.most = max(kept.most, kept.now)

    def __del__(self) -> None:
        self.kept.counts[self.key] -= 1
        self.kept.now -= self.size * (self.kept.counts[self.key] == 0)


def plain(model: mn.Denoiser, prompt: str, images: int, steps: int) -> torch.Tensor:
    """Mean over the steps and images of each token's gradient norm, both branches with a graph."""
    pipe = model.pipe
    for parameter in pipe.unet.parameters():
        parameter.requires_grad_(True)
    pipe.scheduler.set_timesteps(50)
    text, null = pipe.encode_prompt(prompt, "cpu", images, True)
    latents, found = model.initial_noise(range(images)), []
    for t in pipe.scheduler.timesteps[:steps]:
        both = torch.cat([null, text]).detach().requires_grad_()
        uncond, cond = pipe.unet(torch.cat([latents] * 2), t, encoder_hidden_states=both).sample.chunk(2)
        alpha = pipe.scheduler.alphas_cumprod[t].sqrt() if model.prediction_type == "v_prediction" else 1
        score = (alpha * (cond - uncond)).flatten(1).norm(dim=1).sum()
        found.append(torch.autograd.grad(score, both)[0][images:].norm(dim=2).mean(0))
        guided = (uncond + 7.5 * (cond - uncond)).detach()
        latents = pipe.scheduler.step(guided, t, latents).prev_sample
    for parameter in pipe.unet.parameters():
        parameter.requires_grad_(False)
    return torch.stack(found).mean(0)


def ours(model: mn.Denoiser, prompts: list[str], images: int, steps: int) -> torch.Tensor:
    """The same for all prompts at once."""
    texts = [p for p in prompts for _ in range(images)]
    trajectory = mn.Trajectory(model, texts, list(range(images)) * len(prompts))
    values = mn.explain(trajectory, "token_gradients", steps=steps)
    return values.reshape(len(prompts), images, -1).mean(1)


def bound(model: mn.Denoiser, prompts: list[str], images: int) -> Callable[[], object]:
    """What cannot be left out of a step: one conditional forward and backward, one unconditional forward."""
    texts = [p for p in prompts for _ in range(images)]
    cond, x = model.encode(texts), model.initial_noise(list(range(images)) * len(prompts))
    null, t = model.null(len(texts)), model.sampler(50, 1.0).timesteps[0]
    key = model.family.texts[0]

    def step() -> torch.Tensor:
        with torch.no_grad():
            uncond = model.network(x, t, **null)[0]
        leaf = cond[key].detach().requires_grad_()
        eps = model.network(x, t, **{**cond, key: leaf})[0]
        return torch.autograd.grad((eps - uncond).flatten(1).norm(dim=1).sum(), leaf)[0]

    return step


def measured(model: mn.Denoiser, args: argparse.Namespace, results: timing.Results) -> None:
    """Seconds, evaluations and memory of the ways, and how far their values are apart."""
    prompts, images, steps = demo.prompts("verbatim")[: args.prompts], args.images, args.steps
    least = bound(model, prompts, images)
    ways: dict[str, Callable[[], torch.Tensor]] = {
        "plain": lambda: torch.stack([plain(model, p, images, steps) for p in prompts]),
        "ours, a prompt at a time": lambda: torch.cat([ours(model, [p], images, steps) for p in prompts]),
        "ours, all prompts at once": lambda: ours(model, prompts, images, steps),
        "bound: the network alone": lambda: [least() for _ in range(steps)],
        "ours, first step only": lambda: ours(model, prompts, images, 1),
    }
    values, counts, memory, forward = {}, {}, {}, Counter(model.network)
    for name, way in ways.items():  # this also warms up
        forward.samples, kept = 0, Kept(model.network)
        with kept.hooks():
            values[name] = way()
        counts[name], memory[name] = forward.samples / len(prompts), kept.most / 2**20
    taken = timing.in_turn(ways, args.rounds, warm=False)
    what = f"token gradients, {steps} steps, {images} images, {'35 M' if args.large else 'bundled model'}"
    told = {"each": len(prompts), "evaluations": counts, "bound": "bound: the network alone"}
    results.times(what, "a prompt", taken, **told)
    for name in list(ways)[1:3]:
        apart = ((values[name] - values["plain"]).abs() / values["plain"].clamp_min(1e-9)).max()
        results.say(f"{name}: values within {float(apart):.1e} of the plain way's.")
    results.say(f"Graphs keep, MB: {', '.join(f'{name} {size:.0f}' for name, size in memory.items())}.")


class Counter:
    """Samples that went through a network."""

    def __init__(self, network: torch.nn.Module) -> None:
        self.samples = 0
        network.register_forward_pre_hook(lambda module, args: setattr(self, "samples", self.samples + len(args[0])))


def agreement(model: mn.Denoiser, seeds: int) -> None:
    """Rank correlation of the words at the first steps with all steps, over the verbatim captions."""
    by_steps: dict[int, list[float]] = {1: [], 10: []}
    strided: list[float] = []
    same = 0
    for prompt in demo.prompts("verbatim"):
        (row,) = explain_rows(model, as_prompts([prompt]), Explanation(params={"steps": "all"}, seeds=seeds))
        series = np.array(row["series"])
        merged = np.stack([series[:, w["first"] : w["last"] + 1].max(1) for w in row["words"]], axis=1)
        for count, found in by_steps.items():
            found.append(spearman(merged[:count].mean(0), merged.mean(0)))
        strided.append(spearman(merged[::5].mean(0), merged.mean(0)))
        same += int(merged[0].argmax() == merged.mean(0).argmax())
    for name, found in [*((f"first {n}", v) for n, v in by_steps.items()), ("every fifth", strided)]:
        print(f"{name} of 50 steps: Spearman to all, median {np.median(found):.3f}, least {min(found):.3f}")
    print(f"the first step's top word is that of all steps in {same} of {len(strided)} captions")


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Rank correlation; values tie nowhere here."""
    return float(np.corrcoef(one.argsort().argsort(), other.argsort().argsort())[0, 1])


def main() -> None:
    parser = timing.parser(__doc__, rounds=3)
    parser.add_argument("--prompts", type=int, default=4)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--agreement", action="store_true")
    args = timing.parsed(parser, prompts=1, images=1, steps=1)
    torch.set_num_threads(1)
    quiet()
    model = mn.Denoiser.from_pretrained("demo", device="cpu")
    if args.agreement:
        return agreement(model, args.images)
    measured(large(model) if args.large else model, args, timing.Results(args.rows))


if __name__ == "__main__":
    main()
