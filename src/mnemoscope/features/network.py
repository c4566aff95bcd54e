"""Any image network in TorchScript as features for FID, KID and their kin: vectors as they come, not of unit length."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.features.descriptors import Descriptor, chosen, side_by_side
from mnemoscope.features.geometry import IMAGENET, Geometry, Statistics, normalised, squashed_in_float
from mnemoscope.features.identity import Identity, weights_of
from mnemoscope.features.torch_networks import dimension_of, evaluated, load_script
from mnemoscope.model.device import pick_device

LEVELS = ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))  # 0 to 255
SIGNED = ((128 / 255, 128 / 255, 128 / 255), (128 / 255, 128 / 255, 128 / 255))  # (x - 128) / 128


@dataclass(frozen=True)
class Preset:
    """How images are cut and normalised; `probe` is the side of a square image that the network surely takes.

    `rounded` is whether resizing gives whole grey levels, as it does in torchvision.
    """

    geometry: Geometry
    statistics: Statistics
    probe: int
    rounded: bool = True


PRESETS = {
    "imagenet-224": Preset(Geometry(short=256, crop=224), IMAGENET, 224),
    "inception-299": Preset(Geometry(square=299, resample="bicubic"), SIGNED, 299, rounded=False),
    "levels": Preset(Geometry(), LEVELS, 299),
}


def make(preset: str | None, weights: str | Path | None, device: str) -> Descriptor:
    """The network of a TorchScript file; there are no packaged ones."""
    if weights is None:
        raise UsageError(
            "The features network need weights; give the path of a TorchScript file that maps images to vectors."
        )
    return Script(chosen("network", preset, list(PRESETS)), Path(weights), device)


class Script(Descriptor):
    """A TorchScript network; one that can return features instead of classes (`return_features`) is asked to."""

    unit = False

    def __init__(self, preset: str, file: Path, device: str) -> None:
        self.device = pick_device(device)
        self.network = load_script(file, self.device)
        names = [argument.name for argument in self.network.forward.schema.arguments]
        self.options = {"return_features": True} if "return_features" in names else {}
        self.preset = PRESETS[preset]
        dimension = dimension_of(self._features, self.preset.probe, self.device, file)
        super().__init__(Identity("network", preset, weights_of([file]), dimension), self.preset.geometry)

    def _features(self, batch: Tensor) -> Tensor:
        return self.network(batch, **self.options)

    def _vectors(self, images: Sequence[Image.Image]) -> Float[np.ndarray, "N D"]:
        return evaluated(self._features, side_by_side(self._array, images), self.device)

    def _array(self, image: Image.Image) -> Float[np.ndarray, "3 h w"]:
        side = self.geometry.square
        if side is not None and not self.preset.rounded:
            return normalised(squashed_in_float(image, side), self.preset.statistics)
        return normalised(np.asarray(self.geometry(image)), self.preset.statistics)
