"""A folder of pictures of noise to build an index of."""

import io
from pathlib import Path

import numpy as np
from PIL import Image

COUNT = 23


def encoded(seed: int, kind: str = "PNG") -> bytes:
    values = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, kind)
    return buffer.getvalue()


def pictures(folder: Path, count: int = COUNT, first: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        (folder / f"{k}.png").write_bytes(encoded(first + k))
        (folder / f"{k}.txt").write_text(f"caption {k}")
    return folder
