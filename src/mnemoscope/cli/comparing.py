"""Options of what images are compared by."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from mnemoscope.cli.panels import COMPARISON, of

if TYPE_CHECKING:
    from mnemoscope.features.descriptors import Descriptor

Preset = Annotated[str | None, of(COMPARISON, "Geometry and normalisation by name; the usual one if none.")]
Weights = Annotated[str | None, of(COMPARISON, "Its weights, where they are not packaged: a file or folder.")]


@dataclass(frozen=True, kw_only=True)
class Features:
    """What images are compared by."""

    PANEL: ClassVar = COMPARISON
    features: Annotated[str, of(COMPARISON, "What images are compared by: sscd, clip, dino, pixels.")] = "sscd"
    preset: Preset = None
    weights: Weights = None
    layer: Annotated[int | None, of(COMPARISON, "Of dino: which block from the last, which is 1.", min=1)] = None
    multiscale: Annotated[bool, of(COMPARISON, "Mean over three scales of each image.", "--multiscale")] = False

    def descriptor(self, device: str = "auto") -> "Descriptor":
        """The function from images to vectors."""
        from mnemoscope.features import descriptor
        from mnemoscope.features.variants import varied

        preset = varied(self.features, self.preset, self.layer, self.multiscale)
        return descriptor(self.features, preset=preset, weights=self.weights, device=device)


@dataclass(frozen=True, kw_only=True)
class PixelFeatures(Features):
    """What images are compared by, pixels unless told otherwise."""

    features: Annotated[str, of(COMPARISON, "What images are compared by: sscd, clip, dino, pixels.")] = "pixels"


@dataclass(frozen=True, kw_only=True)
class OwnFeatures:
    """What images are compared by, where something says it already."""

    features: Annotated[str | None, of(COMPARISON, "What images are compared by; the index's own if none.")] = None
    preset: Preset = None
    weights: Weights = None

    def like(self, identity: Any) -> Features:
        """The features with what was not given taken from these."""
        own: dict[str, Any] = {"features": self.features or identity.features}
        own |= {"preset": self.preset or identity.preset}
        return Features(**own, weights=self.weights)
