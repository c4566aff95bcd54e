"""A training step against the fastest plain torch loop, and scores without image files against those with them.

    python benchmarks/emm_train.py [--device cuda] [--width 32] [--steps 60] [--samples 2000]

The plain loop does nothing but what a step needs, so that it is the bound as well. On a GPU, wall seconds count.
"""

import argparse
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image

import timing
from mnemoscope.emm.data.images import Images
from mnemoscope.emm.networks import NetworkOptions, build
from mnemoscope.emm.networks.losses import loss
from mnemoscope.emm.ratio.memorization import memorization
from mnemoscope.emm.training.batches import EmmBatches
from mnemoscope.emm.training.budget import Budget
from mnemoscope.emm.training.options import EmmTrainOptions
from mnemoscope.emm.training.stepping import EmmTraining

Step = Callable[[int], object]


def images(count: int, channels: int, resolution: int) -> Images:
    pixels = np.random.default_rng(0).integers(0, 256, (count, channels, resolution, resolution), dtype=np.uint8)
    return Images(pixels, None, tuple(map(str, range(count))))


def ours(data: Images, network: NetworkOptions, options: EmmTrainOptions, accelerator: Accelerator) -> Step:
    _, channels, resolution, _ = data.pixels.shape
    feed = EmmBatches(data, network, options, device=accelerator.device)
    training = EmmTraining(
        build(network, channels=channels, resolution=resolution), accelerator, Budget(options, len(data))
    )
    return lambda step: training.update(feed.of(step))


def plain(data: Images, network: NetworkOptions, options: EmmTrainOptions, device: torch.device) -> Step:
    """Nothing but what a step needs: images on the device, fused Adam, one average, no bookkeeping."""
    _, channels, resolution, _ = data.pixels.shape
    made = build(network, channels=channels, resolution=resolution).train()
    made = made.to(device).to(memory_format=torch.channels_last)
    own = list(made.parameters())
    average = [p.detach().clone() for p in own]
    optimizer = torch.optim.Adam(own, lr=float(options.learning_rate), fused=True)
    pixels = torch.from_numpy(data.pixels).to(device).float() / 127.5 - 1
    generator = torch.Generator().manual_seed(0)

    def step(_: int) -> None:
        batch = pixels[torch.randint(len(pixels), (options.batch_size,), generator=generator).to(device)]
        loss(made, batch, generator=generator).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            torch._foreach_lerp_(average, own, 0.001)

    return step


def steps(given: argparse.Namespace, accelerator: Accelerator, results: timing.Results) -> None:
    data = images(1000, given.channels, given.resolution)
    network = NetworkOptions(
        **{"width": given.width, "multipliers": tuple(given.multipliers), "blocks": given.blocks},
        **{"attention": (), "dropout": 0, "preconditioning": "edm"},
    )
    options = EmmTrainOptions(batch_size=given.batch_size, device=given.device)
    step = itertools.count()
    parts = {
        "plain": plain(data, network, options, accelerator.device),
        "ours": ours(data, network, options, accelerator),
    }
    settle = torch.cuda.synchronize if accelerator.device.type == "cuda" else lambda: None
    ways = {name: lambda part=part: (part(next(step) // 2), settle()) for name, part in parts.items()}
    timing.in_turn(ways, 2)  # the first steps of an optimiser make its state
    what = f"training step, width {given.width}, {given.resolution} x {given.resolution}, batch {given.batch_size}"
    results.times(what, "a step", timing.in_turn(ways, given.steps, warm=False), bound="plain")


def scores(given: argparse.Namespace, results: timing.Results) -> None:
    """What the original does between the sampler and the distances, PNG files, and what is done here: nothing."""
    drawn = images(given.samples, given.channels, given.resolution).pixels
    train = images(500, given.channels, given.resolution).rows()

    def through_files() -> None:
        with tempfile.TemporaryDirectory() as folder:
            for place, pixels in enumerate(drawn):
                shown = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
                Image.fromarray(shown).save(Path(folder) / f"{place:06d}.png")
            read = [np.asarray(Image.open(file)) for file in sorted(Path(folder).iterdir())]
        stacked = np.stack(read).reshape(len(read), given.resolution, given.resolution, -1).transpose(0, 3, 1, 2)
        memorization(np.ascontiguousarray(stacked).reshape(len(read), -1), train)

    ways = {"PNG files": through_files, "arrays": lambda: memorization(drawn.reshape(len(drawn), -1), train)}
    results.times("score of drawn images", f"{given.samples:,} images", timing.in_turn(ways, given.rounds))


def main() -> None:
    parser = timing.parser(__doc__, rounds=5)
    parser.add_argument("--device", default="cpu")
    for name, default in (("width", 32), ("blocks", 1), ("resolution", 8), ("channels", 1), ("batch-size", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--multipliers", type=int, nargs="+", default=[1, 1])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--samples", type=int, default=2000)
    given = timing.parsed(parser, steps=1, samples=8, width=16, batch_size=4)
    if given.device == "cpu":
        torch.set_num_threads(1)
    results = timing.Results(given.rows)
    steps(given, Accelerator(cpu=given.device == "cpu"), results)
    scores(given, results)


if __name__ == "__main__":
    main()
