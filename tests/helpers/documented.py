"""What a page of the documentation names, and its blocks."""

import re
from collections.abc import Iterator
from pathlib import Path

from places import ROOT

DOCS = ROOT / "docs"
FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def documented(page: str) -> set[str]:
    """What the first column of a page's tables has between backquotes."""
    first = re.findall(r"^\| ([^|]*) \|", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
    return {name.rstrip("/") for cell in first for name in re.findall(r"`([^`]+)`", cell)}


def blocks(page: Path, *languages: str) -> Iterator[tuple[str, str]]:
    """The rest of the opening line and the text of each fenced block in one of these languages."""
    for language, rest, text in FENCE.findall(page.read_text(encoding="utf-8")):
        if language in languages:
            yield rest.strip(), text
