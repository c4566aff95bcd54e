"""The job of comparing mitigations over their strengths."""

from mnemoscope import lazily

_HOMES = {
    "run_sweep": "sweep.run",
}
__getattr__, __dir__ = lazily(__name__, _HOMES)
