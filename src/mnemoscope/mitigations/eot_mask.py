"""Kim and No: take the end token's embedding away."""

import torch

from mnemoscope.model.start import Start
from mnemoscope.model.tokens import ends_before_padding
from mnemoscope.registry import mitigation

KEY = "encoder_hidden_states"


@mitigation(paper="arXiv:2605.02908", cost="no evaluation more")
def eot_mask(start: Start) -> None:
    """Sets the embedding of each prompt's end token to zero; meant to follow `pad_fix`, weak without it.

    Raises `UsageError` where text is not padded with the end token (Stable Diffusion 2 and XL).
    """
    ends = ends_before_padding(start, "eot_mask")
    hidden = start.cond[KEY].clone()
    hidden[torch.arange(len(start), device=ends.device), ends] = 0
    start.change(cond={**start.cond, KEY: hidden})
