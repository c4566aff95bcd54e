"""Prompt alignment: whether an image shows what its prompt asks for."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from PIL import Image

from mnemoscope.errors import UsageError

CONCEPTS = "concepts"


@runtime_checkable
class Aligner(Protocol):
    """A measure of alignment: `name` says what the number is, `range` where it lies."""

    name: str
    range: tuple[float, float]

    def align(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Float[np.ndarray, " N"]:
        """The alignment of each image with its prompt, higher = better; NaN where it is undefined."""


class NearestConcept:
    """Retrieval among the bundled model's concepts; `of_prompts` names those of prompts, the bundled ones' if None.

    Bundled prompts have one where they are not unseen.
    """

    range = (0.0, 1.0)
    chance: float

    def __init__(self, of_prompts: Mapping[str, str] | None = None) -> None:
        from mnemoscope.demo import concepts

        self.concepts = concepts.load()
        self.of_prompts = concepts.of_prompts() if of_prompts is None else of_prompts
        count = len(self.concepts.names)
        self.chance = 1 / count
        self.name = (
            f"Whether the prompt's concept is the one nearest to the image among the bundled model's {count} "
            f"(1 or 0; chance {self.chance:.3f})."
        )

    def align(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Float[np.ndarray, " N"]:
        """1 where the prompt's concept is the nearest to the image, else 0; NaN where the prompt has no concept."""
        _check_pairs(images, prompts)
        known = [k for k, p in enumerate(prompts) if p in self.of_prompts]
        vectors = [self.of_prompts[prompts[k]] for k in known]
        similarities = np.full(len(prompts), np.nan)
        similarities[known] = self.concepts.rank([images[k] for k in known], vectors) == 0
        return similarities

    def similarity(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Float[np.ndarray, " N"]:
        """Cosine between each image and its prompt's concept, in [-1, 1]; NaN where the prompt has none."""
        _check_pairs(images, prompts)
        return self.concepts.similarity(images, prompts)


class ClipCosine:
    """CLIP's own measure, from the folder or hub id of a `CLIPModel` with its tokenizer and image processor."""

    range = (-1.0, 1.0)

    def __init__(self, weights: str, device: str = "auto") -> None:
        from mnemoscope.features.clip import Clip

        self.name = f"Cosine of the image's and the prompt's embeddings by CLIP ({weights})."
        self.clip = Clip(weights, device)
        self.asked = weights, device.partition(":")[0]

    def __reduce__(self) -> "tuple[Callable[..., ClipCosine], tuple[str, str]]":
        return _clip_again, self.asked

    def align(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> Float[np.ndarray, " N"]:
        """Cosine of the embeddings of each image and its prompt; what exceeds CLIP's context is cut off."""
        _check_pairs(images, prompts)
        shown, texts = self.clip.images(images), self.clip.texts(prompts)
        return np.einsum("nd,nd->n", shown.astype(np.float64), texts.astype(np.float64))


@lru_cache(maxsize=1)
def _clip_again(weights: str, device: str) -> ClipCosine:
    return ClipCosine(weights, device)


def aligner(name: str, device: str = "auto") -> Aligner:
    """The measure of that name: "concepts", for the bundled model's prompts, or CLIP from a folder or hub id.

    Raises `UsageError` where there are no such weights, or other ones than CLIP's.
    """
    if name == CONCEPTS:
        return NearestConcept()
    try:
        return ClipCosine(name, device)
    except UsageError as e:
        whole = "the folder or hub id of a CLIPModel with its tokenizer and image processor"
        raise UsageError(f"'{name}' cannot measure alignment; give '{CONCEPTS}', or {whole}: {e}") from e


def by_chance(
    measure: Aligner, images: Sequence[Image.Image], prompts: Sequence[str], others: Mapping[str, str]
) -> Float[np.ndarray, " N"]:
    """What the alignment of images would be if they had nothing to do with their prompts; NaN where nothing says it.

    The alignment of each image with another prompt, the one that `others` names for its own, or the measure's own
    number `chance` where it knows one without looking.
    """
    known = getattr(measure, "chance", None)
    if known is not None or not others:
        return np.full(len(images), np.nan if known is None else float(known))
    return measure.align(images, [others[prompt] for prompt in prompts])


def other_prompts(prompts: Iterable[str]) -> dict[str, str]:
    """For each prompt the next one that differs, the first one for the last; empty where all are alike."""
    distinct = list(dict.fromkeys(prompts))
    return dict(zip(distinct, distinct[1:] + distinct[:1], strict=True)) if len(distinct) > 1 else {}


def _check_pairs(images: Sequence[Image.Image], prompts: Sequence[str]) -> None:
    if len(images) != len(prompts):
        raise UsageError(f"{len(images)} images and {len(prompts)} prompts were given; give one prompt for each image.")
