"""Runs: folders with what was asked, a row for each prompt or image, and a summary."""

from mnemoscope import lazily

_HOMES = {
    "Run": "run.run",
    "read_json": "run.run",
    "write_json": "run.run",
    "read_rows": "run.run",
    "read_table": "run.run",
    "write_table": "run.run",
    "clear": "run.run",
    "differing": "run.run",
    "read_record": "run.run",
    "read_settings": "run.settings",
}
__getattr__, __dir__ = lazily(__name__, _HOMES)
