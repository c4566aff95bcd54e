"""A training set by its options, written to a file."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mnemoscope.emm.data.images import Images, resized
from mnemoscope.emm.data.options import SubsetOptions
from mnemoscope.emm.data.original import TOOLS, Wanted
from mnemoscope.emm.data.sources import source_images
from mnemoscope.emm.data.writers import write_images
from mnemoscope.errors import UsageError
from mnemoscope.run.settings import one_of


def write_subset(source: str, target: Path, tool: str | None, given: Mapping[str, Any]) -> Images:
    """Write the subset that the options say, or the one that a tool of the original wrote, and give it.

    Raises `UsageError` for options that a tool does not have and a place that is taken.
    """
    options = SubsetOptions(source=source, **given)
    if tool is None:
        images = options.images(options.subset_size, options.subset_seed)
    else:
        images = TOOLS[one_of("--tool", tool, tuple(TOOLS))](*_wanted(tool, options, given))
    write_images(images, target, about={"tool": tool, **asdict(options)})
    return images


def _wanted(tool: str, options: SubsetOptions, given: Mapping[str, Any]) -> tuple[Images, Wanted]:
    known = {"subset_size", "resolution", "classes", "label_classes", "mix", "alpha"}
    if strangers := sorted(set(given) - known):
        raise UsageError(f"{tool} of the original has no --{strangers[0].replace('_', '-')}; leave it out, or --tool.")
    if not isinstance(options.classes, int | None):
        raise UsageError(f"{tool} takes the first --classes; give their number.")
    images = _sized(source_images(options.source), options)
    other = None if options.mix is None else _sized(source_images(options.mix), options)
    size = len(images) if options.subset_size is None else options.subset_size
    if size < 1:
        raise UsageError(f"{size} images were asked for; ask for at least 1.")
    return images, Wanted(size, options.classes, options.label_classes, other, options.alpha)


def _sized(images: Images, options: SubsetOptions) -> Images:
    return images if options.resolution is None else resized(images, options.resolution)
