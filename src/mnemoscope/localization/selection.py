"""Candidates: the neurons that answer a prompt unlike others, more of them from one selection to the next."""

from collections.abc import Iterator, Mapping
from typing import Literal

from torch import Tensor

from mnemoscope.errors import UsageError

Pair = tuple[int | float | None, int | None]  # theta, k
Candidates = dict[str, list[int]]  # by layer, in the order in which they are tested


def selections(
    initial_theta: int | float | None,
    theta_step: int | float,
    min_theta: int | float,
    initial_k: int | None,
    widest: int,
    compat: Literal["nemo"] | None = None,
) -> Iterator[Pair]:
    """Pairs (theta, k): theta falls from `initial_theta` to `min_theta`, its last value, while k rises by one.

    None turns a part off. Without theta, k rises up to the widest layer. `compat="nemo"` leaves `min_theta` itself out.
    """
    if initial_theta is None and initial_k is None:
        raise UsageError("Neither theta nor k selects neurons; give initial_theta or initial_k.")
    if initial_theta is None:
        assert initial_k is not None
        yield from ((None, k) for k in range(max(1, initial_k), widest + 1))
        return
    if theta_step <= 0 or min_theta > initial_theta:
        raise UsageError(f"theta cannot fall from {initial_theta} to {min_theta} in steps of {theta_step}.")
    step, theta = 0, float(initial_theta)
    while theta > min_theta or (step == 0 and compat == "nemo"):
        yield theta, None if initial_k is None else min(widest, initial_k + step)
        step += 1
        theta = initial_theta - step * theta_step
    if compat is None:
        yield float(min_theta), None if initial_k is None else min(widest, initial_k + step)


def candidates(
    values: Mapping[str, Tensor], deviations: Mapping[str, Tensor] | None, pair: Pair, twice: bool = False
) -> Candidates:
    """Per layer the neurons whose activation deviates by more than theta, and the k largest activations.

    In order and none twice, or `twice`, as NeMo's code does: the deviating ones, then the largest, largest first.
    """
    theta, k = pair
    neurons: Candidates = {}
    for name, value in values.items():
        outside = [] if theta is None or deviations is None else (deviations[name] > theta).nonzero()[:, 0].tolist()
        largest = value.topk(min(k, len(value))).indices.tolist() if k else []
        neurons[name] = outside + largest if twice else sorted({*outside, *largest})
    return neurons
