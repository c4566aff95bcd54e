"""What the presets of SSCD make of edited copies and of different pictures: a table in Markdown.

    python benchmarks/presets.py [--weights mixup distilled FILE.torchscript.pt ...]

Mean similarity of each of scikit-image's 25 pictures to its edited copies, and mean and 95th percentile of all 300
pairs of them (two of which are alike: a stereo pair, and a chessboard in grey and in colour). Crops and squares are
in the middle.
"""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter, ImageOps
from skimage import data

import timing
from mnemoscope.errors import UsageError
from mnemoscope.features import Descriptor, descriptor
from mnemoscope.features.alpha import opaque
from mnemoscope.features.sscd import PRESETS

SMALL = "microaneurysms.png"  # 102 pixels wide: left out
ORDER = ("dcr-224", "crop-224", "sscd-320", "sscd-288")


def pictures() -> list[Image.Image]:
    folder = Path(data.__file__).parent
    files = sorted(f for f in folder.iterdir() if f.suffix in (".png", ".jpg") and f.name != SMALL)
    return [opaque(Image.open(file)) for file in files]


def jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=30)
    return Image.open(file).convert("RGB")


def crop(image: Image.Image, share: float) -> Image.Image:
    return _middle(image, *(round(share * side) for side in image.size))


def _middle(image: Image.Image, width: int, height: int) -> Image.Image:
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "jpeg30": jpeg,
    "crop 80 %": lambda i: crop(i, 0.8),
    "crop 50 %": lambda i: crop(i, 0.5),
    "blur 3": lambda i: i.filter(ImageFilter.GaussianBlur(3)),
    "gray": lambda i: i.convert("L").convert("RGB"),
    "flip": ImageOps.mirror,
    "centre square": lambda i: _middle(i, min(i.size), min(i.size)),
    "aspect x2": lambda i: i.resize((2 * i.width, i.height)),
}


def row(found: Descriptor, images: list[Image.Image]) -> list[str]:
    """Mean and 95th percentile of the negatives, then the mean similarity to each edited copy."""
    vectors = found(images)
    negatives = (vectors @ vectors.T)[np.triu_indices(len(images), 1)]
    edited = [(vectors * found([edit(i) for i in images])).sum(1).mean() for edit in EDITS.values()]
    return [f"{negatives.mean():.3f} / {np.percentile(negatives, 95):.3f}", *(f"{value:.3f}" for value in edited)]


def main() -> None:
    parser = timing.parser(__doc__)
    parser.add_argument("--pictures", type=int, help="only the first of them")
    parser.add_argument("--presets", nargs="+", choices=ORDER, default=ORDER)
    parser.add_argument("--weights", nargs="+", default=["mixup", "distilled"])
    args = timing.parsed(parser, weights=["mixup"], pictures=2, presets=["sscd-320"])
    assert set(ORDER) == set(PRESETS)
    images = pictures()[: args.pictures]
    print(f"| weights | preset | negatives mean / p95 | {' | '.join(EDITS)} |")
    print("|---|---|" + "---:|" * (1 + len(EDITS)))
    for weights in args.weights:
        for preset in args.presets:
            try:
                found = descriptor("sscd", preset=preset, weights=weights)
            except UsageError as e:
                parser.error(str(e))
            label = f"{weights} ({found.identity.weights})"
            print(f"| {label} | `{preset}` | {' | '.join(row(found, images))} |", flush=True)


if __name__ == "__main__":
    main()
