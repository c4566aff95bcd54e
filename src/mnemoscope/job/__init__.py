"""What every job over many prompts does: batches, their order, and an end that is written down."""

from mnemoscope import lazily

_HOMES = {"prompt_run": "job.batching"}
__getattr__, __dir__ = lazily(__name__, _HOMES)
