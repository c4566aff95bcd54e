"""U-Nets for the EMM experiments: `NetworkOptions` say which, `build` makes a denoiser of it."""

from mnemoscope.emm.networks.building import build
from mnemoscope.emm.networks.options import NetworkOptions

__all__ = ["NetworkOptions", "build"]
