"""The search itself: random prompts as a measure, captions, single words, walks, and images of what stands out."""

import random
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mnemoscope.extract.drawing import draw_rows, same_image
from mnemoscope.extract.journal import PaidWork, Purse, draw_ids
from mnemoscope.extract.proposals import Proposes, Worth
from mnemoscope.extract.scoring import FirstLook, score_rows
from mnemoscope.extract.settings import Extraction
from mnemoscope.extract.vocabulary import Vocabulary
from mnemoscope.extract.walks import Drawn, Scored, Walk, scored_of
from mnemoscope.job.batching import Pass
from mnemoscope.prompts.prompt import Prompt, as_prompts
from mnemoscope.run.extract_rows import ExtractRow

RANDOM = 64  # random prompts that scores are measured by
FAINT = 0.1  # of the highest score of all: below it nothing stands out
FAILED = 1.25  # times the score of a prompt whose images were no copies, from which others like it are drawn again
MAD = 1.4826  # of a normal distribution, deviations in a median absolute deviation


class Search:
    """What has been scored, drawn and found; `hits` in the order in which they were found."""

    def __init__(
        self, scores: PaidWork, draws: PaidWork, extraction: Extraction, look: FirstLook, price: int, **drawing: Any
    ) -> None:
        self.scores, self.draws, self.extraction, self.look, self.price = scores, draws, extraction, look, price
        self.drawing, self.purse = drawing, scores.purse
        self.known: dict[str, Scored] = {}
        self.drawn = Drawn(extraction.same)
        self.rows: list[ExtractRow] = []
        self.hits: list[ExtractRow] = []
        self.found: list[int] = []  # what was spent when each hit was found
        self.floor, self.middle, self.scale = -np.inf, 0.0, 1.0

    def score(self, texts: Sequence[str]) -> list[Scored]:
        """Scores of texts, each text once; nothing for what there is no budget for."""
        new = as_prompts([t for t in dict.fromkeys(texts) if t.strip() and t not in self.known])
        work = partial(score_rows, self.scores.model, self.look, self.extraction.score, self.floor)
        for row in self.scores.rows(Pass("score", work), new, 1):
            self.rows.append(row)
            if row["status"] == "ok":
                sketch = tuple(row["sketch"]) if "sketch" in row else None
                self.known[row["prompt"]] = Scored(row["prompt"], row["score"], sketch)
        return scored_of(texts, self.known)

    def measure(self, vocabulary: Vocabulary) -> None:
        """Set by random prompts from which score on a prompt stands out."""
        rng = random.Random(f"{self.extraction.seed} measure")
        texts = [vocabulary.text(vocabulary.random(rng, self.extraction.tokens)) for _ in range(RANDOM)]
        values = np.array([s.score for s in self.score(texts) if s.score > -np.inf])
        if not len(values):
            return
        self.middle = float(np.median(values))
        self.scale = float(MAD * np.median(np.abs(values - self.middle))) or 1e-6
        self.floor = self.middle + self.extraction.deviations * self.scale

    def scan(self, vocabulary: Vocabulary, worth: Worth) -> None:
        """Score tokens by themselves: all of them, or as many as a quarter of the budget has room for."""
        rng = random.Random(f"{self.extraction.seed} scan")
        ids = rng.sample(vocabulary.ids, min(len(vocabulary.ids), self.extraction.budget // 4))
        scored = self.score([vocabulary.text([n]) for n in ids])
        values = [s.score if s.score > -np.inf else self.middle for s in scored]
        middle = float(np.median(values))
        worth.saw(ids, [(v - middle) / self.scale for v in values])

    @property
    def least(self) -> float:
        """The score from which on a prompt is drawn."""
        return max(self.floor, FAINT * max((s.score for s in self.known.values()), default=0.0))

    def standing_out(self, beside: Drawn | None = None) -> Iterator[Scored]:
        """Prompts above the floor that nothing was drawn of, the best first, each of another direction."""
        seen, least = beside or Drawn(self.extraction.same), self.least
        for one in sorted(self.known.values(), key=lambda s: -s.score):
            if one.score < least:
                return
            if one.sketch is not None and not self.drawn.has(one) and not seen.has(one):
                seen.add(one)
                yield one

    def draw(self, chosen: Sequence[Scored]) -> None:
        """Draw the images of prompts, and keep those that come out whatever the seed."""
        prompts = as_prompts([s.text for s in chosen])
        work = partial(draw_rows, self.draws.model, self.draws.run.folder, self.extraction, **self.drawing)
        for row in self.draws.rows(Pass("draw", work, draw_ids), prompts, self.price):
            one = self.known[row["prompt"]]
            is_hit = row["status"] == "ok" and row["hit"]
            self.drawn.add(one, np.inf if is_hit else FAILED * one.score)
            if is_hit:
                row = self._hit(row, one)
            self.rows.append(row)

    def _hit(self, row: ExtractRow, one: Scored) -> ExtractRow:
        """A hit with its score and the first hit with the same image, which may be itself."""
        folder = self.draws.run.folder
        images = [opened(folder / hit["file"]) for hit in self.hits]
        same = same_image(opened(folder / row["file"]), images, self.extraction.below, self.extraction.tiles)
        first = self.hits[int(same.argmax())]["prompt_id"] if same.any() else row["prompt_id"]
        row = {**row, "score": one.score, "hit_of": first}
        if not same.any():
            self.hits.append(row)
            self.found.append(self.purse.spent)
        return row

    def at_random(self, vocabulary: Vocabulary) -> None:
        """Random prompts as long as there is budget, drawn where they stand out: what walks are to be held against."""
        rng = random.Random(f"{self.extraction.seed} random")
        while self.purse.affords(1):
            self.score([vocabulary.text(vocabulary.random(rng, self.extraction.tokens)) for _ in range(RANDOM)])
            self.draw(list(self.standing_out()))

    def walk(self, vocabulary: Vocabulary, worth: Worth, propose: Proposes) -> None:
        """Walk as long as there is budget; a walk that has come to its end is drawn, and another begins."""
        rng, count = random.Random(f"{self.extraction.seed} walks"), 0
        walks: list[Walk] = []
        while self.purse.affords(1 + propose.costs):
            while len(walks) < self.extraction.chains:
                walks.append(self._begun(vocabulary, worth, rng, walks, count))
                count += 1
            self._exchange(vocabulary, worth, propose, walks)
            ended = [w for w in walks if w.unimproved >= self.extraction.patience]
            self._end(ended)
            walks = [w for w in walks if w not in ended]
        self.draw(list(self.standing_out())[: self.purse.affords(self.price)])

    def _exchange(self, vocabulary: Vocabulary, worth: Worth, propose: Proposes, walks: Sequence[Walk]) -> None:
        able = walks[: self.purse.affords(propose.costs)] if propose.costs else walks
        self.purse.spent += propose.costs * len(able)
        self.purse.gradients += propose.costs * len(able)
        asked = [[vocabulary.text(ids) for ids in w.ask(propose, self.extraction.candidates)] for w in able]
        self.score([text for texts in asked for text in texts])
        for each, texts in zip(able, asked, strict=True):
            each.tell(scored_of(texts, self.known), self.drawn, self.scale, worth)

    def _begun(
        self, vocabulary: Vocabulary, worth: Worth, rng: random.Random, walks: Sequence[Walk], count: int
    ) -> Walk:
        """A walk from the best prompt that no other is near, or every other time from tokens as they scored."""
        others = Drawn(self.extraction.same)
        for walk in walks:
            if walk.best is not None:
                others.add(walk.best)
        best = next(self.standing_out(others), None) if count % 2 == 0 else None
        ids = vocabulary.of(best.text)[: self.extraction.tokens] if best else []
        ids += worth(rng, ids, len(ids), self.extraction.tokens - len(ids))
        return Walk(f"{self.extraction.seed} walk {count}", ids)

    def _end(self, walks: Sequence[Walk]) -> None:
        beside, chosen, least = Drawn(self.extraction.same), [], self.least
        for walk in walks:
            one = walk.best
            if one is not None and one.score >= least and not self.drawn.has(one) and not beside.has(one):
                beside.add(one)
                chosen.append(one)
        self.draw(chosen)


def opened(file: Path) -> Image.Image:
    """The image of a file."""
    with Image.open(file) as image:
        return image.convert("RGB")


def captions_scored(search: Search, captions: Sequence[Prompt]) -> None:
    """Score captions for at most half of the budget, and draw those that stand out."""
    search.score([p.text for p in captions][: search.extraction.budget // 2])
    search.draw(list(search.standing_out()))


def purse_of(extraction: Extraction) -> Purse:
    """The budget of a search, less the one evaluation without a prompt."""
    purse = Purse(extraction.budget)
    purse.spent = 1
    return purse
