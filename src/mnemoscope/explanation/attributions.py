"""The attribution files of the layer6 code: read and written so that old results and new ones lie side by side."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnemoscope.errors import UsageError
from mnemoscope.model.words import END, aligned, joined, merged
from mnemoscope.prompts.prompt import as_prompts
from mnemoscope.run.reading import Malformed, read_value, reason
from mnemoscope.run.rows import ExplainRow
from mnemoscope.run.run import read_rows
from mnemoscope.run.writing import write_whole


def export_layer6(folder: Path) -> None:
    """Write `attributions.json` of an explanation into its folder."""
    write_layer6(read_rows(folder, ExplainRow), folder / "attributions.json")


def write_layer6(rows: Sequence[ExplainRow], file: Path) -> None:
    """Explanation rows as the JSON of the layer6 code: prompt -> [[token, score], ...]; failed rows are left out."""
    done = (row for row in rows if row["status"] == "ok")
    pairs = {row["prompt"]: [list(pair) for pair in zip(row["tokens"], row["scores"], strict=True)] for row in done}
    write_whole(file, json.dumps(pairs, indent=4, ensure_ascii=False) + "\n")


def read_layer6(file: Path) -> list[ExplainRow]:
    """Explanation rows from the JSON of the layer6 code, the method named like the file.

    The file has no seeds and no parameters. Its pieces are found in the prompt one after the other, and make up the
    prompt's words. Where they do not spell out the prompt, a word ends where a piece ends with "</w>"; in a prompt
    without such pieces each piece is a word. Raises `UsageError` for anything malformed.
    """
    try:
        attributions = read_value(file)
    except (OSError, Malformed) as e:
        raise UsageError(f"{file} is not a readable JSON file: {reason(e)}.") from e
    if not isinstance(attributions, dict) or not attributions:
        raise UsageError(f"{file} holds no attributions; expected an object of prompts with lists of [token, score].")
    for prompt, pairs in attributions.items():
        if not isinstance(pairs, list) or not all(map(_is_pair, pairs)):
            raise UsageError(f"{file} has no list of [token, score] with finite scores for '{prompt[:60]}'; mend it.")
    prompts = as_prompts(attributions)
    return [_row(p.id, p.text, attributions[p.text], file.stem) for p in prompts]


def _is_pair(pair: object) -> bool:
    if not isinstance(pair, list) or len(pair) != 2:
        return False
    token, score = pair
    number = isinstance(score, int | float) and not isinstance(score, bool) and math.isfinite(score)
    return isinstance(token, str) and number


def _row(id: str, prompt: str, pairs: Sequence[Sequence[Any]], method: str) -> ExplainRow:
    pieces, scores = [piece for piece, _ in pairs], [float(score) for _, score in pairs]
    places = aligned(prompt, pieces)
    return {
        "id": id,
        "prompt": prompt,
        "tokens": [piece.removesuffix(END).strip() for piece in pieces],
        "scores": scores,
        "words": joined(pieces, scores) if places is None else merged(prompt, places, scores),
        "special": None,
        "method": method,
        "params": {},
        "seeds": [],
        "label": None,
        "kind": None,
        "status": "ok",
    }
