"""Files of the research codes: read and written so that old results and new ones lie side by side."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from mnemoscope.errors import UsageError
from mnemoscope.prompts.prompt import as_prompts
from mnemoscope.run.reading import Json, parsed, read_bytes
from mnemoscope.run.rows import DetectRow
from mnemoscope.run.run import read_rows
from mnemoscope.run.writing import write_whole

WEN_KEYS = ("text_noise_norm", "uncond_noise_norm")


def export_wen(folder: Path) -> None:
    """Write `wen.jsonl` of a detection's prompts into its folder, and `wen-negatives.jsonl` of any negatives."""
    rows = read_rows(folder, DetectRow)
    for role, name in (("prompt", "wen.jsonl"), ("negative", "wen-negatives.jsonl")):
        if chosen := [r for r in rows if r["role"] == role]:
            write_wen(chosen, folder / name)


def write_wen(rows: Sequence[DetectRow], file: Path) -> None:
    """Detection rows as the JSONL of Wen et al.: text and unconditional noise norms, images by steps, and the prompt.

    Raises `UsageError` unless the rows are of noise_norm with uncond_norm recorded beside it.
    """
    lines = []
    for row in rows:
        if row["status"] != "ok":
            continue
        uncond = row.get("companions", {}).get("uncond_norm")
        if row["method"] != "noise_norm" or uncond is None:
            raise UsageError("Wen's JSONL holds noise_norm and uncond_norm; run detect with noise_norm --format wen.")
        values = dict(zip(WEN_KEYS, (row["series"], uncond), strict=True))
        lines.append(json.dumps({**values, "prompt": row["prompt"]}, ensure_ascii=False) + "\n")
    write_whole(file, "".join(lines))


def read_wen(file: Path, *, label: bool | None = None, steps: tuple[int, int | None] = (0, None)) -> list[DetectRow]:
    """Detection rows from the JSONL of Wen et al.; a prompt's score is the mean over images and the chosen steps.

    The file names no timesteps, so that the series is counted in steps. Raises `UsageError` for anything malformed.
    """
    records = [_wen_record(file, n, line) for n, line in enumerate(_read(file), 1) if line.strip()]
    if not records:
        raise UsageError(f"{file} holds no records.")
    rows: list[DetectRow] = []
    for prompt, record in zip(as_prompts(r["prompt"] for r in records), records, strict=True):
        text, uncond = (record[key] for key in WEN_KEYS)
        used = [image[slice(*steps)] for image in text]
        if not all(used):
            raise UsageError(f"{file} has {len(text[0])} steps; steps {steps[0]} to {steps[1]} are not among them.")
        per_seed = [sum(s) / len(s) for s in used]
        rows.append(
            {
                "id": prompt.id,
                "prompt": prompt.text,
                "seeds": list(range(len(text))),
                "method": "noise_norm",
                "params": {},
                "score": sum(per_seed) / len(per_seed),
                "per_seed": per_seed,
                "label": label,
                "kind": None,
                "status": "ok",
                "series": text,
                "companions": {"uncond_norm": uncond},
            }
        )
    return rows


def _read(file: Path) -> list[str]:
    try:  # captions may hold the other marks that splitlines ends at
        return read_bytes(file, 2**34).decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"{file} could not be read as UTF-8 text: {e}") from e


def _wen_record(file: Path, number: int, line: str) -> Json:
    try:
        record = parsed(line)
        for key in WEN_KEYS:
            if not record[key] or not all(math.isfinite(x) for image in record[key] for x in image):
                raise ValueError(f"{key} is not a list of lists of finite numbers")
        if len({len(image) for key in WEN_KEYS for image in record[key]}) > 1:
            raise ValueError("its images differ in their number of steps")
        if not isinstance(record["prompt"], str):
            raise ValueError("prompt is not a text")
    except (ValueError, KeyError, TypeError) as e:
        raise UsageError(f"{file}, line {number} is not a record of Wen et al.: {e}") from e
    return record
