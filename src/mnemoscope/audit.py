"""The whole audit: detect, draw what is flagged beside what is not, compare with the training images, report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mnemoscope.batching import content_hash
from mnemoscope.denoiser import Denoiser
from mnemoscope.detection import Detection, run_detection
from mnemoscope.generation import Generation, run_generation
from mnemoscope.prompts import Prompt
from mnemoscope.references import References
from mnemoscope.run import Run, read_rows


def run_audit(
    model: Denoiser,
    prompts: Sequence[Prompt],
    out: Path,
    detection: Detection,
    generation: Generation,
    *,
    negatives: Sequence[Prompt] = (),
    references: References | None = None,
    most: int = 24,
    fpr: float = 0.01,
    batch: int | str = "auto",
    overwrite: bool = False,
    asked: Mapping[str, Any] | None = None,
) -> int:
    """Audit a model's prompts into a folder; returns how many prompts or images failed.

    Images are drawn for at most `most` of the flagged prompts, spread evenly from the highest score to the lowest (of
    all prompts, where nothing could be flagged), and for a third as many unflagged ones to compare with, spread alike.
    """
    settings = {**(asked or {}), "most": most}
    with Run(out, "audit", settings, overwrite=overwrite) as run:
        found = run_detection(
            model, prompts, out / "detect", detection, negatives=negatives, fpr=fpr, batch=batch, overwrite=overwrite
        )
        rows = {r["id"]: r for r in read_rows(out / "detect") if r["status"] == "ok"}
        drawn = to_draw([p for p in prompts if p.id in rows], rows, most)
        made = run_generation(
            model,
            drawn,
            out / "generate",
            generation,
            references=references,
            scores=rows,
            content=content_hash([p.id for p in [*prompts, *negatives]]),
            batch=batch,
            overwrite=overwrite,
        )
        whole = {key: round(found[key] + made[key], 3) for key in ("failed", "network_evaluations", "seconds")}
        run.finish(detect=found, generate=made, **whole)
        return whole["failed"]


def to_draw(prompts: Sequence[Prompt], rows: Mapping[str, dict[str, Any]], most: int) -> list[Prompt]:
    """Flagged prompts from the highest score down, then unflagged ones to compare with, both evenly thinned."""
    ranked = sorted(prompts, key=lambda p: (-rows[p.id]["score"], p.id))
    unknown = all(rows[p.id]["flagged"] is None for p in ranked)
    flagged = [p for p in ranked if unknown or rows[p.id]["flagged"]]
    calm = [p for p in ranked if p not in flagged]
    return thinned(flagged, most) + thinned(calm, max(1, most // 3))


def thinned(prompts: Sequence[Prompt], most: int) -> list[Prompt]:
    """At most so many of the prompts, spread evenly over them, the first one among them."""
    count = min(most, len(prompts))
    return [prompts[k * len(prompts) // count] for k in range(count)]
