"""Scoring generated images: exact and without files, against PNG files, torch.cdist and topk as the original does.

    python benchmarks/emm_ratio.py [--generated 1000] [--reference 5000] [--side 32] [--rounds 5]

Seconds are of the processor on one thread, medians of alternating runs over the same images, of which a half are noisy
copies. The plain way writes each generated image as a PNG, reads it back, and takes the two smallest of a float32
distance matrix, 512 images at a time; `without files` is the same from memory. The report gives the ratio of each way.
"""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import timing
from mnemoscope.emm.ratio.memorization import memorization

BATCH = 512


def images(generated: int, reference: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth random images, channels first; a half of the generated ones are copies with some noise."""
    random = np.random.default_rng(0)
    coarse = torch.from_numpy(random.random((reference + generated // 2, 3, 4, 4), dtype=np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size=side, mode="bicubic").clamp(0, 1).mul(255).round()
    known, other = smooth[:reference].byte().numpy(), smooth[reference:].byte().numpy()
    copies = known[random.integers(0, reference, generated - len(other))].astype(np.int16)
    copies += random.integers(-6, 7, copies.shape, dtype=np.int16)
    return np.concatenate([other, copies.clip(0, 255).astype(np.uint8)]), known


def through_files(made: np.ndarray) -> np.ndarray:
    """The images as they come back from PNG files."""
    with tempfile.TemporaryDirectory() as folder:
        for place, image in enumerate(made):
            Image.fromarray(image.transpose(1, 2, 0)).save(Path(folder) / f"{place:06d}.png")
        read = [np.asarray(Image.open(file)) for file in sorted(Path(folder).iterdir())]
    return np.stack(read).transpose(0, 3, 1, 2)


def plain(made: np.ndarray, known: np.ndarray) -> float:
    train = torch.from_numpy(known).float().flatten(1)
    found = [
        torch.cdist(batch.float().flatten(1), train).topk(2, largest=False).values
        for batch in torch.from_numpy(np.ascontiguousarray(made)).split(BATCH)
    ]
    apart = torch.cat(found)
    return float((apart[:, 0] / apart[:, 1] < 1 / 3).float().mean())


def original(made: np.ndarray, known: np.ndarray) -> float:
    return plain(through_files(made), known)


def exact(made: np.ndarray, known: np.ndarray) -> float:
    return memorization(made.reshape(len(made), -1), known.reshape(len(known), -1)).ratio


def main() -> None:
    parser = timing.parser(__doc__, rounds=5)
    parser.add_argument("--generated", type=int, default=1000)
    parser.add_argument("--reference", type=int, default=5000)
    parser.add_argument("--side", type=int, default=32)
    asked = timing.parsed(parser, generated=8, reference=40, side=8)
    results = timing.Results(asked.rows)
    torch.set_num_threads(1)
    made, known = images(asked.generated, asked.reference, asked.side)
    ways: dict[str, Callable[[np.ndarray, np.ndarray], float]]
    ways = {"PNG, cdist, topk": original, "without files": plain, "exact": exact}
    taken = timing.in_turn({name: partial(way, made, known) for name, way in ways.items()}, asked.rounds, warm=False)
    what = f"memorization ratio against {asked.reference:,} images of {asked.side} x {asked.side} x 3"
    results.times(what, f"{asked.generated:,} images", taken)
    results.say(f"Ratios: {', '.join(f'{name} {found.last:.4f}' for name, found in taken.items())}.")


if __name__ == "__main__":
    main()
