"""Localizers on the bench: what switching off the neurons that they name takes from copying, and from the rest."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mnemoscope import registry
from mnemoscope.bench.cell import Bench, Contest, Outcome, Tried, refused_by
from mnemoscope.bench.copies import SHARE
from mnemoscope.bench.figures import ALL, Form, Key, Places, figures, pictures, plain
from mnemoscope.bench.mitigating import ALIGNED, Swept, asked_of, generation_of
from mnemoscope.bench.mitigating import FORMS as SWEEP_FORMS
from mnemoscope.bench.tables import Sheet
from mnemoscope.bench.truth import ORDINARY, TRAINED
from mnemoscope.errors import UsageError
from mnemoscope.localization import sets
from mnemoscope.localization.run import Localization, run_localization
from mnemoscope.mitigation.chosen import Mitigation
from mnemoscope.model import ablation
from mnemoscope.run.bench_rows import BenchFigure
from mnemoscope.run.image_rows import SweepRow
from mnemoscope.run.reading import Json
from mnemoscope.run.rows import LocalizeRow
from mnemoscope.run.run import read_rows
from mnemoscope.sweep.curves import SweepPoint
from mnemoscope.sweep.run import run_sweep

NEURONS, KEPT, EVALUATIONS = "neurons", "kept", "evaluations"
COUNTS = (4, 16, 64, 256)  # of the most frequent neurons of all prompts, as one set for every prompt
FORMS = {**SWEEP_FORMS, NEURONS: Form("{:.2%}".format), KEPT: Form("{:.2f}".format, bounded=True)}


def refusal(bench: Bench, tried: Tried | None) -> str | None:
    """Why a localizer cannot be judged on a model; None where it can."""
    assert tried is not None
    if not (bench.truth.folder / TRAINED).is_dir():
        return f"the truth has no folder {TRAINED} to compare images with"
    own = bench.trial.own(tried.method)
    return refused_by(lambda: (ablation.layers(bench.model), registry.checked(tried.method, own)))


def cell(bench: Bench, tried: Tried | None, folder: Path) -> Outcome:
    """The neurons of all trained prompts, as a localization, and images without them, as a sweep.

    Each prompt without its own neurons, and all prompts without those that most prompts have, of several numbers;
    beside each as many other neurons of the same layers, drawn at random.
    """
    assert tried is not None
    prompts, references = asked_of(bench)
    trained = [p for p in prompts if p.label]
    ordinary = [p for p in prompts if not p.label]
    asked = Localization(tried.given, bench.trial.own(tried.method))
    located = run_localization(bench.model, trained, folder / "locate", asked, negatives=ordinary, batch=bench.batch)
    rows = [row for row in read_rows(folder / "locate", LocalizeRow) if row["status"] == "ok"]
    sizes = _sizes(rows)
    widths = ablation.widths(bench.model, "all")
    controlled = [name for name, size in sizes.items() if _has_others(rows, name, int(size), widths)]
    points = [SweepPoint(), *_points(folder / "locate", sizes, controlled, bench.trial.seed)]
    generation = generation_of(bench)
    drawn = run_sweep(bench.model, prompts, folder / "ablate", generation, points, references, batch=bench.batch)
    known = [bench.truth.by_id[p.id] for p in prompts]
    swept = Swept(bench.truth, known, [p.name for p in points], read_rows(folder / "ablate", SweepRow))
    kept = _kept(read_rows(folder / "ablate", SweepRow))
    total = sum(widths.values())
    made: dict[str, list[BenchFigure]] = {}
    each: dict[str, float] = {}
    for place, (point, curve) in enumerate(zip(points, drawn["curves"], strict=True)):
        at = point.strength or "none"
        own = [f for f in swept.at(place, bench.trial.seed) if f["quantity"] != ALIGNED]
        share = sizes.get(at.removesuffix(", random"), 0.0) / total
        made[at] = [plain(NEURONS, "", share, len(trained), FORMS[NEURONS]), *own]
        made[at] += _ordinary([kept.get((point.name, p.id), math.nan) for p in ordinary], bench)
        each[at] = curve["seconds_per_image"]
    spent = located["network_evaluations"] / max(len(trained), 1)
    made["none"].append(plain(EVALUATIONS, "", spent, len(trained), Form("{:.0f}".format)))
    return Outcome(
        made,
        each,
        located["network_evaluations"] + drawn["network_evaluations"],
        located["seconds"] + drawn["seconds"],
    )


def _sizes(rows: Sequence[LocalizeRow]) -> dict[str, float]:
    """Mean number of neurons of each kind of set, by its name; numbers beyond all that were found are left out."""
    every = len({(name, i) for row in rows for name, found in row["neurons"].items() for i in found})
    if not every:
        return {}
    own = float(np.mean([ablation.count(row["neurons"]) for row in rows]))
    return {"own": own, **{f"{n} of all": float(n) for n in COUNTS if n <= every}}


def _has_others(rows: Sequence[LocalizeRow], name: str, size: int, widths: Mapping[str, int]) -> bool:
    """Whether as many neurons as in the sets of a kind can be drawn from those of their layers that were not found."""
    found = [row["neurons"] for row in rows]
    try:
        if name != "own":
            return bool(sets.drawn_like(sets.most_frequent(found, size), widths, "", ablation.union(found)))
        for each in found:
            sets.drawn_like(each, widths, "", each)
    except UsageError:
        return False
    return True


def _points(located: Path, sizes: Mapping[str, float], controlled: Sequence[str], seed: int) -> list[SweepPoint]:
    """Each kind of set and, where they can be drawn, as many neurons at random."""
    made = []
    for name, size in sizes.items():
        chosen: Json = {"neurons": str(located), "factor": 0.0}
        chosen |= {} if name == "own" else {"choose": "most_frequent", "count": int(size)}
        random: list[tuple[str, Json]] = [(f"{name}, random", {"control": seed})] if name in controlled else []
        for at, more in [(name, {}), *random]:
            made.append(SweepPoint(Mitigation("neuron_ablation", {**chosen, **more}), "set", at))
    return made


def _kept(rows: Sequence[SweepRow]) -> dict[tuple[str, str], float]:
    """How like its unmitigated twin each prompt's images are on average, by point and prompt."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["status"] == "ok" and row["baseline_similarity"] is not None:
            name = "none" if row["mitigation"] == "none" else f"{row['mitigation']}-{row['strength']}"
            found.setdefault((name, row["prompt_id"]), []).append(row["baseline_similarity"])
    return {key: float(np.mean(values)) for key, values in found.items()}


def _ordinary(values: Sequence[float], bench: Bench) -> list[BenchFigure]:
    """The mean likeness of ordinary prompts, with its interval."""
    known = [e for e in bench.truth.known if e.is_ordinary]
    pairs = [(e, v) for e, v in zip(known, values, strict=True) if not math.isnan(v)]
    if not pairs:
        return []
    own = np.array([v for _, v in pairs])

    def statistics(places: Places) -> dict[Key, float]:
        return {(KEPT, ORDINARY): float(own[places].mean())}

    some = [e for e, _ in pairs]
    return figures(some, statistics, pictures(some), FORMS, seed=bench.trial.seed)


SHEETS = (
    Sheet(
        "Copied without the neurons",
        "Share of images that copy their training picture with each set switched off. Own are those that were found "
        "for the prompt itself; N of all are the N that most prompts have, one set for every prompt; random are as "
        "many other neurons of the same layers, if there are so many. Neurons: the mean size of the set as a share of "
        "all value projections.",
        {NEURONS: "neurons", SHARE: "copied,", KEPT: "likeness of"},
    ),
    Sheet(
        "Cost",
        "Network evaluations that finding took, of a prompt; seconds of an image.",
        {EVALUATIONS: "evaluations", SHARE: "copied,"},
        groups=("", ALL),
        has_seconds=True,
    ),
)


def names() -> list[str]:
    """All localizers."""
    return registry.names("localize")


def _found(name: str) -> registry.Method:
    return registry.get("localize", name)


LOCALIZE = Contest("localize", names, _found, refusal, cell, SHEETS)
