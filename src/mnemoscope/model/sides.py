"""The size of latents as the configuration of a network gives it."""

from typing import Any

from mnemoscope.errors import UsageError


def latent_sides(size: Any) -> tuple[int, int]:
    """Height and width from a `sample_size`: a number, or two; raises `UsageError` for anything else."""
    sides = list(size) if isinstance(size, list | tuple) else [size, size]
    if len(sides) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides):
        raise UsageError(
            f"The configuration of the network has sample_size {size!r}; write a whole number of latents from 1 up, or "
            "height and width."
        )
    return sides[0], sides[1]
