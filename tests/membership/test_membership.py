"""The run that asks whether a set was trained on: planted sets, kills, batches, and what is refused before the work."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import planted_set
import tiny
from mnemoscope.errors import UsageError
from mnemoscope.membership import run as job
from mnemoscope.membership.plain import plain_features
from mnemoscope.membership.run import Membership, run_membership
from mnemoscope.membership.sets import Sets, read_sets
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.report import write
from mnemoscope.run.run import read_rows

MEMBERS, HELD_OUT = 24, 26
FAST = Membership(["denoising_loss", "proximal_initialization"], {"denoising_loss.times": [0.2, 0.5]})


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """A power curve of few tests: it is what takes the time."""
    monkeypatch.setattr("mnemoscope.membership.verdict.DRAWS", 3)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Pictures that the planted model was trained on, pictures that it was not, and more of both."""
    place = tmp_path_factory.mktemp("sets")
    drawn = {"picture": (MEMBERS, 1), "held-out": (HELD_OUT, 7), "public": (30, 3), "other": (MEMBERS, 4)}
    return {
        name: str(planted_set.write(place / name, planted_set.pictures(count, seed)))
        for name, (count, seed) in drawn.items()
    }


def model(strength: float = 1.0, process: str = "vp") -> Denoiser:
    members = torch.cat([planted_set.pictures(MEMBERS, 1), planted_set.pictures(30, 3)])
    return planted_set.model(members, strength, process)


def sets(folders: dict[str, str], *roles: str, picture: str = "picture") -> Sets:
    return read_sets({role: folders[picture if role == "picture" else role] for role in roles or ROLES})


ROLES = ("picture", "held-out")


@pytest.mark.parametrize("process", ["vp", "zero-snr", "flow"])
def test_a_planted_set_is_found_and_one_that_was_drawn_alike_is_not(folders, tmp_path: Path, process: str) -> None:
    found = run_membership(model(process=process), sets(folders), tmp_path / "used", FAST)
    assert found["verdict"] == "used" and found["p"] < 0.001 and found["auc"] > 0.95 and found["failed"] == 0
    assert found["pictures"] == MEMBERS and found["held_out"] == HELD_OUT and found["public"] == 0
    none = run_membership(model(process=process), sets(folders, picture="other"), tmp_path / "other", FAST)
    assert none["verdict"] == "no evidence" and none["p"] > 0.05
    without = run_membership(model(0.0, process), sets(folders), tmp_path / "without", FAST)
    assert without["verdict"] == "no evidence" and without["auc_interval"][0] < 0.5


def test_public_pictures_are_what_the_score_is_fitted_on(folders, tmp_path: Path) -> None:
    found = run_membership(model(), sets(folders, *ROLES, "public"), tmp_path / "run", FAST)
    assert found["verdict"] == "used" and found["public"] == 30 and found["power"] == []
    rows = read_rows(tmp_path / "run")
    scored = {role: [r["score"] is not None for r in rows if r["role"] == role] for role in (*ROLES, "public")}
    assert all(scored["picture"]) and sum(scored["held-out"]) == HELD_OUT // 2 and not any(scored["public"])


def test_rows_do_not_depend_on_the_batch(folders, tmp_path: Path) -> None:
    every = [
        read_rows(tmp_path / str(size))
        for size in (1, 7)
        if run_membership(model(), sets(folders), tmp_path / str(size), FAST, batch=size)
    ]
    for one, other in zip(*every, strict=True):
        assert one["id"] == other["id"] and one["plain"] == other["plain"]
        for name, values in one["signals"].items():
            assert values == pytest.approx(other["signals"][name], rel=1e-5, abs=1e-6)
        assert one["score"] == pytest.approx(other["score"], abs=1e-6)
        assert one["false_positive_rate"] == other["false_positive_rate"]


def test_signals_do_not_depend_on_names_and_order(folders, tmp_path: Path) -> None:
    turned = tmp_path / "turned"
    turned.mkdir()
    for k, file in enumerate(sorted(Path(folders["picture"]).iterdir(), reverse=True)):
        (turned / f"{k:03d}.png").write_bytes(file.read_bytes())
    run_membership(model(), sets(folders), tmp_path / "a", FAST)
    again = read_sets({"picture": str(turned), "held-out": folders["held-out"]})
    run_membership(model(), again, tmp_path / "b", FAST)
    one, other = ({r["id"]: r["signals"] for r in read_rows(tmp_path / name)} for name in ("a", "b"))
    assert one.keys() == other.keys()
    for key, signals in one.items():
        for name, values in signals.items():
            assert values == pytest.approx(other[key][name], rel=1e-4, abs=1e-5)


def test_a_run_that_was_killed_goes_on_to_the_same_rows(folders, tmp_path: Path) -> None:
    def work(place: str, dies_at: int | None = None) -> None:
        known, original = 0, job.membership_rows

        def rows(*given: object) -> list:
            nonlocal known
            known += 1
            if known == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*given)  # type: ignore[arg-type]

        job.membership_rows = rows  # type: ignore[assignment]
        try:
            run_membership(model(), sets(folders), tmp_path / place, FAST, batch=6)
        finally:
            job.membership_rows = original

    work("whole")
    for dies_at in (3, 5):
        assert _forked(lambda at=dies_at: work("killed", at)) == -signal.SIGKILL
    assert 0 < len(read_rows(tmp_path / "killed")) < MEMBERS + HELD_OUT
    work("killed")
    for name in ("rows.jsonl", "summary.json"):
        whole, killed = ((tmp_path / place / name).read_text() for place in ("whole", "killed"))
        assert _timeless(whole) == _timeless(killed)


def _forked(work: Callable[[], None]) -> int | None:
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join()
    return child.exitcode


def _timeless(text: str) -> list:
    found = [json.loads(text)] if "\n{" not in text and text.lstrip().startswith("{\n") else None
    found = found or [json.loads(line) for line in text.splitlines()]
    return [{k: v for k, v in each.items() if k != "seconds"} for each in found]


def test_a_picture_that_cannot_be_read_is_a_failed_row_and_the_others_are_tested(folders, tmp_path: Path) -> None:
    mine = planted_set.write(tmp_path / "mine", planted_set.pictures(MEMBERS, 1))
    (mine / "002.png").write_bytes(b"no picture")
    found = run_membership(
        model(), read_sets({"picture": str(mine), "held-out": folders["held-out"]}), tmp_path / "run", FAST
    )
    assert found["failed"] == 1 and found["pictures"] == MEMBERS - 1 and found["p"] < 0.001
    (failed,) = [r for r in read_rows(tmp_path / "run") if r["status"] == "failed"]
    assert "image" in failed["error"] and "score" not in failed


def test_copies_count_once_and_a_picture_of_two_sets_is_refused(folders, tmp_path: Path) -> None:
    mine = planted_set.write(tmp_path / "mine", planted_set.pictures(MEMBERS, 1))
    (mine / "copy.png").write_bytes((mine / "000.png").read_bytes())
    read = read_sets({"picture": str(mine), "held-out": folders["held-out"]})
    assert read.copies == 1 and len(read.entries) == MEMBERS + HELD_OUT
    with pytest.raises(UsageError, match="in one set alone"):
        read_sets({"picture": folders["picture"], "held-out": str(mine)})


def test_sets_that_captions_tell_apart_and_small_ones_are_refused(folders, tmp_path: Path) -> None:
    captions = tmp_path / "captions.jsonl"
    names = [p.name for p in Path(folders["picture"]).iterdir()]
    captions.write_text("".join(json.dumps({"file": n, "caption": "a fox"}) + "\n" for n in names))
    sources = {role: folders[role] for role in ROLES}
    with pytest.raises(UsageError, match=f"{HELD_OUT} of {MEMBERS + HELD_OUT} pictures have no caption"):
        run_membership(Denoiser(tiny.stable_diffusion()), read_sets(sources, {"picture": captions}), tmp_path / "run")
    with pytest.raises(UsageError, match="--pictures has 19 different pictures"):
        run_membership(model(), read_sets(sources, limit=19), tmp_path / "run", FAST)
    with pytest.raises(UsageError, match="no picture in --held-out"):
        run_membership(model(), read_sets({"picture": folders["picture"]}), tmp_path / "run", FAST)
    assert not (tmp_path / "run").exists()


def test_signals_are_those_that_the_pictures_allow(folders, tmp_path: Path) -> None:
    network = Denoiser(tiny.stable_diffusion())
    every = ["caption_gain", "denoising_loss", "low_frequency_loss", "noise_optimization", "own_push"]
    assert list(Membership().signals(network, True)) == [*every, "proximal_initialization"]
    assert "own_push" not in Membership().signals(network, False)
    with pytest.raises(UsageError, match="caption_gain needs captions.*none of the pictures"):
        Membership(["caption_gain"]).signals(network, False)
    with pytest.raises(UsageError, match="own_push needs captions.*unconditional model"):
        Membership(["own_push"]).signals(model(), True)
    with pytest.raises(UsageError, match="times was given"):
        Membership(["denoising_loss", "caption_gain"], {"times": [0.1]}).signals(network, True)


def test_captions_condition_a_text_model_and_count_among_the_looks(folders, tmp_path: Path) -> None:
    network, read = Denoiser(tiny.stable_diffusion()), {}
    for text in ("a fox", "two boats"):
        captions = {}
        for role in ROLES:
            captions[role] = tmp_path / f"{role}.jsonl"
            names = [p.name for p in Path(folders[role]).iterdir()]
            captions[role].write_text("".join(json.dumps({"file": n, "caption": text}) + "\n" for n in names))
        asked = Membership(["denoising_loss"], {"times": [0.3]})
        found = read_sets({role: folders[role] for role in ROLES}, captions)
        assert run_membership(network, found, tmp_path / text, asked)["captioned"] is True
        read[text] = read_rows(tmp_path / text)
    one, other = (read[text][0] for text in ("a fox", "two boats"))
    assert one["prompt"] == "a fox" and one["signals"] != other["signals"]
    assert one["plain"]["caption"] < other["plain"]["caption"]


def test_looks_without_a_model_are_what_they_say() -> None:
    pixels = torch.zeros(8, 16, 3, dtype=torch.uint8)
    pixels[..., 0] = 255
    from PIL import Image

    red = plain_features(Image.fromarray(pixels.numpy()), "ab", 256)
    assert (red["red"], red["green"], red["contrast"], red["edges"], red["colourfulness"]) == (1, 0, 0, 0, 1)
    assert red["shape"] == pytest.approx(0.6931, abs=1e-4) and red["pixels"] == pytest.approx(4.852, abs=1e-3)
    assert red["bytes"] == pytest.approx(0.6931, abs=1e-4) and red["caption"] == pytest.approx(1.0986, abs=1e-4)
    pixels[:, ::2] = 255
    assert plain_features(Image.fromarray(pixels.numpy()), "", 256)["edges"] > 1


def test_the_page_says_verdict_signals_and_pictures(folders, tmp_path: Path) -> None:
    run_membership(model(), sets(folders), tmp_path / "run", FAST)
    page = write([tmp_path / "run"]).read_text()
    assert "The model knows this set better" in page and f"{MEMBERS} pictures against {HELD_OUT} held out" in page
    assert "No single picture is named" in page and "proximal_initialization" in page
    names = {file.name for file in (tmp_path / "run" / "plots").iterdir()}
    assert {"scores.png", "signals.png"} <= names and "power.png" not in names  # of one size of sets
