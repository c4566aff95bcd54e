"""Images embedded by SSCD, a second of a core: descriptors against the plain loop, alternating, medians.

    python benchmarks/embed.py [--images 64] [--rounds 5] [--weights mixup]

The plain loop opens, resizes and evaluates one image after the other in onnxruntime's default session. Ours is given
the same files. Both print images a second of wall time and of processor time; the similarity of the two results
shows that the same was computed. OMP_NUM_THREADS=1 gives both one thread.
"""

import argparse
import io
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image
from skimage import data

from mnemoscope.features import Descriptor, descriptor
from mnemoscope.features.descriptors import cores
from mnemoscope.features.sscd import PACKAGED, packaged_file

SIDE = 512
PRESET = "sscd-320"


def files(count: int) -> list[bytes]:
    """JPEG files of 512 pixels a side, as a generator writes them: turned pictures of scikit-image."""
    names = ("astronaut", "chelsea", "coffee", "rocket")
    images = [Image.fromarray(getattr(data, name)()).resize((SIDE, SIDE)) for name in names]
    return [_jpeg(images[k % len(images)].rotate(7 * k)) for k in range(count)]


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


def plain(session: onnxruntime.InferenceSession, encoded: list[bytes]) -> np.ndarray:
    rows = []
    for one in encoded:
        image = Image.open(io.BytesIO(one)).convert("RGB").resize((320, 320), Image.Resampling.BILINEAR)
        rows.append(session.run(None, {"image": np.asarray(image)[None]})[0])
    return np.concatenate(rows)


def ours(found: Descriptor, encoded: list[bytes]) -> np.ndarray:
    return found([Image.open(io.BytesIO(one)) for one in encoded])


def session_of(file: Path) -> onnxruntime.InferenceSession:
    """The default session; `OMP_NUM_THREADS` counts for it too, which onnxruntime itself does not read."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def seconds(work: Callable[[], object]) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--weights", choices=list(PACKAGED), default="mixup")
    args = parser.parse_args()
    encoded = files(args.images)
    session = session_of(packaged_file(args.weights))
    found = descriptor("sscd", preset=PRESET, weights=args.weights)
    ways: dict[str, Callable[[], np.ndarray]] = {
        "plain loop": lambda: plain(session, encoded),
        "descriptor": lambda: ours(found, encoded),
    }
    one, other = (way() for way in ways.values())  # also warms up
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for k in range(args.rounds):
        for name in list(ways)[:: 1 if k % 2 else -1]:
            taken[name].append(seconds(ways[name]))
    print(f"{args.weights}, {PRESET}, {args.images} images of {SIDE} px, {cores()} threads")
    print(f"{'':12} {'images / s':>11} {'images / core s':>16}")
    rates = {}
    for name, times in taken.items():
        rates[name] = [args.images / statistics.median(column) for column in zip(*times, strict=True)]
        print(f"{name:12} {rates[name][0]:11.1f} {rates[name][1]:16.1f}")
    ratios = [b / a for a, b in zip(*rates.values(), strict=True)]
    print(f"{'ratio':12} {ratios[0]:10.2f}x {ratios[1]:15.2f}x")
    print(f"lowest similarity of the two: {(one * other).sum(1).min():.6f}")


if __name__ == "__main__":
    main()
