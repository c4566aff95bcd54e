"""From scores to flags: a threshold with the conditions that it holds for."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, cast

import numpy as np

from mnemoscope import registry, stats
from mnemoscope.errors import UsageError
from mnemoscope.methods.amounts import Amount, is_number
from mnemoscope.model.predictor import Predictor
from mnemoscope.model.schedule import Units
from mnemoscope.run import several
from mnemoscope.run.reading import Json
from mnemoscope.run.rows import Scored, ScoredRow
from mnemoscope.run.run import differing, read_json
from mnemoscope.stats.figures import CalibrationFigures

MODEL_KEYS = ("weights", "scheduler", "scheduler_config", "prediction_type", "dtype", "latent_shape")
NO_NEGATIVES = (
    "No negatives were given: how well the score separates these prompts, and its false alarms, are not known."
)
GIVEN = "The threshold was given, not set by these prompts."
UNLABELLED = "The prompts carry no labels: AUC and TPR tell all of them from the negatives, memorized or not."


class CalibrationSummary(CalibrationFigures):
    """That with how many prompts there were, and how many are flagged."""

    prompts: int
    flagged: int | None


@dataclass(frozen=True)
class Calibration(Generic[Scored]):
    """Rows with their flags, and what the scores are worth."""

    rows: list[Scored]
    summary: CalibrationSummary


def conditions(
    model: Predictor,
    method: str,
    params: Mapping[str, Any],
    *,
    seeds: int,
    num_inference_steps: int,
    guidance_scale: int | float,
) -> Json:
    """What a threshold depends on: model, solver, resolution, dtype, method, parameters, seeds and sampling."""
    about, registered = model.describe(), registry.detection(method)
    known: Json = {"steps": registered.steps} if registered.kind == "score" else {}
    known |= {name: p.default for name, p in registered.parameters.items()} | dict(params)
    known.pop("units", None)  # it has a place of its own
    return {
        **{k: about[k] for k in MODEL_KEYS},
        "method": method,
        **({"origin": dict(registered.origin)} if registered.origin else {}),
        **({"negative_prompt": about["negative_prompt"]} if "negative_prompt" in about else {}),
        "params": json.loads(json.dumps(known)),
        "seeds": seeds,
        "num_inference_steps": num_inference_steps,
        "guidance_scale": guidance_scale,
        **({"units": units} if (units := units_of(model, method, params)) else {}),
    }


def units_of(model: Predictor, method: str, params: Mapping[str, Any]) -> Units | None:
    """The unit of a method's values, where they measure the text's push: as asked for, or the model's own."""
    return (params.get("units") or model.units) if registry.detection(method).units else None


def fixed_threshold(given: str | Path | int | float, now: Json) -> float:
    """A threshold that is given: a number with its unit where one is needed, or that of an earlier run's summary.

    Raises `UsageError` for a number without a unit or in another one than the scores, and for other conditions.
    """
    if isinstance(given, str) and not is_number(given) or isinstance(given, Path):
        return stored_threshold(Path(given), now)
    amount, units = Amount.of(given, "The threshold"), now.get("units")
    if (amount.units or ("eps" if units else None)) != units:
        unit = f"in {amount.units}" if amount.units else "without a unit"
        wanted = f"{amount.value:g}:{units}" if units else f"{amount.value:g}"
        raise UsageError(f"The threshold {amount.value:g} was given {unit}; {now['method']} takes {wanted} here.")
    return amount.value


def stored_threshold(file: Path, now: Json) -> float:
    """Threshold of an earlier run's summary; raises `UsageError` if it was set under other conditions."""
    summary = detection_summary(file, now.get("method"))
    threshold = summary.get("threshold")
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not math.isfinite(threshold):
        raise UsageError(f"{file} holds no threshold; run detect with enough negatives to set one.")
    known = summary.get("conditions")
    if isinstance(known, dict) and "units" in now:
        known = {"units": "eps"} | known  # what there was before there were two
    if changed := differing(known, now):
        raise UsageError(f"The threshold of {file} holds for other conditions ({changed}); calibrate again.")
    return float(threshold)


def detection_summary(source: Path, asked_for: str | None = None) -> Json:
    """The summary of a detection from its run or its file; of several methods RUN:METHOD's, or the one's asked for.

    Raises `UsageError` where there are several and none of these says which.
    """
    place, method = several.split(source)
    if not os.path.exists(place):
        raise UsageError(f"There is no {source}; give a detection's run or its summary.json, or NUMBER[:eps|:x0].")
    summary = read_json(place / "summary.json" if place.is_dir() else place)
    methods = summary.get("methods")
    if not isinstance(methods, dict):
        return summary
    fitting = (name for name in methods if asked_for and _asked(several.summary_of(summary, name)) == asked_for)
    return several.summary_of(summary, several.one(place, methods, method or next(fitting, asked_for)))


def _asked(summary: Mapping[str, Any]) -> Any:
    known = summary.get("conditions")
    return known.get("method") if isinstance(known, dict) else None


def calibrate(rows: Sequence[Scored], *, fpr: float, threshold: float | None = None) -> Calibration[Scored]:
    """Flag the rows of a detection; negatives or labels measure the score and set the threshold unless it is given."""
    scored = [r for r in rows if r["status"] == "ok"]
    ordinary = [r["score"] for r in scored if is_negative(r)]
    labelled = any(r.get("label") for r in scored)
    memorized = [r["score"] for r in scored if ordinary and not is_negative(r) and (r.get("label") or not labelled)]
    summary = stats.calibration(np.array(memorized), np.array(ordinary), fpr=fpr)
    if memorized and not labelled:
        summary["notes"].append(UNLABELLED)
    if threshold is not None:
        summary["threshold"], summary["threshold_fpr"] = threshold, None
        summary["notes"] = summary["notes"] if ordinary else [NO_NEGATIVES]
        summary["notes"].append(GIVEN)
    limit = summary["threshold"]
    flagged = [_flagged(r, limit) for r in rows]
    prompts = [r for r in flagged if r["role"] == "prompt"]
    count = None if limit is None else sum(bool(r["flagged"]) for r in prompts)
    return Calibration(flagged, {"prompts": len(prompts), "flagged": count, **summary})


def is_negative(row: ScoredRow) -> bool:
    """Whether a row is known to be ordinary."""
    return row["role"] == "negative" or row.get("label") is False


def _flagged(row: Scored, limit: float | None) -> Scored:
    flagged = row["score"] >= limit if limit is not None and row["status"] == "ok" else None
    return cast(Scored, {**row, "flagged": flagged, "threshold": limit})
