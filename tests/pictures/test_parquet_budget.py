"""Parquet files that hold far more than they have bytes."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mnemoscope.errors import UsageError
from mnemoscope.pictures import Unreadable, parquet, read_pictures
from mnemoscope.pictures.parquet import read_whole
from mnemoscope.prompts.prompt import read_prompts
from mnemoscope.run.writing import sha256_of


@pytest.fixture
def small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MOST", 2**20)


def written(file: Path, column: str, values: list, **how: object) -> Path:
    pq.write_table(pa.table({column: values}), file, **how)
    return file


def test_a_table_comes_whole_whatever_its_groups(tmp_path: Path) -> None:
    table = pa.table({"text": [f"caption {k}" for k in range(300)], "n": range(300), "l": [[k] for k in range(300)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=70)
    assert read_whole(tmp_path / "a.parquet").to_pylist() == table.to_pylist()
    assert read_whole(tmp_path / "a.parquet", ["l", "text"]).to_pylist() == table.select(["l", "text"]).to_pylist()
    pq.write_table(table.slice(0, 0), tmp_path / "b.parquet")
    assert read_whole(tmp_path / "b.parquet").schema == table.schema


@pytest.mark.usefixtures("small_budget")
def test_a_value_that_repeats_is_no_bomb(tmp_path: Path) -> None:
    file = written(tmp_path / "a.parquet", "text", ["x" * 20_000] * 5000)  # 100 MB in some kilobytes
    assert file.stat().st_size < 60_000
    with pytest.raises(UsageError, match=r"a\.parquet.*its values take more than 1 MiB"):
        read_prompts(file)


@pytest.mark.usefixtures("small_budget")
@pytest.mark.parametrize("read", [read_prompts, lambda file: list(read_pictures(file))], ids=["prompts", "pictures"])
def test_values_that_compress_too_well_are_refused_before_they_are_unpacked(tmp_path: Path, read: Callable) -> None:
    column, value = ("text", "x" * 2**24) if read is read_prompts else ("image", bytes(2**24))
    file = written(tmp_path / "a.parquet", column, [value], compression="zstd", use_dictionary=False)
    if read is read_prompts:
        with pytest.raises(UsageError, match="more than 1000 times their size"):
            read(file)
    else:
        with pytest.raises(Unreadable, match="far larger than the file"):
            read(file)[0].read()


@pytest.mark.usefixtures("small_budget")
def test_pictures_of_many_bytes_are_read(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).bytes(2**20)
    file = written(tmp_path / "a.parquet", "image", [noise] * 40, use_dictionary=False)
    assert [p.read() == noise for p in read_pictures(file)] == [True] * 40


def test_a_pipe_or_a_device_is_no_table(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").symlink_to("/dev/zero")
    for name in ("a.parquet", "b.parquet"):
        for read in (read_whole, parquet.schema_of):
            with pytest.raises(ValueError, match="no plain file"):
                read(tmp_path / name)
        with pytest.raises(OSError, match="no plain file"):
            sha256_of(tmp_path / name)
