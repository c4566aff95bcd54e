"""A verdict as a block for a model card: what the hub reads of it in front, a table for people below."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnemoscope.errors import plain


def model_card(verdict: Mapping[str, Any], model: str, *, has_prompts: bool) -> str:
    """Front matter with one `EvalResult` a measured check, by huggingface_hub's own classes, and a Markdown table."""
    from huggingface_hub import EvalResult, ModelCardData

    task = "text-to-image" if has_prompts else "unconditional-image-generation"
    results = [
        EvalResult(
            task_type=task,
            dataset_type="custom",
            dataset_name=plain("/".join(Path(check["run"]).parts[-2:])),
            metric_type=check["measure"],
            metric_name=plain(check["name"]),
            metric_value=check["value"],
            metric_args={key: check[key] for key in ("interval", "samples", "group", "run_threshold", "run_preset")},
        )
        for check in verdict["checks"]
        if check["value"] is not None
    ]
    data = ModelCardData(model_name=plain(model), eval_results=results or None, tags=["mnemoscope"])
    rows = [f"| {_cell(c['name'])} | {c['outcome']} | {_cell(c['why'])} |" for c in verdict["checks"]]
    table = "\n".join(["| check | outcome | evidence |", "|---|---|---|", *rows])
    compared = f"\nCompared: {_cell(verdict['baseline']['headline'])}.\n" if verdict["baseline"] else ""
    told = f"Verdict of the policy: **{verdict['verdict']}**, {verdict['leaks']:,} copied images found."
    return f"---\n{data.to_yaml()}\n---\n\n## Memorization\n\n{told}\n{compared}\n{table}\n"


def _cell(text: object) -> str:
    """Text that stays in its cell of a table and is no markup."""
    safe = plain(str(text)).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{c}" if c in "\\`*_[]|" else c for c in safe)
