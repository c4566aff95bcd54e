"""The perturbation files of the layer6 code: prompts, levels, and the rewrites of each with their chosen words."""

from pathlib import Path
from typing import Any, cast

from mnemoscope.errors import UsageError
from mnemoscope.prompts.prompt import as_prompts
from mnemoscope.rewriting.outcome import summarised
from mnemoscope.run.reading import Json, Malformed, read_value, reason
from mnemoscope.run.rows import RewriteRow
from mnemoscope.run.run import Run

REWRITER = "layer6"
EXPECTED = '{prompt: {level: [{"perturbed_prompt", "selected_tokens"}]}}'


def is_perturbations(file: Path) -> bool:
    """Whether a file of the layer6 code holds rewrites by level, and not attributions."""
    try:
        value = read_value(file)
    except (OSError, Malformed):
        return False  # whoever reads it says what is wrong
    return isinstance(value, dict) and any(isinstance(levels, dict) for levels in value.values())


def read_perturbations(file: Path) -> list[RewriteRow]:
    """Rows of a rewriting, without scores; an empty rewrite is a failed row. Raises `UsageError` for anything else."""
    try:
        value = read_value(file)
    except (OSError, Malformed) as e:
        raise UsageError(f"{file} is not a readable JSON file: {reason(e)}.") from e
    if not isinstance(value, dict) or not value:
        raise UsageError(f"{file} holds no rewrites; expected {EXPECTED}.")
    rows: list[RewriteRow] = []
    for prompt in as_prompts(value):
        levels = value[prompt.text]
        if not isinstance(levels, dict) or not all(map(_is_level, levels.items())):
            raise UsageError(f"{file} has no rewrites by level for '{prompt.text[:60]}'; expected {EXPECTED}.")
        numbered = sorted((int(level), made) for level, made in levels.items())
        rows += [_row(prompt.id, prompt.text, n, k, one) for n, made in numbered for k, one in enumerate(made)]
    if not rows:
        raise UsageError(f"{file} holds prompts and no rewrite of any; expected {EXPECTED}.")
    return rows


def _is_level(item: tuple[str, Any]) -> bool:
    level, made = item
    if not (level.isascii() and level.isdecimal() and len(level) < 5 and isinstance(made, list)):
        return False
    return all(
        isinstance(one, dict)
        and isinstance(one.get("perturbed_prompt"), str | None)
        and isinstance(tokens := one.get("selected_tokens"), list)
        and all(isinstance(token, str) for token in tokens)
        for one in made
    )


def _row(id: str, prompt: str, level: int, k: int, one: Json) -> RewriteRow:
    words = [token.removesuffix("</w>").strip() for token in one["selected_tokens"]]
    text = (one["perturbed_prompt"] or "").strip()
    row = {
        "id": f"{id}-{level}-{k}",
        "prompt_id": id,
        "prompt": prompt,
        "level": level,
        "k": k,
        "chosen": [{"word": word} for word in words],
        "rewriter": REWRITER,
        "label": None,
        "kind": None,
        "rewrite": text or None,
        "status": "ok" if text else "failed",
    }
    return cast(RewriteRow, row if text else {**row, "error": "the file has an empty rewrite"})


def import_rewriting(file: Path, out: Path | str, *, overwrite: bool = False) -> Json:
    """Make a run of layer6's perturbation JSON and return its summary; the run can be the prompts of a next command."""
    rows = read_perturbations(file)
    with Run(out, "rewrite", {"prompts": str(file), "rewriter": REWRITER}, overwrite=overwrite) as run:
        run.replace_rows(rows)
        return run.finish(**summarised(rows, REWRITER, None))
