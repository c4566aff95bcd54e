"""What a model was trained on, as far as its folder of truth says it: prompts, views, and the pictures trained."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from mnemoscope import demo
from mnemoscope.errors import UsageError
from mnemoscope.features.references import References
from mnemoscope.model import bundled
from mnemoscope.pictures import Picture, read_pictures
from mnemoscope.pictures.columns import folded
from mnemoscope.prompts.prompt import Prompt, read_prompts
from mnemoscope.prompts.runs import REFERENCE

PROMPTS, TRAINED, TWINS = "prompts.jsonl", "references", "twins"
ORDINARY = "ordinary"
TWIN = "twin"  # source of prompts whose picture is like a trained one and never was


@dataclass(frozen=True)
class TruePrompt:
    """A prompt of the truth: whether its picture was trained, and how often where that is said."""

    prompt: Prompt
    source: str  # of a negative where it comes from; of a member its kind
    entry: str  # of the picture, which several prompts may share
    views: int | None
    triggers: tuple[str, ...]
    concept: str | None

    @property
    def is_member(self) -> bool:
        return self.prompt.label is True

    @property
    def kind(self) -> str:
        return self.prompt.kind or "member"

    @property
    def is_ordinary(self) -> bool:
        """Whether it asks for an object of which no picture is to come back, from whatever source it is."""
        return not self.is_member and ORDINARY in (self.prompt.kind, self.source) and self.concept is not None

    @property
    def group(self) -> str:
        """What it is told together with: a kind at a number of views, or a source of negatives."""
        if not self.is_member:
            return self.source
        return self.kind if self.views is None else dosed(self.kind, self.views)


def dosed(kind: str, views: int) -> str:
    """The name of a kind at a number of views."""
    return f"{kind} x {views}"


@dataclass(frozen=True)
class Truth:
    """The prompts of a folder of truth, in its order, and where its pictures are."""

    folder: Path
    known: tuple[TruePrompt, ...]

    @classmethod
    def read(cls, folder: Path, limit: int | None = None) -> "Truth":
        """A folder with prompts.jsonl and, where pictures are compared, references; at most `limit` of each group.

        Raises `UsageError` where it says of a prompt neither its views nor its kind or label, or has no members or no
        others.
        """
        file = folder / PROMPTS
        if not file.is_file():
            raise UsageError(f"{folder} has no {PROMPTS}; give as --truth the folder of a model's ground truth.")
        known, counts = [], dict[str, int]()
        for each in map(_known, read_prompts(file)):
            counts[each.group] = counts.get(each.group, 0) + 1
            if limit is None or counts[each.group] <= limit:
                known.append(each)
        if len({each.is_member for each in known}) < 2:
            raise UsageError(f"{file} needs prompts whose pictures were trained and others; give both.")
        return cls(folder, tuple(known))

    @classmethod
    def of(cls, model: str, folder: Path | None, limit: int | None = None) -> "Truth":
        """The truth of a model: that of a folder, or the bundled models' own."""
        if folder is None and model not in bundled.FOLDERS:
            raise UsageError(f"What {model} was trained on is not known; give --truth FOLDER with its {PROMPTS}.")
        return cls.read(folder or demo.HERE, limit)

    @cached_property
    def by_id(self) -> dict[str, TruePrompt]:
        return {each.prompt.id: each for each in self.known}

    @property
    def prompts(self) -> list[Prompt]:
        return [each.prompt for each in self.known]

    @property
    def members(self) -> list[TruePrompt]:
        return [each for each in self.known if each.is_member]

    def groups(self, chosen: Callable[[TruePrompt], bool] = lambda known: True) -> list[str]:
        """The groups of the prompts that are chosen: kinds in their order, each from few views to many."""
        kinds = list(dict.fromkeys(each.kind for each in self.known))
        rows = sorted((e for e in self.known if chosen(e)), key=lambda e: (kinds.index(e.kind), e.views or 0))
        return list(dict.fromkeys(each.group for each in rows))

    def doses(self, kind: str) -> list[int]:
        """The numbers of views at which a kind was trained, where they are known, in ascending order."""
        return sorted({each.views for each in self.members if each.kind == kind and each.views is not None})

    @property
    def kinds(self) -> list[str]:
        """The kinds of members, in their order."""
        return list(dict.fromkeys(each.kind for each in self.members))

    @property
    def sources(self) -> list[str]:
        """Where prompts whose pictures were not trained come from, in their order."""
        return list(dict.fromkeys(each.source for each in self.known if not each.is_member))

    def captioned(self, *, twins: bool = False) -> tuple[list[Prompt], References]:
        """Prompts of members whose pictures there are, with their caption, and the pictures with their vectors.

        Every picture of an entry is each of its prompts' own, whatever wording it is stored with. With `twins` theirs
        stand beside them.
        """
        chosen = [e for e in self.known if e.is_member or (twins and e.source == TWIN)]
        first = {each.entry: each.prompt.text for each in reversed(chosen)}
        compared = References(p for name in (TRAINED, TWINS)[: 1 + twins] for p in self._pictures(name, first))
        asked = [_referring(e.prompt, first[e.entry]) for e in chosen]
        return [p for p in asked if folded(p.reference) in compared.by_caption], compared

    def _pictures(self, name: str, first: Mapping[str, str]) -> Iterator[Picture]:
        """Pictures of a folder, those of an entry under its one caption."""
        places = entries_of(self.folder / name)
        for picture in read_pictures(self.folder / name):
            caption = first.get(places.get(picture.key, ""))
            key = picture.key if name == TRAINED else f"{name}/{picture.key}"
            yield replace(picture, key=key, captions=picture.captions if caption is None else (caption,))

    @property
    def notes(self) -> list[str]:
        """What this truth does not say."""
        said = []
        if all(each.views is None for each in self.members):
            said.append(
                "This truth does not say how often a picture was trained: each kind is one dose, and no dose at half "
                "is known."
            )
        if TWIN not in self.sources:
            said.append("This truth has no twins: members are held against other prompts alone.")
        return said


def _known(prompt: Prompt) -> TruePrompt:
    source = prompt.source
    views = source.get("views")
    label = prompt.label if views is None else bool(views)
    if label is None:
        raise UsageError(f"The truth does not say whether '{prompt.text[:60]}' was trained; give its views or a label.")
    return TruePrompt(
        replace(prompt, label=label),
        str(source.get("source") or prompt.kind or "other"),
        str(source.get("entry") or prompt.id),
        int(views) if views else None,
        tuple(source.get("triggers") or ()),
        source.get("concept"),
    )


def entries_of(folder: Path) -> dict[str, str]:
    """The entry of each picture of a folder, where its captions say it."""
    file = folder / "captions.jsonl"
    rows: Sequence[dict[str, str]] = (
        [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []
    )
    return {row["file"]: row["entry"] for row in rows if "entry" in row}


def _referring(prompt: Prompt, caption: str) -> Prompt:
    return replace(prompt, source={**prompt.source, REFERENCE: caption})
