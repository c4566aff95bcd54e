"""Prompt alignment: whether an image shows what its prompt asks for."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.loading import pick_device

CONCEPTS = "concepts"
BATCH = 32  # images at a time
BYTES = 256  # a CLIP tokenizer knows at least these


@runtime_checkable
class Aligner(Protocol):
    """A measure of alignment: `name` says what the number is, `range` where it lies."""

    name: str
    range: tuple[float, float]

    def align(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Float[np.ndarray, " N"]:
        """The alignment of each image with its prompt, higher = better; NaN where it is undefined."""


class NearestConcept:
    """Retrieval among the bundled model's concepts; only its own prompts have one, and those not unseen."""

    range = (0.0, 1.0)

    def __init__(self) -> None:
        from mnemoscope.demo import concepts

        self.concepts, self.of_prompts = concepts.load(), concepts.of_prompts()
        count = len(self.concepts.names)
        self.name = (
            f"Whether the prompt's concept is the one nearest to the image among the bundled model's {count} "
            f"(1 or 0; chance {1 / count:.3f})."
        )

    def align(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Float[np.ndarray, " N"]:
        """1 where the prompt's concept is the nearest to the image, else 0; NaN where the prompt has no concept."""
        _check_pairs(images, prompts)
        known = [k for k, p in enumerate(prompts) if p in self.of_prompts]
        own = [self.of_prompts[prompts[k]] for k in known]
        found = np.full(len(prompts), np.nan)
        found[known] = self.concepts.rank([images[k] for k in known], own) == 0
        return found

    def similarity(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Float[np.ndarray, " N"]:
        """Cosine between each image and its prompt's concept, in [-1, 1]; NaN where the prompt has none."""
        _check_pairs(images, prompts)
        return self.concepts.similarity(images, prompts)


class ClipCosine:
    """CLIP's own measure, from the folder or hub id of a `CLIPModel` with its tokenizer and image processor."""

    range = (-1.0, 1.0)

    def __init__(self, weights: str, device: str = "auto") -> None:
        self.name = f"Cosine of the image's and the prompt's embeddings by CLIP ({weights})."
        place = pick_device(device)
        self.model, self.tokenizer, self.processor = _clip(weights)
        self.model = self.model.to(place).eval().requires_grad_(False)

    def align(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Float[np.ndarray, " N"]:
        """Cosine of the embeddings of each image and its prompt; what exceeds CLIP's context is cut off."""
        _check_pairs(images, prompts)
        parts = [slice(k, k + BATCH) for k in range(0, len(prompts), BATCH)]
        return np.concatenate([np.zeros(0), *(self._cosine(images[p], list(prompts[p])) for p in parts)])

    @torch.no_grad()
    def _cosine(self, images: Sequence[Image.Image], prompts: list[str]) -> Float[np.ndarray, " N"]:
        most = self.model.config.text_config.max_position_embeddings
        words = self.tokenizer(prompts, padding=True, truncation=True, max_length=most, return_tensors="pt")
        pixels = self.processor([i.convert("RGB") for i in images], return_tensors="pt").pixel_values
        out = self.model(
            input_ids=words.input_ids.to(self.model.device),
            attention_mask=words.attention_mask.to(self.model.device),
            pixel_values=pixels.to(self.model.device, self.model.dtype),
        )
        return (out.image_embeds * out.text_embeds).sum(1).cpu().double().numpy()  # they have unit length


def aligner(name: str, device: str = "auto") -> Aligner:
    """The measure of that name: "concepts", for the bundled model's prompts, or CLIP from a folder or hub id.

    Raises `UsageError` where there are no such weights, or other ones than CLIP's.
    """
    return NearestConcept() if name == CONCEPTS else ClipCosine(name, device)


def _check_pairs(images: Sequence[Image.Image], prompts: Sequence[str]) -> None:
    if len(images) != len(prompts):
        raise UsageError(f"{len(images)} images and {len(prompts)} prompts were given; give one prompt for each image.")


def _clip(weights: str) -> tuple[Any, Any, Any]:
    """Model, tokenizer and image processor; the latter is the one that does without torchvision."""
    import transformers

    pil = "CLIPImageProcessorPil" if hasattr(transformers, "CLIPImageProcessorPil") else "CLIPImageProcessor"
    try:
        if (kind := transformers.AutoConfig.from_pretrained(weights).model_type) != "clip":
            raise ValueError(f"it holds a model of the type {kind}")
        model, info = transformers.CLIPModel.from_pretrained(
            weights, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(weights)
        processor = getattr(transformers, pil).from_pretrained(weights)
    except Exception as e:  # transformers and the hub client raise many kinds for weights that are missing or broken
        why = next((line.strip() for line in str(e).splitlines() if line.strip()), type(e).__name__)
        raise UsageError(
            f"'{weights}' could not be loaded as CLIP; give '{CONCEPTS}', or the folder or hub id of a CLIPModel with "
            f"its tokenizer and image processor: {why[:300]}"
        ) from e
    _check_whole(weights, model, sorted(info["missing_keys"]), len(tokenizer))
    return model, tokenizer, processor


def _check_whole(weights: str, model: Any, lacking: list[str], tokens: int) -> None:
    """Refuse what transformers fills up with random weights, or with a tokenizer that knows no words."""
    if lacking:
        raise UsageError(f"'{weights}' lacks {len(lacking)} of CLIP's weights, {lacking[0]} among them; save it whole.")
    expected = model.config.text_config.vocab_size
    if not BYTES < tokens <= expected:
        raise UsageError(
            f"The tokenizer in '{weights}' knows {tokens} tokens and its text model {expected}; save CLIP's own there."
        )
