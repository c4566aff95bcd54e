"""Mitigation of only what is flagged: the first step decides, and is used for whatever stays as it is."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from jaxtyping import Float
from torch import Tensor

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.methods.amounts import Amount, is_number
from mnemoscope.methods.thresholds import conditions, detection_summary, stored_threshold
from mnemoscope.model.schedule import Units
from mnemoscope.model.start import Start
from mnemoscope.model.tokens import cut_off
from mnemoscope.registry import Method, Parameters
from mnemoscope.run.schema import misfit_fields


class Conditions(TypedDict):
    """What a threshold holds for, as far as a gate computes with it."""

    method: str
    params: NotRequired[Parameters | None]
    seeds: NotRequired[int]


@dataclass(frozen=True)
class Gate:
    """A threshold for a score of the first step, and the conditions that it was set under, where they are known.

    `units` is the unit of the text's push that the threshold is in, where one was said. `always` flags what has a score
    below the threshold as well.
    """

    threshold: float
    method: str = "noise_norm"
    params: Mapping[str, Any] = field(default_factory=dict)
    seeds: int = 1
    file: Path | None = None
    units: Units | None = None
    always: bool = False  # whether all are flagged, whatever their score
    agreed: set[tuple[Any, ...]] = field(default_factory=set)  # samplings that the conditions were compared with

    @classmethod
    def of(cls, threshold: int | float | str | Path | Amount, units: Units | None = None) -> "Gate":
        """A gate from NUMBER[:UNIT], for noise_norm, or from a detection's summary; raises `UsageError` for neither.

        `units` says a number's unit apart from it.
        """
        if isinstance(threshold, int | float | Amount) or (isinstance(threshold, str) and is_number(threshold)):
            amount = Amount.of(threshold, "The threshold", units)
            return cls(amount.value, units=amount.units)
        if units:
            raise UsageError(f"units={units} was given for {threshold}, which knows its own; leave out the units.")
        file = Path(str(threshold))
        file = file / "summary.json" if file.is_dir() else file
        known = detection_summary(Path(str(threshold))).get("conditions")
        if not isinstance(known, dict) or misfit_fields(known, Conditions):
            raise UsageError(f"{file} is no summary of a detection: it has no conditions that its threshold holds for.")
        params = dict(known.get("params") or {})
        method = registry.detection(known["method"])
        if method.kind != "score" or params.pop("steps", 1) != 1:
            raise UsageError(f"{file} was calibrated on more than the first step; calibrate a score with steps=1.")
        usual = method.parameters
        changed = {k: v for k, v in params.items() if k not in usual or v != usual[k].default}
        value, seeds = stored_threshold(file, known), int(known.get("seeds", 1))
        return cls(value, known["method"], changed, seeds, file, known.get("units"))

    def check(self, start: Start) -> None:
        """Raise `UsageError` if the threshold was set under other conditions than this sampling's."""
        solver, model = start.solver, start.model
        if self.file is None:
            Amount(self.threshold, self.units).settled(model.units, "The threshold")
        here = (solver.num_inference_steps, solver.guidance_scale, tuple(start.x_t.shape[1:]))
        if self.file is None or here in self.agreed:
            return
        known = detection_summary(self.file)["conditions"]
        now = conditions(
            model,
            self.method,
            {**known["params"], **({"units": self.units} if self.units else {})},
            seeds=self.seeds,
            num_inference_steps=solver.num_inference_steps,
            guidance_scale=solver.guidance_scale,
        )
        stored_threshold(self.file, now | {"latent_shape": list(here[2])})
        self.agreed.add(here)

    def scores(self, start: Start) -> Float[Tensor, " B"]:
        """The score of each sample's unmitigated first step, averaged over a prompt's seeds as it was calibrated."""
        self.check(start)
        with torch.no_grad():
            values = registry.get("score", self.method).function(start.first, **self.params, **self._unit(start))
        return values if self.seeds == 1 else self._averaged(start, values)

    def _unit(self, start: Start) -> Parameters:
        return {"units": self.units} if self.units and self.units != start.model.units else {}

    def _averaged(self, start: Start, values: Tensor) -> Tensor:
        names = start.prompts if start.prompts is not None else [""] * len(start)
        places_of = {p: [i for i, q in enumerate(names) if q == p] for p in names}
        for prompt, places in places_of.items():
            if len(places) != self.seeds:
                given = f"{self.seeds} seeds a prompt, and '{prompt[:60]}' has {len(places)} here"
                raise UsageError(f"The threshold of {self.file} averages over {given}; calibrate with as many seeds.")
        return torch.stack([values[places_of[p]].mean() for p in names])


def apply(method: Method, given: Mapping[str, Any], start: Start, gate: Gate | None) -> None:
    """Let a mitigation act on a start: on all samples, or on those that the gate flags."""
    act = _caption if method.kind == "caption" else _mitigate
    if gate is None:
        act(method, given, start)
        return
    scores = gate.scores(start)
    flagged = scores >= gate.threshold if not gate.always else torch.ones_like(scores, dtype=torch.bool)
    for seen, score, flag in zip(start.seen, scores.tolist(), flagged.tolist(), strict=True):
        seen.update(score=score, threshold=gate.threshold, flagged=flag)
        if registry.get("score", gate.method).units:
            seen["units"] = gate.units or start.model.units
    index = flagged.nonzero()[:, 0].cpu()
    if len(index):
        part = start.select(index)
        act(method, given if gate.always else _aimed(method, given, gate), part)
        start.put(index, part)


def _mitigate(method: Method, given: Mapping[str, Any], start: Start) -> None:
    method.function(start, **given)
    for seen in start.seen:
        seen["mitigation"] = [*seen.get("mitigation", []), method.name]


def _aimed(method: Method, given: Mapping[str, Any], gate: Gate) -> Mapping[str, Any]:
    """Parameters with the threshold as the target, where the mitigation descends the very score that flagged."""
    if "target" not in method.parameters or given.get("target") is not None:
        return given
    score = given.get("score", method.parameters["score"].default if "score" in method.parameters else None)
    same = score == gate.method and not gate.params
    return {**given, "target": Amount(gate.threshold, gate.units)} if same else given


def _caption(method: Method, given: Mapping[str, Any], start: Start) -> None:
    """Draw from each sample's caption, transformed by a generator keyed by the caption and the sample's seed."""
    if start.prompts is None:
        raise UsageError(f"{method.name} changes the prompt's words, and only embeddings were given.")
    if "tokenizer" in method.parameters:
        given = {"tokenizer": getattr(start.model.pipe, "tokenizer", None), **given}
    pairs = zip(start.prompts, start.seeds, strict=True)
    texts = [method.function(p, random.Random(f"{method.name}|{seed}|{p}"), **given) for p, seed in pairs]
    for seen, text, cut in zip(start.seen, texts, cut_off(start.model, texts), strict=True):
        seen["mitigation"] = [*seen.get("mitigation", []), method.name]
        seen.update({"used_prompt": text, "tokens_cut_off": cut} if cut else {"used_prompt": text})
    start.prompts[:] = texts
    start.change(cond=start.encode(texts))
