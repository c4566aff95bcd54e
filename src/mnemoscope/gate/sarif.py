"""A verdict as SARIF 2.1.0, which code scanning shows: leaked images, and checks that did not pass, as results."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

from mnemoscope.errors import plain
from mnemoscope.gate.leaks import Leak
from mnemoscope.run.reading import Json

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
RULES = {
    "copied-image": "A generated image is a copy of a training image.",
    "policy-check": "A check of the policy failed or is undecided.",
}


def sarif(verdict: Mapping[str, Any], leaks: Sequence[Leak]) -> Json:
    """The log: one run with a result for each leak and for each check that did not pass."""
    rules = [{"id": name, "shortDescription": {"text": text}} for name, text in RULES.items()]
    driver = {"name": "mnemoscope", "version": verdict["version"], "rules": rules}
    results = [_leak(leak) for leak in leaks]
    results += [_check(check, verdict) for check in verdict["checks"] if check["outcome"] != "pass"]
    told = {"verdict": verdict["verdict"], "policySha256": verdict["policy"]["sha256"]}
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results, "properties": told}
    return {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}


def _leak(leak: Leak) -> Json:
    alike = "" if leak.similarity is None else f", similarity {leak.similarity:.4f}"
    asked = f" for the prompt {leak.prompt!r}" if leak.prompt else ""
    said = f"{leak.image}{asked} is a copy of {leak.training_file or 'a training image'}{alike} ({leak.preset})."
    known: Json = {"prompt": leak.prompt, "seed": leak.seed, "trainingFile": leak.training_file}
    known |= {"similarity": leak.similarity, "preset": leak.preset}
    found = _result("copied-image", "error", said, leak.image, *map(str, asdict(leak).values()))
    return {**found, "properties": known}


def _check(check: Mapping[str, Any], verdict: Mapping[str, Any]) -> Json:
    level, said = "error" if check["outcome"] == "fail" else "warning", f"{check['name']}: {check['why']}."
    found = _result("policy-check", level, said, verdict["policy"]["file"], check["name"])
    return {**found, "properties": {name: check[name] for name in ("name", "measure", "outcome", "value", "interval")}}


def _result(rule: str, level: str, said: str, place: str, *known_by: str) -> Json:
    digest = hashlib.sha256("\0".join((rule, place, *known_by)).encode("utf-8", "backslashreplace")).hexdigest()
    uri = quote(place.encode("utf-8", "backslashreplace"), safe="/:")
    return {
        "ruleId": rule,
        "ruleIndex": list(RULES).index(rule),
        "level": level,
        "message": {"text": plain(said)},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri}}}],
        "partialFingerprints": {"mnemoscope/v1": digest},
    }
