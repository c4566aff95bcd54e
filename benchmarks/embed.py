"""Images embedded by SSCD, a second of a core: descriptors against the plain loop, alternating, medians.

    python benchmarks/embed.py [--images 64] [--rounds 5] [--weights mixup]

The plain loop opens, resizes and evaluates one image after the other in onnxruntime's default session. Ours is given
the same files. Both print images a second of wall time and of processor time; the similarity of the two results
shows that the same was computed. OMP_NUM_THREADS=1 gives both one thread.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image
from skimage import data

import timing
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


def main() -> None:
    parser = timing.parser(__doc__, rounds=5)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--weights", choices=list(PACKAGED), default="mixup")
    args = timing.parsed(parser, images=2)
    results = timing.Results(args.rows)
    encoded = files(args.images)
    session = session_of(packaged_file(args.weights))
    found = descriptor("sscd", preset=PRESET, weights=args.weights)
    pixels = np.zeros((1, 320, 320, 3), np.uint8)
    ways: dict[str, Callable[[], object]] = {
        "plain loop": lambda: plain(session, encoded),
        "descriptor": lambda: ours(found, encoded),
        "bound: the network alone": lambda: [session.run(None, {"image": pixels}) for _ in encoded],
    }
    taken = timing.in_turn(ways, args.rounds)
    what = f"SSCD {args.weights}, {PRESET}, JPEG of {SIDE} px, {cores()} threads"
    results.times(what, "an image", taken, each=args.images, bound="bound: the network alone")
    one, other = taken["plain loop"].last, taken["descriptor"].last
    results.say(f"Lowest similarity of the two: {(one * other).sum(1).min():.6f}.")


if __name__ == "__main__":
    main()
