"""A person's own picture: held against the training pictures, and not kept."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import planted_desk
from mnemoscope import UsageError
from mnemoscope.app.desk import Desk
from mnemoscope.app.fragments import checked
from mnemoscope.app.handlers import Handlers
from mnemoscope.app.nearest import NOTHING, check, nearest
from mnemoscope.app.runs import Runs
from mnemoscope.features import descriptor
from mnemoscope.search import build_index


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return planted_desk.desk(tmp_path_factory.mktemp("desk"), threshold="0.5")


def test_a_training_picture_is_found_as_a_copy_and_noise_is_not(desk: Desk, tmp_path: Path) -> None:
    found = check(desk, desk.folder / "training" / "1.png", tmp_path / "a")
    assert found["copied"] and found["matches"][0]["file"] == "1.png" and found["name"] == "1.png"
    assert found["matches"][0]["similarity"] == pytest.approx(1, abs=1e-3) and found["picture"].startswith("data:")
    scores = [match["similarity"] for match in found["matches"]]
    assert scores == sorted(scores, reverse=True) and len(scores) == 4
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    assert not check(desk, tmp_path / "noise.png", tmp_path / "b")["copied"]
    assert "A copy of a training picture" in checked(found)
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def test_the_similarity_of_a_copy_may_be_given(desk: Desk, tmp_path: Path) -> None:
    strict = Desk(planted_desk.about(desk.folder / "training", threshold="0.5", similarity=1.5), tmp_path)
    assert not check(strict, desk.folder / "training" / "1.png", tmp_path / "a")["copied"]
    assert strict.compared_by and strict.compared_by["limit"] == 1.5


def test_an_index_stands_for_its_pictures(desk: Desk, tmp_path: Path) -> None:
    build_index(desk.folder / "training", tmp_path / "index", descriptor("pixels"))
    indexed = Desk(planted_desk.about(index=tmp_path / "index", threshold="0.5"), tmp_path / "desk")
    assert indexed.compared_by == desk.compared_by
    assert check(indexed, desk.folder / "training" / "1.png", tmp_path / "a")["matches"][0]["file"] == "1.png"


def test_names_and_captions_of_pictures_are_text(desk: Desk, tmp_path: Path) -> None:
    page = checked(check(desk, desk.folder / "training" / planted_desk.HOSTILE_NAME, tmp_path / "a"))
    assert "<script>" not in page and "<img src=x" not in page and "&lt;img src=x onerror=alert(1)&gt;.png" in page


def test_what_is_no_picture_is_one_sentence(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"<svg onload=alert(1)>")
    with pytest.raises(UsageError, match="a.png cannot be read as a picture"):
        check(desk, tmp_path / "a.png", tmp_path / "a")
    handlers = Handlers(desk, Runs(tmp_path))
    said, text = handlers.check(str(tmp_path / "a.png"))
    assert 'role="alert"' in said and text == "" and handlers.check(None)[1] == ""
    said, text = handlers.check(str(desk.folder / "training" / "0.png"))
    assert "Checked." in said and "Nearest training pictures" in (text or "")


def test_without_training_pictures_it_is_said_how_to_give_some(tmp_path: Path) -> None:
    bare = Desk(planted_desk.about(threshold="0.5"), tmp_path)
    with pytest.raises(UsageError) as told:
        nearest(bare, tmp_path / "a.png", tmp_path / "b")
    assert str(told.value) == NOTHING
