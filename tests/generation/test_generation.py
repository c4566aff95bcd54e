"""Generation and audit: rows, files, seeds, references, and the same images whatever the batch."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiny
from mnemoscope.audit.run import Copying, run_audit, to_draw
from mnemoscope.detection.run import Detection
from mnemoscope.errors import UsageError
from mnemoscope.explanation.run import Explanation
from mnemoscope.features import descriptor
from mnemoscope.features.references import read_references
from mnemoscope.generation.run import Generation, run_generation
from mnemoscope.measuring.measurement import Measurement
from mnemoscope.mitigation.chosen import Mitigation
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.planted import images as planted_images
from mnemoscope.prompts.prompt import Prompt, as_prompts
from mnemoscope.run.run import read_rows

PROMPTS = as_prompts([f"{kind} {k}" for k in range(2) for kind in ("memorized", "ordinary")])
FEW = Generation(images=2, seed=3, num_inference_steps=4)


def planted_image(k: int) -> Image.Image:
    values = ((planted_images()[k] + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0)
    return Image.fromarray(values.numpy())


def opened(file: Path) -> Image.Image:
    with Image.open(file) as image:
        return image.convert("RGB")


def pixels(folder: Path) -> dict[str, np.ndarray]:
    return {r["id"]: np.asarray(opened(folder / r["file"]), dtype=int) for r in read_rows(folder)}


@pytest.fixture
def references(tmp_path: Path) -> Path:
    """The planted memorized images, one of them with the caption of its own prompt, and one of no kind."""
    folder = tmp_path / "references"
    folder.mkdir()
    for k in range(4):
        planted_image(k).save(folder / f"{k}.png")
    (folder / "captions.jsonl").write_text('{"file": "1.png", "caption": "memorized 1", "kind": "verbatim"}\n')
    (folder / "broken.jpg").write_text("no image")
    return folder


def test_every_prompt_and_seed_has_a_row_and_a_file_in_order(planted: Denoiser, tmp_path: Path) -> None:
    summary = run_generation(planted, PROMPTS, tmp_path, FEW)
    rows = read_rows(tmp_path)
    assert [(r["prompt"], r["seed"]) for r in rows] == [(p.text, s) for p in PROMPTS for s in (3, 4)]
    assert [r["file"] for r in rows] == [f"images/{p.id}-{s}.png" for p in PROMPTS for s in (3, 4)]
    assert {p.relative_to(tmp_path).as_posix() for p in (tmp_path / "images").iterdir()} == {r["file"] for r in rows}
    assert all(opened(tmp_path / r["file"]).size == (16, 16) and r["mitigation"] == [] for r in rows)
    assert summary["prompts"] == 4 and summary["images"] == summary["rows"] == 8 and summary["failed"] == 0
    assert summary["network_evaluations"] == 4 * 2 * 2 * 4  # prompts, seeds, branches, steps


def test_an_image_says_what_it_came_from(planted: Denoiser, tmp_path: Path) -> None:
    prompts = as_prompts(["memorized 1 naïve ☃"])
    run_generation(planted, prompts, tmp_path, Generation(1, 5, num_inference_steps=2))
    (row,) = read_rows(tmp_path)
    with Image.open(tmp_path / row["file"]) as image:
        said = json.loads(image.info["mnemoscope"])
    assert said == {"prompt": "memorized 1 naïve ☃", "seed": 5, "model": "planted"}


def test_images_are_those_of_the_model(planted: Denoiser, tmp_path: Path) -> None:
    run_generation(planted, PROMPTS, tmp_path, FEW)
    (expected,) = planted.generate([PROMPTS[2].text], [4], num_inference_steps=4)
    difference = pixels(tmp_path)[f"{PROMPTS[2].id}-4"] - np.asarray(expected, dtype=int)
    assert abs(difference).max() <= 1


def test_images_are_the_same_in_any_batch_to_one_grey_level(planted: Denoiser, tmp_path: Path) -> None:
    for size in (1, 3, 64):
        run_generation(planted, PROMPTS, tmp_path / str(size), FEW, batch=size)
    one, three, many = (pixels(tmp_path / str(size)) for size in (1, 3, 64))
    assert all(abs(one[k] - three[k]).max() <= 1 and abs(one[k] - many[k]).max() <= 1 for k in one)
    assert abs(one[f"{PROMPTS[1].id}-3"] - one[f"{PROMPTS[1].id}-4"]).max() > 10


def test_prompts_share_their_seeds_so_that_their_noise_is_the_same(planted: Denoiser, tmp_path: Path) -> None:
    run_generation(planted, as_prompts(["ordinary 1", "ordinary 2"]), tmp_path, FEW)
    images = list(pixels(tmp_path).values())
    assert abs(images[0] - images[2]).max() <= 1 and abs(images[1] - images[3]).max() <= 1  # one and the same Gaussian
    assert abs(images[0] - images[1]).max() > 10


def test_memorized_prompts_draw_their_image_and_it_is_found(
    planted: Denoiser, tmp_path: Path, references: Path
) -> None:
    prompts = as_prompts(["memorized 1", "memorized 2", "ordinary 1"])
    generation = Generation(images=2, num_inference_steps=10)
    run_generation(planted, prompts, tmp_path / "run", generation, references=read_references(references))
    rows = read_rows(tmp_path / "run")
    assert [r["match_file"] for r in rows[:4]] == ["1.png", "1.png", "2.png", "2.png"]
    assert min(r["similarity"] for r in rows[:4]) > 0.99 and max(r["similarity"] for r in rows[4:]) < 0.6
    for row in rows[:4]:
        match = np.asarray(opened(tmp_path / "run" / row["match"]))
        assert np.array_equal(match, np.asarray(opened(references / row["match_file"])))


def test_a_reference_equal_to_an_output_is_its_nearest(planted: Denoiser, tmp_path: Path, references: Path) -> None:
    run_generation(planted, as_prompts(["ordinary 1"]), tmp_path / "first", FEW)
    first = read_rows(tmp_path / "first")
    opened(tmp_path / "first" / first[1]["file"]).save(references / "leaked.png")
    run_generation(planted, as_prompts(["ordinary 1"]), tmp_path / "run", FEW, references=read_references(references))
    one, other = read_rows(tmp_path / "run")
    assert other["match_file"] == "leaked.png" and other["similarity"] == pytest.approx(1)
    assert one["similarity"] < 0.9


def test_own_similarity_is_with_the_reference_of_the_same_caption(planted, tmp_path, references) -> None:
    prompts = as_prompts(["memorized 1", "memorized 2"])
    generation = Generation(images=1, num_inference_steps=10)
    run_generation(planted, prompts, tmp_path / "run", generation, references=read_references(references))
    one, two = read_rows(tmp_path / "run")
    assert one["own_similarity"] == pytest.approx(one["similarity"]) and one["similarity"] > 0.99
    assert one["match_caption"] == "memorized 1"
    assert two["own_similarity"] is None and two["match_caption"] is None


def test_unread_references_are_counted(planted: Denoiser, tmp_path: Path, references: Path) -> None:
    summary = run_generation(planted, PROMPTS[:1], tmp_path / "run", FEW, references=read_references(references))
    assert summary["unread_references"] == ["broken.jpg: text, not an image"]


def test_scores_of_a_detection_stand_beside_its_images(planted: Denoiser, tmp_path: Path) -> None:
    scores = {PROMPTS[0].id: {"score": 1.5, "flagged": True, "series": [[1]]}}
    run_generation(planted, PROMPTS[:2], tmp_path, FEW, scores=scores)
    rows = read_rows(tmp_path)
    assert [(r.get("score"), r.get("flagged")) for r in rows] == [(1.5, True)] * 2 + [(None, None)] * 2
    assert "series" not in rows[0]


def test_labels_and_kinds_of_prompts_are_in_the_rows(planted: Denoiser, tmp_path: Path) -> None:
    run_generation(planted, [Prompt("a", "ordinary 1", False, "unseen")], tmp_path, FEW)
    assert {(r["label"], r["kind"], r["prompt_id"]) for r in read_rows(tmp_path)} == {(False, "unseen", "a")}


def test_a_prompt_that_fails_has_failed_rows_and_the_others_have_images(planted, tmp_path, monkeypatch) -> None:
    encode = planted.family.encode

    def refuse(prompts: list[str], shape: object) -> dict:
        if "ordinary 1" in prompts:
            raise RuntimeError("no such word")
        return encode(prompts, shape)

    with monkeypatch.context() as patch:
        patch.setattr(planted.family, "encode", refuse)
        summary = run_generation(planted, PROMPTS, tmp_path, FEW)
    rows = read_rows(tmp_path)
    assert summary["failed"] == 2 and summary["images"] == 6
    assert {(r["prompt"], r["error"]) for r in rows if r["status"] == "failed"} == {
        ("ordinary 1", "RuntimeError: no such word")
    }
    again = run_generation(planted, PROMPTS, tmp_path, FEW)
    assert again["failed"] == 0 and [r["seed"] for r in read_rows(tmp_path)] == [3, 4] * 4


def test_no_images_are_refused(planted: Denoiser, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="0 seeds were asked for"):
        run_generation(planted, PROMPTS, tmp_path, Generation(images=0))


def test_other_sampling_is_refused_in_the_same_folder(planted: Denoiser, tmp_path: Path) -> None:
    run_generation(planted, PROMPTS, tmp_path, FEW)
    with pytest.raises(UsageError, match="images 2 there, 1 here"):
        run_generation(planted, PROMPTS, tmp_path, Generation(1, 3, 4))
    with pytest.raises(UsageError, match="content"):
        run_generation(planted, PROMPTS[:1], tmp_path, FEW)


# Audit


def audit(model: Denoiser, out: Path, **options: object) -> int:
    prompts = as_prompts([f"{kind} {k}" for kind, n in (("memorized", 4), ("ordinary", 8)) for k in range(n)])
    negatives = as_prompts([f"a photo of the ordinary {k}" for k in range(100)])
    generation = Generation(images=1, num_inference_steps=4)
    given = {"negatives": negatives, "most": 3, "batch": 32, **options}
    return run_audit(model, prompts, out, Detection(), generation, **given)


def test_an_audit_draws_what_is_flagged_and_some_of_what_is_not(
    planted: Denoiser, tmp_path: Path, references: Path
) -> None:
    assert audit(planted, tmp_path / "run", references=read_references(references)) == 0
    flagged = {r["prompt"] for r in read_rows(tmp_path / "run" / "detect") if r["flagged"] and r["role"] == "prompt"}
    drawn = read_rows(tmp_path / "run" / "generate")
    assert flagged == {f"memorized {k}" for k in range(4)}
    assert [r["flagged"] for r in drawn] == [True, True, True, False]
    assert all(("memorized" in r["prompt"]) == r["flagged"] and r["similarity"] is not None for r in drawn)


def test_an_audit_measures_the_copies_among_what_it_draws(planted: Denoiser, tmp_path: Path, references: Path) -> None:
    copying = Copying(str(references), descriptor("pixels"), Measurement(("replication", "own_image"), gallery=0))
    audit(planted, tmp_path / "run", copying=copying, references=read_references(references))
    drawn = {r["file"]: r["similarity"] for r in read_rows(tmp_path / "run" / "generate")}
    rows = read_rows(tmp_path / "run" / "measure")
    assert {r["file"]: pytest.approx(r["score"], abs=1e-5) for r in rows} == drawn
    found = json.loads((tmp_path / "run" / "summary.json").read_text())["measure"]
    assert found["replication_rate"] == np.mean([value > 0.8 for value in drawn.values()]) > 0
    assert found["unread_references"] == ["broken.jpg: text, not an image"]


def test_the_summary_of_an_audit_adds_up_its_parts(planted: Denoiser, tmp_path: Path) -> None:
    audit(planted, tmp_path)
    summary = json.loads((tmp_path / "summary.json").read_text())
    for key in ("network_evaluations", "failed"):
        assert summary[key] == summary["detect"][key] + summary["generate"][key]
    assert summary["network_evaluations"] == planted.network_evaluations > 0


def test_an_audit_goes_on_though_a_failed_prompt_now_succeeds_and_changes_what_is_drawn(
    planted: Denoiser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = planted.family.encode

    def refuse(prompts: list[str], shape: object) -> dict:
        if "memorized 2" in prompts:
            raise RuntimeError("a passing trouble")
        return encode(prompts, shape)

    with monkeypatch.context() as patch:
        patch.setattr(planted.family, "encode", refuse)
        assert audit(planted, tmp_path, most=4) == 1
    assert "memorized 2" not in [r["prompt"] for r in read_rows(tmp_path / "generate")]
    assert audit(planted, tmp_path, most=4) == 0
    drawn = [r["prompt"] for r in read_rows(tmp_path / "generate")]
    assert {f"memorized {k}" for k in range(4)} < set(drawn) and len(drawn) == 5


def test_an_audit_explains_and_mitigates_what_is_flagged(planted: Denoiser, tmp_path: Path, references: Path) -> None:
    mitigation = Mitigation("embedding_descent", {"iterations": 60})
    given = {"explanation": Explanation(num_inference_steps=4), "mitigation": mitigation}
    assert audit(planted, tmp_path / "run", references=read_references(references), **given) == 0
    tmp_path = tmp_path / "run"
    detect, drawn, words, kept = (read_rows(tmp_path / n) for n in ("detect", "generate", "explain", "mitigate"))
    flagged = [r["prompt"] for r in drawn if r["flagged"]]
    assert [r["prompt"] for r in words] == [r["prompt"] for r in kept] == flagged
    limit = detect[0]["threshold"]
    for before, after in zip(drawn, kept, strict=False):
        assert (before["prompt"], before["seed"]) == (after["prompt"], after["seed"])
        same = [
            np.asarray(Image.open(tmp_path / f))
            for f in (f"generate/{before['file']}", f"mitigate/{after['baseline']}")
        ]
        assert np.array_equal(*same) and after["mitigation"] == ["embedding_descent"]
        assert after["seen"]["embedding_descent"]["score"][-1] <= limit  # the threshold is the target
    summary = json.loads((tmp_path / "summary.json").read_text())
    parts = ("detect", "generate", "explain", "mitigate")
    assert summary["network_evaluations"] == sum(summary[p]["network_evaluations"] for p in parts)
    assert summary["network_evaluations"] == planted.network_evaluations


def test_an_audit_of_a_model_without_words_only_detects_and_draws(tmp_path: Path) -> None:
    model = Denoiser(tiny.class_conditional())
    prompts, asked = as_prompts(["1", "2"]), {"num_inference_steps": 2, "guidance_scale": 2.0}
    given = {"explanation": Explanation(**asked), "mitigation": Mitigation("embedding_descent")}
    run_audit(model, prompts, tmp_path, Detection(**asked), Generation(1, **asked), **given)
    assert not (tmp_path / "explain").exists() and not (tmp_path / "mitigate").exists()


def test_an_audit_with_other_settings_is_refused(planted: Denoiser, tmp_path: Path) -> None:
    audit(planted, tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.json*")}
    with pytest.raises(UsageError, match="most 3 there, 2 here"):
        audit(planted, tmp_path, most=2)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.json*")} == before


def test_where_nothing_could_be_flagged_what_is_drawn_is_spread_over_all() -> None:
    prompts = as_prompts(list("abcdefgh"))
    rows = {p.id: {"score": k, "flagged": None} for k, p in enumerate(prompts)}
    suspects, others = to_draw(prompts, rows, 4)
    assert [rows[p.id]["score"] for p in suspects] == [7, 5, 3, 1] and not others


def test_unflagged_prompts_to_compare_with_are_spread_over_the_unflagged() -> None:
    prompts = as_prompts([str(k) for k in range(30)])
    rows = {p.id: {"score": int(p.text), "flagged": int(p.text) >= 10} for p in prompts}
    assert [[int(p.text) for p in part] for part in to_draw(prompts, rows, 6)] == [[29, 26, 23, 19, 16, 13], [9, 4]]


def test_an_image_of_nan_is_a_failed_row_and_no_black_picture(planted, tmp_path: Path, monkeypatch) -> None:
    decode = planted.family.decode
    monkeypatch.setattr(planted.family, "decode", lambda latents: decode(latents) * float("nan"))
    summary = run_generation(
        planted, as_prompts(["ordinary 1"]), tmp_path / "run", Generation(1, num_inference_steps=2)
    )
    assert summary["failed"] == 1 and summary["images"] == 0
    assert "holds NaN" in read_rows(tmp_path / "run")[0]["error"]
    assert not list((tmp_path / "run").glob("images/*.png"))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"num_inference_steps": 1001}, "this solver takes 1 to 1000"),
        ({"guidance_scale": float("nan")}, "The guidance scale is nan"),
        ({"seed": 2**63}, "is out of range"),
    ],
)
def test_sampling_that_cannot_be_is_refused(planted, tmp_path: Path, asked: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run_generation(planted, as_prompts(["ordinary 1"]), tmp_path / "run", Generation(**asked))
