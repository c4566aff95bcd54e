"""`mnemoscope demo`: the whole audit on the bundled model, offline, and its data as files to try the commands with."""

import csv
import shutil
from pathlib import Path
from typing import Any

from mnemoscope import demo
from mnemoscope.audit.run import Copying, run_audit
from mnemoscope.detection.scoring import Detection
from mnemoscope.errors import UsageError
from mnemoscope.explanation.run import Explanation
from mnemoscope.features import descriptor
from mnemoscope.features.alignment import CONCEPTS, aligner
from mnemoscope.features.references import References
from mnemoscope.generation.run import Generation
from mnemoscope.measuring.measurement import Measurement
from mnemoscope.mitigation.chosen import Mitigation
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import Prompt, as_prompts

NEGATIVES, ORDINARY, UNSEEN, TEMPLATES = 120, 40, 20, 16
METRICS = ("replication", "own_image", "background", "diversity", "memorization_ratio", "alignment")
SAMPLING: dict[str, Any] = {"num_inference_steps": 20, "guidance_scale": 3.0}
EXPORT = "demo-data"  # what the folder of the exported files is called in the commands below
NEXT = (
    ("its prompts and pictures as files", f"mnemoscope demo --export {EXPORT}"),
    (
        "the same on a model of your own",
        "mnemoscope audit MODEL --prompts captions.txt --negatives ordinary.txt --references train/",
    ),
    ("prompts and pictures tried in a browser", "mnemoscope app --model demo"),
)


def tour_prompts() -> tuple[list[Prompt], list[Prompt]]:
    """Prompts to audit, of every kind and labelled by how they were trained, and ordinary ones to calibrate on."""
    ordinary = demo.prompts("ordinary")
    templates = demo.prompts("template")[:: len(demo.prompts("template")) // TEMPLATES]
    audited = [
        *demo.prompts("verbatim"),
        *templates,
        *ordinary[NEGATIVES : NEGATIVES + ORDINARY],
        *demo.prompts("unseen")[:UNSEEN],
    ]
    kinds = {row["prompt"]: row["kind"] for row in demo.truth()}
    memorized = ("verbatim", "template")
    known = [Prompt(p.id, p.text, kinds[p.text] in memorized, kinds[p.text]) for p in as_prompts(audited)]
    return known, as_prompts(ordinary[:NEGATIVES])


def run_demo(out: Path, *, batch: int | str = "auto", overwrite: bool = False) -> int:
    """Audit the bundled model into a folder; returns how many prompts or images failed."""
    prompts, negatives = tour_prompts()
    return run_audit(
        Denoiser.from_pretrained("demo", device="cpu"),
        prompts,
        out,
        Detection("noise_norm", {"steps": 1}, seeds=4, **SAMPLING),
        Generation(images=4, **SAMPLING),
        explanation=Explanation("token_occlusion", {"unit": "word"}, **SAMPLING),
        copying=Copying(
            str(demo.HERE / "references"), descriptor("pixels"), Measurement(METRICS), aligner=aligner(CONCEPTS)
        ),
        mitigation=Mitigation("embedding_descent", {"target": 1.0, "iterations": 40}),
        negatives=negatives,
        references=References(demo.references()),
        most=12,
        batch=batch,
        overwrite=overwrite,
    )


def export_data(folder: Path, *, overwrite: bool = False) -> dict[str, Any]:
    """Write what the demo audits as files that every command reads: what was written, and where.

    `prompts.csv` with labels and kinds, `negatives.txt` with the ordinary prompts that calibrate, `references/` with
    the training pictures and their captions. Raises `UsageError` for a folder that holds anything, but for `overwrite`.
    """
    if folder.exists() and not folder.is_dir() or (not overwrite and folder.is_dir() and any(folder.iterdir())):
        raise UsageError(f"{folder} is not an empty folder; give another to --export, or --overwrite.")
    prompts, negatives = tour_prompts()
    shutil.copytree(demo.HERE / "references", folder / "references", dirs_exist_ok=True)
    (folder / "negatives.txt").write_text("".join(f"{each.text}\n" for each in negatives), encoding="utf-8")
    with (folder / "prompts.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("caption", "label", "kind"))
        rows.writerows((each.text, "memorized" if each.label else "ordinary", each.kind) for each in prompts)
    references = len(list((folder / "references").glob("*.png")))
    return {"folder": str(folder), "prompts": len(prompts), "negatives": len(negatives), "references": references}
