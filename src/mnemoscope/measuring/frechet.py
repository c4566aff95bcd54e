"""How far two sets of vectors are apart in mean and covariance: the Frechet distance that FID takes of features."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from mnemoscope.errors import UsageError
from mnemoscope.measuring.bootstrap import Estimates
from mnemoscope.measuring.distances import two_sets

NEGATIVE = -1e-6  # of the largest eigenvalue of a covariance: below it this is none


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of a set; the covariance is the product of the transposed `factor` with `factor`."""

    mean: Float[np.ndarray, " D"]
    factor: Float[np.ndarray, "R D"]
    count: int | None = None


def moments(features: Float[np.ndarray, "N D"]) -> Moments:
    """Mean and covariance of vectors, in float64, the squares divided by N - 1 as by `numpy.cov`."""
    exact = features.astype(np.float64)
    mean = exact.mean(axis=0)
    factor = (exact - mean) / np.sqrt(len(exact) - 1)
    if len(factor) > factor.shape[1]:
        factor = np.linalg.qr(factor, mode="r")
    return Moments(mean, factor, len(features))


def moments_of(
    mean: Float[np.ndarray, " D"], covariance: Float[np.ndarray, "D D"], count: int | None = None
) -> Moments:
    """Moments from a stored mean and covariance, such as those published for FID.

    Raises UsageError for a matrix that is no covariance.
    """
    values, vectors = np.linalg.eigh(np.asarray(covariance, np.float64))
    if not np.allclose(covariance, covariance.T) or values[0] < NEGATIVE * max(values[-1], 0):
        raise UsageError("The stored matrix is not symmetric and positive; give a covariance.")
    return Moments(np.asarray(mean, np.float64), np.sqrt(np.maximum(values, 0))[:, None] * vectors.T, count)


def between(a: Moments, b: Moments) -> tuple[float, float]:
    """The two parts of the Frechet distance of two Gaussians: squared distance of means, and that of covariances.

    |m - n|^2 and tr(S + T - 2 (S T)^(1/2)), Dowson & Landau 1982. The trace of the root is the sum of the singular
    values of the product of the factors, which is as exact for singular covariances as for others.
    """
    root = np.linalg.svd(a.factor @ b.factor.T, compute_uv=False).sum()
    spread = np.square(a.factor).sum() + np.square(b.factor).sum() - 2 * root
    return float(np.square(a.mean - b.mean).sum()), max(float(spread), 0.0)


def frechet_distance(generated: Float[np.ndarray, "N D"], reference: Float[np.ndarray, "M E"]) -> Estimates:
    """Squared Frechet distance of the Gaussians with the moments of two sets of vectors: FID if these are Inception's.

    From 0 upwards, in squared units of the features; lower means more alike, and copies of the references are the
    lowest of all. Compares only among the same features and numbers of vectors, as it falls with the number: `notes`
    says so, and where a set is too small to have a covariance of full rank. It has no interval, since a part of the
    vectors, or vectors drawn twice, give a distance that is too large. Raises UsageError for fewer than two vectors
    of a set, another dimension, or vectors that are not finite. Heusel et al., arXiv:1706.08500, equation 6.
    """
    two_sets(generated, reference)
    means, spreads = between(moments(generated), moments(reference))
    return {
        "distance": means + spreads,
        "of_means": means,
        "of_covariances": spreads,
        "notes": caveats(len(generated), len(reference), generated.shape[1]),
    }


def caveats(generated: int, reference: int, dimension: int) -> list[str]:
    """What numbers of vectors do to a Frechet distance."""
    few = [f"{n} {name}" for n, name in ((generated, "generated"), (reference, "reference")) if n <= dimension]
    notes = [
        f"The Frechet distance falls as images are added: compare it only with {generated} generated and {reference} "
        "reference images. It has no interval, as samples drawn from these images give larger distances."
    ]
    if few:
        notes.append(
            f"{' and '.join(few)} vectors do not span {dimension} dimensions: covariances are singular and the "
            "distance is much too large. Give more images, or features of fewer dimensions."
        )
    return notes
