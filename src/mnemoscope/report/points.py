"""Points of a sweep: a mitigation at a strength, with what was measured there, and how a sentence says it."""

from mnemoscope.report.alignment import is_destroyed
from mnemoscope.report.record import Record
from mnemoscope.report.text import counted, ends, interval, number, percent
from mnemoscope.run.reading import Json

BASELINE = "none"
GOAL = 0.1  # share of replicated images that a mitigation should fall below
NUMBERS = ("replication_rate", "similarity_mean", "alignment_mean", "unchanged", "images")
COSTS = ("evaluations_per_image", "seconds_per_image")
ABOVE = "alignment_above_chance_interval"
INTERVALS = ("replication_interval", "similarity_interval", "alignment_interval", ABOVE)


def curves(record: Record) -> list[Json]:
    """The points of the summary, the unmitigated one first, in the types that a page needs; destroyed ones say so."""
    given = record.summary.get("curves")
    found = [_point(each) for each in (given if isinstance(given, list) else []) if isinstance(each, dict)]
    before = next((point[ABOVE] for point in found if point["mitigation"] == BASELINE), None)
    for point in found:
        point["is_destroyed"] = point["mitigation"] != BASELINE and is_destroyed(before, point[ABOVE])
    return sorted(found, key=lambda point: point["mitigation"] != BASELINE)


def _point(given: Json) -> Json:
    point: Json = {key: number(given.get(key)) for key in (*NUMBERS, *COSTS)}
    point |= {key: ends(given.get(key)) for key in INTERVALS}
    point["mitigation"] = str(given.get("mitigation") or BASELINE)
    return point | {"parameter": str(given.get("parameter") or ""), "strength": said(given.get("strength"))}


def said(strength: object) -> str:
    """A strength as it is written on points and in tables; empty where there is none."""
    if strength is None:
        return ""
    value = None if isinstance(strength, bool) else number(strength)
    return str(strength) if value is None else f"{value:g}"


def named(point: Json) -> str:
    """A method with its strength."""
    if point["mitigation"] == BASELINE:
        return "unmitigated"
    strength = f" at {point['parameter'] or 'strength'} {point['strength']}" if point["strength"] else ""
    return f"{point['mitigation']}{strength}"


def replicated(point: Json) -> str:
    """How many images are copies, with the interval."""
    of = "" if point["images"] is None else f" of {counted(int(point['images']), 'image')}"
    return f"{100 * point['replication_rate']:.0f} %{of} replicated ({chance(point)})"


def chance(point: Json) -> str:
    """The interval of the replication rate, in percent."""
    own = point["replication_interval"]
    return interval(own and percent(list(own)), "{:.0f}", " %")


def kept(best: Json, plain: Json | None) -> str:
    """How well images follow the prompt, beside the unmitigated ones."""
    if best["alignment_mean"] is None:
        return "; alignment was not measured"
    was = "" if plain is None or plain["alignment_mean"] is None else f", {plain['alignment_mean']:.2f} unmitigated"
    return f"; alignment {best['alignment_mean']:.2f} ({interval(best['alignment_interval'])}){was}"


def doubt(best: Json) -> str:
    """A sentence for an interval that reaches the goal."""
    own = best["replication_interval"]
    return f" The interval does not rule out {100 * GOAL:.0f} % or more." if own is not None and own[1] >= GOAL else ""


def aligned(point: Json) -> float:
    """The alignment, below all others where it was not measured."""
    return -2.0 if point["alignment_mean"] is None else point["alignment_mean"]
