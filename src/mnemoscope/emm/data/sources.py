"""The images of a source by its name, patches of photographs among them."""

from functools import lru_cache

from mnemoscope.emm.data.images import Images
from mnemoscope.emm.data.patches import photograph_patches
from mnemoscope.emm.data.readers import read_images


@lru_cache(maxsize=4)
def source_images(source: str) -> Images:
    """The images of a source, read once."""
    return photograph_patches() if source == "patches" else read_images(source)
