"""Images as vectors that can be compared: one callable a descriptor, each with a named preset and a weight hash."""

from mnemoscope.features.alpha import opaque, transparent
from mnemoscope.features.cache import Cache
from mnemoscope.features.descriptors import Descriptor, descriptor
from mnemoscope.features.identity import Identity, comparable
from mnemoscope.features.raw_pixels import pixels

__all__ = ["Cache", "Descriptor", "Identity", "comparable", "descriptor", "opaque", "pixels", "transparent"]
