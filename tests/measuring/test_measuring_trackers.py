"""Numbers of a measurement in a tracker, as accelerate opens it for a training too."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnemoscope.measuring.measurement import numbers
from mnemoscope.run.run import read_json

SUMMARY = {
    "images": 4,
    "replication_rate": 0.5,
    "replication_rate_interval": [0.1, 0.9],
    "features": "pixels",
    "is_small": True,
    "measures": {"alignment": {"model": "grey", "mean": 0.25, "mean_interval": None}, "cliques": {"largest": 2}},
    "reference_captions": {"with_caption": 3, "unmatched_names": []},
}


def test_every_number_has_a_name_of_its_own() -> None:
    assert numbers(SUMMARY) == {
        "images": 4,
        "replication_rate": 0.5,
        "replication_rate_interval_low": 0.1,
        "replication_rate_interval_high": 0.9,
        "alignment/mean": 0.25,
        "cliques/largest": 2,
        "reference_captions/with_caption": 3,
    }


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    (tmp_path / "p").mkdir()
    for k in range(4):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(tmp_path / "p" / f"{k}.png")
    return tmp_path / "p"


def test_the_numbers_of_a_run_are_those_in_the_tracker(mnemoscope, pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = ("measure", pictures, "--references", pictures, "--features", "pixels", "--threshold", "0.9")
    run = tmp_path / "r"
    code, _, error = mnemoscope(*words, "--trackers", "tensorboard", "--project", "copies", "--out", run)
    assert code == 0, error
    (folder,) = (run / "trackers").glob("copies")
    events = EventAccumulator(str(folder))
    events.Reload()
    wanted = numbers(read_json(run / "summary.json"))
    kept = {tag: events.Scalars(tag)[0].value for tag in events.Tags()["scalars"]}
    assert kept["replication_rate"] == 1 and kept["images"] == 4
    assert {k: v for k, v in wanted.items() if k in kept} == pytest.approx(kept)
    plain = tmp_path / "plain"
    assert mnemoscope(*words, "--out", plain)[0] == 0
    settings = [read_json(each / "run.json")["settings"] for each in (run, plain)]
    assert settings[0] == settings[1]  # where numbers go to as well is no setting of the measurement


def test_a_tracker_that_is_not_there_is_refused_before_the_work(mnemoscope, pictures: Path, tmp_path: Path) -> None:
    words = ("measure", pictures, "--features", "pixels", "--trackers", "nonsense", "--out", tmp_path / "r")
    code, _, error = mnemoscope(*words)
    assert code == 2 and "The tracker nonsense is not installed or not known" in error
    assert not (tmp_path / "r").exists()
