"""What the images of a sweep are compared by, and from which similarity on one is a copy."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.features.raw_pixels import COPY
from mnemoscope.features.references import References
from mnemoscope.run.image_rows import SweepRow


def copy_limit(references: References, asked: float | None) -> float:
    """The similarity from which an image is a copy: what was asked for, or what holds for the descriptor."""
    by = references.descriptor
    if asked is not None or by is None:
        return COPY if asked is None else asked
    if by.threshold is None:
        told = f"From which similarity of {by.identity.features} on an image is a copy is not established"
        raise UsageError(f"{told}; give --replication-threshold.")
    return by.threshold


def similarity_text(references: References) -> str:
    """What the similarity of a sweep is."""
    if references.descriptor is None or references.descriptor.identity.features == "pixels":
        return "cosine of mean-removed pixels, 32 x 32, with the training image of the same caption"
    by = references.descriptor.identity
    vectors = f"{by.features} vectors, preset {by.preset}, weights {by.weights}"
    return f"cosine of {vectors}, with the training image of the same caption"


def enlarged(references: References, folder: Path, rows: Sequence[SweepRow]) -> list[str]:
    """A note for the summary where images or references are smaller than what a network sees."""
    by = references.descriptor
    if by is None or by.identity.features == "pixels":
        return []
    small = sum(by.geometry.enlarges(*_size(folder / row["file"])) for row in rows if row["status"] == "ok")
    if not small and not references.upsampled:
        return []
    told = f"{small:,} images and {references.upsampled:,} references are smaller than what the network sees"
    return [f"{told}: enlarged, they score too low against sharp ones."]


def _size(file: Path) -> tuple[int, int]:
    with Image.open(file) as image:
        return image.size
