"""The falling line nearest to noisy values: pool-adjacent-violators."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def falling(values: Sequence[int | float], weights: Sequence[int | float]) -> Float[np.ndarray, " N"]:
    """Values that never rise, nearest to the given ones in weighted squares; in their unit.

    Neighbours that rise are pooled into their weighted mean until none does. Barlow et al., Statistical Inference under
    Order Restrictions (1972).
    """
    pools: list[tuple[float, float, int]] = []  # mean, weight, members
    for value, weight in zip(values, weights, strict=True):
        pools.append((float(value), float(weight), 1))
        while len(pools) > 1 and pools[-2][0] < pools[-1][0]:
            (one, w, k), (other, v, m) = pools[-2:]
            pools[-2:] = [((one * w + other * v) / (w + v), w + v, k + m)]
    return np.repeat([mean for mean, _, _ in pools], [members for _, _, members in pools])
