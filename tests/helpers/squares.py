"""A stand-in for the npm package of emoji: coloured squares under names that may be chosen."""

import zlib
from collections.abc import Sequence

from PIL import Image

from mnemoscope.demo.scenes import Emoji


class Squares(Emoji):
    """A square for each of the names and of a few others, which are companions, or never seen."""

    def __init__(self, ordinary: Sequence[str]) -> None:
        self.ordinary, self.tail, self.unseen = list(ordinary), ["alpha", "beta", "gamma"], ["delta", "epsilon", "zeta"]
        self.names = {n: n.replace(" ", "_") for n in [*self.ordinary, *self.tail, *self.unseen]}

    def picture(self, short_name: str) -> Image.Image:
        digits = zlib.crc32(short_name.encode())
        return Image.new("RGBA", (64, 64), (digits & 255, digits >> 8 & 255, digits >> 16 & 255, 255))
