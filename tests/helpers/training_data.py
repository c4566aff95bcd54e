"""A little data and a little training for the tests of the loop."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import tiny
from mnemoscope.training.data.dataset import TrainingSet
from mnemoscope.training.data.options import DataOptions
from mnemoscope.training.loop import train
from mnemoscope.training.objective import ObjectiveOptions
from mnemoscope.training.options import TrainOptions

SIDE = 2 * tiny.SIZE  # pixels of what the tiny autoencoder makes 8 x 8
SMALL = {"steps": 4, "batch_size": 2, "learning_rate": 1e-3, "device": "cpu", "checkpoint_every": 100}


def pictures(folder: Path, count: int = 6, seed: int = 0) -> Path:
    """Images of noise, each with a caption beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for k in range(count):
        Image.fromarray(rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / f"{k}.png")
        (folder / f"{k}.txt").write_text(f"thing {k} of {seed}")
    return folder


def data(folder: Path, **options: Any) -> TrainingSet:
    return TrainingSet.from_options(DataOptions(str(folder), **options), tiny.tokenizer(), resolution=SIDE)


def trained(found: TrainingSet, out: Path, pipe: Any = None, objective: Any = None, **options: Any) -> tuple[Any, dict]:
    """A pipeline after a short training, and the summary of its run; `options` may hold callbacks and overwrite."""
    pipe = pipe or tiny.stable_diffusion()
    how = {key: options.pop(key) for key in ("callbacks", "overwrite") if key in options}
    asked = ObjectiveOptions(**(objective or {}))
    return pipe, train(pipe, found, out, TrainOptions(**{**SMALL, **options}), asked, **how)
