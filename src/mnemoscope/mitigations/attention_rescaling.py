"""Ren et al. (MemAttn): no attention to what follows the prompt, more to the first token."""

import torch

from mnemoscope.model import attention
from mnemoscope.model.start import Start
from mnemoscope.registry import mitigation

KEY = "encoder_hidden_states"


@mitigation(
    paper="arXiv:2403.11052",
    cost="no evaluation more",
    strength=("scale", (1.0, 1.15, 1.25, 1.35, 1.5, 2.0)),
)
def attention_rescaling(start: Start, *, scale: int | float = 1.25, mask_eos: bool = False) -> None:
    """Masks the attention to padding in both branches, and multiplies the first token's logit by `scale` in one.

    The logits are those before the softmax, of every cross-attention layer at every step. The unconditional branch has
    the positions masked that the prompt's has; only the conditional one is rescaled. A negative logit becomes smaller.
    `mask_eos` masks the end token too. Raises `UsageError` for a model without cross-attention or without prompts.
    """
    attention.layers(start.model.network)
    device = start.x_t.device
    length = start.cond[KEY].shape[1]
    last = (start.ends() - int(mask_eos)).to(device)[:, None]
    place = torch.arange(length, device=device).expand(len(start), length)
    bias = torch.zeros(len(start), length, device=device).masked_fill(place > last, float("-inf"))
    gain = (scale - 1) * (place == 0).float()
    null = None
    if not start.model.family.unguided:
        null = attention.steer(start.null_rows(), bias=bias)
    start.change(cond=attention.steer(start.cond, bias=bias, gain=gain), null=null)
