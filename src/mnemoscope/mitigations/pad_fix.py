"""Kim and No: pad the prompt with something else than copies of the end token."""

import torch

from mnemoscope.model.start import Start
from mnemoscope.model.tokens import encode_padded, ends_before_padding
from mnemoscope.registry import mitigation

KEY = "encoder_hidden_states"


@mitigation(paper="arXiv:2605.02908", cost="no evaluation more; the text is encoded once more")
def pad_fix(start: Start, *, token: str = "!", also_negative: bool = False) -> None:
    """Pads the prompt with another token than the end token, whose many copies carry much of what is memorized.

    What stands up to the end token stays as it is, for the text encoder is causal. `also_negative` pads the empty
    prompt of the unconditional branch in the same way. Raises `UsageError` for a token that there is not, and where
    text is not padded with the end token (Stable Diffusion 2 and XL).
    """
    ends = ends_before_padding(start, "pad_fix")
    hidden = start.cond[KEY]
    padding = torch.arange(hidden.shape[1], device=hidden.device) > ends[:, None]
    padded = encode_padded(start.model, start.prompts or [], token).to(hidden)
    cond, null = {**start.cond, KEY: torch.where(padding[..., None], padded, hidden)}, None
    if also_negative:
        null = start.null or start.model.null(len(start), start.x_t.shape[1:])
        null = {**null, KEY: encode_padded(start.model, [""], token).to(hidden).repeat(len(start), 1, 1)}
    start.change(cond=cond, null=null)
