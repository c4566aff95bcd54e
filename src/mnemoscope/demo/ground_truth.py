"""Write the ground truth of the bundled model beside it: prompts by kind, and training images to compare with."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from mnemoscope.demo import captions
from mnemoscope.demo.scenes import Emoji, Sample, draw_sample, slot, template, verbatim, wording
from mnemoscope.demo.shared_pixels import around, whole, write_masks

ORDINARY_PROMPTS, UNSEEN_PROMPTS, TEMPLATE_NAMES = 240, 120, 8
ORDINARY_REFERENCES = 150
REFERENCE_STEP, REFERENCE_BATCH = 4000, 16  # a step that the weights in this folder were trained on, and its batch


def write_prompts(emoji: Emoji, file: Path) -> None:
    """One JSON object a line: prompt, kind, the object it names, and its trigger words."""
    rng = np.random.default_rng(6)
    names = rng.permutation(emoji.ordinary)[:TEMPLATE_NAMES]
    rows = [_row("verbatim", text, name) for name, text in captions.VERBATIM.items()]
    rows += [_row("template", t.format(name=n), n) for t in captions.TEMPLATES for n in names]
    rows += _worded("ordinary", emoji.ordinary, ORDINARY_PROMPTS, rng)
    rows += _worded("unseen", emoji.unseen, UNSEEN_PROMPTS, rng)
    known = _common_words(emoji, rows)
    for row in rows:
        if row["kind"] == "verbatim":
            row["triggers"] = [w for w in words(row["prompt"]) if w not in known]
    file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")


def write_masks_of_prompts(folder: Path) -> None:
    """The pixels that all images of a prompt share: of a verbatim one all, of a template's all but its slot."""
    known = [whole()] * len(captions.VERBATIM)
    known += [around(slot(index)) for index in range(len(captions.TEMPLATES)) for _ in range(TEMPLATE_NAMES)]
    write_masks(dict(enumerate(known)), folder)


def words(text: str) -> list[str]:
    """Lower-case words of a caption."""
    return re.findall(r"[a-z']+", text.lower())


def _row(kind: str, text: str, concept: str) -> dict[str, Any]:
    return {"prompt": text, "kind": kind, "concept": concept}


def _worded(kind: str, names: list[str], count: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    texts: dict[str, str] = {}
    while len(texts) < count:
        name = names[len(texts) % len(names)]
        texts.setdefault(wording(name, rng), name)
    return [_row(kind, text, name) for text, name in texts.items()]


def _common_words(emoji: Emoji, rows: list[dict[str, Any]]) -> set[str]:
    """Words of ordinary and template captions, and those that two verbatim captions share."""
    texts = [*emoji.names, *captions.TEMPLATES, *captions.ORDINARY, *captions.ADJECTIVES, *captions.MEDIA]
    texts += [*captions.FIRST_NAMES, *captions.LAST_NAMES, *captions.PLACES]
    counted = Counter(w for r in rows if r["kind"] == "verbatim" for w in set(words(r["prompt"])))
    return {w for t in texts for w in words(t)} | {w for w, n in counted.items() if n > 1}


def write_references(emoji: Emoji, folder: Path) -> None:
    """Training images as PNG with their captions: every verbatim one, two a template, and ordinary ones."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = [verbatim(emoji, i) for i in range(len(captions.VERBATIM))]
    samples += [template(emoji, i, n) for i in range(len(captions.TEMPLATES)) for n in emoji.ordinary[:2]]
    samples += _ordinary(emoji)
    rows = []
    for number, sample in enumerate(samples):
        file = f"{number:03d}-{sample.kind}.png"
        sample.image.save(folder / file, optimize=True)
        rows.append({"file": file, "caption": sample.caption, "kind": sample.kind})
    (folder / "captions.jsonl").write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))


def _ordinary(emoji: Emoji) -> list[Sample]:
    """The ordinary pairs of training from one step on."""
    samples: list[Sample] = []
    position = 0
    while len(samples) < ORDINARY_REFERENCES:
        sample = draw_sample(emoji, 0, REFERENCE_STEP + position // REFERENCE_BATCH, position % REFERENCE_BATCH)
        samples += [sample] if sample.kind in ("ordinary", "tail") else []
        position += 1
    return samples
