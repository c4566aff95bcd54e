"""DINOv2's vectors (arXiv:2304.07193), from the folder or hub id of a transformers model, with or without registers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.features.descriptors import Descriptor, chosen, side_by_side, unit_length
from mnemoscope.features.geometry import IMAGENET, Geometry, normalised
from mnemoscope.features.identity import Identity
from mnemoscope.features.pretrained import folder_of, load
from mnemoscope.features.torch_networks import evaluated
from mnemoscope.model.device import pick_device

CROP = 224
PRESETS = ["dino-cls", "dino-patch"]
TYPES = ("dinov2", "dinov2_with_registers")


def make(preset: str | None, weights: str | Path | None, device: str) -> Descriptor:
    """DINOv2 from a folder or hub id; there is no packaged one."""
    name = chosen("dino", preset, PRESETS)
    if weights is None:
        raise UsageError("The features dino need weights; give the folder or hub id of a DINOv2 model.")
    return Dino(name, weights, device)


class Dino(Descriptor):
    """Class token ("dino-cls") or patch tokens ("dino-patch") after the last norm; shorter side 256, crop 224, bicubic.

    The vector of "dino-patch" holds all patch tokens, each of unit length, over the root of their number: the inner
    product of two vectors is the mean cosine of the patches at the same place. `tokens` gives them one by one.
    """

    def __init__(self, preset: str, weights: str | Path, device: str = "auto") -> None:
        import transformers

        self.device = pick_device(device)
        folder = folder_of("DINOv2", weights)
        self.model, digest = load("DINOv2", transformers.AutoModel, folder, TYPES, self.device)
        config = self.model.config
        self.patches = (CROP // config.patch_size) ** 2
        self.skipped = 1 + getattr(config, "num_register_tokens", 0)
        dimension = config.hidden_size * (self.patches if preset == "dino-patch" else 1)
        geometry = Geometry(short=256, crop=CROP, resample="bicubic")
        super().__init__(Identity("dino", preset, digest, dimension), geometry)

    def tokens(self, images: Sequence[Image.Image]) -> Float[np.ndarray, "N T D"]:
        """Patch tokens of each image, row by row, each of unit length; the class token and registers are left out."""
        if self.identity.preset != "dino-patch":
            raise UsageError("Patch tokens belong to the preset dino-patch; ask for it.")
        return self.split(self(images))

    def split(self, vectors: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N T E"]:
        """The patch tokens, each of unit length, of vectors of "dino-patch", as a cache or an index keeps them."""
        return vectors.reshape(len(vectors), self.patches, -1) * np.float32(self.patches**0.5)

    def _vectors(self, images: Sequence[Image.Image]) -> Float[np.ndarray, "N D"]:
        arrays = side_by_side(lambda i: normalised(np.asarray(self.geometry(i)), IMAGENET), images)
        found = unit_length(evaluated(self._tokens, arrays, self.device))
        return found[:, 0] if self.identity.preset == "dino-cls" else self._joined(found)

    def _joined(self, tokens: Float[np.ndarray, "N T D"]) -> Float[np.ndarray, "N flat"]:
        return tokens.reshape(len(tokens), -1) / np.float32(self.patches**0.5)

    def _tokens(self, batch: Tensor) -> Tensor:
        hidden = self.model(pixel_values=batch).last_hidden_state
        return hidden[:, :1] if self.identity.preset == "dino-cls" else hidden[:, self.skipped :]
