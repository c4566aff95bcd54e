"""Mitigations chosen by name, and guards in front of a user's own pipeline."""

from mnemoscope import lazily

_HOMES = {
    "Guard": "mitigation.guard",
    "Mitigation": "mitigation.chosen",
}
__getattr__, __dir__ = lazily(__name__, _HOMES)
