"""Training images to bring back, each with the prompt that it was trained with."""

from collections.abc import Sequence
from dataclasses import replace

from mnemoscope.errors import UsageError
from mnemoscope.pictures import Picture, read_pictures
from mnemoscope.prompts.prompt import Prompt, as_prompts
from mnemoscope.recovery.run import Target


def targets_of(prompts: Sequence[Prompt], references: str, controls: str | None = None) -> list[Target]:
    """The first reference with each prompt as its caption, and captioned images that were never memorized.

    Raises `UsageError` for a prompt without a reference, and for a control without a caption.
    """
    known: dict[str, Picture] = {}
    for picture in read_pictures(references):
        for caption in picture.captions:
            known.setdefault(caption, picture)
    if lacking := [p.text for p in prompts if p.text not in known]:
        raise UsageError(
            f"{references} has no image for {len(lacking)} of the {len(prompts)} prompts, “{lacking[0][:80]}” among "
            "them; give only prompts that are captions there."
        )
    found = [Target(p, known[p.text].image()) for p in prompts]
    return found + (_controls(controls) if controls else [])


def _controls(source: str) -> list[Target]:
    pictures = list(read_pictures(source))
    if bare := [p.key for p in pictures if not p.captions]:
        raise UsageError(f"{bare[0]} in {source} has no caption; give captioned images as --controls.")
    prompts = as_prompts(p.captions[0] for p in pictures)
    named = [replace(p, id=f"control-{p.id}", kind="control", label=False) for p in prompts]
    return [Target(prompt, picture.image(), True) for prompt, picture in zip(named, pictures, strict=True)]
