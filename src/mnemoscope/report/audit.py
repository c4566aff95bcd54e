"""An audit as a page for a reader with a minute: verdict, three pairs, five numbers, copies; the rest by question."""

from collections.abc import Sequence

from mnemoscope.report import cost as costs
from mnemoscope.report.groups import Copies, copies
from mnemoscope.report.record import Card, Record
from mnemoscope.report.text import counted, interval, number, percent, shown

HOW = "Nothing was decided, as no limits were given. Write them into a policy.yaml and give:"


def findings(records: Sequence[Record]) -> list[str]:
    """What was found, in plain sentences: how many images are copies, by group, who is flagged, what failed."""
    detect, measure = _of(records, "detect"), _of(records, "measure")
    found = [] if measure is None else copies(measure)
    said = [_copied(each) for each in found]
    said.insert(1, "" if detect is None else _flagged(detect))
    if not found and (drawn := _of(records, "generate")) is not None:
        images = counted(len(drawn.done), "image")
        said.append(f"{images} were generated, and none was compared with training pictures; give --references.")
    if failed := sum(len(record.failures) for record in records):
        said.append(f"{counted(failed, 'row')} failed.")
    return [said[0], " ".join(filter(None, said[1:]))] if found else [" ".join(filter(None, said))]


def numbers(records: Sequence[Record]) -> list[Card]:
    """At most five: flagged prompts, copies by group, and what a mitigation takes and costs."""
    detect, measure, found = _of(records, "detect"), _of(records, "measure"), costs.cost(records)
    made = [] if detect is None else [_card(detect)]
    for each in [] if measure is None else copies(measure)[:2]:
        detail = f"of {counted(each.group.prompts, 'prompt')}; {_percent(each)}"
        made.append((f"Copies, {each.group.name}", each.said, detail))
    if found is not None:
        made.append((f"Copies left by {found.after.name}", found.after.copied, f"{found.before.copied} without it"))
        if found.after.alignment is not None and found.before.alignment is not None:
            by_chance = found.after.alignment.by_chance
            detail = f"{found.before.alignment.said} without it" + (f", {by_chance} by chance" if by_chance else "")
            title = (
                "Images that still show their prompt" if found.after.alignment.shown is not None else "Alignment left"
            )
            made.append((title + (": destroyed" if found.is_destroyed else ""), found.after.alignment.said, detail))
    return made[:5]


def _of(records: Sequence[Record], name: str) -> Record | None:
    return next((r for r in records if r.path.name == name or r.command == name and len(records) == 1), None)


def _flagged(record: Record) -> str:
    ranked = counted(len(record.ranked), "prompt")
    if number(record.summary.get("threshold")) is None:
        return f"{ranked} ranked; without enough ordinary prompts no threshold was set, and nothing is flagged."
    flagged = sum(row["flagged"] is True for row in record.ranked)
    return f"{flagged:,} of {ranked} {'looks' if flagged == 1 else 'look'} memorized."


def _copied(found: Copies) -> str:
    verb = "is a copy of a training picture" if len(found.group.rows) == 1 else "are copies of training pictures"
    return f"{found.said} images generated for {found.group.counted} {verb}."


def _card(record: Record) -> Card:
    limit = number(record.summary.get("threshold"))
    if limit is None:
        return "Prompts ranked", f"{len(record.ranked):,}", "none flagged: no threshold"
    flagged = sum(row["flagged"] is True for row in record.ranked)
    fpr = number(record.summary.get("threshold_fpr"))
    origin = "" if fpr is None else f", which {100 * fpr:g} % of ordinary prompts reach"
    return (
        "Prompts that look memorized",
        f"{flagged:,} of {len(record.ranked):,}",
        f"score from {shown(limit, '{:.3g}')}{origin}",
    )


def _percent(each: Copies) -> str:
    return interval(percent(list(each.interval)), "{:.0f}", " %")
