"""The whole audit."""

from mnemoscope import lazily

_HOMES = {
    "run_audit": "audit.run",
}
__getattr__, __dir__ = lazily(__name__, _HOMES)
