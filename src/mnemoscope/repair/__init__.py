"""Repairs of a fine-tune's weights: what in a LoRA leaves what its base can do is damped."""

from mnemoscope import lazily

_HOMES = {
    "run_repair": "repair.run",
}
__getattr__, __dir__ = lazily(__name__, _HOMES)
