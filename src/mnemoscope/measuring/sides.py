"""The two sides of a comparison, read and embedded: generated images, references, and what helps to judge them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.features import Cache, Descriptor, comparable
from mnemoscope.features.alignment import Aligner
from mnemoscope.measuring.comparison import Comparison, Corpus, Generated, ImageFeatures
from mnemoscope.measuring.multiplicity import read_multiplicity
from mnemoscope.pictures import Picture, open_source
from mnemoscope.pictures.counting import CaptionCounts, caption_counts
from mnemoscope.run.progress import Progress
from mnemoscope.search.shards import Index

BLOCK = 4096  # vectors at a time


@dataclass(frozen=True)
class Sources:
    """What generated images are compared with: training images or an index of them, and networks that judge images.

    `pictures` are references that were listed before, in the place of a name of them.
    """

    references: str | None = None
    captions: Path | None = None
    column: str | None = None
    held_out: str | None = None
    duplicates: Path | None = None
    aligner: Aligner | None = None
    network: Descriptor | None = None
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class ListedSources:
    """What the sources hold, before any image is read: references as pictures or as an index, and held-out images."""

    references: Index | list[Picture] | None
    held_out: list[Picture]
    threshold: float
    captions: CaptionCounts | None = None  # how many references have one, and which have no reference


def listed(sources: Sources, descriptor: Descriptor, threshold: int | float | None) -> ListedSources:
    """The sources as they are listed, and the similarity from which an image is a copy.

    Raises `UsageError` for a source that cannot be listed, for an index made with other features, and where neither the
    threshold nor the descriptor says what a copy is.
    """
    limit = descriptor.threshold if threshold is None else threshold
    if limit is None:
        name = descriptor.identity.features
        raise UsageError(
            f"Nobody has established from which similarity of {name} an image is a copy; give --threshold."
        )
    references: Index | list[Picture] | None = list(sources.pictures) or None
    captions = None
    if sources.references and (Path(sources.references) / "meta.json").is_file():
        references = Index.open(sources.references)
        comparable(references.identity, descriptor.identity)
    elif sources.references:
        opened = open_source(sources.references, captions=sources.captions, column=sources.column)
        references = list(opened)
        captions = caption_counts([bool(picture.captions) for picture in references], opened)
    held_out = list(open_source(sources.held_out)) if sources.held_out else []
    return ListedSources(references, held_out, float(limit), captions)


class ImageReferences:
    """References that are images: those that can be read, with their vectors."""

    def __init__(self, pictures: Sequence[Picture], vectors: Float[np.ndarray, "M D"]) -> None:
        self.pictures, self.vectors = pictures, vectors
        self.keys = [p.key for p in pictures]
        self.captions = [p.captions for p in pictures]

    def blocks(self) -> Iterator[Float[np.ndarray, "B D"]]:
        for start in range(0, len(self.vectors), BLOCK):
            yield self.vectors[start : start + BLOCK]

    def image(self, position: int) -> Image.Image | None:
        return self.pictures[position].image()


class Indexed:
    """References of an index: their vectors, shard by shard; the images are not there."""

    def __init__(self, index: Index) -> None:
        self.index = index
        rows = [row for shard in index.shards for row in shard.listed_rows()]
        self.keys = [row["key"] for row in rows]
        self.captions = [(row["caption"],) if row["caption"] else () for row in rows]

    def blocks(self) -> Iterator[Float[np.ndarray, "B D"]]:
        return self.index.blocks()

    def image(self, position: int) -> Image.Image | None:
        return None


@dataclass(frozen=True)
class Sides:
    """A comparison, why images of either side could not be read, and how many are smaller than what a network sees."""

    comparison: Comparison
    unread: dict[str, str]
    unread_references: list[str]
    upsampled: int
    upsampled_references: int


def compared(
    generated: Sequence[Generated],
    descriptor: Descriptor,
    folder: Path,
    sources: Sources,
    there: ListedSources,
    *,
    top: int,
    seed: int,
) -> Sides:
    """The comparison of all images that can be read, their vectors kept in a folder.

    Raises `UsageError` where no image of a side can be read.
    """
    cache = Cache(folder, descriptor)
    vectors, failures = cache.vectors(_shown([g.picture for g in generated], "generated images"))
    upsampled = cache.upsampled
    kept = [g for k, g in enumerate(generated) if k not in failures]
    if not kept:
        raise UsageError(f"None of the {len(generated)} generated images can be read: {next(iter(failures.values()))}.")
    corpus, lost = _corpus(there, cache)
    theirs = cache.upsampled if isinstance(corpus, ImageReferences) else 0
    twins = [g.baseline for g in kept]
    comparison = Comparison(
        kept,
        vectors,
        descriptor,
        corpus=corpus,
        threshold=there.threshold,
        top=top,
        baseline_vectors=_all(cache, twins, "unmitigated") if all(twins) else None,  # type: ignore[arg-type]
        features=_features(sources.network, folder, kept, corpus) if sources.network else None,
        tokens=_tokens(descriptor, vectors, corpus) if corpus else None,
        aligner=sources.aligner,
        held_out=there.held_out,
        multiplicity=read_multiplicity(sources.duplicates, corpus.keys) if sources.duplicates and corpus else None,
        seed=seed,
    )
    return Sides(comparison, {generated[k].picture.key: why for k, why in failures.items()}, lost, upsampled, theirs)


def _corpus(there: ListedSources, cache: Cache) -> tuple[Corpus | None, list[str]]:
    if there.references is None or isinstance(there.references, Index):
        return (None if there.references is None else Indexed(there.references)), []
    pictures = there.references
    vectors, failures = cache.vectors(_shown(pictures, "references"))
    if not len(vectors):
        why = next(iter(failures.values()), "none is listed")
        raise UsageError(f"None of the {len(pictures)} references can be read ({why}); give images as --references.")
    unread = [f"{pictures[k].key}: {why}" for k, why in failures.items()]
    return ImageReferences([p for k, p in enumerate(pictures) if k not in failures], vectors), unread


def _all(cache: Cache, pictures: Sequence[Picture], what: str) -> Float[np.ndarray, "N D"]:
    vectors, failures = cache.vectors(_shown(pictures, f"{what} images"))
    for position, why in failures.items():
        raise UsageError(f"The {what} image {pictures[position].key} cannot be read: {why}.")
    return vectors


def _shown(pictures: Sequence[Picture], what: str) -> Iterator[Picture]:
    """The pictures under a progress bar."""
    with Progress() as bar:
        yield from bar.track(pictures, description=what)


def _tokens(
    descriptor: Descriptor, vectors: Float[np.ndarray, "N D"], corpus: Corpus
) -> tuple[Float[np.ndarray, "N T E"], Float[np.ndarray, "M T E"]] | None:
    """Patch tokens of both sides, for a descriptor whose vectors hold them."""
    if descriptor.identity.features != "dino":
        return None
    from mnemoscope.features.dino import Dino  # only now, as it brings torch

    if not isinstance(descriptor, Dino) or not descriptor.has_patches:
        return None
    return descriptor.split(vectors), descriptor.split(np.concatenate(list(corpus.blocks())))


def _features(network: Descriptor, folder: Path, kept: Sequence[Generated], corpus: Corpus | None) -> ImageFeatures:
    cache = Cache(folder, network)
    vectors = _all(cache, [g.picture for g in kept], "generated")
    reference = _all(cache, corpus.pictures, "reference") if isinstance(corpus, ImageReferences) else None
    return ImageFeatures(str(network.identity), vectors, reference)
