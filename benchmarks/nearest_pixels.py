"""The two nearest of many images by pixels: exact integers against torch.cdist with topk, in time, memory and error.

    python benchmarks/nearest_pixels.py [--generated 1000] [--reference 50000] [--pixels 3072] [--rounds 3]

Seconds are of the processor on one thread, medians of alternating runs; memory is the process's own at its peak, of a
run in a process of its own (Linux). The images are smooth random ones, some of the generated are near-copies, and
the reference has pairs that differ by a grey level. cdist takes batches of 512 images, as the original code.
"""

import multiprocessing
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import timing
from mnemoscope.search.nearest_pixels import nearest

BATCH = 512
Way = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def images(generated: int, reference: int, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (reference, -(-pixels // 16)), dtype=np.uint8)
    known = np.repeat(coarse, 16, axis=1)[:, :pixels]
    known[1::100] = known[::100][: len(known[1::100])]
    known[1::100, 0] ^= 1
    made = np.repeat(random.integers(0, 256, (generated, coarse.shape[1]), dtype=np.uint8), 16, axis=1)[:, :pixels]
    copies = known[random.integers(0, reference, generated // 2)].astype(np.int16)
    made[: generated // 2] = (copies + random.integers(-3, 4, copies.shape)).clip(0, 255)
    made[: generated // 4] = known[1::100][random.integers(0, len(known[1::100]), generated // 4)]
    return made, known


def distances(generated: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """torch.cdist in float32 and topk, batch by batch."""
    known = torch.from_numpy(reference).float()
    parts = []
    for batch in torch.from_numpy(generated).split(BATCH):
        parts.append(torch.cdist(batch.float(), known).topk(2, largest=False))
    return torch.cat([p.values for p in parts]).numpy(), torch.cat([p.indices for p in parts]).numpy()


def peak(way: Way, sizes: tuple[int, int, int], found: Any) -> None:
    """Most of the process's own memory while it works, less what it has before."""

    def own(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(name))

    torch.set_num_threads(1)
    made, known = images(*sizes)
    way(made[:32], known[:64])
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = own("VmRSS")
    way(made, known)
    found.send((own("VmHWM") - before) / 1024)


def memory(way: Way, sizes: tuple[int, int, int]) -> float:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=peak, args=(way, sizes, there))
    process.start()
    process.join()
    return here.recv()


def main() -> None:
    parser = timing.parser(__doc__, rounds=3)
    parser.add_argument("--generated", type=int, default=1000)
    parser.add_argument("--reference", type=int, default=50_000)
    parser.add_argument("--pixels", type=int, default=3072)
    asked = timing.parsed(parser, generated=8, reference=200, pixels=48)
    results = timing.Results(asked.rows)
    sizes = (asked.generated, asked.reference, asked.pixels)
    torch.set_num_threads(1)
    made, known = images(*sizes)
    ways: dict[str, Way] = {"cdist + topk": distances, "exact integers": nearest}
    taken = timing.in_turn({name: partial(way, made, known) for name, way in ways.items()}, asked.rounds, warm=False)
    what = f"two nearest of {asked.reference:,} images of {asked.pixels:,} pixels"
    results.times(what, f"{asked.generated:,} images", taken)
    held = ", ".join(f"{name} {memory(way, sizes):.0f}" for name, way in ways.items())
    results.say(f"Peak memory, MiB: {held}.")
    rounded, exact = (found.last for found in taken.values())
    wrong, off = (rounded[1] != exact[1]).any(axis=1).mean(), np.abs(rounded[0] - exact[0]).max()
    results.say(f"cdist: other neighbours for {wrong:.2%}, largest error {off:.3g} grey levels.")


if __name__ == "__main__":
    main()
