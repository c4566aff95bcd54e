"""Whether generated vectors lie where the references do, and cover them, judged by nearest neighbours."""

from collections.abc import Hashable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from mnemoscope.measuring.bootstrap import Estimates, Share, estimates, mean
from mnemoscope.measuring.distances import SAME, blocks, radii, two_sets

Generated = Float[np.ndarray, "N D"]
Reference = Float[np.ndarray, "M E"]
Prompts = Sequence[Hashable] | None


def precision_recall(
    generated: Generated, reference: Reference, *, k: int = 3, strict: bool = False
) -> dict[str, Bool[np.ndarray, " _"]]:
    """Which generated vectors lie in the references' balls (`precise`), and which references in the generated ones'
    (`recalled`).

    The ball of a vector reaches to its k-th nearest other one of its own set; `strict` leaves out the rim, as the code
    of arXiv:2212.03860 does and torch-fidelity does not. The shares of the two are improved precision and recall, in
    [0, 1], which compare only at equal features, k and numbers of vectors. Copies of references count as precise.
    Raises UsageError unless both sets have more than k finite vectors of one dimension. arXiv:1904.06991, equation 1.
    """
    two_sets(generated, reference)
    balls, radii_generated = radii(reference, k), radii(generated, k)
    precise, recalled = np.zeros(len(generated), bool), np.zeros(len(reference), bool)
    for rows, apart in blocks(generated, reference):
        precise[rows] = _inside(apart, balls, strict).any(axis=1)
        recalled |= _inside(apart, radii_generated[rows, None], strict).any(axis=0)
    return {"precise": precise, "recalled": recalled}


def density_coverage(
    generated: Generated, reference: Reference, *, k: int = 5, strict: bool = True
) -> dict[str, np.ndarray]:
    """In how many of the references' balls a generated vector lies, over k (`density`); whose balls are not empty
    (`covered`).

    Balls as in `precision_recall`. The mean density is 1 on average for equal distributions and may be larger; the
    share covered is in [0, 1], and a set equal to the references covers all of them. `strict` as in the authors' code.
    Raises as `precision_recall` does. Naeem et al., arXiv:2002.09797, equations 2 and 3.
    """
    two_sets(generated, reference)
    balls = radii(reference, k)
    density, covered = np.empty(len(generated)), np.zeros(len(reference), bool)
    for rows, apart in blocks(generated, reference):
        inside = _inside(apart, balls, strict)
        density[rows] = inside.sum(axis=1) / k
        covered |= inside.any(axis=0)
    return {"density": density, "covered": covered}


def realism(generated: Generated, reference: Reference, *, k: int = 3, prune: bool = True) -> Float[np.ndarray, " N"]:
    """How deep each generated vector lies in the references' balls: the largest radius over distance to the centre.

    From 0 upwards, 1 and above inside a ball; infinite for an exact copy of a reference. `prune` leaves out the balls
    larger than the median, as the paper does and the code of arXiv:2212.03860 does not. Raises as `precision_recall`.
    Kynkaanniemi et al., arXiv:1904.06991, equation 3.
    """
    two_sets(generated, reference)
    balls = radii(reference, k)
    kept = balls <= np.median(balls) if prune else np.ones(len(balls), bool)
    values = np.empty(len(generated))
    for rows, apart in blocks(generated, reference[kept]):
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(apart > 0, balls[kept] / apart, np.inf)
        values[rows] = ratio.max(axis=1)
    return values


def shares(
    of_generated: dict[str, np.ndarray], of_reference: dict[str, np.ndarray], prompts: Prompts = None, seed: int = 0
) -> Estimates:
    """Means of values of generated vectors and shares of references, each with its 95 % interval.

    Prompts are drawn anew for the former, references for the latter, and the balls stay as they are: intervals leave
    out what other balls would change. Raises as `mnemoscope.measuring.bootstrap.estimates` does.
    """
    summary: Estimates = {}
    for values, groups in ((of_generated, prompts), (of_reference, None)):
        for name, each in values.items():
            is_share = each.dtype == bool
            summary |= estimates({name: Share(0.5) if is_share else mean}, each.astype(np.float64), groups, seed=seed)
    return summary


def _inside(apart: np.ndarray, radius: np.ndarray, strict: bool) -> np.ndarray:
    """Whether distances are below radii, or up to them; what is equal but for rounding is equal."""
    return apart < radius * (1 - SAME) if strict else apart <= radius * (1 + SAME)
