"""How many samples go through a network at once."""

from mnemoscope.errors import UsageError
from mnemoscope.model.denoiser import Denoiser


def batch_size(model: Denoiser, asked: int | str) -> int:
    """Samples in one forward pass; "auto" goes by the size of the latents and the kind of device."""
    if asked != "auto":
        if not (str(asked).isascii() and str(asked).isdecimal() and len(str(asked)) < 10 and int(asked) >= 1):
            raise UsageError(f"Batch size '{str(asked)[:40]}' is neither auto nor a number from 1 up.")
        return int(asked)
    channels, height, width = model.latent_shape
    room = 2**16 if model.device.type == "cpu" else 2**19
    return max(1, min(64, room // (channels * height * width)))
