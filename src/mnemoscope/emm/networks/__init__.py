"""U-Nets for the EMM experiments: `NetworkOptions` say which, `build` makes a denoiser of it."""

from typing import TYPE_CHECKING, Any

from mnemoscope.emm.networks.options import NetworkOptions

if TYPE_CHECKING:
    from mnemoscope.emm.networks.building import build

__all__ = ["NetworkOptions", "build"]


def __getattr__(name: str) -> Any:
    """`build` is imported when it is asked for: the options alone need no torch."""
    if name != "build":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mnemoscope.emm.networks import building

    return building.build
