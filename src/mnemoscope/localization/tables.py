"""NeMo's result tables: one row a prompt, its initial and refined neurons as a list of lists, one a layer.

Beside a table of other layers than NeMo's seven lies a text file of the same name, as beside NeMo's, whose line
`layers:` names them.
"""

import ast
import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mnemoscope.errors import UsageError
from mnemoscope.model.ablation import by_layer
from mnemoscope.prompts.prompt import as_prompts
from mnemoscope.run.reading import read_bytes
from mnemoscope.run.rows import LocalizeRow
from mnemoscope.run.run import read_json, read_rows
from mnemoscope.run.writing import whole, write_whole

COLUMNS = ("Caption", "URL", "Initial Neurons", "Initial SSIM", "Refined Neurons", "Refined SSIM")
LAYERS = [f"down_blocks.{b}.attentions.{a}.transformer_blocks.0.attn2.to_v" for b in range(3) for a in range(2)]
LAYERS += ["mid_block.attentions.0.transformer_blocks.0.attn2.to_v"]  # of Stable Diffusion 1 and 2
NAMED = "layers:"


def export_nemo(folder: Path) -> None:
    """Write `nemo.csv` of a localization into its folder; failed prompts are left out."""
    names = read_json(folder / "summary.json").get("layer_names") or LAYERS
    write_nemo(read_rows(folder, LocalizeRow), folder / "nemo.csv", names)


def write_nemo(rows: Sequence[LocalizeRow], file: Path, layers: Sequence[str] = LAYERS) -> None:
    """Rows of a localization as NeMo's table; a prompt without neurons has empty lists and similarities of 0.

    Other layers than NeMo's are named in a text file beside it. Raises `UsageError` for rows of a method whose quantity
    is not the similarity.
    """
    with whole(file) as partial, partial.open("w", encoding="utf-8", newline="") as f:
        table = csv.writer(f, delimiter=";")
        table.writerow(COLUMNS)
        for row in rows:
            if row["status"] != "ok":
                continue
            if row["value"] != "ssim":
                raise UsageError("NeMo's table holds similarities; run localize with --method neurons --format nemo.")
            initial, refined = (by_layer(lists, layers) for lists in (row["initial_neurons"], row["neurons"]))
            similarities = [row.get("initial_ssim") or 0, row.get("ssim") or 0]
            table.writerow([row["prompt"], row.get("url") or "", initial, similarities[0], refined, similarities[1]])
    if list(layers) != LAYERS:
        write_whole(file.with_suffix(".txt"), f"{NAMED} {', '.join(layers)}\n")


def read_nemo(file: Path, layers: Sequence[str] = LAYERS) -> list[LocalizeRow]:
    """Rows of a localization from NeMo's table; neurons that are listed twice count once.

    Its lists are of the layers that the text file beside it names, or else of `layers`. Raises `UsageError` for
    anything malformed.
    """
    layers = named_layers(file) or layers
    try:
        with io.StringIO(read_bytes(file).decode("utf-8-sig"), newline="") as f:
            table = list(csv.DictReader(f, delimiter=";", strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise UsageError(f"{file} could not be read as a table with ; between its columns: {e}") from e
    if not table or not set(COLUMNS) <= set(table[0]):
        raise UsageError(f"{file} is not a table of NeMo's: it needs the columns {', '.join(COLUMNS)} and a row.")
    prompts = as_prompts(record["Caption"] or "" for record in table)
    numbered = enumerate(zip(prompts, table, strict=True), 1)
    return [_row(prompt.id, record, layers, f"{file}, row {k}") for k, (prompt, record) in numbered]


def named_layers(file: Path) -> list[str] | None:
    """The layers that the text file beside a table names; None where there is no such file or line."""
    beside = file.with_suffix(".txt")
    if not beside.is_file():
        return None
    try:
        lines = read_bytes(beside).decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"{beside}, which may name the layers of {file}, could not be read as text: {e}") from e
    listed = next((line.removeprefix(NAMED) for line in lines if line.startswith(NAMED)), "")
    return [name.strip() for name in listed.split(",") if name.strip()] or None


def _row(id: str, record: Mapping[str, str], layers: Sequence[str], where: str) -> LocalizeRow:
    refined, initial = (_neurons(record[f"{kind} Neurons"], layers, where) for kind in ("Refined", "Initial"))
    ssim, initial_ssim = (_similarity(record[f"{kind} SSIM"], where) for kind in ("Refined", "Initial"))
    empty = not initial and not refined and not ssim
    return {
        "id": id,
        "prompt": record["Caption"] or "",
        "url": record["URL"] or None,
        "neurons": refined,
        "initial_neurons": initial,
        "value": "ssim",
        "before": None if empty else 1.0,
        "after": None if empty else ssim,
        "ssim": None if empty else ssim,
        "initial_ssim": None if empty else initial_ssim,
        "layers": "seven" if list(layers) == LAYERS else "all",
        "count": sum(map(len, refined.values())),
        "evaluations": None,
        "status": "ok",
    }


def _neurons(text: str, layers: Sequence[str], where: str) -> dict[str, list[int]]:
    try:
        lists = ast.literal_eval(text)
        if not isinstance(lists, list) or len(lists) != len(layers):
            raise ValueError(f"expected {len(layers)} lists, or the file of its name in .txt that says `{NAMED} ...`")
        if not all(type(i) is int and i >= 0 for indices in lists for i in indices):
            raise ValueError("expected numbers from 0 up")
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as e:
        raise UsageError(f"{where} has neurons that cannot be read ({str(e)[:100]}): {text[:60]}") from e
    return {name: sorted(set(indices)) for name, indices in zip(layers, lists, strict=True) if indices}


def _similarity(text: str, where: str) -> float:
    try:
        value = float(text)
    except (ValueError, TypeError):
        value = math.nan
    if not math.isfinite(value):
        raise UsageError(f"{where} has the similarity {text!r}; expected a number.")
    return value
