"""Training images to bring back, each with the prompt that it was trained with."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from mnemoscope.errors import UsageError
from mnemoscope.pictures import Picture, open_source, required
from mnemoscope.pictures.columns import folded
from mnemoscope.pictures.counting import CaptionCounts, caption_counts
from mnemoscope.prompts.prompt import Prompt, as_prompts
from mnemoscope.recovery.run import Target


def targets_of(
    prompts: Sequence[Prompt], references: str, controls: str | None = None, captions: Path | None = None
) -> tuple[list[Target], dict[str, CaptionCounts]]:
    """Every reference with a prompt as its caption, captioned images that were never memorized, and what their sources
    say for a summary.

    `captions` is a file of the references' captions. Of several references with one caption each is a target of its
    own. Raises `UsageError` for a prompt without a reference, for one that cannot be read, and for a control without a
    caption.
    """
    source = open_source(references, captions=captions)
    pictures = list(source)
    known: dict[str, list[Picture]] = {}
    for picture in pictures:
        for caption in dict.fromkeys(map(folded, picture.captions)):
            known.setdefault(caption, []).append(picture)
    if lacking := [p.text for p in prompts if folded(p.text) not in known]:
        raise UsageError(
            f"{references} has no image for {len(lacking)} of the {len(prompts)} prompts, “{lacking[0][:80]}” among "
            "them; give only prompts that are captions there."
        )
    told = {"reference_captions": caption_counts(map(_has_caption, pictures), source)}
    targets = [target for p in prompts for target in _targets(p, known[folded(p.text)])]
    return targets + (_controls(controls) if controls else []), told


def _targets(prompt: Prompt, pictures: Iterable[Picture]) -> list[Target]:
    """The first picture under the prompt's own id, further ones under it with a number behind."""
    named = enumerate(pictures, 1)
    return [Target(prompt if k == 1 else replace(prompt, id=f"{prompt.id}-image{k}"), required(p)) for k, p in named]


def _controls(source: str) -> list[Target]:
    pictures = list(open_source(source))
    if bare := [p.key for p in pictures if not _has_caption(p)]:
        raise UsageError(f"{bare[0]} in {source} has no caption; give captioned images as --controls.")
    prompts = as_prompts(p.captions[0] for p in pictures)
    named = [replace(p, id=f"control-{p.id}", kind="control", label=False) for p in prompts]
    return [Target(prompt, required(picture), True) for prompt, picture in zip(named, pictures, strict=True)]


def _has_caption(picture: Picture) -> bool:
    return bool(picture.captions)
