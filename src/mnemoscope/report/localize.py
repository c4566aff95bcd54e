"""Localize runs: how many neurons each prompt needs, where they are, and what blocking them does."""

import re
from collections import Counter
from typing import Any

import numpy as np
from rich.console import Console, RenderableType
from rich.text import Text

from mnemoscope import plots
from mnemoscope.report.record import Card, Drawings, Record, Section, checked, failed, listed, part
from mnemoscope.report.tables import cell
from mnemoscope.report.tables import table as terminal_table
from mnemoscope.report.text import counted, number, shown
from mnemoscope.run.reading import Json

SHOWN, INDICES = 300, 12  # prompts on a page, neurons of a layer in words
CAVEATS = [
    "A changed noise difference does not prove that the image is gone: draw it with the neurons blocked.",
    "Similarities, thresholds and statistics hold for one model, step, resolution and set of layers.",
]


def check(raw: Json) -> Json:
    """A row with its neurons by layer; without them it has failed."""
    row = checked(raw) | {key: number(raw.get(key)) for key in ("before", "after", "initial_ssim", "evaluations")}
    sets = {key: _neurons(raw.get(key)) for key in ("neurons", "initial_neurons")}
    if None in sets.values():
        return failed(row, "it has no neurons by layer") | dict.fromkeys(sets, {})
    return row | sets | {"value": str(raw.get("value", "")), "sizes": [_size(own or {}) for own in sets.values()]}


def headline(record: Record) -> str:
    """How many prompts have neurons, and how many a prompt has."""
    done, located = record.done, _located(record)
    made = f"{counted(len(done), 'prompt')} searched by {record.method}"
    if not located:
        return f"{made}; no neurons were found."
    sizes = [row["sizes"][0] for row in located]
    spread = f"{np.median(sizes):g} neurons in the median, {min(sizes):,} to {max(sizes):,}"
    return f"{made}; {len(located):,} of them have {spread}."


def about(record: Record) -> list[tuple[str, Any, str]]:
    """What the neurons and their similarity are."""
    compared = f" Compared by {record.summary['similarity']}." if record.summary.get("similarity") else ""
    said = f"A neuron is an output channel of a cross-attention value projection.{compared}"
    return [("What a neuron is", record.part("method") or {"name": record.method}, said)]


def cards(record: Record) -> list[Card]:
    """Set sizes and similarities."""
    located = _located(record)
    made: list[Card] = [("Prompts with neurons", f"{len(located):,}", f"of {len(record.done):,}")]
    if located:
        refined, initial = (np.array([row["sizes"][k] for row in located]) for k in (0, 1))
        made.append(
            ("Neurons of a prompt", f"{np.median(refined):g}", f"median; {np.median(initial):g} before refinement")
        )
    for key, label in (("before", "before"), ("after", "with them blocked")):
        if values := [row[key] for row in located if row[key] is not None]:
            made.append((f"Quantity, {label}", f"{np.median(values):.3g}", f"{located[0]['value']}, median"))
    if (limit := number(record.summary.get("threshold"))) is not None:
        made.append(("Threshold", f"{limit:.3f}", "similarity above which two seeds are alike"))
    return made


def drawings(record: Record) -> Drawings:
    """Sizes of the sets, and the layers they are in."""
    if not (located := _located(record)):
        return
    refined, initial = ([row["sizes"][k] for row in located] for k in (0, 1))
    hint = "Refinement unblocks what is not needed."
    yield "set-sizes", "Neurons of a prompt", hint, plots.set_size_plot(initial, refined)
    names = _layers(record)
    means = [
        {short(n): sum(len(row[key].get(n, [])) for row in located) / len(located) for n in names}
        for key in ("initial_neurons", "neurons")
    ]
    yield "layers", "Where they are", "From the first layer of the network to the last.", plots.layer_plot(*means)


def sections(record: Record) -> list[Section]:
    """Each prompt's neurons by layer, and those that the most prompts share."""
    rows = [row | {"places": _places(row["neurons"])} for row in record.done[:SHOWN]]
    each = Counter((name, i) for row in record.done for name, own in row["neurons"].items() for i in own)
    common = [(short(name), i, count) for (name, i), count in each.most_common(20) if count > 1]
    notes = [f"Neurons of {SHOWN} of {len(record.done):,} prompts are shown."] if len(record.done) > SHOWN else []
    found = {"rows": rows, "common": common, "located": len(_located(record))}
    return [Section("neurons.html", found, notes)] if rows else []


def caveats(record: Record) -> list[str]:
    """What a set of neurons does not say."""
    return CAVEATS


def table(record: Record, limit: int, console: Console) -> RenderableType | None:
    """The prompts with the fewest neurons first."""
    ranked = sorted(_located(record), key=lambda row: row["sizes"][0])
    rows: list[list[str | Text]] = [
        [f"{r['sizes'][0]:,}", f"{r['sizes'][1]:,}", shown(r["after"], "{:.3f}"), cell(r["prompt"])]
        for r in ranked[:limit]
    ]
    columns = [("neurons", "right"), ("initial", "right"), ("after", "right"), ("prompt", "fill")]
    return terminal_table(columns, rows) if rows else None


def short(name: str) -> str:
    """A layer's name without what all names share: down 0.1, mid, up 2.0."""
    found = re.fullmatch(r"(down|mid|up)_blocks?\.(?:(\d+)\.)?attentions\.(\d+)\.transformer_blocks\.(\d+)\..*", name)
    if not found:
        return name
    part_, block, attention, transformer = found.groups()
    inner = "" if transformer == "0" else f".{transformer}"
    return "mid" + inner if block is None else f"{part_} {block}.{attention}{inner}"


def _located(record: Record) -> list[Json]:
    return [row for row in record.done if row["sizes"][0]]


def _layers(record: Record) -> list[str]:
    known = [str(name) for name in listed(record.summary.get("layer_names"))]
    seen = [name for row in record.done for key in ("initial_neurons", "neurons") for name in row[key]]
    return list(dict.fromkeys([*known, *seen]))


def _size(neurons: Json) -> int:
    return sum(map(len, neurons.values()))


def _neurons(value: object) -> Json | None:
    if not isinstance(value, dict) or not all(isinstance(own, list) for own in value.values()):
        return None
    return part({"neurons": value}, "neurons")


def _places(neurons: Json) -> list[tuple[str, int, str, str]]:
    """For each layer its name, how many neurons, the first of them, and the others."""
    texts = {name: [str(i) for i in own] for name, own in neurons.items() if own}
    return [(short(n), len(t), ", ".join(t[:INDICES]), ", ".join(t[INDICES:])) for n, t in texts.items()]
