"""One row for each prompt: what a detection computes, on the sampling of a batch of prompts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor

from mnemoscope import registry
from mnemoscope.job.seeds import own_seeds, samples
from mnemoscope.methods import by_name as api
from mnemoscope.methods.thresholds import conditions, units_of
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.tokens import cut_off
from mnemoscope.model.trajectory import Trajectory
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.run.reading import Json
from mnemoscope.run.rows import DetectRow


@dataclass(frozen=True)
class Detection:
    """What to compute for each prompt: a method with its parameters, seeds, and the sampling it looks at."""

    method: str = "noise_norm"
    params: Mapping[str, Any] | None = None
    seed: int = 0
    seeds: int = 1
    num_inference_steps: int = 50
    guidance_scale: float | None = None  # the pipeline's own if None
    companions: tuple[str, ...] = ()  # scores recorded beside it from the same steps, at no further evaluation

    @property
    def parameters(self) -> registry.Parameters:
        return dict(self.params or {})

    def checked(self) -> registry.Method:
        """The method; raises `UsageError` where there is none, or it does not take the parameters."""
        method = registry.detection(self.method)
        registry.checked(method, self.parameters, extra=("steps",))
        return method

    def conditions(self, model: Denoiser) -> Json:
        """What a threshold of this detection depends on."""
        return conditions(
            model,
            self.method,
            self.parameters,
            seeds=self.seeds,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=model.family.guidance(self.guidance_scale),
        )

    def sampled(self, model: Denoiser, prompts: Sequence[Prompt]) -> Trajectory:
        """The samplings that it looks at, all seeds of a prompt side by side; nothing is computed yet."""
        pairs = samples(prompts, self.seed, self.seeds)
        return Trajectory(
            model,
            [p.text for p, _ in pairs],
            [seed for _, seed in pairs],
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
        )


def detections(methods: Sequence[str], parameters: Mapping[str, Any], **sampling: Any) -> list[Detection]:
    """Detections of one sampling, each with its own of all parameters; see `registry.parted`."""
    if len(methods) == 1:
        return [Detection(methods[0], parameters, **sampling)]
    own = registry.parted([registry.detection(name) for name in methods], parameters, "--param ")
    return [Detection(name, params, **sampling) for name, params in zip(methods, own, strict=True)]


def detect_rows(
    model: Denoiser, prompts: Sequence[Prompt], detection: Detection, trajectory: Trajectory | None = None
) -> list[DetectRow]:
    """One row for each prompt of a batch; a `trajectory` is of these prompts and of the detection's own sampling."""
    trajectory = detection.sampled(model, prompts) if trajectory is None else trajectory
    found, units = registry.detection(detection.method), units_of(model, detection.method, detection.parameters)
    values, timesteps = _values(trajectory, detection, found.kind)
    width = _root(model) if units == "x0" and found.name == "noise_norm" else None
    extra = {name: api.series(trajectory, name, steps=_steps(detection)) for name in detection.companions}
    rows: list[DetectRow] = []
    cut = cut_off(model, [p.text for p in prompts])
    for k, prompt in enumerate(prompts):
        own = slice(k * detection.seeds, (k + 1) * detection.seeds)
        per_seed = values[:, own].mean(0).tolist()
        score = max(per_seed) if found.over_seeds == "max" else math.fsum(per_seed) / len(per_seed)
        if not all(map(math.isfinite, per_seed)):
            raise ValueError(f"the score is {score}, from {per_seed}")
        row: DetectRow = {
            "id": prompt.id,
            "prompt": prompt.text,
            "seeds": own_seeds(prompt, detection.seed, detection.seeds),
            "method": found.name,
            "params": detection.parameters,
            "score": score,
            "per_seed": per_seed,
            **_measured(units, score / width if width else None),
            "label": prompt.label,
            "kind": prompt.kind,
            "cut_off": cut[k],
            "status": "ok",
        }
        if timesteps:
            row |= {"timesteps": timesteps, "series": values[:, own].T.tolist()}
            row |= {"companions": {n: v[:, own].T.tolist() for n, v in extra.items()}} if extra else {}
        rows.append(row)
    return rows


class _Measured(TypedDict, total=False):
    """What only values that measure a push of the text have."""

    units: str
    per_element: float


def _measured(units: str | None, per_element: float | None) -> _Measured:
    known: _Measured = {"units": units} if units else {}
    return known if per_element is None else {**known, "per_element": per_element}


def _root(model: Denoiser) -> float:
    """Root of the number of latent elements, over which a push compares across resolutions and families."""
    return math.sqrt(math.prod(model.latent_shape))


def _steps(detection: Detection) -> Any:
    return detection.parameters.get("steps", registry.detection(detection.method).steps)


def _values(trajectory: Trajectory, detection: Detection, kind: str) -> tuple[Tensor, list[float]]:
    """Values of each step and sample with their timesteps; a detector has one value a sample and no timesteps."""
    if kind != "score":
        return api.detect(trajectory, detection.method, **detection.parameters).double()[None], []
    values = api.series(trajectory, detection.method, **detection.parameters)
    steps = trajectory.chosen(_steps(detection))
    return values.to("cpu", torch.float64), [float(s.t) for s in steps]
