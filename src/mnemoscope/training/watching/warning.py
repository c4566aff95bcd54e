"""Whether the probes of a step say that training should stop."""

from collections.abc import Sequence

from mnemoscope.run.probe_rows import values_of
from mnemoscope.run.rows import ReadRow
from mnemoscope.training.watching.options import LookOptions


def warning(rows: Sequence[ReadRow], options: LookOptions) -> str | None:
    """Why training should stop after these rows of one step, in a sentence; None if it may go on."""
    for name, limit in options.limits.items():
        for group in dict.fromkeys(row["group"] for row in rows):
            values = values_of([row for row in rows if row["group"] == group], name)
            if not values.size:
                continue
            value = float(values.max() if options.stop_by == "max" else values.mean())
            if value > limit:
                what = f"the {options.stop_by} {name} of {values.size} {group} probes is {value:.4g}, above {limit:g}"
                return f"Stopped at step {rows[0]['step']}: {what}."
    return None
