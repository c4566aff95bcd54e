"""Lists of prompts that come with the package."""

import pytest

from mnemoscope.errors import UsageError
from mnemoscope.prompts.prompt import read_prompts


def test_twelve_captions_that_are_copied() -> None:
    listed = read_prompts("bundled:laion-copied")
    assert len({p.id for p in listed}) == 12 and listed[0].text == "Wall View 002"
    assert sum("Sectional" in p.text for p in listed) == 5
    assert [p.text for p in read_prompts("bundled:laion-copied", limit=2)] == ["Wall View 002", "Wall View 003"]


def test_another_list_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="^bundled:copies: there is no such list; there is bundled:laion-copied.$"):
        read_prompts("bundled:copies")
