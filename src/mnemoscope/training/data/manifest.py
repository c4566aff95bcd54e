"""The manifest of a training run: every picture of the data in one table, what was left out behind what was used."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mnemoscope.errors import UsageError
from mnemoscope.pictures.parquet import read_whole
from mnemoscope.prompts.sources import short
from mnemoscope.run.reading import Json
from mnemoscope.run.writing import whole
from mnemoscope.training.data.dataset import TrainingSet

COLUMNS = pa.schema(
    [
        ("index", pa.int64()),
        ("file", pa.string()),
        ("caption", pa.string()),
        ("captions", pa.list_(pa.string())),
        ("shown", pa.list_(pa.string())),
        ("class", pa.string()),
        ("group", pa.string()),
        ("weight", pa.float64()),
        ("copies", pa.int64()),
        ("dup_group", pa.int64()),
        ("sha256", pa.string()),
        ("status", pa.string()),
    ]
)
FILE = "manifest.parquet"


def write_manifest(data: TrainingSet, folder: Path) -> Path:
    """Write the manifest of a set into the folder of its run, whole or not at all.

    `shown` are the texts that a picture is trained under, in the style of the conditioning and before transforms.
    """
    used = [{"index": k, **row, "shown": list(data.possible(k))} for k, row in enumerate(data.manifest())]
    table = pa.Table.from_pylist([*used, *(row.entry() for row in data.left_out)], schema=COLUMNS)
    with whole(folder / FILE) as partial:
        pq.write_table(table, partial)
    return folder / FILE


def read_manifest(folder: Path) -> list[Json]:
    """Rows of the manifest of a run; raises `UsageError` if there is none that can be read."""
    try:
        return read_whole(folder / FILE).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as e:
        raise UsageError(f"{folder / FILE} cannot be read ({short(e)}); give the folder of a training run.") from e
