"""What a training step's data cost, with latents and text embeddings computed at each step and with kept ones.

    python benchmarks/train_data.py [--model demo] [--resolution 64] [--pictures 64] [--batch-size 8] [--steps 20]

Pictures are JPEG files of twice the resolution. The first way is what the training
scripts of the studies do at each step: open, resize, encode, sample, and encode the texts. All ways give the same
numbers, which is checked here as well.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import mnemoscope as mn
import timing
from mnemoscope.model.loading import quiet
from mnemoscope.training.data.dataset import TrainingSet
from mnemoscope.training.data.latents import Latents
from mnemoscope.training.data.options import DataOptions
from mnemoscope.training.data.order import Order
from mnemoscope.training.data.texts import Texts


def main() -> None:
    parser = timing.parser(__doc__, rounds=5)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    args = timing.parsed(parser, pictures=2, batch_size=2, steps=1, resolution=32)
    results = timing.Results(args.rows)
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
        ways = {
            "a sample's latents": {
                "picture and autoencoder at each step": lambda step: plain.batch(order.batch(step)),
                "kept moments": lambda step: kept.batch(order.batch(step)),
            },
            "a sample's text": {
                "encoded at each step": lambda step: model.encode(captions[step]),
                "kept embedding": lambda step: texts(captions[step]),
            },
        }
        torch.testing.assert_close(plain.batch(order.batch(0)), kept.batch(order.batch(0)), rtol=1e-5, atol=1e-4)
        for what, own in ways.items():
            each = {name: lambda way=way: [way(step) for step in range(args.steps)] for name, way in own.items()}
            taken = timing.in_turn(each, args.rounds)
            results.times(f"training data: {what}", "a sample", taken, each=args.steps * args.batch_size)
        once = [1e3 * seconds / len(data) for seconds in (looked, precomputed)]
        results.say(f"Once for each picture: {once[0]:.2f} ms to look at it, {once[1]:.2f} ms to encode it both ways.")


def write_pairs(folder: Path, count: int, side: int) -> None:
    rng = np.random.default_rng(0)
    for k in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{k}.jpg", quality=90)
        (folder / f"{k}.txt").write_text(f"picture number {k} of a set of {count}")


if __name__ == "__main__":
    main()
