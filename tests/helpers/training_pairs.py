"""Pictures with texts of the same names, and the training set of them."""

from pathlib import Path

from mnemoscope.training.data.dataset import TrainingSet
from mnemoscope.training.data.options import DataOptions
from picture_files import encoded, image, written

SIDE = 8


def pairs(folder: Path, count: int, first: int = 0) -> Path:
    """A folder of images with texts of the same names."""
    files: dict[str, bytes | str] = {}
    for k in range(first, first + count):
        files |= {f"{k}.png": encoded(image(k)), f"{k}.txt": f"text of {k}"}
    return written(folder, files)


def training(data: Path | str, tokenizer=None, **options) -> TrainingSet:
    return TrainingSet.from_options(DataOptions(str(data), **{"resolution": SIDE, **options}), tokenizer)
