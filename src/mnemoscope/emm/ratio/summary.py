"""What the scores of one or several snapshots amount to, next to what images that nobody copied would give."""

from collections.abc import Mapping
from dataclasses import dataclass

from mnemoscope.emm.ratio.memorization import Memorization
from mnemoscope.run.reading import Json
from mnemoscope.stats import wilson_interval

NAMED = 20  # training images whose copies are counted in the summary


@dataclass(frozen=True)
class Control:
    """Images that the model never saw, scored alike, and the usual distance between neighbours of which images."""

    held_out: Memorization | None
    usual: float
    pool: str
    unit: str


def highest(scored: Mapping[str, Memorization]) -> str:
    """The snapshot with the highest ratio, the first one of several."""
    return max(scored, key=lambda name: (scored[name].ratio, scored[name].ratio_apart))


def summarize(scored: Mapping[str, Memorization], control: Control, again: Memorization | None = None) -> Json:
    """The summary of a run: numbers of the snapshot with the highest ratio, and of all of them.

    The highest of several ratios is too high, by the luck of its draw. `memorization_ratio_corrected` is that of other
    images of the same snapshot, `again`; without them of the second half of the images of the snapshot whose first half
    has the highest ratio.
    """
    best = highest(scored)
    chosen, last = scored[best], list(scored)[-1]
    summary: Json = {"images": len(chosen), "references": chosen.references, "distinct": chosen.distinct}
    summary |= {"duplicates": chosen.references - chosen.distinct, "unit": control.unit, "snapshot": best}
    summary |= {**chosen.summary(), **_near(chosen, control), **_floor(control)}
    summary["copies"] = dict(list(chosen.hits.items())[:NAMED])
    if len(scored) > 1:
        rows = [{"snapshot": name, "images": len(m), **m.summary(), **_near(m, control)} for name, m in scored.items()]
        summary["snapshots"] = [{key: value for key, value in row.items() if key != "curve"} for row in rows]
        summary |= {"memorization_ratio_last": scored[last].ratio, **_corrected(scored, best, again)}
    return summary


def _near(scored: Memorization, control: Control) -> Mapping[str, object]:
    """The share of images closer to a training image than the threshold's part of the usual distance."""
    near = scored.near(control.usual)
    return {
        "near_ratio": float(near.mean()),
        "near_ratio_interval": list(wilson_interval(int(near.sum()), len(scored))),
        "usual_distance": control.usual,
        "pool": control.pool,
    }


def _floor(control: Control) -> Mapping[str, object]:
    """What the same criteria say of images that the model never saw; nothing where there are none."""
    if control.held_out is None:
        return {}
    held_out, near = control.held_out, control.held_out.near(control.usual)
    return {
        "false_positive_floor": held_out.ratio,
        "false_positive_floor_interval": list(held_out.interval),
        "false_positive_floor_apart": held_out.ratio_apart,
        "false_positive_floor_near": float(near.mean()),
        "held_out": len(held_out),
        "held_out_in_references": int((held_out.nearest == 0).sum()),
        "held_out_smallest_quotient": float(held_out.quotient_apart.min()),
        "held_out_curve": held_out.curve(),
    }


def _corrected(scored: Mapping[str, Memorization], best: str, again: Memorization | None) -> Mapping[str, object]:
    picked, second = best, None if again is None else again.memorized
    if second is None:
        halves = {name: len(m) // 2 for name, m in scored.items() if len(m) > 1}
        if not halves:
            return {}
        picked = max(halves, key=lambda name: scored[name].memorized[: halves[name]].mean())
        second = scored[picked].memorized[halves[picked] :]
    return {
        "memorization_ratio_corrected": float(second.mean()),
        "memorization_ratio_corrected_interval": list(wilson_interval(int(second.sum()), len(second))),
        "memorization_ratio_corrected_images": len(second),
        "snapshot_corrected": picked,
    }
