"""Summaries that were edited: what is no number, no list and no text is left out, and the page is made all the same."""

from pathlib import Path
from typing import Any

import pytest

from mnemoscope.report.kinds import KINDS
from mnemoscope.report.record import Record
from mnemoscope.report.recover import STAGES

WHOLE: dict[str, Any] = {
    "train": {"data": {"memorized": 3, "base": 5, "left_out": 2}, "loss": 0.5},
    "watch": {"came_back": ["a"], "checkpoints": ["x", "y"], "probes": 4, "last_without_copies": "x"},
    "measure": {"replication_rate": 0.5, "threshold": 0.4, "references": 7},
    "recover": {"targets": 6, **{f"memorization_rate_{stage}": 0.5 for stage in STAGES}},
}
SAID = {
    "train": "On 3 pictures and 5 pictures of the base set. 2 pictures could not be used.",
    "watch": "1 of 4 captions gave their picture back in 2 checkpoints.",
    "measure": "are copies of one of 7 references",
    "recover": "Of 6 images",
}
EDITED = ["9" * 5000, "x", [1], {"a": 1}, None, -1, 1e308, True, 10**30, [], {}, [None]]


def said(command: str, summary: dict[str, Any]) -> str:
    record, kind = Record(Path("."), {"command": command}, summary, []), KINDS[command]
    return " ".join(map(str, (kind.headline(record), kind.about(record), kind.cards(record))))


@pytest.mark.parametrize("command", WHOLE)
def test_a_page_is_made_whatever_stands_in_a_summary(command: str) -> None:
    assert SAID[command] in said(command, WHOLE[command])
    for key, held in WHOLE[command].items():
        for value in EDITED:
            said(command, {**WHOLE[command], key: value})
            for inner in held if isinstance(held, dict) else ():
                said(command, {**WHOLE[command], key: {**held, inner: value}})
