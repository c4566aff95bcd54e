"""Whether simple training images are copied more (Somepalli et al., NeurIPS 2023, arXiv:2305.20086)."""

import numpy as np

from mnemoscope import registry
from mnemoscope.measuring.bootstrap import Estimates
from mnemoscope.measuring.comparison import Comparison, Measured
from mnemoscope.measuring.complexity import at_size
from mnemoscope.measuring.complexity import complexity as complexity_of
from mnemoscope.measuring.correlation import correlation

QUANTITIES = ("entropy", "jpeg_size", "total_variation", "mixed")


@registry.measure(paper="arXiv:2305.20086", needs=("references", "reference images"))
def complexity(
    comparison: Comparison, *, size: int | None = 224, permutations: int = 1000, resamples: int = 1000
) -> Measured:
    """Complexity of the nearest reference of each image, and its correlation with their similarity.

    Entropy of the grey levels (nats), JPEG size (KiB), total variation and mixed, of the reference with its shorter
    side resized to `size` and the square in the middle, or as it is if None. Correlations in [-1, 1] have a `_p` that
    permutes references, since several images may match the same one, and intervals that draw references anew.
    """
    similarity, positions = (side[:, 0].copy() for side in comparison.nearest)
    known = {position: complexity_of(at_size(image, size)) for position, image in comparison.matched_images()}
    matches = positions.tolist()
    values = {name: np.array([known[match][name] for match in matches]) for name in known[matches[0]]}
    drawn = {"permutations": permutations, "resamples": resamples, "seed": comparison.seed}
    correlations = {name: correlation(similarity, values[name], matches, **drawn) for name in QUANTITIES}
    summary: Estimates = {"size": size, "references": len(known)} | {
        f"{n}_mean": float(values[n].mean()) for n in QUANTITIES
    }
    for name, values_of in correlations.items():
        summary |= {f"{name}_{k}": v for k, v in values_of.items() if k.startswith(("pearson", "spearman"))}
    columns = {f"match_{name}": each.tolist() for name, each in values.items()}
    arrays = {"similarity": similarity} | {name: values[name] for name in QUANTITIES}
    notes = dict.fromkeys(note for each in correlations.values() for note in each["notes"])
    return Measured(columns, summary, arrays, list(notes))
