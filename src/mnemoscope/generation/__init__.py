"""The job of drawing images for a list of prompts."""

from mnemoscope import lazily

_HOMES = {
    "Generation": "generation.run",
    "run_generation": "generation.run",
}
__getattr__, __dir__ = lazily(__name__, _HOMES)
