"""The measure run: planted copies are found, whatever the order and the source, and nothing is skipped quietly."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.features import descriptor
from mnemoscope.measuring.generated import read_generated
from mnemoscope.measuring.measurement import Measurement, run_measurement
from mnemoscope.measuring.sides import Sources
from mnemoscope.prompts.prompt import as_prompts
from mnemoscope.run.run import read_rows

COPIES, REFERENCES, IMAGES = 4, 12, 9
FEW = Measurement(params={"background.resamples": 50}, top=3)


def scene(seed: int, noise: float = 0.0) -> Image.Image:
    """A smooth picture of 64 x 64 that is unlike that of any other seed."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    values = np.asarray(small.resize((64, 64), Image.Resampling.BICUBIC), float)
    values += noise * np.random.default_rng(1000 + seed).standard_normal(values.shape)
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


@pytest.fixture
def references(tmp_path: Path) -> Path:
    folder = tmp_path / "references"
    folder.mkdir()
    lines = []
    for k in range(REFERENCES):
        scene(k).save(folder / f"{k:02d}.png")
        lines.append(json.dumps({"file": f"{k:02d}.png", "caption": f"scene {k}"}))
    (folder / "captions.jsonl").write_text("\n".join(lines))
    return folder


@pytest.fixture
def generated(tmp_path: Path) -> Path:
    """Images 0 to 3 copy references 0 to 3, the last of them not that of its own prompt; the others are new."""
    folder = tmp_path / "generated"
    folder.mkdir()
    for k in range(IMAGES):
        scene(k if k < COPIES else 100 + k, noise=8.0).save(folder / f"g{k}.png")
        (folder / f"g{k}.txt").write_text(f"scene {k if k != COPIES - 1 else 7}")
    return folder


def measured(source: Path, references: Path | None, out: Path, measurement: Measurement = FEW, **options) -> dict:
    sources = Sources(references=str(references) if references else None, **options.pop("sources", {}))
    found = read_generated(str(source), **options)
    return run_measurement(found, out, descriptor("pixels"), measurement, sources)


def test_planted_copies_are_found_with_their_match_and_their_own(
    generated: Path, references: Path, tmp_path: Path
) -> None:
    summary = measured(generated, references, tmp_path / "run")
    rows = {row["file"]: row for row in read_rows(tmp_path / "run")}
    assert [rows[f"g{k}.png"]["match"] for k in range(COPIES)] == [f"{k:02d}.png" for k in range(COPIES)]
    assert [rows[f"g{k}.png"]["replicated"] for k in range(IMAGES)] == [k < COPIES for k in range(IMAGES)]
    assert rows["g0.png"]["own_score"] == pytest.approx(rows["g0.png"]["score"], abs=1e-6)
    assert rows["g3.png"]["own_score"] < 0.5 < rows["g3.png"]["score"]  # it copies what it was not asked for
    assert summary["replication_rate"] == COPIES / IMAGES
    low, high = summary["replication_rate_interval"]
    assert low < COPIES / IMAGES < high and summary["threshold"] == 0.8
    assert (summary["features"], summary["preset"], summary["weights"]) == ("pixels", "pixels-32", "none")
    assert summary["measures"]["own_image"]["own_rate"] == pytest.approx(3 / IMAGES)


def test_scores_are_the_cosines_of_the_features(generated: Path, references: Path, tmp_path: Path) -> None:
    measured(generated, references, tmp_path / "run")
    pixels = descriptor("pixels")
    theirs = pixels([Image.open(file) for file in sorted(references.glob("*.png"))])
    for row in read_rows(tmp_path / "run"):
        scores = theirs @ pixels([Image.open(generated / row["file"])])[0]
        assert row["score"] == pytest.approx(scores.max(), abs=1e-6)
        best = np.argsort(-scores)[:3]
        assert [near["match"] for near in row["neighbours"]] == [f"{k:02d}.png" for k in best]
        assert [near["score"] for near in row["neighbours"]] == pytest.approx(scores[best].tolist(), abs=1e-6)


def test_rows_do_not_depend_on_which_images_there_are(generated: Path, references: Path, tmp_path: Path) -> None:
    measured(generated, references, tmp_path / "all")
    for name in ("g0.png", "g1.png", "g5.png"):
        (generated / name).unlink()
    measured(generated, references, tmp_path / "some")
    whole = {row["file"]: row for row in read_rows(tmp_path / "all")}
    for row in read_rows(tmp_path / "some"):
        for key in ("match", "score", "own_score", "replicated", "own_match"):
            assert row[key] == whole[row["file"]][key]


def test_an_unreadable_image_is_a_failed_row_and_an_unreadable_reference_is_named(
    generated: Path, references: Path, tmp_path: Path
) -> None:
    (generated / "g2.png").write_bytes((generated / "g2.png").read_bytes()[:200])
    (references / "05.png").write_text("no image")
    summary = measured(generated, references, tmp_path / "run")
    (failed,) = [row for row in read_rows(tmp_path / "run") if row["status"] != "ok"]
    assert failed["file"] == "g2.png" and failed["error"]
    assert summary["failed"] == 1 and summary["images"] == IMAGES - 1 and summary["references"] == REFERENCES - 1
    assert summary["unread_references"][0].startswith("05.png: ")
    assert any("1 reference could not be read" in note for note in summary["notes"])


def test_a_second_run_takes_the_vectors_that_are_there(
    generated: Path, references: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = measured(generated, references, tmp_path / "run")
    pixels = descriptor("pixels")
    monkeypatch.setattr(type(pixels), "_vectors", lambda *_: pytest.fail("a vector was computed again"))
    again = measured(generated, references, tmp_path / "run")
    assert {**first, "seconds": 0} == {**again, "seconds": 0}


def test_a_run_of_generate_brings_its_prompts_seeds_and_unmitigated_images(references: Path, tmp_path: Path) -> None:
    run = tmp_path / "drawn"
    (run / "images").mkdir(parents=True)
    (run / "run.json").write_text('{"command": "generate"}')
    rows = []
    for k in range(4):
        scene(100 + k).save(run / f"images/{k}.png")
        scene(k % 2).save(run / f"images/{k}-plain.png")
        row = {"id": str(k), "prompt_id": str(k % 2), "prompt": f"scene {k % 2}", "seed": k // 2, "status": "ok"}
        row |= {"file": f"images/{k}.png", "baseline": f"images/{k}-plain.png", "mitigation": ["embedding_noise"]}
        rows.append(json.dumps(row | {"seen": {"used_prompt": "something else"}}))
    (run / "rows.jsonl").write_text("\n".join(rows) + "\n")
    found = read_generated(str(run))
    assert [(g.prompt, g.used, g.seed, g.mitigation) for g in found[:2]] == [
        ("scene 0", "something else", 0, ("embedding_noise",)),
        ("scene 1", "something else", 0, ("embedding_noise",)),
    ]
    summary = measured(run, references, tmp_path / "run")
    assert summary["replication_rate"] == 0
    assert summary["measures"]["unmitigated_similarity"]["unmitigated_median"] < 0.5
    assert "diversity" in summary["measures"]  # two images a prompt


def test_an_index_of_the_references_gives_the_same_matches(
    generated: Path, references: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mnemoscope.search.build import build_index

    build_index(str(references), tmp_path / "index", descriptor("pixels"), shard_size=5)
    measured(generated, references, tmp_path / "folder")
    measured(generated, tmp_path / "index", tmp_path / "indexed")
    for one, other in zip(read_rows(tmp_path / "folder"), read_rows(tmp_path / "indexed"), strict=True):
        assert one["match"] == other["match"] and one["score"] == pytest.approx(other["score"], abs=1e-3)
        assert one["own_score"] == pytest.approx(other["own_score"], abs=1e-3)


@pytest.mark.parametrize("numbered", [True, False])
def test_prompts_are_given_by_number_or_by_order(generated: Path, numbered: bool) -> None:
    for k, file in enumerate(sorted(generated.glob("*.png"))):
        (generated / f"g{k}.txt").unlink()
        file.rename(generated / (f"img_{k % 3:04d}_{k // 3:02d}.png" if numbered else f"{k}.png"))
    found = read_generated(str(generated), prompts=as_prompts(["a", "b", "c"]))
    assert [g.prompt for g in found] == ["a"] * 3 + ["b"] * 3 + ["c"] * 3
    assert [g.seed for g in found] == [0, 1, 2] * 3


def test_prompts_that_do_not_fit_are_refused(generated: Path) -> None:
    with pytest.raises(UsageError, match="9 images for 4 prompts"):
        read_generated(str(generated), prompts=as_prompts(list("abcd")))
    with pytest.raises(UsageError, match="lacks 1 of the 9 images, g0.png"):
        plain = generated.parent / "plain"
        plain.mkdir()
        for file in sorted(generated.glob("*.png"))[1:]:
            (plain / file.name).write_bytes(file.read_bytes())
        read_generated(str(generated), unmitigated=str(plain))


def test_how_often_references_occur_is_read_from_a_run_of_duplicates(
    generated: Path, references: Path, tmp_path: Path
) -> None:
    from mnemoscope.search.build import build_index
    from mnemoscope.search.duplicates import run_duplicates

    for k in (12, 13):
        scene(0).save(references / f"{k}.png")  # the first reference lies there three times
    build_index(str(references), tmp_path / "index", descriptor("pixels"))
    run_duplicates(tmp_path / "index", tmp_path / "duplicates")
    summary = measured(generated, references, tmp_path / "run", sources={"duplicates": tmp_path / "duplicates"})
    rows = {row["file"]: row for row in read_rows(tmp_path / "run")}
    assert rows["g0.png"]["match_copies"] == 3 and rows["g2.png"]["match_copies"] == 1
    assert summary["measures"]["duplication"]["duplicated"]["images"] >= 2
    found = summary["measures"]["duplication"]  # three of 14 files; one of 12 different images
    assert found["sampled_duplicated"] == pytest.approx(3 / 14) and found["listed_duplicated"] == pytest.approx(1 / 12)


@pytest.mark.parametrize(
    ("measurement", "sentence"),
    [
        (Measurement(metrics=("patch_similarity",)), "needs patch tokens"),
        (Measurement(metrics=("alignment",)), "needs an alignment"),
        (Measurement(metrics=("nonsense",)), "no measure method 'nonsense'"),
        (Measurement(params={"replication.nonsense": 1}), "no parameter 'nonsense'"),
        (Measurement(params={"resamples": 1}), "names no measure"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    measurement: Measurement, sentence: str, generated: Path, references: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=sentence):
        measured(generated, references, tmp_path / "run", measurement)


def test_the_command_measures_folders_and_writes_a_report(
    mnemoscope: Callable[..., tuple], generated: Path, references: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    asked = ("measure", generated, "--references", references, "--features", "pixels", "--out", out)
    code, said, _ = mnemoscope(*asked, "--metrics", "replication,own_image", "--threshold", "0.7", "--top-k", "2")
    assert code == 0 and "44.4 % of 9 images are copies of one of 12 references" in said
    assert set(json.loads((out / "summary.json").read_text())["measures"]) == {"replication", "own_image"}
    page = (out / "report.html").read_text()
    assert page.count('class="box" data-flagged="1"') == COPIES
    gallery = page.partition("<h2>Images beside")[2].partition("<h2>")[0]
    assert "g0.png" in gallery and str(tmp_path) not in gallery  # names are relative to what was given
    assert gallery.count("background-image") == len(
        {near["match"] for row in read_rows(out) for near in row["neighbours"]}
    )
    (generated / "g1.png").write_text("no image")
    code, said, _ = mnemoscope(*asked, "--overwrite")
    assert code == 1 and "1 row failed" in said


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--features", "nonsense"), "There are no features 'nonsense'"),
        (("--features", "dino"), "The features dino need weights"),
        (("--features", "pixels", "--metrics", "alignment"), "needs an alignment"),
        (("--features", "pixels", "--duplicates", "none.jsonl"), "does not say how often images occur"),
    ],
)
def test_bad_input_is_one_sentence(
    mnemoscope: Callable[..., tuple],
    options: tuple[str, ...],
    sentence: str,
    generated: Path,
    references: Path,
    tmp_path: Path,
) -> None:
    asked = ("measure", generated, "--references", references, "--out", tmp_path / "run")
    code, _, error = mnemoscope(*asked, *options)
    assert code == 2 and sentence in error and len(error.strip().splitlines()) == 1
