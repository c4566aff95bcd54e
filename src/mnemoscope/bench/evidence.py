"""What a measure says of images: of planted copies, and of those that a model draws."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, cast

import numpy as np
from jaxtyping import Bool, Float

from mnemoscope import registry, stats
from mnemoscope.bench.cell import Bench
from mnemoscope.bench.copies import COPIES, SHARE, Shares
from mnemoscope.bench.detecting import FPR, Judged
from mnemoscope.bench.figures import ALL, OTHERS, Case, Key, Places
from mnemoscope.bench.planting import Planted, planted
from mnemoscope.bench.similarities import Telling
from mnemoscope.bench.truth import TRAINED, TWIN, TruePrompt
from mnemoscope.measuring.comparison import Generated
from mnemoscope.measuring.generated import of_run
from mnemoscope.measuring.measurement import Measurement, run_measurement
from mnemoscope.measuring.sides import Sources
from mnemoscope.pictures import Picture, read_pictures
from mnemoscope.run.image_rows import GenerateRow, MeasureRow
from mnemoscope.run.reading import Json
from mnemoscope.run.run import read_rows

KNOWN, HITS, USUAL, USUAL_FALSE, SAID, SAID_FALSE = "known", "hits", "usual", "usual_false", "said", "said_false"
ByPicture = dict[str, list[float]]


class ToldImages(TypedDict, total=False):
    """How far images are told copies, by picture, and from which number on 1 % of planted others are."""

    family: str
    copies: ByPicture
    others: ByPicture
    threshold: float
    members: ByPicture
    twins: ByPicture
    images: dict[str, float]
    pictures: dict[str, str]


def by_picture(known: Sequence[Case], scores: Shares, chosen: Bool[np.ndarray, "..."]) -> ByPicture:
    """The chosen scores by what they are of."""
    found: ByPicture = {}
    for each, score, is_chosen in zip(known, scores.tolist(), chosen.tolist(), strict=True):
        if is_chosen:
            found.setdefault(each.entry, []).append(score)
    return found


def value(row: MeasureRow, column: str) -> float:
    """How far a row tells a copy, higher for copies; NaN where it does not say."""
    found = cast(Json, row).get(column.removeprefix("-"))
    return math.nan if found is None else (-1 if column.startswith("-") else 1) * float(found)


def _measured(
    found: Telling, images: Sequence[Generated], folder: Path, references: Sequence[Picture], usual: Json
) -> tuple[Json, dict[str, MeasureRow]]:
    """The run of a measure, and its rows by image; `usual` are parameters where the measure has them."""
    measure = registry.get("measure", found.metric)
    params = {f"{measure.name}.{key}": value for key, value in usual.items() if key in measure.parameters}
    copied = found.descriptor.threshold
    asked = Measurement(
        (found.metric,), {**params, **found.params}, 1.0 if copied is None else copied, top=1, gallery=24
    )
    summary = run_measurement(images, folder, found.descriptor, asked, Sources(pictures=tuple(references)))
    return summary, {row["file"]: row for row in read_rows(folder, MeasureRow) if row["status"] == "ok"}


class Copied:
    """How far each planted image is told a copy, and whether it is one."""

    def __init__(self, known: Sequence[Planted], scores: Shares, verdicts: Shares | None = None) -> None:
        self.known, self.scores, self.verdicts = known, scores, verdicts
        self.member = np.array([each.is_member for each in known])
        kinds = np.array([each.kind for each in known])
        self.of = {ALL: np.ones(len(known), bool)} | {name: kinds == name for name in dict.fromkeys(kinds.tolist())}

    def counts(self) -> dict[str, int]:
        """How many pictures each group is of."""
        trained, rest = ({e.entry for e in self.known if e.is_member == side} for side in (True, False))
        return {**dict.fromkeys(self.of, len(trained)), OTHERS: len(rest)}

    def statistics(self, places: Places) -> Mapping[Key, float]:
        """AUC of each change, hits at 1 % false alarms among all others, and both at the measure's own threshold."""
        scores, member = self.scores[places], self.member[places]
        of = {name: own[places] for name, own in self.of.items()}
        found = {(KNOWN, name): _auc(scores[own & member], scores[own & ~member]) for name, own in of.items()}
        if (~member).sum() >= 1 / FPR:
            flagged = scores >= stats.threshold_at_fpr(scores[~member], FPR)
            found |= {(HITS, name): mean(flagged[own & member]) for name, own in of.items()}
        if self.verdicts is not None:
            verdicts = self.verdicts[places]
            found |= {(USUAL, name): mean(verdicts[own & member]) for name, own in of.items()}
            found[USUAL_FALSE, OTHERS] = mean(verdicts[~member])
        return found


def _auc(ours: Shares, theirs: Shares) -> float:
    return stats.auc(ours, theirs) if ours.size and theirs.size else math.nan


def mean(values: Float[np.ndarray, "..."] | Bool[np.ndarray, "..."]) -> float:
    """The mean, NaN of nothing."""
    return float(values.mean()) if values.size else math.nan


def of_planted(
    bench: Bench, tells: Sequence[str], found: Telling, folder: Path, told: ToldImages
) -> tuple[Json, Copied | None]:
    """Planted copies and as many others under the same changes, against the trained pictures; notes what is told."""
    every = planted(bench.truth)
    references = list(read_pictures(bench.truth.folder / TRAINED))
    summary, rows = _measured(found, [Generated(each.picture) for each in every], folder, references, {})
    known = [e for e in every if e.picture.key in rows and not math.isnan(value(rows[e.picture.key], tells[0]))]
    if not known:
        return summary, None
    scores = np.array([value(rows[e.picture.key], tells[0]) for e in known])
    has_own = bool(tells[1:]) and found.descriptor.threshold is not None
    judged = Copied(known, scores, np.array([value(rows[e.picture.key], tells[1]) for e in known]) if has_own else None)
    told["copies"] = by_picture(known, scores, judged.member)
    told["others"] = by_picture(known, scores, ~judged.member)
    if (~judged.member).sum() >= 1 / FPR:
        told["threshold"] = stats.threshold_at_fpr(scores[~judged.member], FPR)
    return summary, judged


def of_drawn(
    bench: Bench, tells: Sequence[str], found: Telling, folder: Path, told: ToldImages
) -> tuple[Json, Judged, Shares | None]:
    """Images of prompts whose picture was trained, and of twins', against the pictures of both; notes what is told.

    Of a prompt with several images the mean. The last are the shares of each prompt's images above the threshold that
    planted copies gave, where they did.
    """
    _, compared = bench.truth.captioned(twins=True)
    source = bench.folder / COPIES
    drawn = {row["file"]: row for row in read_rows(source, GenerateRow) if row["status"] == "ok"}
    asked = {file: row.get("reference_caption") or row["prompt"] for file, row in drawn.items()}
    images = [replace(each, prompt=asked[each.picture.key]) for each in of_run(source)]
    summary, rows = _measured(found, images, folder, compared.items, {"candidates": 0})  # the prompt's own alone
    column = "own_score" if tells[0] == "score" else tells[0]
    values: dict[str, list[float]] = {}
    for row in rows.values():
        values.setdefault(row["prompt_id"], []).append(value(row, column))
    known = [e for e in bench.truth.known if not np.isnan(values.get(e.prompt.id, [math.nan])).any()]
    scores, limit = np.array([np.mean(values[e.prompt.id]) for e in known]), told.get("threshold")
    above = None if limit is None else np.array([mean(np.array(values[e.prompt.id]) >= limit) for e in known])
    judged = Judged(bench.truth, known, scores)
    told["members"] = by_picture(known, scores, judged.member)
    told["twins"] = by_picture(known, scores, ~judged.member)
    _note_images(told, rows, column, known)
    return summary, judged, above


def _note_images(told: ToldImages, rows: Mapping[str, MeasureRow], column: str, known: Sequence[TruePrompt]) -> None:
    entries = {e.prompt.id: e.entry for e in known}
    kept = {file: row for file, row in rows.items() if row["prompt_id"] in entries}
    told["images"] = {file: value(row, column) for file, row in kept.items()}
    told["pictures"] = {file: entries[row["prompt_id"]] for file, row in kept.items()}


def said(judged: Judged, above: Shares | None) -> Callable[[Places], dict[Key, float]]:
    """Figures of the images that a model draws, with what passes the threshold that planted copies gave."""

    def statistics(places: Places) -> dict[Key, float]:
        found = judged.statistics(places)
        if above is None:
            return found
        shares = judged.by_dose.means(places, above)
        found |= {(SAID, group): share for (kind, group), share in shares.items() if kind == SHARE}
        return found | {(SAID_FALSE, TWIN): mean(above[places][~judged.member[places]])}

    return statistics
