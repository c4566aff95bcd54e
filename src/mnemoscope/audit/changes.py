"""What models give of training pictures and of controls, and how much one adds to another: means with intervals."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from mnemoscope.measuring.bootstrap import Estimates, Share, estimates, mean
from mnemoscope.run.image_rows import FinetuneRow

PAIRS = {"added": ("base", "tuned"), "removed": ("tuned", "repaired"), "beyond": ("tuned", "extrapolated")}
Column = Literal["scores", "similarities", "flags", "like_base", "best", "copied"]
THRESHOLDS = (
    "The models differ, and with them the scale of the score: each model's flags are by its own threshold, set anew on "
    "its own scores of the controls."
)
MADE = (
    "No captions were given as --negatives: the controls were made of the training captions' words, word k of each "
    "being word k of some training caption."
)

SPOILT = (
    "{} of {} controls that were drawn give a training picture back with the fine-tune, under captions that it has "
    "not seen. To it they are no ordinary prompts: a threshold set on them is too high, and few captions pass it. Give "
    "captions without the training captions' words as --negatives."
)


def summary(rows: Sequence[FinetuneRow]) -> Estimates:
    """Counts, what each model gives, and each change: `NAME` and `NAME_interval`.

    Keys end in the model's name. `score_`, `flagged_`, `similarity_`, `best_`, `copied_` and `like_base_` are of
    training pictures, and with `control_` before them of controls, whose images are compared with all training
    pictures. `added` is the change of the similarity from the base to the fine-tune, `removed` from that to the
    repaired one, `beyond` to what was drawn beyond; `copied_anew` the share of pictures that the fine-tune copies and
    the base does not. Intervals draw prompts anew with all their pictures, so that changes are paired.
    """
    pictures, controls = ([row for row in rows if row["control"] is side] for side in (False, True))
    found: Estimates = {"pictures": len(pictures), "captions": len({row["prompt_id"] for row in pictures})}
    found |= {"drawn": sum(bool(row["similarities"]) for row in pictures), "controls": len(controls)}
    found |= {"controls_drawn": sum(bool(row["similarities"]) for row in controls)}
    names = list(dict.fromkeys(name for row in rows for key in ("scores", "similarities") for name in row[key]))
    for name in names:
        found |= _of_model(name, pictures, controls)
    for change, (first, second) in PAIRS.items():
        if second in names:
            found |= _of_change(change, first, second, pictures, controls)
    anew = [
        (r, float(r["copied"]["tuned"] and not r["copied"]["base"]))
        for r in pictures
        if {"base", "tuned"} <= set(r["copied"])
    ]
    return found | _share("copied_anew", anew)


def notes(found: Mapping[str, Any], *, made: bool) -> list[str]:
    """What a reader has to know of thresholds and controls."""
    said = [THRESHOLDS, *([MADE] if made else [])]
    if share := found.get("control_copied_tuned"):
        said.append(SPOILT.format(round(share * found["controls_drawn"]), found["controls_drawn"]))
    return said


def _of_model(name: str, pictures: Sequence[FinetuneRow], controls: Sequence[FinetuneRow]) -> Estimates:
    found: Estimates = {}
    for prefix, rows in (("", pictures), ("control_", controls)):
        found |= _mean(f"{prefix}score_{name}", _values(rows, "scores", name))
        found |= _mean(f"{prefix}similarity_{name}", _values(rows, "similarities", name))
        found |= _share(f"{prefix}flagged_{name}", _values(rows, "flags", name))
        found |= _mean(f"{prefix}like_base_{name}", _values(rows, "like_base", name))
        found |= _mean(f"{prefix}best_{name}", _values(rows, "best", name))
        found |= _share(f"{prefix}copied_{name}", _values(rows, "copied", name))
    return found


def _of_change(
    change: str, first: str, second: str, pictures: Sequence[FinetuneRow], controls: Sequence[FinetuneRow]
) -> Estimates:
    found: Estimates = {}
    for prefix, rows in (("", pictures), ("control_", controls)):
        for name, of in (("", _similarities), ("score_", _scores)):
            both = [(row, of(row)) for row in rows if {first, second} <= set(of(row))]
            found |= _mean(f"{prefix}{name}{change}", [(row, own[second] - own[first]) for row, own in both])
    return found


def _similarities(row: FinetuneRow) -> Mapping[str, float]:
    return row["similarities"]


def _scores(row: FinetuneRow) -> Mapping[str, float]:
    return row["scores"]


def _values(rows: Sequence[FinetuneRow], column: Column, name: str) -> list[tuple[FinetuneRow, float]]:
    found = [(row, (row.get(column) or {}).get(name)) for row in rows]
    return [(row, float(value)) for row, value in found if value is not None]


def _mean(name: str, values: Sequence[tuple[FinetuneRow, float]]) -> Estimates:
    if not values:
        return {}
    return estimates({name: mean}, np.array([v for _, v in values]), [row["prompt_id"] for row, _ in values])


def _share(name: str, values: Sequence[tuple[FinetuneRow, float]]) -> Estimates:
    if not values:
        return {}
    return estimates({name: Share(0.5)}, np.array([v for _, v in values]), [row["prompt_id"] for row, _ in values])
