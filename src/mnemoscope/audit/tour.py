"""`mnemoscope demo`: the whole audit on the bundled model, offline, in about two minutes on two cores."""

from pathlib import Path
from typing import Any

from mnemoscope import demo
from mnemoscope.audit.run import Copying, run_audit
from mnemoscope.detection.scoring import Detection
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
