"""The job of localizing, and the search for the neurons that a prompt's memorization needs."""

from mnemoscope import lazily

_HOMES = {
    "Localization": "localization.run",
    "run_localization": "localization.run",
    "import_localization": "localization.run",
}
__getattr__, __dir__ = lazily(__name__, _HOMES)
