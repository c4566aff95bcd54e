"""The job of asking whether an edit removed an image or only its prompt."""

from mnemoscope import lazily

_HOMES = {
    "Recovery": "recovery.run",
    "Target": "recovery.run",
    "run_recovery": "recovery.run",
    "adversarial_embedding": "recovery.adversarial",
}
__getattr__, __dir__ = lazily(__name__, _HOMES)
