"""The measurement: generated images embedded, compared and measured into a run with a row for each of them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.features import Descriptor
from mnemoscope.measuring.comparison import Comparison, Generated, Measured
from mnemoscope.measuring.rows import image_rows
from mnemoscope.measuring.sides import ListedSources, Sides, Sources, compared, listed
from mnemoscope.pictures.counting import CaptionCounts, caption_counts
from mnemoscope.run.content import content_hash
from mnemoscope.run.reading import Json
from mnemoscope.run.run import Run
from mnemoscope.run.trackers import require, track
from mnemoscope.run.writing import whole

TRACKING = ("trackers", "project")
HEADLINES = ("replication_rate", "similarity_mean", "similarity_p95")


@dataclass(frozen=True)
class Measurement:
    """What to measure: the measures by name (all that can be, if none is named), their parameters, and how.

    `threshold` is the similarity above which an image counts as a copy, the descriptor's own if it is None; `top` is
    how many references are kept for each image, `gallery` how many images a report shows. Every number goes to the
    `trackers` as well, under `measure/NUMBER` in the `project`.
    """

    metrics: tuple[registry.Name, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    threshold: int | float | None = None
    top: int = 10
    seed: int = 0
    gallery: int = 200
    trackers: tuple[str, ...] = ()
    project: str = "mnemoscope"


def run_measurement(
    generated: Sequence[Generated],
    out: Path | str,
    descriptor: Descriptor,
    measurement: Measurement,
    sources: Sources,
    *,
    cache: Path | None = None,
    overwrite: bool = False,
) -> Json:
    """Measure all images into a run and return its summary; an image that cannot be read is a failed row."""
    given = parameters(measurement)
    origins = {name: dict(method.origin) for name, method in methods(measurement).items() if method.origin}
    require(measurement.trackers)
    asked = {k: v for k, v in asdict(measurement).items() if k not in TRACKING}
    settings = {**asked, "content": content_hash(g.picture.key for g in generated)}
    settings |= {"metrics": [m if isinstance(m, str) else m.__name__ for m in measurement.metrics]}
    settings |= {"origins": origins} if origins else {}
    identity = asdict(descriptor.identity)
    there = listed(sources, descriptor, measurement.threshold)
    with Run(out, "measure", settings, overwrite=overwrite, features=identity) as run:
        began = time.perf_counter()
        sides = compared(
            generated,
            descriptor,
            cache or run.folder / "features",
            sources,
            there,
            top=measurement.top,
            seed=measurement.seed,
        )
        said = measured(sides.comparison, measurement, given)
        _save_arrays(run.folder, said)
        rows = {row["file"]: row for row in image_rows(run.folder, sides.comparison, said, measurement.gallery)}
        rows |= {key: {"id": key, "file": key, "status": "failed", "error": why} for key, why in sides.unread.items()}
        run.append([], seconds=time.perf_counter() - began)
        run.replace_rows(rows[g.picture.key] for g in generated)
        summary = {**summarised(sides, said), **caption_summary(generated, there, sides), **identity}
        track(measurement.trackers, run.folder, measurement.project, numbers(summary), {**identity, **asked})
        return run.finish(**summary)


def numbers(summary: Mapping[str, Any]) -> dict[str, int | float]:
    """Every number of a summary by its name, those of a measure as `measure/number`, ends of intervals as low, high."""
    found: dict[str, int | float] = {}
    for key, value in summary.items():
        if isinstance(value, Mapping):
            own = value.items() if key == "measures" else [(key, value)]
            found |= {f"{name}/{k}": v for name, part in own for k, v in numbers(dict(part)).items()}
        elif key.endswith("_interval") and value is not None:
            found |= {f"{key}_low": value[0], f"{key}_high": value[1]}
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[key] = value
    return found


def parameters(measurement: Measurement) -> dict[str, registry.Parameters]:
    """The parameters of each measure, given as `measure.parameter`; raises `UsageError` for what there is not."""
    found = methods(measurement)
    given: dict[str, registry.Parameters] = {name: {} for name in found}
    for key, value in measurement.params.items():
        name, dot, own = key.partition(".")
        if not dot or name not in given:
            raise UsageError(f"--param {key} names no measure that is taken; write MEASURE.PARAMETER=value.")
        given[name][own] = value
    return {name: registry.checked(found[name], own) for name, own in given.items()}


def methods(measurement: Measurement) -> dict[str, registry.Method]:
    """The measures by their names: those asked for, by name, file or function, or else all that there are."""
    asked = measurement.metrics or registry.names("measure")
    found = [registry.get("measure", each) for each in asked]
    return {method.name: method for method in found}


def measured(
    comparison: Comparison, measurement: Measurement, given: Mapping[str, Mapping[str, Any]]
) -> dict[str, Measured]:
    """What each measure says; measures that were not asked for by name are left out where something they need lacks."""
    there, said, all_methods = comparison.known, {}, methods(measurement)
    for name, own in given.items():
        found = all_methods[name]
        lacking = [need for need in found.needs if need not in there]
        if not lacking:
            said[name] = found.function(comparison, **own)
        elif measurement.metrics:
            raise UsageError(f"The measure {name} needs {' and '.join(lacking)}; give them, or leave it out.")
    return said


def summarised(sides: Sides, said: Mapping[str, Measured]) -> Json:
    """The summary of a run: each measure's own, and the numbers that any replication study gives, by their names."""
    comparison, unread = sides.comparison, sides.unread_references
    whole: Json = {"images": len(comparison.generated), "threshold": comparison.threshold}
    if comparison.corpus is not None:
        whole["references"] = len(comparison.corpus.keys)
    replication = said["replication"].summary if "replication" in said else {}
    whole |= {k: v for k, v in replication.items() if k.removesuffix("_interval") in HEADLINES}
    whole |= {"upsampled": sides.upsampled, "upsampled_references": sides.upsampled_references}
    notes = list(dict.fromkeys(note for each in said.values() for note in each.notes))
    if unread:
        whole["unread_references"] = unread
        one = "1 reference" if len(unread) == 1 else f"{len(unread):,} references"
        notes.append(f"{one} could not be read and took no part: {', '.join(unread[:3])}.")
    if sides.upsampled or sides.upsampled_references:
        enlarged = f"{sides.upsampled:,} images and {sides.upsampled_references:,} references"
        notes.append(
            f"{enlarged} are smaller than what the network sees: enlarged, they score too low against sharp ones."
        )
    return whole | {"measures": {name: dict(each.summary) for name, each in said.items()}, "notes": notes}


def caption_summary(generated: Sequence[Generated], there: ListedSources, sides: Sides) -> dict[str, CaptionCounts]:
    """How many references have a caption, and how many images a prompt where any lacks one."""
    found: dict[str, CaptionCounts] = {}
    corpus = sides.comparison.corpus
    if corpus is not None:
        found["reference_captions"] = there.captions or caption_counts(map(bool, corpus.captions))
    if any(g.prompt is None for g in generated):
        found["image_captions"] = caption_counts([g.prompt is not None for g in generated])
    return found


def _save_arrays(folder: Path, said: Mapping[str, Measured]) -> None:
    kept = [(f"{name}.{key}", value) for name, each in said.items() for key, value in each.arrays.items()]
    arrays = {name: np.ascontiguousarray(value) for name, value in kept}  # others are written wrongly
    if arrays:
        with whole(folder / "arrays" / "measures.safetensors") as partial:
            save_file(arrays, partial)
