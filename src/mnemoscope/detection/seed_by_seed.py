"""Values of prompts at their seeds, as far as they were asked for: each look is a run of its own, and is kept."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from mnemoscope.detection.concluding import AskedPrompts
from mnemoscope.detection.scoring import Detection
from mnemoscope.job.seeds import content_of, own_seeds
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.run.reading import Json
from mnemoscope.run.records import read_record, read_rows
from mnemoscope.run.rows import DetectRow

CELLS = "cells"
Look = Callable[
    [AskedPrompts, Path, Detection, bool], Json
]  # a detection of prompts into a folder, anew or gone on with


@dataclass
class Looks:
    """What is known of prompts: values by seed, in order, and the network evaluations that each took."""

    look: Look
    folder: Path
    base: Detection
    prompts: Sequence[Prompt]
    first: int
    most: int
    values: dict[str, list[float]] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    rows: dict[str, DetectRow] = field(default_factory=dict)
    said: Json = field(default_factory=dict)
    count: int = 0  # of prompts at seeds
    evaluations: int = 0
    seconds: float = 0.0

    def take(self, title: str, names: Iterable[str], seeds: range) -> None:
        """The values of some prompts at some of their seeds, counted from 0; what fails is known no longer."""
        wanted = set(names)
        asked = [self._at(p, seeds) for p in self.prompts if p.id in wanted]
        if not asked:
            return
        folder = self.folder / CELLS / title
        summary = self.look(
            AskedPrompts(asked), folder, replace(self.base, seeds=len(seeds)), _is_of_others(folder, asked)
        )
        self.said = self.said or summary
        self.count += len(asked) * len(seeds)
        self.evaluations += summary["network_evaluations"]
        self.seconds += summary["seconds"]
        for row in read_rows(folder, DetectRow):
            name = row["id"]
            self.costs[name] = self.costs.get(name, 0.0) + summary["network_evaluations"] / len(asked)
            self.rows[name] = row if row["status"] != "ok" else self.rows.get(name, row)
            if row["status"] == "ok":
                self.values.setdefault(name, []).extend(row["per_seed"])
            else:
                self.values.pop(name, None)

    def seeds(self, prompt: Prompt) -> list[int]:
        """All seeds that a prompt may be looked at with."""
        return own_seeds(prompt, self.first, self.most)

    def _at(self, prompt: Prompt, seeds: range) -> Prompt:
        return replace(prompt, label=None, seeds=tuple(self.seeds(prompt)[k] for k in seeds))

    def whole(self, names: Iterable[str]) -> Float[np.ndarray, "P K"]:
        """The values of those of some prompts of which all are known."""
        return np.array([v for n in names if len(v := self.values.get(n, [])) == self.most]).reshape(-1, self.most)


def _is_of_others(folder: Path, prompts: Sequence[Prompt]) -> bool:
    """Whether a folder holds a look at other prompts: what no longer fails can change whom it is at."""
    if not (folder / "run.json").exists():
        return False
    return read_record(folder)["settings"].get("content") != content_of(prompts)
