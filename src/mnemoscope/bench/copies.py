"""How often a model draws the pictures that it was trained on: what every method is held against."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mnemoscope.bench import doses
from mnemoscope.bench.cell import Bench, Outcome
from mnemoscope.bench.figures import ALL, Form, Key, Places, figures, pictures
from mnemoscope.bench.truth import TRAINED, TruePrompt, Truth, dosed
from mnemoscope.features.raw_pixels import COPY
from mnemoscope.generation.run import Generation, run_generation
from mnemoscope.run.image_rows import GenerateRow
from mnemoscope.run.run import read_rows

COPIES = "copied-images"
SHARE, HALF = "share", "half"
FEWEST = 3  # doses of a kind, from which on it is told where half is reached
Shares = Float[np.ndarray, "..."]


def refusal(bench: Bench) -> str | None:
    """Why nothing is drawn; None where images are asked for and there are pictures to compare them with."""
    if not bench.trial.images:
        return "no images were asked for (--images)"
    has_pictures = (bench.truth.folder / TRAINED).is_dir()
    return None if has_pictures else f"the truth has no folder {TRAINED} to compare images with"


def cell(bench: Bench, folder: Path, *, twins: bool = False) -> Outcome:
    """Images of all prompts whose picture was trained, and which of them are copies of it, as figures.

    With `twins` images of their prompts are drawn as well.
    """
    prompts, references = bench.truth.captioned(twins=twins)
    drawing = Generation(images=bench.trial.images, **bench.trial.sampling)
    summary = run_generation(bench.model, prompts, folder, drawing, references=references, batch=bench.batch)
    by_prompt = copied(folder)
    known = [each for each in bench.truth.members if each.prompt.id in by_prompt]
    shares, by_dose = np.array([by_prompt[each.prompt.id] for each in known]), ByDose(bench.truth, known)
    forms = {SHARE: Form(bounded=True), HALF: by_dose.form}

    def statistics(places: Places) -> Mapping[Key, float]:
        return by_dose.means(places, shares)

    own = figures(known, statistics, pictures(known), forms, seed=bench.trial.seed)
    each = summary["seconds"] / max(summary["images"], 1)
    return Outcome({"": own}, {"": each}, summary["network_evaluations"], summary["seconds"])


def copied(folder: Path) -> dict[str, float]:
    """The share of each prompt's images that are copies of its own picture, by its id; none where none were drawn."""
    if not (folder / "rows.jsonl").is_file():
        return {}
    found: dict[str, list[bool]] = {}
    for row in read_rows(folder, GenerateRow):
        if row["status"] == "ok" and (own := row.get("own_similarity")) is not None:
            found.setdefault(row["prompt_id"], []).append(own >= COPY)
    return {prompt: float(np.mean(each)) for prompt, each in found.items()}


class ByDose:
    """Means of values of prompts: of all members, of each kind at each number of views, and where half is reached.

    Prompts that are no members have no part in them.
    """

    def __init__(self, truth: Truth, known: Sequence[TruePrompt]) -> None:
        self.groups = truth.groups(lambda each: each.is_member)
        place = {group: k for k, group in enumerate(self.groups)}
        rest = len(self.groups)
        self.codes = np.array([place[e.group] if e.is_member else rest for e in known], int)
        self.curves = {kind: truth.doses(kind) for kind in truth.kinds if len(truth.doses(kind)) >= FEWEST}
        self.places = {kind: [place[dosed(kind, dose)] for dose in own] for kind, own in self.curves.items()}

    @property
    def form(self) -> Form:
        """How a dose at half is written: outside of what was trained only its side is known."""
        tried = sorted({dose for own in self.curves.values() for dose in own})
        return Form(lambda dose: doses.said(dose, tried))

    def means(self, places: Places, values: Shares) -> dict[Key, float]:
        """Of the values of some prompts; those that are NaN do not count."""
        own, codes = values[places], self.codes[places]
        known = ~np.isnan(own) & (codes < len(self.groups))
        counts = np.bincount(codes[known], minlength=len(self.groups))
        sums = np.bincount(codes[known], own[known], minlength=len(self.groups)).astype(float)
        found: dict[Key, float] = {(SHARE, ALL): float(sums.sum() / counts.sum()) if counts.sum() else math.nan}
        found |= {
            (SHARE, g): float(s / n) if n else math.nan for g, s, n in zip(self.groups, sums, counts, strict=True)
        }
        return found | {(HALF, kind): self._half(kind, sums, counts) for kind in self.curves}

    def _half(self, kind: str, sums: Shares, counts: Places) -> float:
        places = [k for k in self.places[kind] if counts[k]]
        tried = [dose for dose, k in zip(self.curves[kind], self.places[kind], strict=True) if counts[k]]
        means = (sums[places] / counts[places]).tolist()
        return doses.at_half(tried, means, counts[places].tolist()) if tried else math.nan
