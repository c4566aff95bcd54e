"""FLIPD of one step with its gradient to the prompt, by differences and by forward mode, against the original's way.

    python benchmarks/flipd.py [--rounds 5] [--large]

The original's way evaluates both branches, then once more under forward mode with attention in plain matrix products,
and goes back through all of it. All four give the value of the released code and its gradient to the embedding, or
that of our default. Seconds are CPU seconds on one thread, medians of alternating rounds; beside each is how far its
gradient agrees with the exact one. Peak memory is that of a process of its own. `--large` times a random U-Net of 35
million parameters in place of the bundled one.
"""

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import mnemoscope as mn
from mnemoscope import demo
from mnemoscope.model.loading import quiet

GUIDANCE = 7.5
EXACT = {  # what each way is compared with, if not with itself
    "released value, original's way": "released value, forward",
    "released value, central": "released value, forward",
    "trajectory, central": "trajectory, forward",
    "clean, central": "clean (default), forward",
}


def loaded(large: bool) -> mn.Denoiser:
    model = mn.Denoiser.from_pretrained("demo", device="cpu")
    if not large:
        return model
    torch.manual_seed(0)
    width = model.network.config.cross_attention_dim
    unet = UNet2DConditionModel(
        sample_size=32, block_out_channels=(64, 128, 256, 256), cross_attention_dim=width, attention_head_dim=2
    )
    model.pipe.register_modules(unet=unet)
    return mn.Denoiser(model.pipe)


def original(model: mn.Denoiser, x: Tensor, t: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    """Both branches with a graph, once plainly and once with a tangent, one Gaussian probe."""
    text = text.detach().requires_grad_()
    both = torch.cat([model.null(1)["encoder_hidden_states"], text])
    probe = torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(42))[None]
    sigma = (1 - model.pipe.scheduler.alphas_cumprod[t]).sqrt()

    def pair(z: Tensor) -> tuple[Tensor, Tensor]:
        eps = model.predict_noise(torch.cat([z, z]), t, {"encoder_hidden_states": both})
        return eps[:1], eps[1:]

    with sdpa_kernel(SDPBackend.MATH):
        uncond, cond = pair(x)

        def held(z: Tensor) -> Tensor:
            inner_uncond, inner_cond = pair(z)
            return uncond.detach() + GUIDANCE * (inner_cond - inner_uncond)

        moved = torch.func.jvp(held, (x,), (probe,))[1]
        guided = uncond + GUIDANCE * (cond - uncond)
        value = sigma * (probe * moved).sum() - guided.square().sum()
        return value.detach(), torch.autograd.grad(value, text)[0]


def ours(model: mn.Denoiser, x: Tensor, t: Tensor, text: Tensor, **options: str) -> tuple[Tensor, Tensor]:
    leaf = text.detach().requires_grad_()
    value = mn.scores.flipd(model.observe(x, t, {"encoder_hidden_states": leaf}, guidance_scale=GUIDANCE), **options)
    return value.detach(), torch.autograd.grad(value.sum(), leaf)[0]


def ways(model: mn.Denoiser) -> dict[str, Callable[[], tuple[Tensor, Tensor]]]:
    t = torch.tensor(281)
    x = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(1000))
    text = model.encode(demo.prompts("verbatim")[:1])["encoder_hidden_states"]
    own = partial(ours, model, x, t, text)
    return {
        "released value, original's way": partial(original, model, x, t, text),
        "released value, forward": partial(own, compat="layer6"),
        "released value, central": partial(own, compat="layer6", derivative="central"),
        "trajectory, forward": partial(own, mode="trajectory"),
        "trajectory, central": partial(own, mode="trajectory", derivative="central"),
        "clean (default), forward": own,
        "clean, central": partial(own, derivative="central"),
    }


def peak(large: bool, name: str) -> float:
    """Peak resident memory of a process that goes one way, in MiB."""
    torch.set_num_threads(1)
    quiet()
    ways(loaded(large))[name]()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def apart(large: bool, name: str) -> float:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(peak, (large, name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    quiet()
    all_ways = ways(loaded(args.large))
    taken: dict[str, list[float]] = {name: [] for name in all_ways}
    results = {}
    for k in range(-1, args.rounds):  # the first round warms up
        for name, way in all_ways.items():
            began = time.process_time()
            results[name] = way()
            if k >= 0:
                taken[name].append(time.process_time() - began)
    first = statistics.median(next(iter(taken.values())))
    print(f"{'':32} {'s a step':>9} {'ratio':>7} {'value off':>10} {'cosine':>9} {'peak MiB':>9}")
    for name, values in taken.items():
        exact = results[EXACT.get(name, name)]
        off = abs(float(results[name][0] / exact[0]) - 1)
        cosine = torch.cosine_similarity(results[name][1].flatten(), exact[1].flatten(), 0)
        median = statistics.median(values)
        memory = apart(args.large, name)
        print(f"{name:32} {median:9.3f} {first / median:6.1f}x {off:10.1e} {float(cosine):9.6f} {memory:9.0f}")


if __name__ == "__main__":
    main()
