"""Kim and No: take a share of the padding away."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.start import Start
from mnemoscope.model.tokens import ends_before_padding
from mnemoscope.registry import mitigation

KEY = "encoder_hidden_states"


@mitigation(
    paper="arXiv:2605.02908",
    cost="no evaluation more",
    strength=("share", (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)),
)
def padding_mask(start: Start, *, share: int | float = 0.7) -> None:
    """Sets the first `share` of the padding behind each prompt's end token to zero; the end token itself stays.

    Raises `UsageError` for a share outside [0, 1], and where text is not padded with the end token (Stable Diffusion 2
    and XL).
    """
    if not 0 <= share <= 1:
        raise UsageError(f"padding_mask got share={share}; give a number from 0 to 1.")
    ends = ends_before_padding(start, "padding_mask")
    hidden = start.cond[KEY]
    masked = first_padding(ends, hidden.shape[1], share)
    start.change(cond={**start.cond, KEY: hidden.masked_fill(masked[..., None], 0)})


def first_padding(ends: Int[Tensor, " B"], length: int, share: int | float) -> Bool[Tensor, "B L"]:
    """Positions of the first floor(share n) of the n places behind each end token."""
    place = torch.arange(length, device=ends.device)
    counts = [int(share * n + 1e-9) for n in (length - 1 - ends).tolist()]  # 0.29 * 100 is less than 29, of floats
    count = torch.tensor(counts, device=ends.device)
    return (place > ends[:, None]) & (place <= (ends + count)[:, None])
