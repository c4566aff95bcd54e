"""CLIP's image and text vectors (arXiv:2103.00020), from the folder or hub id of a transformers `CLIPModel`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.features.descriptors import Descriptor, chosen, side_by_side, unit_length
from mnemoscope.features.geometry import Geometry, normalised
from mnemoscope.features.identity import Identity
from mnemoscope.features.pretrained import first_line, folder_of, load
from mnemoscope.features.torch_networks import evaluated
from mnemoscope.model.device import pick_device

BYTES = 256  # a CLIP tokenizer knows at least these
HINT = "give the folder or hub id of a CLIPModel with its tokenizer and image processor"


def make(preset: str | None, weights: str | Path | None, device: str) -> Descriptor:
    """CLIP from a folder or hub id; there is no packaged one."""
    chosen("clip", preset, ["clip"])
    if weights is None:
        raise UsageError(f"The features clip need weights; {HINT}.")
    return Clip(weights, device)


class Clip(Descriptor):
    """Images and texts in one space: their inner product is the cosine that a CLIP score is made of, not times 100.

    Images: shorter side, bicubic, then a centre crop, with the sizes and statistics of the model's own image processor.
    """

    def __init__(self, weights: str | Path, device: str = "auto") -> None:
        import transformers

        self.device = pick_device(device)
        folder = folder_of("CLIP", weights)
        self.model, digest = load("CLIP", transformers.CLIPModel, folder, ("clip",), self.device)
        self.tokenizer, processor = _companions(folder, self.model.config.text_config.vocab_size)
        self.statistics = (tuple(processor.image_mean), tuple(processor.image_std))
        self.most = self.model.config.text_config.max_position_embeddings
        geometry = Geometry(
            short=processor.size["shortest_edge"], crop=processor.crop_size["height"], resample="bicubic"
        )
        super().__init__(Identity("clip", "clip", digest, self.model.config.projection_dim), geometry)

    def images(self, images: Sequence[Image.Image]) -> Float[np.ndarray, "N D"]:
        """Unit vectors of images."""
        return self(images)

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "N D"]:
        """Unit vectors of texts; what exceeds the context (77 tokens in all published models) is cut off."""
        if not texts:
            return np.zeros((0, self.identity.dimension), dtype=np.float32)
        told = self.tokenizer(list(texts), padding="max_length", truncation=True, max_length=self.most)
        rows = np.stack([np.array(told["input_ids"]), np.array(told["attention_mask"])], axis=1)
        return unit_length(evaluated(self._text_vectors, list(rows), self.device))

    def truncated(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is longer than the context, so that its end does not count."""
        return [len(ids) > self.most for ids in self.tokenizer(list(texts))["input_ids"]] if texts else []

    def _vectors(self, images: Sequence[Image.Image]) -> Float[np.ndarray, "N D"]:
        arrays = side_by_side(lambda i: normalised(np.asarray(self.geometry(i)), self.statistics), images)
        return unit_length(evaluated(self._image_vectors, arrays, self.device))

    def _image_vectors(self, batch: Tensor) -> Tensor:
        return self.model.visual_projection(self.model.vision_model(pixel_values=batch).pooler_output)

    def _text_vectors(self, batch: Tensor) -> Tensor:
        ids, mask = batch.unbind(1)
        return self.model.text_projection(self.model.text_model(input_ids=ids, attention_mask=mask).pooler_output)


def _companions(folder: Path, vocabulary: int) -> tuple[Any, Any]:
    """Tokenizer and image processor; the latter is the one that does without torchvision."""
    import transformers

    pil = "CLIPImageProcessorPil" if hasattr(transformers, "CLIPImageProcessorPil") else "CLIPImageProcessor"
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        processor = getattr(transformers, pil).from_pretrained(folder)
    except Exception as e:  # transformers raises many kinds for files that are missing or broken
        raise UsageError(f"{folder} lacks what belongs to CLIP ({first_line(e)}); {HINT}.") from e
    if not BYTES < len(tokenizer) <= vocabulary:
        raise UsageError(
            f"The tokenizer in {folder} knows {len(tokenizer)} tokens and its text model {vocabulary}; "
            "save CLIP's own there."
        )
    return tokenizer, processor
