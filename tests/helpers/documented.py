"""What a page of the documentation names."""

import re

from places import ROOT

DOCS = ROOT / "docs"


def documented(page: str) -> set[str]:
    """What the first column of a page's tables has between backquotes."""
    first = re.findall(r"^\| ([^|]*) \|", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
    return {name.rstrip("/") for cell in first for name in re.findall(r"`([^`]+)`", cell)}
