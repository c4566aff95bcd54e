"""FLIPD of one step with its gradient to the prompt, by differences and by forward mode, against the original's way.

    python benchmarks/flipd.py [--rounds 5] [--large]

The original's way evaluates both branches, then once more under forward mode with attention in plain matrix products,
and goes back through all of it. All four give the value of the released code and its gradient to the embedding, or
that of our default. Seconds are CPU seconds on one thread, medians of alternating rounds; beside each is how far its
gradient agrees with the exact one. Peak memory is that of a process of its own. `--large` times a random U-Net of 35
million parameters in place of the bundled one.
"""

import multiprocessing
import resource
from collections.abc import Callable
from functools import partial

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import mnemoscope as mn
import timing
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
    parser = timing.parser(__doc__, rounds=5)
    parser.add_argument("--large", action="store_true")
    parser.add_argument(
        "--no-memory", action="store_true", help="measure no memory, which takes a process for each way"
    )
    args = timing.parsed(parser, no_memory=True)
    results = timing.Results(args.rows)
    torch.set_num_threads(1)
    quiet()
    taken = timing.in_turn(ways(loaded(args.large)), args.rounds)
    results.times(f"FLIPD with its gradient, {'35 M' if args.large else 'bundled model'}", "a step", taken)
    for name, (value, gradient) in ((name, found.last) for name, found in taken.items()):
        exact = taken[EXACT.get(name, name)].last
        cosine = torch.cosine_similarity(gradient.flatten(), exact[1].flatten(), 0)
        off = abs(float(value / exact[0]) - 1)
        held = "" if args.no_memory else f", peak {apart(args.large, name):.0f} MiB"
        results.say(f"{name}: value off by {off:.1e}, cosine of the gradient {float(cosine):.6f}{held}.")


if __name__ == "__main__":
    main()
