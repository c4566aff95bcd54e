"""Shards over a Ray cluster: the results of a loop, in its order, even when workers are killed."""

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.features import Descriptor, descriptor
from mnemoscope.run.runner import map_shards
from mnemoscope.search import Index, build_index, search_index
from mnemoscope.search.topk import TopK, merge
from places import HELPERS

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'mnemoscope[ray]'")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One for the module; its workers find this file as the tests do."""
    folders = os.pathsep.join([str(HELPERS), str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", folders)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False)
        yield
        ray.shutdown()


def searched(queries: np.ndarray, folder: Path, number: int) -> tuple[np.ndarray, np.ndarray]:
    running = TopK(queries, 3)
    running.add(np.load(folder / f"{number}.npy", mmap_mode="r"), 100 * number)
    return running.result()


def killed_once(folder: Path, number: int) -> tuple[int, int]:
    """The task's number and its process; the processes of tasks 1 and 3 die by SIGKILL the first time."""
    mark = folder / f"{number}.begun"
    if number in (1, 3) and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number, os.getpid()


def killed_descriptor(folder: Path, own: int) -> Descriptor:
    """Pixels as features; the first process but `own` that asks for them dies by SIGKILL."""
    if os.getpid() != own:
        killed_once(folder, 1)
    return descriptor("pixels")


def failing(number: int) -> int:
    if number == 2:
        raise UsageError("Shard 2 is no shard; build it again.")
    return number


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for number in range(7):
        vectors = np.random.default_rng(number).standard_normal((100, 32)).astype(np.float16)
        np.save(tmp_path / f"{number}.npy", vectors)
    return tmp_path


@pytest.mark.slow
def test_search_is_the_same_to_the_bit(cluster: None, shards: Path) -> None:
    queries = np.random.default_rng(99).standard_normal((20, 32)).astype(np.float32)
    here, there = (list(map_shards(partial(searched, queries, shards), range(7), runner=r)) for r in ("local", "ray"))
    for mine, theirs in zip([*here, merge(here)], [*there, merge(there)], strict=True):
        assert mine[0].tobytes() == theirs[0].tobytes() and mine[1].tobytes() == theirs[1].tobytes()


def test_killed_workers_lose_nothing(cluster: None, tmp_path: Path) -> None:
    found = list(map_shards(partial(killed_once, tmp_path), range(12), runner="ray"))
    assert [number for number, _ in found] == list(range(12))
    assert {p.name for p in tmp_path.iterdir()} == {"1.begun", "3.begun"}
    assert os.getpid() not in {process for _, process in found}


def test_an_index_is_the_same_to_the_byte(cluster: None, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    for number in range(11):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((40, 40)).save(tmp_path / "train" / f"{number}.png")
    (tmp_path / "train" / "no.png").write_bytes(b"not an image")
    build_index(tmp_path / "train", tmp_path / "here", descriptor("pixels"), shard_size=3)
    killed = partial(killed_descriptor, tmp_path, os.getpid())
    build_index(tmp_path / "train", tmp_path / "there", killed, shard_size=3, runner="ray")
    assert (tmp_path / "1.begun").is_file()
    here, there = (Index.open(tmp_path / name) for name in ("here", "there"))
    assert here.meta["shards"] == there.meta["shards"] and len(here.shards) == 4  # checksums of all files
    queries = np.concatenate(list(here.blocks()))
    found = [search_index(index, queries, 3, runner=runner) for index, runner in ((here, "local"), (there, "ray"))]
    assert found[0].scores.tobytes() == found[1].scores.tobytes()
    assert np.array_equal(found[0].places, found[1].places) and found[0].coverage == found[1].coverage == 11 / 12


def test_errors_arrive_as_they_were_raised(cluster: None) -> None:
    results = map_shards(failing, range(4), runner="ray")
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(UsageError, match=r"^Shard 2 is no shard; build it again\.$"):
        next(results)


def test_tasks_are_taken_as_they_are_needed(cluster: None) -> None:
    taken = []
    results = map_shards(failing, (taken.append(i) or 0 for i in range(1000)), runner="ray")
    assert next(results) == 0 and len(taken) < 20
    results.close()


def test_more_gpus_than_there_are(cluster: None) -> None:
    with pytest.raises(UsageError, match="need 1000 GPUs"):
        list(map_shards(failing, [0], runner="ray", gpus=1000))


def test_local_runs_when_asked() -> None:
    results = map_shards(failing, range(4))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(UsageError, match="Shard 2"):
        next(results)
