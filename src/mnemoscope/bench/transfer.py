"""Thresholds where they were not chosen, on another preset or model; and what measures say together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from mnemoscope import stats
from mnemoscope.bench.evidence import ByPicture, ToldImages
from mnemoscope.bench.figures import RESAMPLES, Form, figure
from mnemoscope.run.bench_rows import BenchFigure, BenchRow
from mnemoscope.run.run import read_json

FPR = 0.01
EVIDENCE = "evidence.json"  # in the folder of a cell
AT, FALSE_AT, AT_MODEL, FALSE_AT_MODEL = "at", "false_at", "at_model", "false_at_model"
AGREED, DENIED = "agreed", "denied"
FORM = Form("{:.3f}".format, bounded=True)
Told = Mapping[str, ToldImages]  # by the row's id
Verdicts = dict[str, bool]  # by the image's file


def transferred(rows: Sequence[BenchRow], folder: Path) -> list[BenchRow]:
    """The rows, each with what it finds at thresholds from elsewhere, and how far it agrees with the others."""
    files = {row["id"]: folder / row["cell"] / EVIDENCE for row in rows if "cell" in row}
    told = {key: cast(ToldImages, read_json(file)) for key, file in files.items() if file.is_file()}
    made: list[BenchRow] = []
    for row in rows:
        more = [*_presets(row, rows, told), *_models(row, rows, told), *_together(row, rows, told)]
        made.append({**row, "figures": [*row["figures"], *more]})
    return made


def _presets(row: BenchRow, rows: Sequence[BenchRow], told: Told) -> Iterator[BenchFigure]:
    """At the thresholds of all presets of the same features, its own among them."""
    own = told.get(row["id"], {})
    alike = [r for r in rows if r["model"] == row["model"] and told.get(r["id"], {}).get("family") == own.get("family")]
    if "copies" in own and len(alike) > 1:
        for other in alike:
            limit = told[other["id"]].get("threshold")
            if limit is not None:
                yield _share(AT, other["method"], _above(own["copies"], limit))
                yield _share(FALSE_AT, other["method"], _above(own["others"], limit))


def _models(row: BenchRow, rows: Sequence[BenchRow], told: Told) -> Iterator[BenchFigure]:
    """At the thresholds that the same method has on images of other models."""
    own = told.get(row["id"], {})
    for other in rows:
        theirs = told.get(other["id"], {}).get("twins", {})
        values = np.array([value for each in theirs.values() for value in each])
        is_other = other["method"] == row["method"] and other["model"] != row["model"]
        if is_other and "members" in own and values.size >= 1 / FPR:
            limit = stats.threshold_at_fpr(values, FPR)
            yield _share(AT_MODEL, other["model"], _above(own["members"], limit))
            yield _share(FALSE_AT_MODEL, other["model"], _above(own["twins"], limit))


def _together(row: BenchRow, rows: Sequence[BenchRow], told: Told) -> Iterator[BenchFigure]:
    """Where most other sorts of features agree about an image, whether this method does."""
    own, families = told.get(row["id"], {}), dict[str, list[Verdicts]]()
    for other in rows:
        theirs = told.get(other["id"], {})
        if other["model"] == row["model"] and "threshold" in theirs and "images" in theirs:
            families.setdefault(theirs["family"], []).append(_verdicts(theirs))
    mine = families.pop(own.get("family", ""), None)
    if mine is None or len(families) < 2 or "threshold" not in own:
        return
    votes = {file: float(np.mean([_vote(each, file) for each in families.values()])) for file in own["images"]}
    for quantity, chosen in ((AGREED, lambda vote: vote > 0.5), (DENIED, lambda vote: vote < 0.5)):
        counted = _counted(own, votes, chosen)
        if counted:
            yield _share(quantity, "most others", counted)


def _verdicts(told: ToldImages) -> Verdicts:
    return {file: value >= told["threshold"] for file, value in told["images"].items()}


def _vote(family: Sequence[Verdicts], file: str) -> float:
    """Which part of a family calls an image a copy; a half where none has seen it."""
    said = [verdicts[file] for verdicts in family if file in verdicts]
    return float(np.mean(said)) if said else 0.5


def _counted(own: ToldImages, votes: Mapping[str, float], chosen: Callable[[float], bool]) -> list[tuple[int, int]]:
    """Of each picture, how many of its chosen images are called copies, and how many there are."""
    found: dict[str, list[bool]] = {}
    for file, said in _verdicts(own).items():
        if chosen(votes[file]):
            found.setdefault(own["pictures"][file], []).append(said)
    return [(sum(each), len(each)) for each in found.values()]


def _above(scores: ByPicture, limit: float) -> list[tuple[int, int]]:
    return [(sum(value >= limit for value in each), len(each)) for each in scores.values()]


def _share(quantity: str, group: str, counted: Sequence[tuple[int, int]]) -> BenchFigure:
    """A share of images, with the interval that drawing pictures anew gives."""
    said, seen = np.array(counted).T
    picks = stats.resampler(RESAMPLES, 0).integers(len(seen), size=(RESAMPLES, len(seen)))
    drawn = (said[picks].sum(axis=1) / seen[picks].sum(axis=1)).tolist()
    return figure(quantity, group, float(said.sum() / seen.sum()), drawn, len(seen), FORM)
