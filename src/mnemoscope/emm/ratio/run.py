"""A run that measures how much of generated images is copied: set by set, a row for each image, resumable."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mnemoscope.emm.data.images import Images
from mnemoscope.emm.ratio.generated_sets import GeneratedSet
from mnemoscope.emm.ratio.memorization import Memorization
from mnemoscope.emm.ratio.options import RatioOptions
from mnemoscope.emm.ratio.pictures import keep_pairs
from mnemoscope.emm.ratio.references import ByFeatures, ByPixels, RatioReferences
from mnemoscope.emm.ratio.summary import Control, highest, summarize
from mnemoscope.errors import UsageError
from mnemoscope.features import Descriptor
from mnemoscope.run.emm_rows import EmmRatioRow
from mnemoscope.run.progress import Progress
from mnemoscope.run.reading import Json
from mnemoscope.run.run import Run
from mnemoscope.run.settings import Settings
from mnemoscope.run.threads import computing_with, recorded_threads

TOGETHER = 2048  # images scored between two writes to the disk


@dataclass(frozen=True)
class Known:
    """Training images; images the model never saw; a pool that says how far apart images usually are."""

    references: Images
    held_out: Images | None = None
    pool: Images | None = None


def run_ratio(
    sets: Sequence[GeneratedSet],
    known: Known,
    out: Path,
    options: RatioOptions,
    *,
    descriptor: Descriptor | None = None,
    overwrite: bool = False,
    record: Settings | None = None,
) -> Json:
    """Score each set against the references, write a row for each image and a summary, and return the summary.

    An interrupted run goes on behind the last rows that it wrote. `record` is what else the settings are to say.
    Raises `UsageError` for no set, sets of one name, and images of another size than the references.
    """
    if not sets or len({each.name for each in sets}) < len(sets):
        raise UsageError(f"{len(sets)} sets of images were given; give at least one, each under a name of its own.")
    settings = asdict(options) | (record or {}) | {"references_sha256": known.references.sha256()}
    identity = {} if descriptor is None else asdict(descriptor.identity)
    with (
        Run(out, "emm-ratio", settings, overwrite=overwrite, features=identity) as run,
        computing_with(recorded_threads(run.folder)),
    ):
        references: RatioReferences = ByPixels(known.references, options.threshold)
        if descriptor is not None:
            references = ByFeatures(known.references, descriptor, run.folder / "features", options.threshold)
        usual, pool = _usual(references, known)
        with Progress(transient=True) as progress:
            for each in progress.track(sets, description="sets"):
                _score(each, references, known.references.names, run, progress)
            scored = _read_back(run.rows(EmmRatioRow), sets, references, options.threshold)
            chosen = next(each for each in sets if each.name == highest(scored))
            again = chosen.again() if len(sets) > 1 else None
            if again is not None:
                _score(again, references, known.references.names, run, progress)
        held_out = None if known.held_out is None else references(known.held_out)
        other = _read_back(run.rows(EmmRatioRow), [again], references, options.threshold)[again.name] if again else None
        summary = summarize(scored, Control(held_out, usual, pool, references.unit), other)
        began, before = time.monotonic(), chosen.evaluations
        summary["pairs"] = keep_pairs(run.folder, chosen, scored[chosen.name], known.references, options.gallery)
        if work := chosen.evaluations - before:
            run.append((), evaluations=work, seconds=time.monotonic() - began)
        return run.finish(**summary)


def _usual(references: RatioReferences, known: Known) -> tuple[float, str]:
    """The usual distance between neighbours, and of which images it is."""
    named = {"pool": known.pool, "held-out": known.held_out, "references": known.references}
    name, pool = next((name, images) for name, images in named.items() if images is not None)
    return references.usual(pool), name


def _score(
    each: GeneratedSet, references: RatioReferences, names: tuple[str, ...], run: Run, progress: Progress
) -> None:
    """Append the rows of the images of a set that have none yet."""
    todo = [place for place in range(len(each)) if f"{each.name}:{place}" not in run.done]
    task = progress.add_task(each.name, total=len(todo))
    for start in range(0, len(todo), TOGETHER):
        places = todo[start : start + TOGETHER]
        began, before = time.monotonic(), each.evaluations
        images = each.take(places)
        memorization = references(images)
        rows = _rows(each.name, places, images, memorization, names)
        work = each.evaluations - before
        run.append(rows, evaluations=work, seconds=time.monotonic() - began)
        progress.advance(task, len(places))
    progress.remove_task(task)


def _rows(
    name: str, places: Sequence[int], images: Images, memorization: Memorization, names: tuple[str, ...]
) -> list[EmmRatioRow]:
    return [
        {
            "id": f"{name}:{place}",
            "status": "ok",
            "snapshot": name,
            "place": place,
            "file": images.names[k],
            "d1": float(memorization.nearest[k]),
            "d2": float(memorization.second[k]),
            "d2_apart": float(memorization.second_apart[k]),
            "quotient": float(memorization.quotient[k]),
            "quotient_apart": float(memorization.quotient_apart[k]),
            "match": names[memorization.match[k]],
            "match_index": int(memorization.match[k]),
            "other_index": int(memorization.other[k]),
            "memorized": bool(memorization.memorized[k]),
            "memorized_apart": bool(memorization.memorized_apart[k]),
        }
        for k, place in enumerate(places)
    ]


def _read_back(
    rows: list[EmmRatioRow], sets: Sequence[GeneratedSet], references: RatioReferences, threshold: int | float
) -> dict[str, Memorization]:
    """What rows say of each set, in the order of its images."""
    scored = {}
    for name in (each.name for each in sets):
        of_snapshot = sorted((row for row in rows if row["snapshot"] == name), key=lambda row: row["place"])
        scored[name] = Memorization(
            np.array([row["d1"] for row in of_snapshot], np.float64),
            np.array([row["d2"] for row in of_snapshot], np.float64),
            np.array([row["d2_apart"] for row in of_snapshot], np.float64),
            np.array([row["match_index"] for row in of_snapshot], np.int64),
            np.array([row["other_index"] for row in of_snapshot], np.int64),
            np.array([row["quotient"] for row in of_snapshot], np.float64),
            np.array([row["quotient_apart"] for row in of_snapshot], np.float64),
            references.references,
            references.distinct,
            float(threshold),
        )
    return scored
