"""Find out what an image diffusion model has memorized: which prompts, why, where, and how much was copied."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mnemoscope.api import detect, explain, localize, mitigate, series
    from mnemoscope.denoiser import Denoiser
    from mnemoscope.dimension import local_dimension
    from mnemoscope.errors import UsageError
    from mnemoscope.families import Family
    from mnemoscope.guard import Guard
    from mnemoscope.pictures import Picture, read_pictures
    from mnemoscope.prompts import Prompt, read_prompts
    from mnemoscope.run import Run
    from mnemoscope.start import Start
    from mnemoscope.step import Step
    from mnemoscope.trajectory import Trajectory

_HOMES = {
    "Denoiser": "denoiser",
    "Family": "families",
    "Guard": "guard",
    "Picture": "pictures",
    "Prompt": "prompts",
    "Run": "run",
    "Start": "start",
    "Step": "step",
    "Trajectory": "trajectory",
    "UsageError": "errors",
    "detect": "api",
    "explain": "api",
    "local_dimension": "dimension",
    "localize": "api",
    "mitigate": "api",
    "read_pictures": "pictures",
    "read_prompts": "prompts",
    "series": "api",
}
_MODULES = (
    "captions",
    "demo",
    "detectors",
    "explainers",
    "features",
    "hooks",
    "localizers",
    "mitigations",
    "planted",
    "plots",
    "report",
    "schedule",
    "scores",
    "search",
    "stats",
)

__all__ = [
    "Denoiser",
    "Family",
    "Guard",
    "Picture",
    "Prompt",
    "Run",
    "Start",
    "Step",
    "Trajectory",
    "UsageError",
    "detect",
    "explain",
    "local_dimension",
    "localize",
    "mitigate",
    "read_pictures",
    "read_prompts",
    "series",
]


def __getattr__(name: str) -> Any:
    """Public names on first use, so that importing mnemoscope costs nothing."""
    if name in _MODULES:
        return importlib.import_module(f"mnemoscope.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'mnemoscope' has no attribute '{name}'")
    return getattr(importlib.import_module(f"mnemoscope.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, *_MODULES])
