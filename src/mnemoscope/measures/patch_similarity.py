"""Similarity patch by patch (Somepalli et al., CVPR 2023, arXiv:2212.03860)."""

from typing import Literal

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.measuring.comparison import Comparison, Measured
from mnemoscope.measuring.patches import nearest_by_patches
from mnemoscope.measuring.replication import distribution


@registry.measure(paper="arXiv:2212.03860", needs=("references", "patch tokens"))
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
