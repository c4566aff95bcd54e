"""Lists of prompts that come with the package, as `bundled:NAME`."""

from collections.abc import Iterator

from mnemoscope.pictures.rows import SourceRow, unreadable

PREFIX = "bundled:"
LAION_COPIED = (  # captions of LAION-2B; Somepalli et al. (arXiv:2305.20086) tried inference-time mitigations on them
    "Wall View 002",
    "Wall View 003",
    "Chamberly - Alloy 5 Piece Sectional",
    "Hopped-Up Gaming: East",
    "Pantomine - Driftwood 4 Piece Sectional",
    "Cresson - Pewter 4 Piece Sectional",
    "Jinllingsly - Chocolate 3 Piece Sectional",
    "Maier - Charcoal 2 Piece Sectional",
    "Classic Cars for Sale",
    "Mothers influence on her young hippo",
    "Living in the Light with Ann Graham Lotz",
    "The No Limits Business Woman Podcast",
)
LISTS = {"laion-copied": LAION_COPIED}


def bundled_rows(name: str) -> Iterator[SourceRow]:
    """The captions of a list: `bundled:laion-copied`, twelve that Stable Diffusion 1.4 is known to copy images of.

    Raises `UsageError` for a list that there is not.
    """
    own = name.removeprefix(PREFIX)
    if own not in LISTS:
        raise unreadable(name, f"there is no such list; there is {', '.join(PREFIX + each for each in LISTS)}")
    return ((f"{name}, prompt {k}", {"caption": text}) for k, text in enumerate(LISTS[own], 1))
