"""Vectors of DINO (arXiv:2104.14294) and DINOv2 (arXiv:2304.07193), from a folder or hub id of transformers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.features.descriptors import Descriptor, side_by_side, unit_length
from mnemoscope.features.geometry import HALF, IMAGENET, Geometry, normalised
from mnemoscope.features.identity import Identity
from mnemoscope.features.pretrained import folder_of, load
from mnemoscope.features.torch_networks import evaluated, multiscaled
from mnemoscope.features.variants import Variant
from mnemoscope.model.device import pick_device

CROP = 224
PRESETS = {  # geometry, statistics
    "dino-cls": (Geometry(short=256, crop=CROP, resample="bicubic"), IMAGENET),
    "dino-patch": (Geometry(short=256, crop=CROP, resample="bicubic"), IMAGENET),
    "dcr-cls": (Geometry(short=256, crop=CROP), HALF),
    "dcr-patch": (Geometry(short=256, crop=CROP), HALF),
}
V1 = "vit"
TYPES = (V1, "dinov2", "dinov2_with_registers")
NAME = "DINO or DINOv2"


def make(preset: str | None, weights: str | Path | None, device: str) -> Descriptor:
    """DINO or DINOv2 from a folder or hub id; there is no packaged one."""
    variant = Variant.of("dino", preset, list(PRESETS))
    if weights is None:
        raise UsageError("The features dino need weights; give the folder or hub id of a DINO or DINOv2 model.")
    return Dino(variant, weights, device)


class Backbone:
    """The networks of DINO and DINOv2 alike; a plain vision transformer without the head that DINO never had."""

    @staticmethod
    def from_pretrained(folder: Path, **how: Any) -> Any:
        import transformers

        is_plain = transformers.AutoConfig.from_pretrained(folder).model_type == V1
        own = {"add_pooling_layer": False} if is_plain else {}
        return transformers.AutoModel.from_pretrained(folder, **own, **how)


class Dino(Descriptor):
    """Class token ("dino-cls") or patch tokens ("dino-patch") after the last norm; shorter side 256, crop 224, bicubic.

    "dcr-cls" and "dcr-patch" are the same under the bilinear geometry and the statistics of Somepalli et al.
    (arXiv:2305.20086). `+layer2` takes the last block but one, under the same norm; `+multiscale` the mean of class
    tokens at three scales. The vector of patches holds all patch tokens, each of unit length, over the root of their
    number: the inner product of two vectors is the mean cosine of the patches at the same place. `tokens` gives them
    one by one.
    """

    def __init__(self, variant: Variant, weights: str | Path, device: str = "auto") -> None:
        self.device, self.variant = pick_device(device), variant
        self.has_patches = variant.preset.endswith("patch")
        folder = folder_of(NAME, weights)
        self.model, digest = load(NAME, Backbone, folder, TYPES, self.device)
        config = self.model.config
        if variant.layer > config.num_hidden_layers:
            has = f"{config.num_hidden_layers} blocks"
            raise UsageError(f"--layer {variant.layer} was asked for, and {folder} has {has}; give a lower one.")
        if variant.multiscale and self.has_patches:
            raise UsageError("--multiscale averages class tokens; take the preset dino-cls, or leave it out.")
        self.patches = (CROP // config.patch_size) ** 2
        self.skipped = 1 + getattr(config, "num_register_tokens", 0)
        self.network = multiscaled(self._tokens) if variant.multiscale else self._tokens
        self.how = {"interpolate_pos_encoding": True} if config.model_type == V1 else {}  # DINOv2 always does
        dimension = config.hidden_size * (self.patches if self.has_patches else 1)
        super().__init__(Identity("dino", str(variant), digest, dimension), PRESETS[variant.preset][0])

    def tokens(self, images: Sequence[Image.Image]) -> Float[np.ndarray, "N T D"]:
        """Patch tokens of each image, row by row, each of unit length; the class token and registers are left out."""
        if not self.has_patches:
            raise UsageError("Patch tokens belong to the preset dino-patch; ask for it.")
        return self.split(self(images))

    def split(self, vectors: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N T E"]:
        """The patch tokens, each of unit length, of vectors of patches, as a cache or an index keeps them."""
        return vectors.reshape(len(vectors), self.patches, -1) * np.float32(self.patches**0.5)

    def _vectors(self, images: Sequence[Image.Image]) -> Float[np.ndarray, "N D"]:
        statistics = PRESETS[self.variant.preset][1]
        arrays = side_by_side(lambda i: normalised(np.asarray(self.geometry(i)), statistics), images)
        vectors = unit_length(evaluated(self.network, arrays, self.device))
        return self._joined(vectors) if self.has_patches else vectors[:, 0]

    def _joined(self, tokens: Float[np.ndarray, "N T D"]) -> Float[np.ndarray, "N flat"]:
        return tokens.reshape(len(tokens), -1) / np.float32(self.patches**0.5)

    def _tokens(self, batch: Tensor) -> Tensor:
        hidden = self._hidden(batch)
        return hidden[:, self.skipped :] if self.has_patches else hidden[:, :1]

    def _hidden(self, batch: Tensor) -> Tensor:
        if self.variant.layer == 1:
            return self.model(pixel_values=batch, **self.how).last_hidden_state
        states = self.model(pixel_values=batch, output_hidden_states=True, **self.how).hidden_states
        return self.model.layernorm(states[-self.variant.layer])
