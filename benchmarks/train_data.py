"""What a training step's data cost, with latents and text embeddings computed at each step and with kept ones.

    python benchmarks/train_data.py [--model demo] [--resolution 64] [--pictures 64] [--batch-size 8] [--steps 20]

Pictures are JPEG files of twice the resolution. CPU seconds of one thread: medians over rounds in which all ways take
turns, so that a busy machine slows all of them down alike. Prints a Markdown table. The first way is what the training
scripts of the studies do at each step: open, resize, encode, sample, and encode the texts. All ways give the same
numbers, which is checked here as well.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import mnemoscope as mn
from mnemoscope.model.loading import quiet
from mnemoscope.training.data.dataset import TrainingSet
from mnemoscope.training.data.latents import Latents
from mnemoscope.training.data.options import DataOptions
from mnemoscope.training.data.order import Order
from mnemoscope.training.data.texts import Texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    quiet()
    model = mn.Denoiser.from_pretrained(args.model, device="cpu")
    with tempfile.TemporaryDirectory() as folder:
        write_pairs(Path(folder), args.pictures, 2 * args.resolution)
        began = time.process_time()
        options = DataOptions(folder, random_flip=True, resolution=args.resolution)
        data = TrainingSet.from_options(options, model.pipe.tokenizer)
        looked = time.process_time() - began
        order = Order(data, args.batch_size, 0)
        plain, kept = Latents(data, model.pipe.vae), Latents(data, model.pipe.vae, Path(folder) / "cache")
        began = time.process_time()
        list(kept.precompute())
        precomputed = time.process_time() - began
        texts = Texts(model.encode)
        captions = [[data.texts(*view)[1] for view in order.batch(step)] for step in range(args.steps)]
        ways: dict[str, Callable[[int], object]] = {
            "pictures and autoencoder at each step": lambda step: plain.batch(order.batch(step)),
            "kept moments": lambda step: kept.batch(order.batch(step)),
            "texts encoded at each step": lambda step: model.encode(captions[step]),
            "kept text embeddings": lambda step: texts(captions[step]),
        }
        torch.testing.assert_close(plain.batch(order.batch(0)), kept.batch(order.batch(0)), rtol=1e-5, atol=1e-4)
        report(ways, args.steps, args.rounds, args.batch_size)
        print(f"\nOnce for each picture: {1e3 * looked / len(data):.2f} ms to look at it, ", end="")
        print(f"{1e3 * precomputed / len(data):.2f} ms to encode it and its mirror image.")


def write_pairs(folder: Path, count: int, side: int) -> None:
    rng = np.random.default_rng(0)
    for k in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{k}.jpg", quality=90)
        (folder / f"{k}.txt").write_text(f"picture number {k} of a set of {count}")


def report(ways: dict[str, Callable[[int], object]], steps: int, rounds: int, batch_size: int) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):  # the first one warms up
        for name, way in ways.items():
            began = time.process_time()
            for step in range(steps):
                way(step)
            seconds[name].append((time.process_time() - began) / steps / batch_size)
    print("| for one sample | ms |\n|---|---:|")
    for name, values in seconds.items():
        print(f"| {name} | {1e3 * statistics.median(values[1:]):.3f} |")


if __name__ == "__main__":
    main()
