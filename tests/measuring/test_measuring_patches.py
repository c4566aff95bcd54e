"""Similarity patch by patch: planted patches, and plain loops."""

import sys

import numpy as np
import pytest

from mnemoscope.errors import UsageError
from mnemoscope.measures.patch_similarity import nearest_by_patches, split_similarity


def tokens(count, places=7, dimension=12, seed=0):
    """Token descriptors of any length, the first one that of the class."""
    return np.random.default_rng(seed).normal(size=(count, places, dimension)).astype(np.float32)


def plain(generated, references, mode, first):
    """One pair of tokens after the other."""

    def cosine(a, b):
        return float(a @ b / np.sqrt((a @ a) * (b @ b)))

    return np.array(
        [
            [
                max(
                    cosine(a, b)
                    for i, a in enumerate(g)
                    for j, b in enumerate(r)
                    if min(i, j) >= first and (i == j or mode == "cross")
                )
                for r in references
            ]
            for g in generated
        ]
    )


@pytest.mark.parametrize("mode", ["aligned", "cross"])
@pytest.mark.parametrize("drop_cls", [True, False])
@pytest.mark.parametrize("block", [1, 60, 1 << 23])
def test_split_similarity_is_the_largest_cosine_of_tokens(mode, drop_cls, block, monkeypatch):
    monkeypatch.setattr(sys.modules[split_similarity.__module__], "BLOCK", block)
    generated, references = tokens(5), tokens(4, seed=1)
    found = split_similarity(generated, references, mode=mode, drop_cls=drop_cls)
    assert found == pytest.approx(plain(generated, references, mode, int(drop_cls)), abs=1e-6)
    assert np.abs(found).max() <= 1 + 1e-6


def test_a_copied_patch_is_found_where_it_is_and_elsewhere_only_by_cross():
    generated, references = tokens(2, 50, 64), tokens(2, 50, 64, seed=1)
    generated[0, 9] = 3 * references[1, 9]  # tokens are normalised one by one
    generated[1, 9] = 5 * references[0, 20]
    aligned, cross = (split_similarity(generated, references, mode=mode) for mode in ("aligned", "cross"))
    assert aligned[0, 1] == pytest.approx(1) and aligned[1, 0] < 0.6
    assert cross[1, 0] == pytest.approx(1) and cross[1, 1] < 0.7


def test_the_class_token_can_be_left_out():
    generated, references = tokens(1, 20, 64), tokens(1, 20, 64, seed=1)
    generated[0, 0] = references[0, 0]
    assert split_similarity(generated, references, drop_cls=True)[0, 0] < 0.6
    assert split_similarity(generated, references)[0, 0] == pytest.approx(1)


def test_compat_gives_shares_of_the_whole_similarity():
    """Tokens of a vector of unit length: identical images have the largest token's share, and the shares sum to 1."""
    images = tokens(3)
    flat = images.reshape(3, -1) / np.linalg.norm(images.reshape(3, -1), axis=1, keepdims=True)
    products = np.einsum("ntd,mtd->nmt", flat.reshape(images.shape), flat.reshape(images.shape))
    found = split_similarity(images, images, compat="dcr")
    assert found == pytest.approx(products.max(axis=2), abs=1e-6)
    assert found[0, 0] < 0.5 and products[0, 0].sum() == pytest.approx(1)


def test_nearest_is_the_same_whatever_the_blocks():
    generated, references = tokens(6), tokens(11, seed=1)
    references[8] = references[2]  # a tie: the first
    generated[0] = references[2]
    whole = split_similarity(generated, references, mode="cross")
    for size in (11, 3):
        blocks = (references[k : k + size] for k in range(0, 11, size))
        scores, positions = nearest_by_patches(generated, blocks, mode="cross")
        assert scores == pytest.approx(whole.max(axis=1), abs=1e-6)
        assert (positions[1:] == whole.argmax(axis=1)[1:]).all() and positions[0] == 2


def test_tokens_of_different_networks_are_refused():
    for other in (tokens(2, 8), tokens(2, 7, 5)):
        with pytest.raises(UsageError, match="one descriptor at one resolution"):
            split_similarity(tokens(2), other)
    with pytest.raises(UsageError, match="one descriptor"):
        split_similarity(tokens(2, 1), tokens(2, 1), drop_cls=True)
    with pytest.raises(UsageError, match="no reference"):
        nearest_by_patches(tokens(2), [])
