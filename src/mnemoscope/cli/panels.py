"""Subjects that options are listed under, and an option of one."""

from typing import Any

import typer

INPUT, MODEL, METHOD, SAMPLING, COMPARISON, RUN = "Input", "Model", "Method", "Sampling", "Comparison", "Run"


def of(panel: str, text: str, *names: str, **how: Any) -> Any:
    """An option of a subject."""
    return typer.Option(*names, help=text, rich_help_panel=panel, **how)
