"""The notes of a release, from CHANGELOG.md: `python container/notes.py v0.1.0`. No tag but of this version."""

import re
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def notes(tag: str, changelog: str, version: str, cited: str) -> str:
    """What the changelog says of the tag's version; raises `ValueError` where anything says another one.

    Entries that are still under Unreleased would be in the release and not in its notes: they are an error too.
    """
    said = {"the tag": tag.removeprefix("v"), "mnemoscope.__version__": version, "CITATION.cff": cited}
    if len(set(said.values())) > 1:
        raise ValueError(f"One release has several versions: {said}; make them one.")
    if section("Unreleased", changelog):
        raise ValueError(f"CHANGELOG.md has entries under '## [Unreleased]'; name that section {version}.")
    if not (found := section(version, changelog)):
        raise ValueError(f"CHANGELOG.md has nothing under '## [{version}]'; write there what is new.")
    return found + "\n"


def section(name: str, changelog: str) -> str:
    """The text of a section, empty where there is none."""
    found = re.search(rf"^## \[{re.escape(name)}\][^\n]*\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    return found[1].strip() if found else ""


def main() -> None:
    initial = (REPOSITORY / "src/mnemoscope/__init__.py").read_text(encoding="utf-8")
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    version = re.search(r'^__version__ = "(.*)"$', initial, re.MULTILINE)
    cited = re.search(r"^version: (.*)$", citation, re.MULTILINE)
    assert version and cited
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    print(notes(sys.argv[1], changelog, version[1], cited[1]), end="")


if __name__ == "__main__":
    main()
