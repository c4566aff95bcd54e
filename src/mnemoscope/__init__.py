"""Find out what an image diffusion model has memorized: which prompts, why, where, and how much was copied."""

import importlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Libraries send what they are used for unless they are told not to before they are imported, by whomever.
for _name, _value in (
    ("ORT_DISABLE_TELEMETRY", "1"),
    ("HF_HUB_DISABLE_TELEMETRY", "1"),
    ("RAY_USAGE_STATS_ENABLED", "0"),
    ("GRADIO_ANALYTICS_ENABLED", "False"),
):
    os.environ.setdefault(_name, _value)

if TYPE_CHECKING:
    from mnemoscope.audit.run import run_audit
    from mnemoscope.detection.dimension import local_dimension
    from mnemoscope.detection.run import run_detection
    from mnemoscope.errors import UsageError
    from mnemoscope.explanation.run import run_explanation
    from mnemoscope.gate.policy import read_policy
    from mnemoscope.gate.run import run_gate
    from mnemoscope.generation.run import run_generation
    from mnemoscope.localization.run import run_localization
    from mnemoscope.measuring.measurement import run_measurement
    from mnemoscope.membership.run import run_membership
    from mnemoscope.methods.by_name import detect, explain, localize, mitigate, series
    from mnemoscope.mitigation.guard import Guard
    from mnemoscope.model.denoiser import Denoiser
    from mnemoscope.model.families import Family
    from mnemoscope.model.start import Start
    from mnemoscope.model.step import Step
    from mnemoscope.model.trajectory import Trajectory
    from mnemoscope.pictures import Picture, read_pictures
    from mnemoscope.prompts.prompt import Prompt, read_prompts
    from mnemoscope.recovery.run import run_recovery
    from mnemoscope.report.opened import OpenRun
    from mnemoscope.report.opened import open_run as open
    from mnemoscope.run.run import Run
    from mnemoscope.run.runner import spread
    from mnemoscope.sweep.run import run_sweep
    from mnemoscope.training.watching.following import run_watch
    from mnemoscope.training.watching.probe import Probe

_HOMES = {
    "Denoiser": "model.denoiser",
    "Family": "model.families",
    "Guard": "mitigation.guard",
    "Picture": "pictures",
    "Probe": "training.watching.probe",
    "Prompt": "prompts.prompt",
    "Run": "run.run",
    "Start": "model.start",
    "Step": "model.step",
    "Trajectory": "model.trajectory",
    "UsageError": "errors",
    "detect": "methods.by_name",
    "explain": "methods.by_name",
    "local_dimension": "detection.dimension",
    "localize": "methods.by_name",
    "mitigate": "methods.by_name",
    "open": "report.opened",
    "OpenRun": "report.opened",
    "read_pictures": "pictures",
    "read_policy": "gate.policy",
    "read_prompts": "prompts.prompt",
    "run_audit": "audit.run",
    "run_detection": "detection.run",
    "run_explanation": "explanation.run",
    "run_gate": "gate.run",
    "run_generation": "generation.run",
    "run_localization": "localization.run",
    "run_measurement": "measuring.measurement",
    "run_membership": "membership.run",
    "run_recovery": "recovery.run",
    "run_sweep": "sweep.run",
    "run_watch": "training.watching.following",
    "series": "methods.by_name",
    "spread": "run.runner",
}
_HIDING = {"open": "open_run"}  # public names that would hide one of Python's own where they are defined
_MODULES = {
    name: name
    for name in (
        "audit captions demo detection detectors errors explainers explanation features generation localization"
        " localizers measures membership mitigations pictures planted plots prompts recovery registry report run scores"
        " search signals stats sweep"
    ).split()
} | {
    name: f"model.{name}"
    for name in (
        "ablation attention autoencoder cond denoiser families hooks identity jacobian likeness loading sampling"
        " schedule start step tokens trajectory words"
    ).split()
}  # modules that are reached as attributes, and where they are


def lazily(
    package: str, homes: Mapping[str, str], modules: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose names are loaded on first use, so that importing it is free.

    `homes` names the module of each public name, `modules` that of each module which is an attribute by itself.
    """
    modules = modules or {}

    def attribute(name: str) -> Any:
        if name in modules:
            return importlib.import_module(f"mnemoscope.{modules[name]}")
        if name not in homes:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        return getattr(importlib.import_module(f"mnemoscope.{homes[name]}"), _HIDING.get(name, name))

    return attribute, lambda: sorted([*homes, *modules])


class _Shortened(MetaPathFinder, Loader):
    """`mnemoscope.step` and its like are the modules of their rooms, under a shorter path."""

    def find_spec(self, name: str, path: Iterable[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        package, _, short = name.rpartition(".")
        away = package == __name__ and _MODULES.get(short, short) != short
        return ModuleSpec(name, self) if away else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(f"mnemoscope.{_MODULES[spec.name.rpartition('.')[2]]}")
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = module.__spec__.loader_state if module.__spec__ else None


sys.meta_path.append(_Shortened())
__getattr__, __dir__ = lazily(__name__, _HOMES, _MODULES)

__all__ = [
    "Denoiser",
    "Family",
    "Guard",
    "OpenRun",
    "Picture",
    "Probe",
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
    "open",
    "read_pictures",
    "read_policy",
    "read_prompts",
    "run_audit",
    "run_detection",
    "run_explanation",
    "run_gate",
    "run_generation",
    "run_localization",
    "run_measurement",
    "run_membership",
    "run_recovery",
    "run_sweep",
    "run_watch",
    "series",
    "spread",
]
