"""Descriptors by name, what may be compared, and the cache of their vectors."""

import hashlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnemoscope import features
from mnemoscope.errors import UsageError
from mnemoscope.features import Cache, Identity, comparable, descriptor
from mnemoscope.features.descriptors import by_shape, cores, unit_length
from mnemoscope.features.raw_pixels import Pixels
from mnemoscope.pictures import Picture


def noise(seed: int, size: int = 32) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    return Image.fromarray(values)


def encoded(seed: int, size: int = 32) -> bytes:
    file = io.BytesIO()
    noise(seed, size).save(file, "PNG")
    return file.getvalue()


def picture(seed: int, name: str | None = None, size: int = 32) -> Picture:
    return Picture(name or f"{seed}.png", lambda: encoded(seed, size))


class Counting(Pixels):
    """Pixels that count the images they are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[int] = []

    def _vectors(self, images: Sequence[Image.Image]) -> np.ndarray:
        self.asked.append(len(images))
        return super()._vectors(images)


# Descriptors


def test_pixels_are_a_descriptor_of_the_same_vectors() -> None:
    found = descriptor("pixels")
    images = [noise(0), noise(1, 80), noise(2, 16)]
    assert np.array_equal(found(images), features.pixels(images).astype(np.float32))
    assert found.identity == Identity("pixels", "pixels-32", "none", 3072) and found.threshold == 0.8
    assert found.upsampled(images) == 1 and found([]).shape == (0, 3072)
    assert abs(found([Image.new("RGB", (40, 40), "red")])).max() < 1e-6


def test_many_images_are_taken_some_at_a_time() -> None:
    found = Counting()
    images = [noise(k, 8) for k in range(130)]
    assert np.array_equal(found(images), features.pixels(images).astype(np.float32))
    assert found.asked == [64, 64, 2]


def test_names_that_there_are_not_are_refused() -> None:
    with pytest.raises(UsageError, match="^There are no features 'lpips'; use sscd, clip, dino, pixels, network.$"):
        descriptor("lpips")
    with pytest.raises(UsageError, match="have no preset 'skew320'; use sscd-288, sscd-320, dcr-224, crop-224.$"):
        descriptor("sscd", preset="skew320")
    with pytest.raises(UsageError, match="pixels have no weights"):
        descriptor("pixels", weights="mixup")


def test_vectors_of_different_making_are_not_compared() -> None:
    one = Identity("sscd", "sscd-288", "0123456789abcdef", 512)
    comparable(one, replace(one))
    for change in ({"features": "clip"}, {"preset": "sscd-320"}, {"weights": "f" * 16}, {"dimension": 1024}):
        with pytest.raises(UsageError, match=f"^These vectors were made differently \\({next(iter(change))} .* and "):
            comparable(one, replace(one, **change))


def test_unit_length_leaves_nothing_alone() -> None:
    found = unit_length(np.array([[3, 4], [0, 0], [1e-20, 0]], dtype=np.float32))
    assert np.allclose(found, [[0.6, 0.8], [0, 0], [1, 0]]) and found.dtype == np.float32


def test_batches_are_of_one_shape_and_keep_their_places() -> None:
    arrays = [np.zeros(s) for s in (2, 3, 2, 2, 3, 2)]
    assert by_shape(arrays, 3) == [[0, 2, 3], [5], [1, 4]]


def test_threads_are_those_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert cores() == 5
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert 1 <= cores() <= (os.cpu_count() or 1)


# The cache


def test_a_cache_gives_the_descriptors_vectors_and_asks_it_once(tmp_path: Path) -> None:
    found = Counting()
    pictures = [picture(k, size=16 + k) for k in range(70)]
    expected = features.pixels([p.image() for p in pictures]).astype(np.float32)
    vectors, failures = Cache(tmp_path, found).vectors(pictures)
    assert np.array_equal(vectors, expected) and failures == {} and sum(found.asked) == 70
    again, _ = Cache(tmp_path, found).vectors(iter(pictures[::-1]))
    assert np.array_equal(again, expected[::-1]) and sum(found.asked) == 70


def test_content_counts_and_not_names(tmp_path: Path) -> None:
    found = Counting()
    cache = Cache(tmp_path, found)
    vectors, _ = cache.vectors([picture(1, "a.png"), picture(2, "b.png"), picture(1, "c.png")])
    assert sum(found.asked) == 2 and np.array_equal(vectors[0], vectors[2])
    cache.vectors([picture(2, "a.png")])
    assert sum(found.asked) == 2
    cache.vectors([picture(3, "a.png")])
    assert sum(found.asked) == 3


def test_pictures_that_cannot_be_read_are_told_by_position(tmp_path: Path) -> None:
    broken = Picture("x.png", lambda: encoded(5)[:60])
    vectors, failures = Cache(tmp_path, Pixels()).vectors([picture(0), broken, picture(1), broken])
    assert list(failures) == [1, 3] and all(failures.values()) and len(vectors) == 2
    assert np.allclose(vectors, features.pixels([noise(0), noise(1)]), atol=1e-6)
    nothing, failures = Cache(tmp_path / "new", Pixels()).vectors([broken])
    assert nothing.shape == (0, 3072) and len(failures) == 1


def test_a_cache_counts_small_images_also_those_it_knows(tmp_path: Path) -> None:
    pictures = [picture(0, size=20), picture(1, size=40), picture(2, size=31), picture(0, "again", size=20)]
    for _ in range(2):
        cache = Cache(tmp_path, Pixels())
        cache.vectors(pictures)
        assert cache.upsampled == 3
    cache.vectors(pictures[1:2])
    assert cache.upsampled == 0


def test_descriptors_do_not_share_vectors(tmp_path: Path) -> None:
    one, other = Counting(), Counting()
    other.identity = replace(other.identity, preset="pixels-other")
    Cache(tmp_path, one).vectors([picture(0)])
    Cache(tmp_path, other).vectors([picture(0)])
    assert one.asked == other.asked == [1] and len(list(tmp_path.iterdir())) == 2


def test_two_caches_of_one_folder_do_not_disturb_each_other(tmp_path: Path) -> None:
    first, second = Cache(tmp_path, Counting()), Cache(tmp_path, Counting())
    for cache in (first, second):
        cache.vectors([picture(0), picture(1)])
    first.vectors([picture(2)])
    third = Counting()
    vectors, _ = Cache(tmp_path, third).vectors([picture(k) for k in range(3)])
    assert third.asked == [] and np.allclose(vectors, features.pixels([noise(k) for k in range(3)]), atol=1e-6)


def test_what_was_computed_before_an_interruption_is_kept(tmp_path: Path) -> None:
    def interrupted() -> bytes:
        raise KeyboardInterrupt

    pictures = [*(picture(k) for k in range(64)), Picture("stop", interrupted)]
    with pytest.raises(KeyboardInterrupt):
        Cache(tmp_path, Pixels()).vectors(pictures)
    found = Counting()
    Cache(tmp_path, found).vectors(pictures[:64])
    assert found.asked == []


KILLED = """
import os, signal, sys
from mnemoscope.features import Cache
sys.path.insert(0, sys.argv[2])
from test_features import Picture, Pixels, picture
def kill():
    os.kill(os.getpid(), signal.SIGKILL)
Cache(sys.argv[1], Pixels()).vectors([*(picture(k) for k in range(300)), Picture("kill", kill)])
"""


def test_a_killed_process_leaves_a_cache_that_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parent)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run(command, env=env, check=False, capture_output=True).returncode == -signal.SIGKILL
    found = Counting()
    vectors, _ = Cache(tmp_path, found).vectors([picture(k) for k in range(300)])
    assert sum(found.asked) == 300 - 256  # it writes 256 vectors at a time
    assert np.allclose(vectors, features.pixels([noise(k) for k in range(300)]), atol=1e-6)


@pytest.mark.parametrize("content", [b"", b"no array", b"half", b"other"])
def test_a_damaged_file_of_a_cache_is_named(tmp_path: Path, content: bytes) -> None:
    Cache(tmp_path, Pixels()).vectors([picture(0), picture(1)])
    (file,) = tmp_path.rglob("*.npy")
    if content == b"half":
        content = file.read_bytes()[: file.stat().st_size // 2]
    if content == b"other":
        np.save(file, np.zeros((2, 3072), dtype=np.float32))
    else:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=f"^{file} is damaged; delete it, and its vectors are computed again.$"):
        Cache(tmp_path, Pixels())


def test_a_leftover_of_a_killed_process_is_not_read(tmp_path: Path) -> None:
    Cache(tmp_path, Pixels()).vectors([picture(0)])
    (file,) = tmp_path.rglob("*.npy")
    (file.parent / ".0123.77.partial").write_bytes(b"half")
    assert len(Cache(tmp_path, Counting()).vectors([picture(0)])[0]) == 1
    name = np.load(file)["sha256"][0].decode()
    assert name == hashlib.sha256(encoded(0)).hexdigest()
