"""A preset with what of the network and of the image it takes: an earlier layer, three scales of one image."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mnemoscope.errors import UsageError
from mnemoscope.features.descriptors import chosen

LAYER, SCALES = "+layer", "+multiscale"
FORM = re.compile(r"(?P<preset>[^+]*)(?:\+layer(?P<layer>[1-9][0-9]{0,2}))?(?P<scales>\+multiscale)?")


@dataclass(frozen=True)
class Variant:
    """`preset`, or `preset+layer2+multiscale`: `layer` is counted from the last block, which is 1.

    With `multiscale` a vector is the mean of those of the image at scales 1, 1/sqrt(2) and 1/2.
    """

    preset: str
    layer: int = 1
    multiscale: bool = False

    @classmethod
    def of(cls, features: str, text: str | None, presets: Sequence[str]) -> "Variant":
        """The variant that a preset's text names, the first preset if None; raises `UsageError` for any other."""
        found = FORM.fullmatch(text or "")
        if not found:
            raise UsageError(f"'{text}' is no preset; write one as {presets[0]}, {presets[0]}{LAYER}2{SCALES}.")
        preset = chosen(features, found["preset"] or None, presets)
        return cls(preset, int(found["layer"] or 1), found["scales"] is not None)

    def __str__(self) -> str:
        return f"{self.preset}{f'{LAYER}{self.layer}' if self.layer > 1 else ''}{SCALES if self.multiscale else ''}"


def varied(features: str, preset: str | None, layer: int | None, multiscale: bool) -> str | None:
    """The preset's text with a layer and scales that were asked for beside it.

    Raises `UsageError` for features that have none to choose.
    """
    if layer is None and not multiscale:
        return preset
    if features not in ("dino", "sscd") or (layer is not None and features != "dino"):
        asked = "--multiscale" if layer is None else "--layer"
        has = "dino and an official file of sscd" if layer is None else "dino"
        raise UsageError(f"{asked} is of the features {has}, and {features} was asked for; leave it out.")
    bare = {"dino": "dino-cls", "sscd": "sscd-288"}[features] if preset is None else preset
    found = Variant.of(features, bare, [bare.partition("+")[0]])
    found = replace(found, layer=layer or found.layer, multiscale=multiscale or found.multiscale)
    return str(found)
