"""A verdict as JUnit XML, which test runners of continuous integration show: one test case a check."""

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from mnemoscope.errors import plain

FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # of XML 1.0, section 2.2


def junit(verdict: Mapping[str, Any]) -> str:
    """The text of the file: a failed check is a failure, an undecided one an error, one passed over is skipped."""
    checks = verdict["checks"]
    counts = {"tests": len(checks)} | {
        name: sum(_mark(check) == mark for check in checks)
        for name, mark in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"))
    }
    numbers = {name: str(count) for name, count in counts.items()}
    whole = ElementTree.Element("testsuites", {"name": "mnemoscope gate", **numbers})
    suite = ElementTree.SubElement(whole, "testsuite", {"name": _text(verdict["policy"]["file"]), **numbers})
    for check in checks:
        name = {"name": _text(check["name"]), "classname": f"mnemoscope.methods.gate.{check['measure']}"}
        case = ElementTree.SubElement(suite, "testcase", {**name, "time": "0"})
        if mark := _mark(check):
            about = {"message": _text(check["why"])} | ({} if mark == "skipped" else {"type": check["outcome"]})
            ElementTree.SubElement(case, mark, about).text = None if mark == "skipped" else _text(check["why"])
        ElementTree.SubElement(case, "system-out").text = _text(check["why"])
    ElementTree.indent(whole)
    return ElementTree.tostring(whole, encoding="unicode", xml_declaration=False) + "\n"


def _mark(check: Mapping[str, Any]) -> str | None:
    """The element that says what became of a check; none for one that passed."""
    return "skipped" if check["skipped"] else {"fail": "failure", "undecided": "error"}.get(check["outcome"])


def _text(value: object) -> str:
    return FORBIDDEN.sub("", plain(str(value)))
