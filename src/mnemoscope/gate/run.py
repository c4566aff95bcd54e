"""The gate: runs held against a policy, and the verdict written for people, for tests and for model cards."""

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from mnemoscope.errors import UsageError
from mnemoscope.gate import baseline
from mnemoscope.gate.decision import decide, overall
from mnemoscope.gate.evidence import Part, parts_of
from mnemoscope.gate.junit import junit
from mnemoscope.gate.leaks import Leak, leaks, table
from mnemoscope.gate.model_card import model_card
from mnemoscope.gate.policy import Policy
from mnemoscope.gate.sarif import sarif
from mnemoscope.gate.sealing import SEAL, verify
from mnemoscope.run import several
from mnemoscope.run.reading import Json
from mnemoscope.run.run import write_json
from mnemoscope.run.writing import clean_beside, sha256_of, write_whole

EXIT_CODES = {"pass": 0, "fail": 3, "undecided": 4}


def run_gate(runs: Sequence[Path], policy: Policy, *, before: Path | None = None, out: Path | None = None) -> Json:
    """Hold runs against a policy, write the verdict into a folder (`gate` in the first run), and return it.

    `before` is the baseline's run. Raises `UsageError` for runs that are none, are not finished, were changed since
    they were sealed, or were made otherwise than the policy demands.
    """
    if not runs:
        raise UsageError("No run was given; give the folder of at least one.")
    runs = _distinct(runs)
    given = [several.split(run)[0] for run in (*runs, *([before] if before else []))]
    seals = {str(run): _seal(run) for run in given}
    if out is None and seals[str(given[0])]:
        raise UsageError(
            f"{given[0]} is sealed, and a verdict in it would break the seal; give another folder as --out."
        )
    parts, wants = parts_of(runs), any(check.about.needs_baseline for check in policy.checks)
    there = parts_of([before]) if before else []
    has_both = bool(there) and (wants or any(part.command == "detect" for part in parts))
    pairs = baseline.joined(parts, there) if has_both else None
    decisions = [decide(check, parts, pairs, policy.level) for check in policy.checks]
    found = leaks(parts)
    verdict = {
        "verdict": overall(decisions),
        "version": version("mnemoscope"),
        "policy": {"file": str(policy.file), "sha256": sha256_of(policy.file), "level": policy.level},
        "runs": [_about(part, seals) for part in [*parts, *there]],
        "checks": [decision.told() for decision in decisions],
        "baseline": baseline.compared(pairs, policy.level) if pairs else None,
        "leaks": len(found),
    }
    _write(out or default_folder(runs), verdict, found, parts)
    return verdict


def _distinct(runs: Sequence[Path]) -> list[Path]:
    """The runs without those that were given twice."""
    known: dict[tuple[Path, str | None], Path] = {}
    for run in runs:
        folder, method = several.split(run)
        known.setdefault((folder.resolve(), method), run)
    return list(known.values())


def default_folder(runs: Sequence[Path]) -> Path:
    """Where a verdict goes that was not told: `gate` in the first run."""
    return several.split(runs[0])[0] / "gate"


def _seal(run: Path) -> str | None:
    """The hash of a run's seal, None if it has none; raises `UsageError` for a run that was changed since."""
    if not (run / SEAL).is_file():
        return None
    changes = verify(run)
    if changes.any:
        raise UsageError(f"{run} was changed since it was sealed; see mnemoscope verify {run}.")
    return changes.seal


def _about(part: Part, seals: dict[str, str | None]) -> Json:
    told = {"run": part.name, "command": part.command, "rows": len(part.rows), "failed": part.failed}
    told |= {"rows_sha256": sha256_of(part.folder / "rows.jsonl")}
    return {**told, "model": baseline.model(part), "seal": seals[str(part.root)]}


def _write(folder: Path, verdict: Json, found: Sequence[Leak], parts: Sequence[Part]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    clean_beside(*(folder / name for name in ("junit.xml", "sarif.json", "model-card.md", "leaks.csv", "verdict.json")))
    sources = [baseline.model(part)["source"] for part in parts]
    name = next((str(source) for source in sources if source), parts[0].root.name)
    has_prompts = any(row.get("prompt") for part in parts for row in part.done)
    write_whole(folder / "junit.xml", '<?xml version="1.0" encoding="UTF-8"?>\n' + junit(verdict))
    write_whole(folder / "sarif.json", json.dumps(sarif(verdict, found), indent=2, ensure_ascii=True) + "\n")
    write_whole(folder / "model-card.md", model_card(verdict, name, has_prompts=has_prompts))
    write_whole(folder / "leaks.csv", table(found))
    write_json(folder / "verdict.json", verdict)  # last: where it is, the others are
