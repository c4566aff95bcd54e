"""What an explanation of a list of prompts is asked for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mnemoscope.registry import Parameters


@dataclass(frozen=True)
class Explanation:
    """What to compute for each prompt: a method with its parameters, seeds, and the sampling it looks at."""

    method: str = "token_gradients"
    params: Mapping[str, Any] | None = None
    seed: int = 0
    seeds: int = 1
    num_inference_steps: int = 50
    guidance_scale: float | None = None  # the pipeline's own if None

    @property
    def parameters(self) -> Parameters:
        return dict(self.params or {})
