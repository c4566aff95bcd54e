"""Runs as people read them: one HTML page, one table in a terminal."""

from mnemoscope.report.page import write

__all__ = ["write"]
