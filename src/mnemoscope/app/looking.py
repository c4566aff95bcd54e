"""A prompt looked at: its score, its words, images with and without a mitigation, what they are nearest to."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image

from mnemoscope import registry
from mnemoscope.app import choices
from mnemoscope.app.desk import Desk
from mnemoscope.app.nearest import nearest
from mnemoscope.app.subject import Told
from mnemoscope.detection.run import run_detection
from mnemoscope.errors import UsageError
from mnemoscope.explanation.asked import Explanation
from mnemoscope.explanation.run import run_explanation
from mnemoscope.generation.run import Generation, run_generation
from mnemoscope.job.seeds import seeds_of
from mnemoscope.prompts.prompt import Prompt, as_prompts
from mnemoscope.report.pictures import picture
from mnemoscope.report.shares import read_words, spaced, spoken
from mnemoscope.report.text import number
from mnemoscope.run.run import read_rows

LONGEST = 2000  # characters of a prompt
WORDS, REGIONS = "token_occlusion", "difference_map"


@dataclass(frozen=True)
class Question:
    """A prompt and how it is tried: from which seed on, with which mitigation, whether for flagged images only."""

    prompt: str
    seed: int = 0
    mitigation: str = choices.NONE
    strength: str = choices.USUAL
    only_flagged: bool = True

    def checked(self) -> "Question":
        """The same; raises `UsageError` for what cannot be drawn."""
        if not self.prompt.strip():
            raise UsageError("No prompt was given; type one, or choose one of the examples.")
        if len(self.prompt) > LONGEST:
            raise UsageError(f"The prompt has {len(self.prompt):,} characters; give {LONGEST:,} at most.")
        seeds_of(self.seed, 1)
        return self


@dataclass
class PromptLook:
    """What is known of a prompt so far; `doing` says what comes next, step `at` of so many, and is empty at the end."""

    question: Question
    doing: str = ""
    at: int = 0
    of: int = 0
    score: Told | None = None
    words: list[Told] = field(default_factory=list)
    images: list[Told] = field(default_factory=list)  # one a seed, without the mitigation
    mitigated: list[Told] = field(default_factory=list)  # one a seed, with it
    problems: list[str] = field(default_factory=list)


def look(desk: Desk, question: Question, folder: Path) -> Iterator[PromptLook]:
    """What is known of a prompt, each time that there is more of it; its files are in the folder.

    What cannot be known of a prompt, or of this model, is told among the problems. Raises `UsageError` for a prompt
    that cannot be drawn.
    """
    known = PromptLook(question.checked())
    (prompt,) = as_prompts([question.prompt])
    every = stages(desk, question)
    for at, (doing, stage) in enumerate(every.items()):
        known.doing, known.at, known.of = doing, at, len(every)
        yield replace(known)
        try:
            stage(desk, question, prompt, folder, known)
        except UsageError as e:
            known.problems.append(str(e))
    yield replace(known, doing="")


Stage = Callable[[Desk, Question, Prompt, Path, PromptLook], None]


def stages(desk: Desk, question: Question) -> dict[str, Stage]:
    """What there is to do, in the order in which a person wants to know it."""
    drawing: dict[str, Stage] = {"drawing": _draw}
    drawing |= {"mapping what the text changes": _map}
    if question.mitigation != choices.NONE:
        drawing |= {f"drawing again with {question.mitigation}": _mitigate}
    words: dict[str, Stage] = {"weighing the words": _weigh} if desk.model.family.has_tokens else {}
    return {"scoring": _score, **words, **drawing}


def _sampling(desk: Desk, question: Question) -> Told:
    about = desk.detection
    return {
        "seed": question.seed,
        "num_inference_steps": about.num_inference_steps,
        "guidance_scale": about.guidance_scale,
    }


def _score(desk: Desk, question: Question, prompt: Prompt, folder: Path, known: PromptLook) -> None:
    run_detection(desk.model, [prompt], folder / "detect", desk.detection, threshold=desk.threshold)
    (row,) = _done(folder / "detect", known)
    method = registry.detection(desk.detection.method)
    known.score = {**row, "summary": method.summary, "origin": desk.origin, "limit": desk.limit}


def _weigh(desk: Desk, question: Question, prompt: Prompt, folder: Path, known: PromptLook) -> None:
    asked = Explanation(WORDS, {"unit": "word"}, **_sampling(desk, question))
    run_explanation(desk.model, [prompt], folder / "explain", asked)
    for row in _done(folder / "explain", known):
        known.words = spoken(spaced(read_words(row["words"]) or [], prompt.text))


def _draw(desk: Desk, question: Question, prompt: Prompt, folder: Path, known: PromptLook) -> None:
    asked = Generation(images=desk.images, **_sampling(desk, question))
    run_generation(desk.model, [prompt], folder / "generate", asked)
    known.images = _shown(desk, prompt, folder / "generate", known)


def _map(desk: Desk, question: Question, prompt: Prompt, folder: Path, known: PromptLook) -> None:
    asked = Explanation(REGIONS, **_sampling(desk, question))
    run_explanation(desk.model, [prompt], folder / "regions", asked)
    for row, image in zip(_done(folder / "regions", known), known.images, strict=False):
        image |= {"map": picture(folder / "regions", row["overlay"]), "share": row["share"]}


def _mitigate(desk: Desk, question: Question, prompt: Prompt, folder: Path, known: PromptLook) -> None:
    gated = question.only_flagged and desk.threshold is not None
    found = choices.asked(question.mitigation, question.strength, desk, gated=gated)
    assert found is not None
    asked = Generation(
        images=desk.images,
        mitigations=(found,),
        threshold=desk.threshold if gated else None,
        baseline=True,
        **_sampling(desk, question),
    )
    run_generation(desk.model, [prompt], folder / "mitigate", asked, plain=folder / "generate")
    known.mitigated = _shown(desk, prompt, folder / "mitigate", known)


def _shown(desk: Desk, prompt: Prompt, run: Path, known: PromptLook) -> list[Told]:
    """The images of a run, each with its nearest training picture and whether it shows what was asked for."""
    rows = _done(run, known)
    near = nearest(desk, run / "images", run.with_name(f"search-{run.name}")) if desk.lookout and rows else {}
    return [
        row
        | {"uri": picture(run, row["file"]), "near": near.get(Path(row["file"]).name)}
        | {"alignment": _alignment(desk, run / row["file"], prompt.text)}
        for row in rows
    ]


def _alignment(desk: Desk, file: Path, prompt: str) -> float | None:
    """Whether an image shows its prompt; None where nothing tells."""
    judge = desk.subject.aligner
    if judge is None:
        return None
    with Image.open(file) as image:
        return number(float(np.asarray(judge.align([image.convert("RGB")], [prompt]))[0]))


def _done(run: Path, known: PromptLook) -> list[Told]:
    """The rows of a run that did not fail; why others did is a problem that is told."""
    rows = cast(list[Told], read_rows(run))
    known.problems += list(dict.fromkeys(str(row["error"]) for row in rows if row["status"] != "ok"))
    return [row for row in rows if row["status"] == "ok"]
