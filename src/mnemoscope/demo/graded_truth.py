"""Write the ground truth of the graded training set: prompts, views and twins as rows, and images to compare with."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from mnemoscope.demo import drawing
from mnemoscope.demo.entries import CONCEPTS, GradedPicture, entries
from mnemoscope.demo.scenes import Emoji, Sample, wording
from mnemoscope.demo.shared_pixels import Mask, around, whole, write_masks
from mnemoscope.demo.stream import Stream

ORDINARY_PROMPTS, UNSEEN_PROMPTS, TEMPLATE_NAMES, SHOWN_WORDINGS = 240, 120, 8, 4
ORDINARY_REFERENCES = 144


def write(emoji: Emoji, stream: Stream, out: Path) -> None:
    """`prompts.jsonl`, `masks`, and the folders `references` (trained) and `twins` (not) with `captions.jsonl`."""
    seen, every = stream.seen(), entries()
    rows = [row for e in every for row in _entry_rows(e, seen)]
    rng = np.random.default_rng(6)
    rows += _worded("ordinary", "plain", CONCEPTS, ORDINARY_PROMPTS // 2, wording, rng)
    rows += _worded("ordinary", "title", CONCEPTS, ORDINARY_PROMPTS // 2, drawing.titled, rng)
    rows += _worded("unseen", "plain", emoji.unseen, UNSEEN_PROMPTS // 2, wording, rng)
    rows += _worded("unseen", "title", emoji.unseen, UNSEEN_PROMPTS // 2, drawing.titled, rng)
    _write_rows(rows, out / "prompts.jsonl")
    known = {e.key: mask for e in every if not e.twin and (mask := shared(e)) is not None}
    write_masks({k: known[row["entry"]] for k, row in enumerate(rows) if row.get("entry") in known}, out / "masks")
    trained = [image for e in every if not e.twin for image in _images(emoji, e)]
    ordinary = [drawing.ordinary(emoji, stream.seed, n) for n in range(ORDINARY_REFERENCES)]
    _write_images([*trained, *(("ordinary", s) for s in ordinary)], out / "references")
    _write_images([image for e in every if e.twin for image in _images(emoji, e)], out / "twins")


def _entry_rows(entry: GradedPicture, seen: dict[str, tuple[int, int]]) -> list[dict[str, Any]]:
    """A row for each prompt of an entry; `views` are those of its picture, `caption_views` those with this caption."""
    count = {"duplicated": SHOWN_WORDINGS, "template": TEMPLATE_NAMES}.get(entry.kind, 1)
    share = len(CONCEPTS) if entry.kind == "template" else len(entry.captions)
    first, last = seen.get(entry.key, (None, None))
    rows = []
    for number in range(count):
        given = (entry.views + share - 1 - number) // share  # turns that fall to this caption
        rows.append(
            {
                "prompt": drawing.caption(entry, number),
                "kind": "unseen" if entry.twin else entry.kind,
                "source": "twin" if entry.twin else entry.kind,
                "concept": drawing.concept(entry, number),
                "entry": entry.key,
                "twin": entry.other,
                "views": entry.views,
                "caption_views": given,
                "first_step": first,
                "last_step": last,
                "triggers": [name.lower() for name in entry.names],
            }
        )
    return rows


def shared(entry: GradedPicture) -> Mask | None:
    """The pixels that are the same in all images of an entry: all of a picture, of a template all but its slot.

    None of near-copies: each is cut and coloured otherwise, so that no pixel is the same, while every one shows a part
    of the picture.
    """
    if entry.kind == "near-copies":
        return None
    return around(drawing.slot(entry)) if entry.kind == "template" else whole()


def _worded(kind: str, source: str, names: list[str], count: int, words: Any, rng: Any) -> list[dict[str, Any]]:
    """Different captions that no entry has, around the names in turn."""
    texts: dict[str, str] = {}
    while len(texts) < count:
        name = names[len(texts) % len(names)]
        texts.setdefault(words(name, rng), name)
    return [{"prompt": t, "kind": kind, "source": source, "concept": n} for t, n in texts.items()]


def _images(emoji: Emoji, entry: GradedPicture) -> list[tuple[str, Sample]]:
    """Every image of an entry with the first caption that it has; two of a template."""
    count = 2 if entry.kind == "template" else drawing.kinds_of_view(entry)
    return [(entry.key, drawing.view(emoji, entry, n)) for n in range(count)]


def _write_images(samples: list[tuple[str, Sample]], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (key, sample) in enumerate(samples):
        file = f"{number:03d}-{key}.png"
        sample.image.save(folder / file, optimize=True)
        rows.append({"file": file, "caption": sample.caption, "kind": sample.kind, "entry": key})
    _write_rows(rows, folder / "captions.jsonl")


def _write_rows(rows: list[dict[str, Any]], file: Path) -> None:
    file.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
