"""Generated images and what they are compared with: read once, embedded once, matched once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.features import Descriptor
from mnemoscope.features.alignment import Aligner, other_prompts
from mnemoscope.measuring.multiplicity import Multiplicity
from mnemoscope.pictures import Picture
from mnemoscope.search.topk import top_k

TOGETHER = 32  # images in memory while alignment is measured
NO_JUDGE = "There is nothing to measure alignment with; give --alignment."


@dataclass(frozen=True)
class Generated:
    """A generated image: what was asked for, what the model read, and the same seed's image without mitigation."""

    picture: Picture
    prompt: str | None = None
    used: str | None = None
    prompt_id: str = ""
    seed: int | None = None
    kind: str | None = None
    label: bool | None = None
    mitigation: tuple[str, ...] = ()
    baseline: Picture | None = None


@runtime_checkable
class Corpus(Protocol):
    """Reference images by position: their names, captions and vectors, and the images themselves where they are."""

    @property
    def keys(self) -> Sequence[str]: ...

    @property
    def captions(self) -> Sequence[tuple[str, ...]]: ...

    def blocks(self) -> Iterator[Float[np.ndarray, "B D"]]:
        """Unit vectors of all references in order, some at a time."""

    def image(self, position: int) -> Image.Image | None:
        """The image itself; None where only its vector is known."""


@dataclass(frozen=True)
class ImageFeatures:
    """Another network's features of both sides, rows in the same order, not of unit length."""

    name: str
    generated: Float[np.ndarray, "N F"]
    reference: Float[np.ndarray, "M F"] | None


@dataclass(frozen=True)
class Measured:
    """What a measure says: a value for each generated image, a summary over all of them, and arrays to draw.

    A summary's key with `_interval` behind it is the 95 % interval of that number.
    """

    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Comparison:
    """Generated images beside references; every number that measures share is computed on first use and kept."""

    generated: Sequence[Generated]
    vectors: Float[np.ndarray, "N D"]
    descriptor: Descriptor
    corpus: Corpus | None = None
    threshold: float = 0.5
    top: int = 10
    baseline_vectors: Float[np.ndarray, "N D"] | None = None
    tokens: tuple[Float[np.ndarray, "N T E"], Float[np.ndarray, "M T E"]] | None = None
    features: ImageFeatures | None = None
    aligner: Aligner | None = None
    held_out: Sequence[Picture] = ()  # images the model never saw, as a control
    multiplicity: Multiplicity | None = None  # how often the training data show each reference
    seed: int = 0

    @property
    def known(self) -> frozenset[str]:
        """What there is of all that a measure may need."""
        there = {
            "references": self.corpus is not None,
            "reference images": self.corpus is not None and self.corpus.image(0) is not None,
            "captions of references": self.corpus is not None and any(self.corpus.captions),
            "own references": self.corpus is not None and any(self.own),
            "unmitigated images": self.baseline_vectors is not None,
            "several images a prompt": len(set(self.groups.tolist())) < len(self.generated),
            "prompts": all(g.prompt is not None for g in self.generated),
            "an alignment": self.aligner is not None,
            "a feature network": self.features is not None,
            "patch tokens": self.tokens is not None,
            "counts of duplicates": self.multiplicity is not None,
        }
        return frozenset(name for name, known in there.items() if known)

    @property
    def references(self) -> Corpus:
        """The references; raises `UsageError` where there are none."""
        if self.corpus is None:
            raise UsageError("No references were given to compare with; give --references DIR or an index.")
        return self.corpus

    @cached_property
    def reference_vectors(self) -> Float[np.ndarray, "M D"]:
        """Unit vectors of all references at once."""
        return np.concatenate([np.asarray(block, np.float32) for block in self.references.blocks()])

    @cached_property
    def nearest(self) -> tuple[Float[np.ndarray, "N k"], Int[np.ndarray, "N k"]]:
        """Similarities and positions of the nearest references of each image, nearest first."""
        k = min(self.top, len(self.references.keys))
        return top_k(self.vectors, self.references.blocks(), k)

    @cached_property
    def own(self) -> tuple[tuple[int, ...], ...]:
        """Positions of the references whose caption is the image's prompt, for each image; there may be several."""
        if self.corpus is None:
            return ((),) * len(self.generated)
        known: dict[str, list[int]] = {}
        for position, captions in enumerate(self.corpus.captions):
            for caption in dict.fromkeys(map(_folded, captions)):
                known.setdefault(caption, []).append(position)
        return tuple(tuple(known.get(_folded(g.prompt), ())) if g.prompt else () for g in self.generated)

    @cached_property
    def own_similarity(self) -> tuple[Float[np.ndarray, " own"], ...]:
        """Similarities of each image to each of its own references."""
        return tuple(
            self.reference_vectors[list(places)] @ vector for places, vector in zip(self.own, self.vectors, strict=True)
        )

    @cached_property
    def asked_alignment(self) -> Float[np.ndarray, " N"]:
        """Alignment of each image with the prompt asked for; NaN where it is undefined."""
        return self.aligned((g.picture.image(), str(g.prompt)) for g in self.generated)

    @cached_property
    def used_alignment(self) -> Float[np.ndarray, " N"]:
        """Alignment of each image with the prompt that the model read, which a mitigation may have changed."""
        if all(g.used in (None, g.prompt) for g in self.generated):
            return self.asked_alignment
        return self.aligned((g.picture.image(), str(g.prompt if g.used is None else g.used)) for g in self.generated)

    def chance_alignment(self, text: Literal["original", "used"]) -> Float[np.ndarray, " N"]:
        """What images are aligned by chance (`mnemoscope.features.alignment.by_chance`); NaN where nothing says it."""
        texts = [str(g.prompt if text == "original" or g.used is None else g.used) for g in self.generated]
        known, others = getattr(self.aligner, "chance", None), other_prompts(texts)
        if known is not None or not others:
            return np.full(len(texts), np.nan if known is None else float(known))
        return self.aligned((g.picture.image(), others[t]) for g, t in zip(self.generated, texts, strict=True))

    @property
    def judge(self) -> str:
        """What alignment is measured with; raises `UsageError` where there is nothing."""
        if self.aligner is None:
            raise UsageError(NO_JUDGE)
        return self.aligner.name

    def aligned(self, pairs: Iterable[tuple[Image.Image, str]]) -> Float[np.ndarray, " _"]:
        """Alignment of images with texts, some in memory at a time; raises `UsageError` without a judge of it."""
        if self.aligner is None:
            raise UsageError(NO_JUDGE)
        left, values = iter(pairs), [np.empty(0)]
        while some := list(islice(left, TOGETHER)):
            images, texts = zip(*some, strict=True)
            values.append(self.aligner.align(images, texts))
        return np.concatenate(values)

    @cached_property
    def groups(self) -> Int[np.ndarray, " N"]:
        """A number for each image's prompt, in order of first appearance."""
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(g.prompt_id or g.picture.key, len(numbers)) for g in self.generated])

    def matched_images(self) -> Iterator[tuple[int, Image.Image]]:
        """The nearest reference of each image, each reference once, with its position."""
        for position in dict.fromkeys(self.nearest[1][:, 0].tolist()):
            image = self.references.image(position)
            if image is not None:
                yield position, image


def _folded(caption: str) -> str:
    return " ".join(caption.split())
