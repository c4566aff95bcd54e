"""What finished runs say of one check: a value for each sample, the prompt that it belongs to, and how it was made."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mnemoscope.errors import UsageError
from mnemoscope.gate.policy import Check
from mnemoscope.run import several
from mnemoscope.run.parts import OF_MODEL
from mnemoscope.run.reading import Json, is_number, read_json
from mnemoscope.run.records import read_record, read_rows
from mnemoscope.run.rows import ReadRow


@dataclass(frozen=True)
class Part:
    """A run as a gate reads it; `root` is the folder that was given, the audit's where the run is a part of one.

    Of a run of several methods it is the part of one `method`, as if that had been alone.
    """

    folder: Path
    root: Path
    method: str | None = None

    @cached_property
    def record(self) -> Json:
        record = read_record(self.folder)
        return record if self.method is None else several.record_of(record, self.method)

    @cached_property
    def rows(self) -> Sequence[ReadRow]:
        rows: Sequence[ReadRow] = read_rows(self.folder)
        return rows if self.method is None else several.rows_of(rows, self.method)

    @cached_property
    def summary(self) -> Json:
        summary = read_json(self.folder / "summary.json")
        return summary if self.method is None else several.summary_of(summary, self.method)

    @property
    def name(self) -> str:
        """The run as it was given."""
        return f"{self.folder}:{self.method}" if self.method else str(self.folder)

    @property
    def command(self) -> str:
        return str(self.record["command"])

    @property
    def done(self) -> Sequence[ReadRow]:
        """The rows that did not fail and are no ordinary prompts that only calibrate."""
        return [row for row in self.rows if row["status"] == "ok" and row.get("role") != "negative"]

    @property
    def failed(self) -> int:
        return sum(row["status"] != "ok" for row in self.rows)

    @property
    def preset(self) -> str | None:
        """What images were compared by, as FEATURES/PRESET; pixels of the memorization ratio have no preset."""
        held = self.record.get("features")
        own = held if isinstance(held, dict) and held else self.summary
        names = [own.get(key) for key in ("features", "preset")]
        return "/".join(map(str, filter(None, names))) or ("pixels" if self.command == "emm-ratio" else None)

    @property
    def threshold(self) -> float | None:
        settings = self.record.get("settings", {})
        found = self.summary.get("threshold", settings.get("threshold") if self.command == "emm-ratio" else None)
        return float(found) if found is not None and is_number(found) else None


@dataclass(frozen=True)
class Evidence:
    """A value of each sample and its prompt; `part` is the run that holds them."""

    part: Part
    values: tuple[float, ...]
    prompts: tuple[str, ...]


def parts_of(runs: Sequence[Path]) -> list[Part]:
    """The finished runs behind the folders, those of an audit each on its own, and of RUN:METHOD that method alone.

    Raises `UsageError` for a folder that holds no run, or one that was not finished, and for one of several methods of
    which none is named.
    """
    found = []
    for given in runs:
        run, method = several.split(given)
        if not (run / "run.json").is_file():
            raise UsageError(f"{run} holds no run; give the folder of a finished one.")
        record = read_record(run)
        if several.is_several(record):
            found.append(Part(run, run, several.one(run, record["methods"], method)))
            continue
        inner = [run / name for name in OF_MODEL if (run / name / "rows.jsonl").is_file()]
        found += [Part(each, run) for each in (inner if record["command"] == "audit" else [run])]
    for part in found:
        if not (part.folder / "summary.json").is_file():
            raise UsageError(f"{part.folder} has no summary.json and was not finished; give its command again first.")
    return found


def evidence(check: Check, parts: Sequence[Part]) -> Evidence | None:
    """What the runs say of a check of no baseline; None where none of them can.

    Raises `UsageError` where only runs made otherwise than the check demands could, or several could.
    """
    part = chosen(check, parts)
    if part is None:
        return None
    samples = SAMPLES[check.measure](part)
    kept = _grouped(check.group, samples, part, parts)
    if kept is None:
        return None
    if check.measure == "copied_prompt_share":
        hits: dict[str, float] = {}
        for _, value, prompt in kept:
            hits[prompt] = max(value, hits.get(prompt, 0.0))
        return Evidence(part, tuple(hits.values()), tuple(hits))
    return Evidence(part, tuple(value for _, value, _ in kept), tuple(prompt for _, _, prompt in kept))


def chosen(check: Check, parts: Iterable[Part]) -> Part | None:
    """The run that a check is about: of its command, threshold and preset; None where no run is of its command."""
    able = [part for part in parts if part.command == check.about.command]
    fitting = [part for part in able if not misfit(check, part)]
    if len(fitting) > 1:
        two = " and ".join(part.name for part in fitting[:2])
        raise UsageError(f"{two} both answer the check {check.name!r}; give one of them, or gate them one by one.")
    if able and not fitting:
        raise UsageError(
            f"The check {check.name!r} wants {misfit(check, able[0])}; mend the policy or make the run anew."
        )
    return fitting[0] if fitting else None


def misfit(check: Check, part: Part) -> str:
    """How a run was made otherwise than a check demands, in a few words; empty if it fits."""
    own = part.threshold
    if check.threshold is not None and (own is None or abs(own - check.threshold) > 1e-6 * max(1.0, abs(own))):
        return f"threshold {check.threshold:g} and {part.folder} was made with {'none' if own is None else f'{own:g}'}"
    preset = part.preset or "none"
    if check.preset is not None and check.preset not in (preset, preset.partition("/")[0]):
        return f"preset {check.preset} and {part.folder} was made with {preset}"
    return ""


Sample = tuple[ReadRow, float, str]


def _grouped(group: str, samples: list[Sample], part: Part, parts: Sequence[Part]) -> list[Sample] | None:
    """The samples of a group; None where nothing says which prompts are flagged."""
    kind, _, name = group.partition(":")
    if kind == "kind":
        return [each for each in samples if str(each[0].get("kind") or "") == name.strip()]
    if group == "all":
        return samples
    flags = flags_of(part, parts)
    if not flags:
        return None
    return [each for each in samples if flags.get(each[2]) is (group == "flagged")]


def flags_of(part: Part, parts: Sequence[Part]) -> Mapping[str, bool]:
    """Whether each prompt is flagged, by the detection of the same audit or else by the only one there is."""
    found = [each for each in parts if each.command == "detect"]
    near = [each for each in found if each.root == part.root] or found
    if len(near) > 1:
        raise UsageError("Several detections say which prompts are flagged; give the run of one.")
    return {row["id"]: row["flagged"] for each in near for row in each.done if row.get("flagged") is not None}


def _flagged(part: Part) -> list[Sample]:
    return [(row, float(row["flagged"]), row["id"]) for row in part.done if row.get("flagged") is not None]


def _of_images(value: Callable[[ReadRow, Part], float | None]) -> Callable[[Part], list[Sample]]:
    def read(part: Part) -> list[Sample]:
        found = [(row, value(row, part), str(row.get("prompt_id") or row["id"])) for row in part.done]
        return [(row, float(each), prompt) for row, each, prompt in found if each is not None]

    return read


def _number(row: ReadRow, key: str) -> float | None:
    return row[key] if is_number(row.get(key)) else None


def is_copy(row: ReadRow, part: Part) -> float | None:
    """Whether an image is more similar to a training image than the run's threshold, strictly; None if unknown."""
    score, threshold = _number(row, "score"), part.threshold
    return None if score is None or threshold is None else float(score > threshold)


def memorized(row: ReadRow, part: Part) -> float | None:
    """Whether an image of the snapshot with the highest ratio is memorized; None for one of another snapshot."""
    return float(row["memorized"]) if row.get("snapshot") == part.summary.get("snapshot") else None


def _recovered(part: Part) -> list[Sample]:
    limit = part.threshold
    targets = [row for row in part.done if not row["control"] and row["attacked"] and limit is not None]
    return [(row, float(max(row["attacked"]) > limit), row["id"]) for row in targets if limit is not None]


_score = _of_images(lambda row, part: _number(row, "score"))
_own = _of_images(lambda row, part: _number(row, "own_score"))
_copied = _of_images(is_copy)
SAMPLES: dict[str, Callable[[Part], list[Sample]]] = {
    "flagged_share": _flagged,
    "replication_rate": _copied,
    "copied_prompt_share": _copied,
    "similarity_mean": _score,
    "similarity_p95": _score,
    "own_similarity_mean": _own,
    "own_similarity_p95": _own,
    "memorization_ratio": _of_images(memorized),
    "recover_success": _recovered,
}
