"""Files of arrays that are not what they are called: other kinds of numbers, nothing at all, far too much."""

import gzip
import io
import pickle
import re
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest

from mnemoscope.emm.data import unpacking
from mnemoscope.emm.data.readers import read_images
from mnemoscope.errors import UsageError
from mnemoscope.localization.statistics_files import read

PIXELS, LABELS = np.zeros((4, 3072), np.uint8), [0, 1, 2, 3]
NESTED: list = [1]
for _ in range(40):
    NESTED = [NESTED, NESTED]  # two to the power of forty numbers, if it is followed


def cifar(file: Path, data: object, labels: object = LABELS) -> Path:
    batch = pickle.dumps({b"data": data, b"labels": labels}, protocol=2)
    with tarfile.open(file, "w:gz" if file.suffix == ".gz" else "w") as archive:
        info = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        info.size = len(batch)
        archive.addfile(info, io.BytesIO(batch))
    return file


def refused(source: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read_images(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["cifar-10.tar.gz", "cifar-10.tar", "cifar-10.tgz"])
def test_cifar_is_read_as_a_stream(name: str, tmp_path: Path) -> None:
    file = cifar(tmp_path / name, PIXELS)
    if name.endswith("tgz"):
        file.write_bytes(gzip.compress(file.read_bytes()))
    found = read_images(file)
    assert len(found) == 4 and found.labels.tolist() == LABELS and found.names[0] == "data_batch_1:0"


@pytest.mark.parametrize(
    ("data", "labels", "said"),
    [
        (PIXELS.astype(np.float32), LABELS, "its pixels are float32, not uint8"),
        (PIXELS.astype(object), LABELS, "its pixels are object, not uint8"),
        (PIXELS.astype(np.int64), LABELS, "its pixels are int64, not uint8"),
        (PIXELS.tolist(), LABELS, "its pixels are list, not uint8"),
        (PIXELS[:, :100], LABELS, "cannot reshape"),
        (PIXELS, ["a", "b", "c", "d"], "its labels are no whole numbers"),
        (PIXELS, NESTED, "its labels are no whole numbers"),
        (PIXELS, LABELS[:3], "3 labels were given for 4 images"),
        (PIXELS[:0], [], "holds no|no image"),
    ],
)
def test_other_arrays_in_a_cifar_archive(data: object, labels: object, said: str, tmp_path: Path) -> None:
    assert re.search(said, refused(cifar(tmp_path / "cifar-10.tar.gz", data, labels)))


@pytest.mark.parametrize("array", [np.zeros((0, 8, 8), np.uint8), np.zeros((3, 0, 8, 3), np.uint8), np.zeros(0)])
def test_arrays_without_images(array: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "empty.npz", images=array)
    np.save(tmp_path / "empty.npy", array)
    for name in ("empty.npz", "empty.npy"):
        assert "holds no image" in refused(tmp_path / name)
    np.savez(tmp_path / "floats.npz", images=np.zeros((2, 8, 8)))
    assert "give uint8" in refused(tmp_path / "floats.npz")
    np.savez(tmp_path / "objects.npz", images=np.array([[None]]))
    assert "cannot be read as .npz" in refused(tmp_path / "objects.npz")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MOST", 2**20)


def test_bombs_are_refused(small: None, tmp_path: Path) -> None:
    zeros = bytes(2**21)
    with gzip.open(tmp_path / "train-images-idx3-ubyte.gz", "wb") as file:
        file.write(struct.pack(">4I", 0x803, 2**10, 32, 64) + zeros)
    assert "unpacks to more than 1 MiB" in refused(tmp_path / "train-images-idx3-ubyte.gz")
    with tarfile.open(tmp_path / "cifar-10.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("padding")
        info.size = len(zeros)
        archive.addfile(info, io.BytesIO(zeros))
    assert "unpacks to more than 1 MiB" in refused(tmp_path / "cifar-10.tar.gz")
    np.savez_compressed(tmp_path / "bomb.npz", images=np.zeros((2**9, 64, 64), np.uint8))
    assert "more than 100 times its own size" in refused(tmp_path / "bomb.npz")


def test_a_file_that_is_no_pair_of_tensors(tmp_path: Path) -> None:
    for data in (b"hello", b"", b"PK\3\4 no", bytes(range(256)), pickle.dumps({"a": 1}), pickle.dumps(print)):
        (tmp_path / "text.pt").write_bytes(data)
        with pytest.raises(UsageError, match="is not a pair of lists of tensors"):
            read(tmp_path / "text.pt", ["a"])
