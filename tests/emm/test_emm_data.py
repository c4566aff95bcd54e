"""Sets of images: every format read back as it was written, and training sets whose smaller ones are in the larger."""

import gzip
import io
import json
import pickle
import random
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mnemoscope.emm.data.images import Images, resized
from mnemoscope.emm.data.original import TOOLS, Wanted
from mnemoscope.emm.data.readers import read_images
from mnemoscope.emm.data.subset import make_subset, share
from mnemoscope.emm.data.writers import manifest, write_images
from mnemoscope.errors import UsageError


def coloured(count: int = 12, side: int = 8, classes: int = 3, channels: int = 3, seed: int = 0) -> Images:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (count, channels, side, side), dtype=np.uint8)
    labels = np.arange(count) % classes
    return Images(pixels, labels, tuple(f"{seed}-{k}" for k in range(count)), classes)


@pytest.fixture(scope="module")
def digits() -> Images:
    return read_images("digits")


def test_digits_have_seventeen_levels_over_the_whole_range(digits: Images) -> None:
    assert digits.pixels.shape == (1797, 1, 8, 8) and digits.num_classes == 10
    assert sorted(np.unique(digits.pixels)) == [int(v * 255 / 16 + 0.5) for v in range(17)]
    assert len({row.tobytes() for row in digits.rows()}) == 1797


@pytest.mark.parametrize("name", ["set.zip", "set", "set.npz"])
@pytest.mark.parametrize("channels", [1, 3])
def test_what_is_written_is_read_back(tmp_path: Path, name: str, channels: int) -> None:
    images = coloured(channels=channels)
    images = Images(images.pixels, images.labels, images.names, 5)  # two empty classes at the end
    place = write_images(images, tmp_path / name, about={"seed": 3})
    again = read_images(place)
    assert again.sha256() == images.sha256() and again.num_classes == 5
    assert np.array_equal(again.pixels, images.pixels) and np.array_equal(again.labels, images.labels)
    plain = read_images(write_images(images.unlabelled(), tmp_path / f"plain-{name}"))
    assert plain.labels is None and plain.num_classes == 0 and np.array_equal(plain.pixels, images.pixels)
    assert len(read_images(place, limit=4)) == 4
    assert read_images(place, resolution=4).pixels.shape == (12, channels, 4, 4)


def test_a_zip_is_that_of_edm_and_the_same_bytes_each_time(tmp_path: Path) -> None:
    images = coloured(3)
    one, two = (write_images(images, tmp_path / f"{k}.zip") for k in range(2))
    assert one.read_bytes() == two.read_bytes()
    with zipfile.ZipFile(one) as archive:
        assert all(m.compress_type == zipfile.ZIP_STORED for m in archive.infolist())
        assert archive.namelist()[:2] == ["00000/img00000000.png", "00000/img00000001.png"]
        table = json.loads(archive.read("dataset.json"))
        assert table["labels"][2] == ["00000/img00000002.png", 2]
        picture = Image.open(io.BytesIO(archive.read("00000/img00000002.png")))
        assert np.array_equal(np.asarray(picture), images.pixels[2].transpose(1, 2, 0))
        told = json.loads(archive.read("manifest.json"))
    assert told["sha256"] == images.sha256() and told["members"][1]["name"] == "0-1"
    with pytest.raises(UsageError, match="there already"):
        write_images(images, one)


def save(folder: Path, name: str, pixels: np.ndarray) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / name)


def test_folders_on_top_are_classes_in_order_of_their_names(tmp_path: Path) -> None:
    images = coloured(4)
    for k, name in enumerate(("zebra/1.png", "ant/2.png", "zebra/3.png", "bee/x/4.png")):
        save(tmp_path, name, images.pixels[k].transpose(1, 2, 0))
    found = read_images(tmp_path)
    assert dict(zip(found.names, found.labels.tolist(), strict=True)) == {
        "ant/2.png": 0,
        "bee/x/4.png": 1,
        "zebra/1.png": 2,
        "zebra/3.png": 2,
    }
    save(tmp_path, "loose.png", images.pixels[0].transpose(1, 2, 0))
    assert read_images(tmp_path).labels is None


def test_one_hot_labels_and_texts_are_classes(tmp_path: Path) -> None:
    for k in range(2):
        save(tmp_path, f"{k}.png", coloured(2).pixels[k].transpose(1, 2, 0))
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": [["0.png", [0, 0, 1]], ["1.png", [1, 0, 0]]]}))
    found = read_images(tmp_path)
    assert found.labels.tolist() == [2, 0] and found.num_classes == 3
    for labels, said in (([["0.png", 1]], "no label of 1.png"), ([["0.png", 0.5], ["1.png", 1]], "no classes")):
        (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
        with pytest.raises(UsageError, match=said):
            read_images(tmp_path)


def test_several_sizes_need_a_resolution(tmp_path: Path) -> None:
    save(tmp_path, "a.png", np.zeros((10, 20, 3), np.uint8))
    save(tmp_path, "b.png", np.full((8, 8, 3), 9, np.uint8))
    with pytest.raises(UsageError, match="8x8 and 20x10 pixels; give a resolution"):
        read_images(tmp_path)
    assert read_images(tmp_path, resolution=8).pixels.shape == (2, 1, 8, 8)  # no colour in either
    (tmp_path / "c.png").write_bytes(b"<html>")
    with pytest.raises(UsageError, match="c.png .* cannot be read: a web page"):
        read_images(tmp_path, resolution=8)


def test_resizing_takes_the_middle_and_is_lanczos() -> None:
    pixels = np.zeros((1, 1, 8, 16), np.uint8)
    pixels[:, :, :, 4:12] = np.random.default_rng(0).integers(0, 256, (8, 8))
    images = Images(pixels, None, ("a",))
    expected = Image.fromarray(pixels[0, 0, :, 4:12]).resize((4, 4), Image.Resampling.LANCZOS)
    assert np.array_equal(resized(images, 4).pixels[0, 0], np.asarray(expected))
    assert np.array_equal(resized(images, 8).pixels[0, 0], pixels[0, 0, :, 4:12])


def cifar(path: Path, batches: dict[str, dict]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, batch in batches.items():
            data = pickle.dumps(batch, protocol=2)
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def test_cifar_archive_and_nothing_that_runs_code(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    data = random.integers(0, 256, (3, 2, 3072), dtype=np.uint8)
    batches = {f"data_batch_{k + 1}": {b"data": data[k], b"labels": [k, 9]} for k in range(2)}
    batches |= {"test_batch": {b"data": data[2], b"labels": [4, 5]}, "batches.meta": {b"label_names": []}}
    path = cifar(tmp_path / "cifar-10-python.tar.gz", batches)
    found = read_images(path)
    assert found.labels.tolist() == [0, 9, 1, 9] and found.num_classes == 10
    assert np.array_equal(found.pixels, data[:2].reshape(4, 3, 32, 32))
    assert np.array_equal(read_images(f"{path}:test").pixels, data[2].reshape(2, 3, 32, 32))
    with pytest.raises(UsageError, match="no part dev"):
        read_images(f"{path}:dev")
    with pytest.raises(UsageError, match="asks for .*Path"):
        read_images(cifar(tmp_path / "cifar-evil.tar.gz", {"data_batch_1": {b"data": Path("x"), b"labels": []}}))


def test_files_of_mnist_with_the_labels_beside_them(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
    header = np.array([0x803, 3, 28, 28], ">u4").tobytes()
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + pixels.tobytes()))
    assert read_images(tmp_path / "t10k-images-idx3-ubyte.gz").labels is None
    labels = np.array([0x801, 3], ">u4").tobytes() + bytes([7, 0, 2])
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    found = read_images(tmp_path / "t10k-images-idx3-ubyte.gz")
    assert found.labels.tolist() == [7, 0, 2] and np.array_equal(found.pixels[:, 0], pixels)
    with pytest.raises(UsageError, match="no file of MNIST's format"):
        read_images(tmp_path / "t10k-labels-idx1-ubyte.gz")


def test_parquet_with_a_column_of_labels(tmp_path: Path) -> None:
    images, encoded = coloured(4), []
    for pixels in images.pixels:
        file = io.BytesIO()
        Image.fromarray(pixels.transpose(1, 2, 0)).save(file, format="PNG")
        encoded.append(file.getvalue())
    pq.write_table(pa.table({"image": encoded, "label": [3, 0, 1, 3]}), tmp_path / "a.parquet")
    found = read_images(tmp_path / "a.parquet")
    assert found.labels.tolist() == [3, 0, 1, 3] and np.array_equal(found.pixels, images.pixels)
    assert read_images(tmp_path / "a.parquet", limit=2).labels.tolist() == [3, 0]


def test_a_saved_dataset_with_a_column_of_labels(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    images = coloured(4)
    pictures = [images.picture(k) for k in range(4)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=3)})
    datasets.Dataset.from_dict({"image": pictures, "label": [2, 0, 1, 2]}, features).save_to_disk(tmp_path / "saved")
    found = read_images(tmp_path / "saved")
    assert found.labels.tolist() == [2, 0, 1, 2] and np.array_equal(found.pixels, images.pixels)


def test_arrays_stay_on_the_disk_and_other_types_are_refused(tmp_path: Path) -> None:
    pixels = coloured(3).pixels
    np.save(tmp_path / "a.npy", pixels.transpose(0, 2, 3, 1))
    found = read_images(tmp_path / "a.npy")
    assert isinstance(found.pixels, np.memmap) and np.array_equal(found.pixels, pixels)
    np.save(tmp_path / "b.npy", pixels.astype(np.float32))
    with pytest.raises(UsageError, match=r"shape \(3, 3, 8, 8\) in float32"):
        read_images(tmp_path / "b.npy")
    np.savez(tmp_path / "c.npz", pictures=pixels)
    with pytest.raises(UsageError, match="holds no images"):
        read_images(tmp_path / "c.npz")


@pytest.mark.parametrize("mode", ["none", "true", "random", "random-iid", "unique", "constant"])
def test_a_smaller_set_is_the_beginning_of_a_larger_one(digits: Images, mode: str) -> None:
    given = {"label_classes": 7} if mode.startswith("random") else {}
    large = make_subset(digits, 333, label_mode=mode, seed=1, **given)
    small = make_subset(digits, 100, label_mode=mode, seed=1, **given)
    assert small.names == large.names[:100] and np.array_equal(small.pixels, large.pixels[:100])
    if mode not in ("none", "unique"):
        assert np.array_equal(small.labels, large.labels[:100]) and small.num_classes == large.num_classes
    other = make_subset(digits, 100, label_mode=mode, seed=2, **given)
    assert set(other.names) != set(small.names)


def test_classes_are_balanced_and_by_request_not(digits: Images) -> None:
    for n in (95, 100, 1797):
        counts = make_subset(digits, n, label_mode="true").counts()
        assert max(counts) - min(counts) <= (1 if n < 1740 else 10)
    taken = make_subset(digits, 500, label_mode="true", balanced=False).counts()
    assert max(taken) - min(taken) > 1
    kept = make_subset(digits, 60, classes=[7, 2], label_mode="true", seed=None)
    assert kept.counts() == [30, 30]
    own = [name for name, label in zip(digits.names, digits.labels, strict=True) if label == 7][:30]
    assert [name for name, label in zip(kept.names, kept.labels, strict=True) if label == 0] == own
    assert make_subset(digits, 20, classes=2, label_mode="true").num_classes == 2


def test_random_labels_are_balanced_or_independent(digits: Images) -> None:
    assert set(make_subset(digits, 1000, label_mode="random", label_classes=50).counts()) == {20}
    told = manifest(make_subset(digits, 1000, label_mode="random-iid", label_classes=1000))
    assert abs(len(told["empty_classes"]) / 1000 - np.exp(-1)) < 0.05  # 37 %, as in spec 4.2
    few = manifest(make_subset(digits, 30, label_mode="random", label_classes=50))
    assert len(few["empty_classes"]) == 20 and few["num_classes"] == 50


def test_unique_constant_and_permuted_labels(digits: Images) -> None:
    assert make_subset(digits, 40, label_mode="unique").labels.tolist() == list(range(40))
    constant = make_subset(digits, 40, label_mode="constant")
    assert constant.num_classes == 1 and not constant.labels.any()
    true, dealt = (make_subset(digits, 200, label_mode=mode) for mode in ("true", "permuted"))
    assert true.names == dealt.names and true.counts() == dealt.counts()
    assert (true.labels == dealt.labels).mean() < 0.3


@pytest.mark.parametrize(
    ("alpha", "n", "other"), [(0.8, 1000, 800), (0.8, 2000, 1600), (0.2, 1000, 200), ("1/3", 10, 3)]
)
def test_shares_of_a_mixture_are_exact(alpha: float | str, n: int, other: int) -> None:
    """0.8 of 1000 is 199/801 in the original, by truncation."""
    first, second = coloured(1700, side=2, seed=1), coloured(1700, side=2, seed=2)
    mixed = make_subset(first, n, mix=(second, alpha))
    assert Counter(name.split("/")[0] for name in mixed.names)["second"] == other and len(mixed) == n
    assert make_subset(first, n // 2, mix=(second, alpha)).names == mixed.names[: n // 2]


def test_a_mixture_of_grey_and_colour_at_one_resolution(digits: Images) -> None:
    other = coloured(30, side=16)
    mixed = make_subset(digits, 40, mix=(other, 0.5), resolution=8)
    assert mixed.pixels.shape == (40, 3, 8, 8)
    with pytest.raises(UsageError, match="3x8x8 and 3x16x16 cannot be mixed"):
        make_subset(digits, 40, mix=(other, 0.5))
    assert share(0.1 + 0.2) != share("0.3")  # what is written counts


def test_exact_copies_are_left_out(digits: Images) -> None:
    twice = digits.take([0, 1, 0, 2, 1, 3])
    assert make_subset(twice, dedupe=True, seed=None, balanced=False).names == tuple(digits.names[k] for k in range(4))
    assert manifest(twice)["duplicates"] == 2
    mixed = make_subset(digits.take([0, 1]), 4, mix=(digits.take([1, 0, 2, 3]), 0.5), dedupe=True)
    assert len({row.tobytes() for row in mixed.rows()}) == 4


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"n": 1798}, "1798 images were asked for and there are 1797"),
        ({"n": 0}, "ask for at least 1"),
        ({"label_mode": "some"}, "no labels 'some'"),
        ({"label_mode": "true", "label_classes": 5}, "only random ones take a number"),
        ({"classes": [3, 12]}, r"Classes \[3, 12\] were asked for"),
        ({"resolution": 0}, "at least 1"),
    ],
)
def test_bad_subsets(digits: Images, asked: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make_subset(digits, **asked)


def test_labels_that_are_lacking(digits: Images) -> None:
    plain = digits.unlabelled()
    with pytest.raises(UsageError, match="labels asked for are true"):
        make_subset(plain, 10, label_mode="true")
    with pytest.raises(UsageError, match="need their number"):
        make_subset(plain, 10, label_mode="random")
    with pytest.raises(UsageError, match="Classes were asked for of images without labels"):
        make_subset(plain, 10, classes=2)
    with pytest.raises(UsageError, match="outside|do not fit"):
        Images(digits.pixels, digits.labels, digits.names, 9)


def _archive_of_cifar(path: Path, mode: str) -> Path:
    batch = pickle.dumps({b"data": np.zeros((4, 3072), np.uint8), b"labels": [0, 1, 2, 3]}, protocol=2)
    with tarfile.open(path, mode) as archive:
        member = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
        member.size = len(batch)
        archive.addfile(member, io.BytesIO(batch))
    return path


def _of_each_format(folder: Path) -> list[Path]:
    images, idx = coloured(), np.array([0x803, 5, 8, 8], ">u4").tobytes() + bytes(320)
    np.save(folder / "a.npy", images.pixels)
    np.savez_compressed(folder / "c.npz", images=images.pixels.transpose(0, 2, 3, 1), labels=images.labels)
    (folder / "x-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx))
    _archive_of_cifar(folder / "cifar.tar.gz", "w:gz")
    _archive_of_cifar(folder / "cifar.tar", "w")
    write_images(images, folder / "a.zip")
    return sorted(folder.iterdir())


def test_damaged_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    """Cut off and overwritten at random: read as far as the bytes make sense, and never with another error."""
    random = np.random.default_rng(0)
    refused = Counter()
    for file in _of_each_format(tmp_path):
        whole = file.read_bytes()
        for k in range(60):
            damaged = bytearray(whole[: random.integers(len(whole))] if k % 3 == 0 else whole)
            for place in random.integers(max(1, len(damaged)), size=k % 3 * 10 if damaged else 0):
                damaged[place] = random.integers(256)
            file.write_bytes(damaged)
            try:
                read_images(file)
            except UsageError as error:
                assert "\n" not in str(error)
                refused[file.name] += 1
    assert all(refused[name] >= 15 for name in ("a.npy", "c.npz", "a.zip", "cifar.tar.gz", "x-images-idx3-ubyte.gz"))


@pytest.mark.parametrize(
    ("label", "num_classes", "said"),
    [
        ([1, 0], 0, "no classes"),
        (10**12, 0, "up to 1000000000000"),
        (1, "abc", "num_classes is no number"),
        (1, [1], "num_classes is no number"),
        (1, 10**12, "up to 999999999999"),
    ],
)
def test_labels_that_are_none_are_refused(tmp_path: Path, label: object, num_classes: object, said: str) -> None:
    folder = write_images(coloured(), tmp_path / "set")
    table = json.loads((folder / "dataset.json").read_text())
    table["labels"][0][1], table["num_classes"] = label, num_classes
    (folder / "dataset.json").write_text(json.dumps(table))
    with pytest.raises(UsageError, match=said):
        read_images(folder)


def test_the_number_of_classes_of_arrays_is_a_number(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=coloured().pixels, labels=coloured().labels, num_classes=np.array([3, 4]))
    with pytest.raises(UsageError, match="num_classes"):
        read_images(tmp_path / "a.npz")


# Subsets as the tools of the original wrote them


def table(place: Path) -> list[tuple[str, int]]:
    with zipfile.ZipFile(place) as archive:
        found = json.loads(archive.read("dataset.json"))["labels"]
    return [(name, label) for name, label in found]


@pytest.mark.parametrize(
    ("tool", "words", "places", "labels", "classes"),
    [
        ("dataset_tool", ["--subset-size", 7], [0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 0, 1, 2, 0], 3),
        ("dataset_size", ["--subset-size", 6], [0, 3, 1, 4, 2, 5], [0, 0, 1, 1, 2, 2], 3),
        ("dataset_diversity", ["--subset-size", 5, "--classes", 2], [0, 3, 1, 4, 7], [0, 0, 1, 1, 1], 2),
        ("dataset_unique", ["--subset-size", 6], [0, 3, 1, 4, 2, 5], [0, 1, 2, 3, 4, 5], 6),
    ],
)
def test_subsets_of_the_originals_tools(mnemoscope, tool, words, places, labels, classes, tmp_path: Path) -> None:
    images = coloured(12)
    source = write_images(images, tmp_path / "all.zip")
    out = tmp_path / "set.zip"
    code, said, err = mnemoscope("emm", "data", source, "--tool", tool, *words, "--out", out)
    assert (code, err) == (0, "") and said.startswith(f"{len(places)} images of {classes} classes")
    found = read_images(out)
    assert np.array_equal(found.pixels, images.pixels[places]) and found.num_classes == classes
    assert table(out) == [(f"00000/img{k:08d}.png", label) for k, label in enumerate(labels)]
    assert mnemoscope("emm", "data", source, "--tool", tool, *words, "--out", out)[0] == 2  # it is there


def test_labels_and_mixtures_of_the_originals_tools(digits: Images) -> None:
    """Known numbers of the original: 998 classes of 1,000 at its seed; 199 and 801 images for alpha 0.8 of 1,000."""
    many = Images(np.zeros((1000, 1, 1, 1), np.uint8), np.arange(1000) % 10, tuple(map(str, range(1000))), 10)
    found = TOOLS["dataset_random"](many, Wanted(1000, label_classes=1000))
    assert found.num_classes == 998 and found.labels.min() >= 0
    again = random.Random(1024)
    assert found.labels.tolist() == [again.randint(0, 999) for _ in range(1000)]
    mixed = TOOLS["intra_diversity"](digits, Wanted(1000, mix=digits, alpha=0.8))
    assert [name.split("/")[0] for name in mixed.names] == ["first"] * 199 + ["second"] * 801
    assert np.array_equal(mixed.pixels[199:], digits.pixels[:801]) and mixed.labels is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tool", "dataset_size", "--subset-size", 7], "give a multiple of 3"),
        (["--tool", "dataset_size", "--subset-size", 15], "Class 0 has 4 images, not 5"),
        (["--tool", "dataset_tool", "--subset-size", 99], "99 images were asked for"),
        (["--tool", "dataset_diversity", "--classes", 4], "4 classes were asked for"),
        (["--tool", "dataset_random", "--subset-seed", 1], "has no --subset-seed"),
        (["--tool", "intra_diversity"], "give the second one as --mix"),
        (["--tool", "dataset_sizes"], "--tool dataset_sizes is not known"),
        (["--label-mode", "odd"], "--label-mode odd is not known"),
    ],
)
def test_sets_that_cannot_be_written(mnemoscope, words: list, said: str, tmp_path: Path) -> None:
    source = write_images(coloured(12), tmp_path / "all.npz")
    code, _, err = mnemoscope("emm", "data", source, *words, "--out", tmp_path / "set.zip")
    assert code == 2 and said in err and not (tmp_path / "set.zip").exists()


def test_a_set_of_our_own_is_that_of_the_training(mnemoscope, digits: Images, tmp_path: Path) -> None:
    words = [
        "--subset-size",
        20,
        "--subset-seed",
        3,
        "--label-mode",
        "random",
        "--label-classes",
        4,
        "--classes",
        "1,5",
    ]
    code, out, _ = mnemoscope("emm", "data", "digits", *words, "--out", tmp_path / "set.npz")
    assert code == 0 and out.startswith("20 images of 4 classes")
    expected = make_subset(digits, 20, classes=(1, 5), label_mode="random", label_classes=4, seed=3)
    assert read_images(tmp_path / "set.npz").sha256() == expected.sha256()
