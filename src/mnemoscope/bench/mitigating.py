"""Mitigations on the bench: what each takes from copying at each number of views, and what it costs in alignment."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mnemoscope import registry
from mnemoscope.bench.areas import AREA, FIRST, area, firsts
from mnemoscope.bench.cell import Bench, Contest, Outcome, Tried, refused_by
from mnemoscope.bench.copies import SHARE, ByDose, Shares
from mnemoscope.bench.figures import ALL, Form, Key, Places, figures, pictures, plain
from mnemoscope.bench.judging import judge
from mnemoscope.bench.tables import Sheet
from mnemoscope.bench.truth import ORDINARY, TRAINED, TruePrompt, Truth
from mnemoscope.features.raw_pixels import COPY
from mnemoscope.features.references import References
from mnemoscope.generation.run import Generation
from mnemoscope.mitigation.chosen import Mitigation
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.run.bench_rows import BenchFigure
from mnemoscope.run.image_rows import SweepRow
from mnemoscope.run.run import read_rows
from mnemoscope.sweep.curves import SweepPoint, points
from mnemoscope.sweep.fitting import fitting
from mnemoscope.sweep.run import run_sweep

ALIGNED, EVALUATIONS = "aligned", "evaluations"
FORMS = {
    SHARE: Form(bounded=True),
    ALIGNED: Form(bounded=True),
    ORDINARY: Form(bounded=True),
    AREA: Form("{:.3f}".format),
    EVALUATIONS: Form("{:.1f}".format),
}
Values = Float[np.ndarray, "P N"]  # of each point and prompt


def _points(bench: Bench, tried: Tried) -> list[SweepPoint]:
    return points([Mitigation(tried.given, bench.trial.own(tried.method))])


def generation_of(bench: Bench) -> Generation:
    """How the images of a sweep are drawn."""
    return Generation(images=bench.trial.images, **bench.trial.sampling)


def refusal(bench: Bench, tried: Tried | None) -> str | None:
    """Why a mitigation cannot be swept on a model; None where it can."""
    if not (bench.truth.folder / TRAINED).is_dir():
        return f"the truth has no folder {TRAINED} to compare images with"
    assert tried is not None
    return refused_by(
        lambda: fitting(bench.model, _points(bench, tried), bench.truth.prompts[:1], generation_of(bench))
    )


def cell(bench: Bench, tried: Tried | None, folder: Path) -> Outcome:
    """Every strength of a mitigation, and none, over prompts that were trained and ordinary ones, as a sweep."""
    assert tried is not None
    swept, (prompts, references) = _points(bench, tried), asked_of(bench)
    summary = run_sweep(
        bench.model,
        prompts,
        folder,
        generation_of(bench),
        swept,
        references,
        alignment=judge(bench.truth.known),
        replication_threshold=None,
        batch=bench.batch,
    )
    known = [bench.truth.by_id[p.id] for p in prompts]
    found = Swept(bench.truth, known, [p.name for p in swept], read_rows(folder, SweepRow))
    made = {"": found.areas(bench.trial.seed)}
    each = {"": 0.0}
    for place, (point, curve) in enumerate(zip(swept, summary["curves"], strict=True)):
        at = f"{point.parameter} {point.strength}" if point.parameter else ("" if point.mitigation else "none")
        cost = plain(EVALUATIONS, "", curve["evaluations_per_image"], len(prompts), FORMS[EVALUATIONS])
        made[at] = [*made.get(at, []), *found.at(place, bench.trial.seed), cost]
        each[at] = curve["seconds_per_image"]
    each[""] = each[""] or float(np.mean([seconds for at, seconds in each.items() if at]))
    return Outcome(made, each, summary["network_evaluations"], summary["seconds"])


def asked_of(bench: Bench) -> tuple[list[Prompt], References]:
    """Prompts whose pictures there are, then ordinary ones of a known concept; and the pictures."""
    prompts, references = bench.truth.captioned()
    ordinary = [e.prompt for e in bench.truth.known if e.is_ordinary]
    return [*prompts, *ordinary], references


class Swept:
    """A sweep's rows as the mean copying and alignment of each prompt at each point."""

    def __init__(
        self, truth: Truth, known: Sequence[TruePrompt], names: Sequence[str], rows: Sequence[SweepRow]
    ) -> None:
        self.by_dose, self.known = ByDose(truth, known), known
        self.copied, self.aligned = (np.full((len(names), len(known)), math.nan) for _ in range(2))
        places = {e.prompt.id: k for k, e in enumerate(known)}
        cells: dict[tuple[int, int], list[SweepRow]] = {}
        for row in rows:
            if row["status"] == "ok":
                point = names.index(_name(row))
                cells.setdefault((point, places[row["prompt_id"]]), []).append(row)
        for where, own in cells.items():
            self.copied[where] = _mean([_copied(row) for row in own])
            self.aligned[where] = _mean([row["alignment"] for row in own])
        self.ordinary = np.array([not e.is_member for e in known])

    def at(self, point: int, seed: int) -> list[BenchFigure]:
        """Copies and alignment at a point, by kind and number of views, and the alignment of ordinary prompts."""

        def statistics(places: Places) -> dict[Key, float]:
            aligned = self._means(places, self.aligned[point], ALIGNED)
            ordinary = self.aligned[point][places][self.ordinary[places]]
            found = self._means(places, self.copied[point], SHARE) | aligned
            return found | {(ALIGNED, ORDINARY): _mean(ordinary.tolist())}

        return figures(self.known, statistics, pictures(self.known), FORMS, seed=seed)

    def areas(self, seed: int) -> list[BenchFigure]:
        """The area under the whole curve of strengths, by kind and number of views."""

        def statistics(places: Places) -> dict[Key, float]:
            pairs = [
                (self._means(places, aligned, AREA), self._means(places, copied, AREA))
                for aligned, copied in zip(self.aligned, self.copied, strict=True)
            ]
            return {key: area([(a[key], c[key]) for a, c in pairs]) for key in pairs[0][0]}

        return figures(self.known, statistics, pictures(self.known), FORMS, seed=seed)

    def _means(self, places: Places, values: Shares, quantity: str) -> dict[Key, float]:
        means = self.by_dose.means(places, values)
        return {(quantity, group): value for (kind, group), value in means.items() if kind == SHARE}


def _name(row: SweepRow) -> str:
    return "none" if row["mitigation"] == "none" else f"{row['mitigation']}-{row['strength']}"


def _copied(row: SweepRow) -> float | None:
    own = row["own_similarity"]
    return None if own is None else float(own >= COPY)


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None and not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


SHEETS = (
    Sheet(
        "Area under the curve of strengths",
        "Each strength has an alignment (images that show their prompt's object) and a share of images that are no "
        "copies; the area is that of all points of the square of both that some strength reaches, none included. 1 is "
        "every image aligned and none copied. In brackets 95 % intervals over pictures.",
        {AREA: ""},
    ),
    Sheet(
        "Which wins where",
        "The largest area of each column, and those whose intervals reach into its own.",
        {FIRST: ""},
    ),
    Sheet(
        "Copied, by strength",
        "Share of images that copy their training picture, with and without the mitigation.",
        {SHARE: ""},
    ),
    Sheet(
        "Aligned, by strength",
        "Share of images that show their prompt's object; of ordinary prompts it is what a mitigation costs them.",
        {ALIGNED: ""},
    ),
    Sheet(
        "Cost",
        "Network evaluations and seconds of an image.",
        {EVALUATIONS: "evaluations", SHARE: "copied,"},
        groups=("", ALL),
        has_seconds=True,
    ),
)


def names() -> list[str]:
    """All mitigations and changes of captions."""
    return [*registry.names("mitigate"), *registry.names("caption")]


MITIGATE = Contest("mitigate", names, registry.stopping, refusal, cell, SHEETS, completed=lambda rows, _: firsts(rows))
