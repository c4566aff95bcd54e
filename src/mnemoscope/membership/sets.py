"""The sets of a test: pictures under question, pictures that were never trained on, and pictures that surely were."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mnemoscope.errors import UsageError
from mnemoscope.pictures import Picture, Unreadable, open_source
from mnemoscope.prompts.prompt import Prompt

Role = Literal["picture", "held-out", "public"]
OPTIONS: dict[Role, str] = {"picture": "--pictures", "held-out": "--held-out", "public": "--public"}


@dataclass(frozen=True)
class SetPicture:
    """A picture of one of the sets. Its prompt is its caption, or empty; the prompt's id is that of its content."""

    prompt: Prompt
    picture: Picture
    role: Role

    @property
    def captioned(self) -> bool:
        return bool(self.prompt.text)


@dataclass(frozen=True)
class Sets:
    """All entries, those of one set behind one another, and how many files were left out for being another's copy."""

    entries: list[SetPicture]
    copies: int = 0

    @property
    def captioned(self) -> bool:
        return self.entries[0].captioned

    @property
    def prompts(self) -> list[Prompt]:
        return [each.prompt for each in self.entries]

    def without_captions(self) -> "Sets":
        """The same pictures for a model that takes no caption."""
        bare = [SetPicture(Prompt(e.prompt.id, "", kind=e.role), e.picture, e.role) for e in self.entries]
        return Sets(bare, self.copies)


def read_sets(
    sources: Mapping[Role, str], captions: Mapping[Role, Path] | None = None, limit: int | None = None
) -> Sets:
    """The pictures of each source, the first `limit` of each, every file once.

    `captions` are files of captions for some of the sources. Raises `UsageError` where a picture is in two sets.
    """
    given = captions or {}
    entries: dict[str, SetPicture] = {}
    copies = 0
    for role, source in sources.items():
        for picture in open_source(source, captions=given.get(role), limit=limit):
            entry = _entry(picture, role)
            earlier = entries.setdefault(_content(entry), entry)
            if earlier.role != role:
                raise UsageError(
                    f"{picture.key} of {OPTIONS[role]} is {earlier.picture.key} of {OPTIONS[earlier.role]}; "
                    "a picture can be in one set alone, so take it out of one."
                )
            copies += earlier is not entry
    return Sets(list(entries.values()), copies)


def _entry(picture: Picture, role: Role) -> SetPicture:
    try:
        content = picture.sha256()
    except Unreadable:  # a failed row later
        content = hashlib.sha256(f"{role}|{picture.key}".encode("utf-8", "surrogatepass")).hexdigest()
    return SetPicture(Prompt(f"{role}-{content[:16]}", (picture.caption or "").strip(), kind=role), picture, role)


def _content(entry: SetPicture) -> str:
    return entry.prompt.id.rpartition("-")[2]


def refuse_mixed(entries: Sequence[SetPicture]) -> None:
    """Raise `UsageError` where some pictures have captions and others none: only the model is to tell sets apart."""
    bare = [each for each in entries if not each.captioned]
    if bare and len(bare) < len(entries):
        first = bare[0]
        raise UsageError(
            f"{len(bare)} of {len(entries)} pictures have no caption, {first.picture.key} of {OPTIONS[first.role]} "
            "first; give captions of all, or of none."
        )


def of_role(entries: Sequence[SetPicture], role: Role) -> Iterator[SetPicture]:
    """The entries of one set."""
    return (each for each in entries if each.role == role)
