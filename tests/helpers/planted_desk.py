"""A page's desk about the planted model, whose answers are known, with its memorized images as training pictures."""

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mnemoscope import planted
from mnemoscope.app.desk import Desk
from mnemoscope.app.subject import PageSubject
from mnemoscope.features import descriptor
from mnemoscope.prompts.prompt import as_prompts

ORDINARY = [f"{start} {k}" for start in ("ordinary", "a photo of the ordinary", "photo of ordinary") for k in range(8)]
SAMPLING = {"num_inference_steps": 8, "guidance_scale": 3.0}
HOSTILE_NAME = "<img src=x onerror=alert(1)>.png"


def training_pictures(folder: Path) -> Path:
    """The memorized images as files, with captions, one of which has a name and a caption that mean harm."""
    folder.mkdir(parents=True)
    rows = []
    for k, image in enumerate(planted.images()):
        pixels = ((image + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
        name = HOSTILE_NAME if k == 3 else f"{k}.png"
        Image.fromarray(pixels).save(folder / name)
        rows.append({"file": name, "caption": "<script>alert(2)</script> ${alert(3)}" if k == 3 else f"memorized {k}"})
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def about(references: Path | None = None, **changes: Any) -> PageSubject:
    """The planted model as a page's subject."""
    given: dict[str, Any] = {"model": planted.model(), "sampling": SAMPLING, "fpr": 0.05}
    given |= {"negatives": as_prompts(ORDINARY), "negatives_from": "of a list"}
    given |= {"examples": ["memorized 1", "ordinary 1"]}
    if references is not None:
        given |= {"references": str(references), "features": lambda: descriptor("pixels")}
    return PageSubject(**{**given, **changes})


def desk(folder: Path, **changes: Any) -> Desk:
    """A desk in a new folder, beside its training pictures."""
    return Desk(about(training_pictures(folder / "training"), **changes), folder)
