"""Similarity patch by patch (Somepalli et al., CVPR 2023, arXiv:2212.03860)."""

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.measuring.comparison import Comparison, Measured
from mnemoscope.measuring.replication import distribution


@registry.measure(paper="arXiv:2212.03860", needs=("references", "patch tokens"), tells=("patch_score",))
def patch_similarity(
    comparison: Comparison, *, mode: Literal["aligned", "cross"] = "aligned", resamples: int = 1000
) -> Measured:
    """Largest cosine of a patch of an image with one of a reference, for the nearest reference in this sense.

    In [-1, 1], each patch descriptor of unit length: it sees a copied part in an otherwise new picture. `aligned`
    compares patches at the same place, `cross` each with each, which costs as many times more as there are patches.
    Intervals draw prompts anew.
    """
    if comparison.tokens is None:
        raise UsageError("There are no patch descriptors; give --features dino with its preset dino-patch.")
    generated, references = comparison.tokens
    scores, positions = nearest_by_patches(generated, [references], mode=mode)
    drawn = {"resamples": resamples, "seed": comparison.seed}
    keys = comparison.references.keys
    columns = {"patch_score": scores.tolist(), "patch_match": [keys[k] for k in positions.tolist()]}
    return Measured(columns, distribution(scores, comparison.groups, name="patches", **drawn))


Tokens = Float[np.ndarray, "_ _ _"]  # image, token, dimension
Mode = Literal["aligned", "cross"]
BLOCK = 1 << 23  # inner products in memory at a time
LEAST_NORM = 1e-12


def split_similarity(
    generated: Tokens,
    references: Tokens,
    *,
    mode: Mode = "aligned",
    drop_cls: bool = False,
    compat: Literal["dcr"] | None = None,
) -> Float[np.ndarray, "N M"]:
    """Largest cosine of patch tokens of each generated image with those of each reference, in [-1, 1].

    `aligned` compares tokens at the same place only, `cross` each with each. Every token is made of unit length;
    `drop_cls` leaves out the first, where that is the token of the class. `compat="dcr"` makes the tokens of an image
    of unit length together, as the released code does: the result is then the share that one token has in the
    similarity of whole images, and no cosine. At most 2^23 inner products, or those of one pair, are in memory at a
    time beside the result. Raises UsageError for tokens of another number or dimension, or none. Split product of
    arXiv:2212.03860.
    """
    ours, theirs = (_normalised(tokens, drop_cls, compat) for tokens in (generated, references))
    if ours.shape[1:] != theirs.shape[1:] or not ours.shape[1]:
        raise UsageError(
            f"Tokens of shapes {generated.shape[1:]} and {references.shape[1:]} were given; "
            "give the patch tokens of one descriptor at one resolution."
        )
    similarity = np.empty((len(ours), len(theirs)), dtype=np.float32)
    each = ours.shape[1] ** (2 if mode == "cross" else 1)
    for rows, columns in _tiles(len(ours), len(theirs), each):
        similarity[rows, columns] = _best(ours[rows], theirs[columns], mode)
    return similarity


def nearest_by_patches(
    generated: Tokens,
    blocks: Iterable[Tokens],
    *,
    mode: Mode = "aligned",
    drop_cls: bool = False,
    compat: Literal["dcr"] | None = None,
) -> tuple[Float[np.ndarray, " N"], Int[np.ndarray, " N"]]:
    """Split similarity and position of each image's nearest reference, of references that come in blocks.

    Of equally similar ones the first. Raises UsageError for no reference, and as `split_similarity` does.
    """
    best = np.full(len(generated), -np.inf, dtype=np.float32)
    positions, first = np.full(len(generated), -1), 0
    for block in blocks:
        similarity = split_similarity(generated, block, mode=mode, drop_cls=drop_cls, compat=compat)
        places = similarity.argmax(axis=1)
        reached = similarity[np.arange(len(best)), places]
        positions = np.where(reached > best, first + places, positions)
        best, first = np.maximum(best, reached), first + len(block)
    if not first:
        raise UsageError("There is no reference to compare patches with; give at least one.")
    return best, positions


def _normalised(tokens: Tokens, drop_cls: bool, compat: Literal["dcr"] | None) -> Tokens:
    kept = tokens[:, 1:] if drop_cls else tokens
    length = np.linalg.norm(kept, axis=(1, 2) if compat == "dcr" else 2, keepdims=True)
    return (kept / np.maximum(length, LEAST_NORM)).astype(np.float32)


def _tiles(rows: int, columns: int, each: int) -> Iterator[tuple[slice, slice]]:
    wide = max(1, min(columns, BLOCK // each))
    high = max(1, BLOCK // (each * wide))
    for row in range(0, rows, high):
        for column in range(0, columns, wide):
            yield slice(row, row + high), slice(column, column + wide)


def _best(ours: Tokens, theirs: Tokens, mode: Mode) -> Float[np.ndarray, "n m"]:
    if mode == "aligned":
        return np.matmul(ours.transpose(1, 0, 2), theirs.transpose(1, 2, 0)).max(axis=0)
    (n, tokens, dimension), m = ours.shape, len(theirs)
    products = ours.reshape(-1, dimension) @ theirs.reshape(-1, dimension).T
    return products.reshape(n, tokens, m, tokens).max(axis=(1, 3))
