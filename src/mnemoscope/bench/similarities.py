"""What tells copies: the similarity of every preset of features, and every measure that has a number for an image."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mnemoscope import features, registry
from mnemoscope.bench.cell import Bench, Tried
from mnemoscope.errors import UsageError
from mnemoscope.features import Descriptor, raw_pixels
from mnemoscope.registry import Method, Parameters

SEVERAL = "several images a prompt"
OF_FEATURES = ("features", "preset", "weights")  # parameters of a descriptor; all others are the measure's


def presets() -> dict[str, Parameters]:
    """What a descriptor is asked for, by the name that its similarity has on the bench."""
    from mnemoscope.features import dino, sscd  # only now: the first asks for torch

    named = {preset: {"features": "sscd", "preset": preset} for preset in sscd.PRESETS}
    named["distilled"] = {"features": "sscd", "weights": "distilled"}
    named |= {preset: {"features": "dino", "preset": preset} for preset in dino.PRESETS}
    return {raw_pixels.PRESET: {"features": "pixels"}, **named, "clip": {"features": "clip"}}


def names() -> list[str]:
    """All presets of features, then all registered measures that say by what they tell copies."""
    own = [name for name in registry.names("measure") if registry.get("measure", name).tells]
    return [*presets(), *(name for name in own if name != "replication")]


def found(name: str) -> Method:
    """A measure by name or file, or the similarity of a preset. Raises `UsageError` for one that tells no copies."""
    if name in presets():
        return replace(registry.get("measure", "replication"), name=name)
    try:
        method = registry.get("measure", name)
    except UsageError as e:
        raise UsageError(f"{e} On the bench presets of features are methods, too: {', '.join(presets())}.") from None
    if not method.tells:
        raise UsageError(
            f"The measure {method.name} does not say by which column it tells copies; register it with "
            'tells=("COLUMN",), or ("-COLUMN",) where copies have less.'
        )
    return method


@dataclass(frozen=True)
class Telling:
    """How a method tells copies: the images' vectors, the measure by name, file or function, and its parameters."""

    descriptor: Descriptor
    metric: registry.Name
    params: Mapping[str, object]
    is_similarity: bool

    @property
    def family(self) -> str:
        """What shares its vote: similarities of one sort of features, or a measure alone."""
        return self.descriptor.identity.features if self.is_similarity else str(self.metric)


def telling(bench: Bench, tried: Tried) -> Telling:
    """What a method needs, or `UsageError` where its weights or its measure's needs are not there."""
    own, is_similarity = bench.trial.own(tried.method), tried.given in presets()
    asked = {"features": "pixels"} | (presets()[tried.given] if is_similarity else {})
    asked |= {key: own.pop(key) for key in OF_FEATURES if key in own}
    descriptor = features.descriptor(asked["features"], preset=asked.get("preset"), weights=asked.get("weights"))
    registry.checked(tried.method, own)
    if "patch tokens" in tried.method.needs and not descriptor.identity.preset.endswith("patch"):
        name = tried.name
        raise UsageError(
            f"It needs patch tokens: --param {name}.features=dino --param {name}.preset=dino-patch "
            f"--param {name}.weights=FOLDER."
        )
    if SEVERAL in tried.method.needs and bench.trial.images < 2:
        raise UsageError("It needs several images a prompt (--images).")
    metric = "replication" if is_similarity else tried.given
    params = {f"{'replication' if is_similarity else tried.name}.{key}": value for key, value in own.items()}
    return Telling(descriptor, metric, params, is_similarity)
