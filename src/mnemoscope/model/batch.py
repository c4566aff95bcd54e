"""How many samples go through a network at once."""

from mnemoscope.errors import UsageError
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.room import room


def batch_size(model: Denoiser, asked: int | str, graph: bool = False) -> int:
    """Samples in one forward pass; "auto" is what the device has room for, see `mnemoscope.model.room`."""
    if asked != "auto":
        if not (str(asked).isascii() and str(asked).isdecimal() and len(str(asked)) < 10 and int(asked) >= 1):
            raise UsageError(f"Batch size '{str(asked)[:40]}' is neither auto nor a number from 1 up.")
        return int(asked)
    return room(model, graph)
