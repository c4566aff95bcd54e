"""The command that makes a run again, read from its settings."""

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnemoscope.report.record import Record, Row, listed, part
from mnemoscope.run.run import read_json

INTERNAL = (
    "content",
    "companions",
    "rewriter",
    "conditions",
    "run",
    "measure",
    "references_sha256",
    "images_sha256",
    "augmentation",
)  # settings that are no options
COMMANDS = {  # what makes runs that are called otherwise
    "regions": "explain",
    "search": "index search",
    "emm-optimum": "emm optimum",
    "emm-ratio": "emm ratio",
    "emm-train": "emm train",
}
SUBJECTS = {  # what is no option
    "rewrite": ("run",),
    "measure": ("generated",),
    "search": ("index", "queries"),
    "experiment": ("file",),
    "emm-ratio": ("generated",),
    "emm-optimum": (),
    "emm-train": (),
}
JOINED = ("multipliers", "attention", "skips", "classes")  # lists that are one option, with commas between
NEGATED = {"center_crop": "--random-crop", "balanced": "--unbalanced"}  # flags that are set unless told otherwise
OPTIONS = {"params": "--param", "mitigation": "--mitigate", "levels": "--level", "strengths": "--strength"}


def command_lines(run: Path, records: Sequence[Record]) -> list[str]:
    """The commands that make the runs behind a path again: one for a whole audit."""
    infos = [record.info for record in records]
    if run not in [record.path for record in records] and (run / "run.json").is_file():
        return [command_line(read_json(run / "run.json"), *infos)]
    return [line for info in infos if (line := command_line(info))]


def command_line(info: Row, *parts: Row) -> str:
    """The command of a run, with the settings of its parts; empty where it is not known what it ran on."""
    settings = _settings(info, *parts)
    model = next((source for each in (info, *parts) if (source := part(each, "model").get("source"))), None)
    named = SUBJECTS.get(str(info["command"]))
    subjects = [str(settings.pop(name)) for name in named or () if settings.get(name)]
    subjects = [str(model)] if named is None and model else subjects
    if info["command"] == "audit" and settings.get("prompts") == "demo":
        return "mnemoscope demo --out DIR"
    command = str(info["command"])
    words = ["mnemoscope", *COMMANDS.get(command, command).split(), *map(str, subjects)]
    for key, value in _as_options(settings).items():
        name = OPTIONS.get(key, "--" + key.replace("_", "-"))
        values = [f"{k}={_word(v)}" for k, v in value.items()] if isinstance(value, dict) else value
        for each in values if isinstance(values, list) else [values]:
            if each is False and key in NEGATED:
                words.append(NEGATED[key])
            if key not in INTERNAL and each is not None and each is not False:
                words += [name] if each is True else [name, _word(each)]
    is_known = bool(subjects) if named != () else "data" in settings
    return shlex.join([*words, "--out", "DIR"]) if is_known else ""


def _settings(info: Row, *parts: Row) -> Row:
    """Settings of a run, or of an audit: of its detection and its images, and by name what else it did."""
    own = {COMMANDS.get(c := str(each.get("command")), c): part(each, "settings") for each in reversed(parts)}
    shared = {**own.get("generate", {}), **own.get("detect", {}), **part(info, "settings")}
    if info["command"] == "emm-train":
        shared |= {**part(part(info, "network"), "options"), **part(info, "source")}
        shared |= {key: ",".join(map(str, v)) or "none" for key in JOINED if isinstance(v := shared.get(key), list)}
    if "explain" in own:
        shared.setdefault("explain", own["explain"].get("method"))
    mitigated = [m for each in parts for m in listed(part(each, "settings").get("mitigations")) if isinstance(m, dict)]
    if mitigated:
        shared |= {"mitigate": mitigated[0].get("name")}
    return shared


def _as_options(settings: Row) -> Row:
    """Settings with mitigations, and the points of a sweep, as the options that gave them."""
    points = [each for each in listed(settings.get("points")) if isinstance(each, dict)]
    given = [*listed(settings.get("mitigations")), *(part(each, "mitigation") for each in points)]
    named = {str(each["name"]): part(each, "params") for each in given if isinstance(each, dict) and "name" in each}
    swept = {str(part(each, "mitigation").get("name")): each.get("parameter") for each in points}
    params = {f"{n}.{k}": v for n, own in named.items() for k, v in own.items() if k != swept.get(n)}
    kept: dict[str, Any] = {k: v for k, v in settings.items() if k not in ("mitigations", "points")}
    if named:
        kept |= {"mitigation": list(named), "params": {**part(settings, "params"), **params}}
    tried = {
        tuple(_word(each.get("strength")) for each in points if part(each, "mitigation").get("name") == name)
        for name, parameter in swept.items()
        if parameter
    }
    return kept | ({"strengths": list(*tried)} if len(tried) == 1 else {})


def _word(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
