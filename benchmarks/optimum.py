"""Sampling from the optimal denoiser: the plain way against the exact one, in time, memory and images.

    python benchmarks/optimum.py [--images 64] [--references 5000] [--rounds 3] [--memory 5000 20000 80000]

Both draw the same images in 18 Heun steps at 32 x 32 x 3. The plain way holds the training images in float32 and takes
torch.cdist, a softmax and a product over all of them at each evaluation. The training images are patches of two
photographs. Memory is the most that a
process takes for itself while it evaluates once at each of three noise levels, over training images in a file that is
memory-mapped, whose own pages are not counted (Linux).
"""

import multiprocessing
import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor

import timing
from mnemoscope.emm.data.images import Images
from mnemoscope.emm.optimum.denoiser import OptimalDenoiser
from mnemoscope.emm.optimum.products import integers_are_exact
from mnemoscope.emm.sampling.drawing import sample_images

SIDE = 32
LEVELS = (20.0, 1.0, 0.05)


def patches(count: int) -> np.ndarray:
    random, photographs = np.random.default_rng(0), load_sample_images().images
    found = np.empty((count, 3, SIDE, SIDE), np.uint8)
    for place in range(count):
        photograph = photographs[random.integers(len(photographs))]
        top, left = (random.integers(side - SIDE) for side in photograph.shape[:2])
        found[place] = photograph[top : top + SIDE, left : left + SIDE].transpose(2, 0, 1)
    return found


def images(pixels: np.ndarray) -> Images:
    return Images(pixels, None, tuple(map(str, range(len(pixels)))))


class Plain:
    """All distances by torch.cdist, a softmax, a product, in float32."""

    sigma_min, sigma_max, num_classes = 0.0, float("inf"), 0

    def __init__(self, known: Images) -> None:
        self.known = torch.from_numpy(known.rows().astype(np.float32)) / 127.5 - 1
        self.evaluations = 0

    def __call__(self, x: Tensor, sigma: Tensor, labels: Tensor | None) -> Tensor:
        self.evaluations += len(x)
        apart = torch.cdist(x.float().reshape(len(x), -1), self.known)
        weights = torch.softmax(-(apart**2) / (2 * float(sigma) ** 2), dim=1)
        return (weights @ self.known).view(x.shape)

    def round_sigma(self, sigma: Tensor) -> Tensor:
        return sigma


def peak(file: str, way: str, found: Any) -> None:
    """Most MiB of the process's own memory while it evaluates, less what it has before."""

    def own() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

    def watch() -> None:
        while not done.wait(0.002):
            seen.append(own())

    torch.set_num_threads(1)
    known = images(np.load(file, mmap_mode="r"))
    x = torch.randn(64, 3, SIDE, SIDE, dtype=torch.float64)
    OptimalDenoiser(images(patches(200)))(x, 1.0)
    done, seen, before = threading.Event(), [0], own()
    watcher = threading.Thread(target=watch)
    watcher.start()
    model = Plain(known) if way == "plain" else OptimalDenoiser(known)
    for level in LEVELS:
        model(level * x, torch.tensor(level), None)
    done.set()
    watcher.join()
    found.send((max(seen) - before) / 1024)


def memory(file: str, way: str) -> float:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=peak, args=(file, way, there))
    process.start()
    found = here.recv()
    process.join()
    return found


def main() -> None:
    parser = timing.parser(__doc__, rounds=3)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--references", type=int, default=5000)
    parser.add_argument("--memory", type=int, nargs="*", default=[5000, 20_000, 80_000])
    asked = timing.parsed(parser, images=2, references=40, memory=[])
    results = timing.Results(asked.rows)
    torch.set_num_threads(1)
    known = images(patches(asked.references))
    exact = OptimalDenoiser(known)
    models = {"plain": (Plain(known), True), "exact": (exact, True), "exact, no early exit": (exact, False)}
    if integers_are_exact():
        models["exact, float64"] = (OptimalDenoiser(known, integers=False), True)

    def drawn(model: Any, early: bool) -> tuple[np.ndarray, float]:
        model.evaluations = 0
        given = {"shape": (3, SIDE, SIDE), "batch_size": asked.batch_size, "early_exit": early}
        return sample_images(model, range(asked.images), **given)[0], model.evaluations / asked.images

    taken = timing.in_turn({name: partial(drawn, *how) for name, how in models.items()}, asked.rounds, warm=False)
    what = f"images of the optimal denoiser, {asked.references:,} training images of {3 * SIDE * SIDE:,} values"
    counts = {name: found.last[1] for name, found in taken.items()}
    results.times(what, "an image", taken, each=asked.images, evaluations=counts)
    equal = {n: (f.last[0] == taken["plain"].last[0]).all(axis=(1, 2, 3)).sum() for n, f in taken.items()}
    told = ", ".join(f"{name} {count} of {asked.images}" for name, count in equal.items())
    results.say(f"Images equal to the plain way's: {told}.")
    with tempfile.TemporaryDirectory() as folder:
        for count in asked.memory:
            np.save(f"{folder}/{count}.npy", patches(count))
            own = {way: memory(f"{folder}/{count}.npy", way) for way in ("plain", "exact")}
            results.say(f"{count:,} training images: plain {own['plain']:.0f} MiB, exact {own['exact']:.0f} MiB.")
            Path(f"{folder}/{count}.npy").unlink()


if __name__ == "__main__":
    main()
