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
    all prompts, where nothing could be flagged), and for a third as many of the lowest-scoring ones to compare with.
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
    """Flagged prompts from the highest score down, evenly thinned, then the lowest-scoring ones for comparison."""
    ranked = sorted(prompts, key=lambda p: (-rows[p.id]["score"], p.id))
    unknown = all(rows[p.id]["flagged"] is None for p in ranked)
    flagged = [p for p in ranked if unknown or rows[p.id]["flagged"]]
    count = min(most, len(flagged))
    high = [flagged[k * len(flagged) // count] for k in range(count)]
    low = [p for p in reversed(ranked) if p not in flagged][: max(1, most // 3)]
    return high + low
