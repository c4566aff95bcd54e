"""The machine that a study of full size is meant to run on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Hardware:
    """What a size is meant to run on: floating-point operations a second, and how much of them a training reaches."""

    name: str = "one NVIDIA H100"
    tflops: int | float = 989.0
    utilisation: int | float = 0.25
