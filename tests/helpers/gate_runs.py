"""Run folders as detect, measure, recover and emm ratio write them, made by hand for the gate's tests."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

FEATURES = {"features": "pixels", "preset": "rgb16", "weights": "none", "dimension": 768}


def write_run(folder: Path, command: str, rows: Sequence[dict], summary: dict | None = None, **record: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    held = {"command": command, "settings": record.pop("settings", {}), "schema": 1, **record}
    (folder / "run.json").write_text(json.dumps(held))
    (folder / "rows.jsonl").write_text("".join(json.dumps({"status": "ok", **row}) + "\n" for row in rows))
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def detection(
    folder: Path,
    scores: Sequence[float],
    threshold: float | None = 1.0,
    *,
    kinds: Sequence[str] = ("",),
    method: str = "noise_norm",
    lora: list[str] | None = None,
    extra: Iterable[dict] = (),
) -> Path:
    """A detection of prompts p0, p1, ... with these scores, and one ordinary prompt that calibrated it."""
    rows: list[dict] = [
        {"id": f"p{k}", "prompt": f"prompt {k}", "score": score, "kind": kinds[k % len(kinds)], "role": "prompt"}
        | {"flagged": None if threshold is None else score >= threshold, "threshold": threshold}
        for k, score in enumerate(scores)
    ]
    rows.append({"id": "n-0", "prompt": "calm", "score": 9.0, "role": "negative", "flagged": True})
    model: dict[str, Any] = {"source": "demo", "weights": "0123456789abcdef", "scheduler": "DDIMScheduler"}
    if lora:
        named = [(name, float(scale or 1)) for name, _, scale in (each.partition(":") for each in lora)]
        model["parts"] = {"loras": [{"file": name, "scale": scale} for name, scale in named]}
    asked = {"command": "detect", "words": [], "parameters": {"unet": None, "lora": lora}, "how": {}}
    settings = {"method": method, "params": {}, "seeds": 1}
    return write_run(
        folder, "detect", [*rows, *extra], {"threshold": threshold}, settings=settings, model=model, asked=asked
    )


def measurement(folder: Path, scores: Sequence[Sequence[float]], threshold: float = 0.5) -> Path:
    """A measurement of the images of prompts p0, p1, ...; their own picture is a tenth less similar."""
    rows = [
        {"id": f"images/p{k}-{seed}.png", "file": f"images/p{k}-{seed}.png", "prompt": f"prompt {k}", "seed": seed}
        | {"prompt_id": f"p{k}", "kind": "even" if k % 2 == 0 else "odd", "mitigation": []}
        | {"score": score, "own_score": score - 0.1, "match": f"train/{k}.png"}
        for k, own in enumerate(scores)
        for seed, score in enumerate(own)
    ]
    return write_run(folder, "measure", rows, {"threshold": threshold, **FEATURES}, features=FEATURES)


def recovery(folder: Path, attacked: Sequence[float], threshold: float = 0.7) -> Path:
    rows = [
        {"id": f"p{k}", "prompt": f"prompt {k}", "reference": "r.png", "control": False, "before": [0.9]}
        | {"after": [0.1], "attacked": [0.0, best]}
        for k, best in enumerate(attacked)
    ]
    rows.append({**rows[0], "id": "control", "control": True, "attacked": [1.0]})
    return write_run(folder, "recover", rows, {"threshold": threshold}, features=FEATURES)


def ratio(folder: Path, memorized: Sequence[bool]) -> Path:
    """A memorization ratio of the snapshot `last`, the highest, and of `first`, in which nothing is memorized."""
    rows = [
        {"id": f"{name}:{k}", "snapshot": name, "place": k, "file": f"{k}.png", "match": f"t{k}.png"}
        | {"memorized": name == "last" and hit}
        for name in ("first", "last")
        for k, hit in enumerate(memorized)
    ]
    return write_run(folder, "emm-ratio", rows, {"snapshot": "last"}, settings={"threshold": 1 / 3})


def policy(file: Path, *checks: dict, **top: Any) -> Path:
    file.write_text(json.dumps({"checks": list(checks), **top}))  # JSON is YAML
    return file
