"""What changed since an earlier detection: prompts newly flagged, cleared and still flagged, and by how much."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mnemoscope.errors import UsageError
from mnemoscope.gate.evidence import Evidence, Part
from mnemoscope.gate.policy import Check
from mnemoscope.run.asked import parameters
from mnemoscope.run.reading import Json
from mnemoscope.run.records import differing
from mnemoscope.run.rows import ReadRow
from mnemoscope.stats import mean_interval

SAID = (
    "The models differ, and with them the scale of the score: each run's flags are by its own threshold,"
    " set on its own ordinary prompts."
)
SAME = "Both runs are of the same weights: what changed comes from their settings, prompts or thresholds."


@dataclass(frozen=True)
class Pairs:
    """The rows of two detections that are of the same prompt, by its id."""

    here: Part
    there: Part
    pairs: tuple[tuple[ReadRow, ReadRow], ...]

    @property
    def known(self) -> list[tuple[ReadRow, ReadRow]]:
        """The pairs of which both runs say whether they are flagged."""
        return [pair for pair in self.pairs if all(row.get("flagged") is not None for row in pair)]


def joined(parts: Sequence[Part], baseline: Sequence[Part]) -> Pairs:
    """The detection among the runs and the one of the baseline, joined on the prompts' ids.

    Raises `UsageError` unless there is one of each, by the same method, with a prompt in common.
    """
    here, there = _only(parts, "runs"), _only(baseline, "baseline")
    if difference := differing(_method(there), _method(here)):
        raise UsageError(f"The baseline's score is another one ({difference}); detect with the same method and steps.")
    before = {row["id"]: row for row in there.done}
    pairs = tuple((row, before[row["id"]]) for row in here.done if row["id"] in before)
    if not pairs:
        raise UsageError(
            f"{here.folder} and {there.folder} have no prompt in common; detect the same prompts with both."
        )
    return Pairs(here, there, pairs)


def _only(parts: Sequence[Part], name: str) -> Part:
    found = [part for part in parts if part.command == "detect"]
    if len(found) != 1:
        raise UsageError(f"The {name} hold {len(found)} detections, and a comparison needs one; give one detection.")
    return found[0]


def _method(part: Part) -> Json:
    """What makes two runs' scores the same quantity."""
    settings = part.record.get("settings", {})
    names = ("method", "params", "seeds", "num_inference_steps", "guidance_scale")
    return {**{name: settings.get(name) for name in names}, "units": part.summary.get("units")}


def evidence(check: Check, pairs: Pairs) -> Evidence:
    """The value of each prompt in common that a check of the change is about."""
    kind, _, name = check.group.partition(":")
    if check.measure == "score_change":
        found = [(row, row["score"] - before["score"]) for row, before in pairs.pairs]
    else:
        found = [(row, float(row["flagged"] and not before["flagged"])) for row, before in pairs.known]
    kept = [pair for pair in found if kind == "all" or str(pair[0].get("kind") or "") == name.strip()]
    return Evidence(pairs.here, tuple(value for _, value in kept), tuple(row["id"] for row, _ in kept))


def compared(pairs: Pairs, level: float = 0.95) -> Json:
    """Both runs' models, the prompts whose flag changed or stayed, and the mean change of the score over all pairs."""
    changes = np.array([row["score"] - before["score"] for row, before in pairs.pairs], dtype=np.float64)
    lists: dict[str, list[Json]] = {"newly_flagged": [], "cleared": [], "still_flagged": []}
    names = {(True, False): "newly_flagged", (False, True): "cleared", (True, True): "still_flagged"}
    for row, before in pairs.known:
        if name := names.get((row["flagged"], before["flagged"])):
            told = {"id": row["id"], "prompt": row["prompt"], "score": row["score"], "score_before": before["score"]}
            lists[name].append(told)
    models = {"here": model(pairs.here), "baseline": model(pairs.there)}
    return {
        "headline": f"{_words(models['here'])} against {_words(models['baseline'])}",
        **models,
        "thresholds": SAME if _is_same(*models.values()) else SAID,
        "prompts": len(pairs.pairs),
        "without_flag": len(pairs.pairs) - len(pairs.known),
        "only_here": len(pairs.here.done) - len(pairs.pairs),
        "only_baseline": len(pairs.there.done) - len(pairs.pairs),
        **lists,
        "score_change": float(changes.mean()),
        "score_change_interval": list(mean_interval(changes, level=level)) if len(changes) > 1 else None,
    }


def model(part: Part) -> Json:
    """The model of a run as a comparison names it: with its U-Net, its LoRAs, its scheduler, and its threshold."""
    own = part.record.get("model")
    own = own if isinstance(own, dict) else {}
    told = {"source": own.get("source"), "weights": own.get("weights"), "scheduler": own.get("scheduler")}
    return {"run": str(part.root), **told, **_put_in(part, own), "threshold": part.threshold}


def _put_in(part: Part, own: Mapping[str, Any]) -> Json:
    """U-Net and LoRAs of a run's model, as it was loaded; what its command was given where no model is recorded.

    The parts of one audit may be of several models, and its command names those of only one.
    """
    if "weights" not in own:
        asked = parameters(part.record)
        return {name: asked.get(name) or None for name in ("unet", "lora")}
    held = own.get("parts")
    held = held if isinstance(held, dict) else {}
    loras = [each for each in held.get("loras") or () if isinstance(each, dict)]
    names = [f"{each.get('file')}" + (f":{each['scale']:g}" if each.get("scale", 1.0) != 1.0 else "") for each in loras]
    return {"unet": held.get("unet"), "lora": names or None}


def _is_same(here: Json, there: Json) -> bool:
    return here["weights"] is not None and all(here[key] == there[key] for key in ("weights", "unet", "lora"))


def _words(model: Json) -> str:
    lora = ", ".join(map(str, model["lora"])) if isinstance(model["lora"], list) else model["lora"]
    parts = [
        f"U-Net {model['unet'] or 'own'}",
        f"LoRA {lora or 'none'}",
        f"scheduler {model['scheduler'] or 'unknown'}",
    ]
    return f"{model['source'] or model['run']} ({', '.join(parts)})"
