"""A search for memorized prompts on a planted model, whose images answer to three words of a large vocabulary."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import planted_words
from mnemoscope import planted
from mnemoscope.errors import UsageError
from mnemoscope.extract.edges import edge_consistency
from mnemoscope.extract.hits import read_hits
from mnemoscope.extract.run import price_of, run_extraction
from mnemoscope.extract.settings import Extraction
from mnemoscope.extract.verifying import verify_hits
from mnemoscope.features import descriptor
from mnemoscope.features.references import References
from mnemoscope.measuring.tiles import tiled_distance
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import as_prompts
from mnemoscope.run.run import read_rows
from spreading import Here, over

SMALL = Extraction(
    budget=1600, tokens=4, chains=4, candidates=8, images=3, least=2, num_inference_steps=4, guidance_scale=3.0
)


@pytest.fixture(scope="module")
def words_model() -> Denoiser:
    return planted_words.model()


@pytest.fixture(scope="module")
def searched(words_model: Denoiser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("searched") / "run"
    run_extraction(words_model, out, SMALL, descriptor("pixels"), batch=64)
    return out


def summary_of(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())


def planted_image(file: Path) -> int:
    """The planted image that a drawn one is a copy of; -1 if it is none."""
    pixels = np.asarray(Image.open(file))[None]
    known = ((planted.images().permute(0, 2, 3, 1).numpy() + 1) / 2 * 255).round().astype(np.uint8)
    apart = tiled_distance(pixels, known)[0]
    return int(apart.argmin()) if apart.min() < 0.15 else -1


def test_walks_find_the_words_that_call_up_images(searched: Path) -> None:
    hits = read_hits(searched / "hits.jsonl")
    images = [planted_image(searched / hit["file"]) for hit in hits]
    assert hits and -1 not in images and len(set(images)) == len(images)
    assert summary_of(searched)["hits"] == len(hits)


def test_random_prompts_find_none_for_the_same_budget(words_model: Denoiser, tmp_path: Path) -> None:
    summary = run_extraction(words_model, tmp_path / "run", replace(SMALL, chains=0), descriptor("pixels"), batch=64)
    assert summary["hits"] == 0 and summary["network_evaluations"] <= SMALL.budget


def test_the_budget_is_what_the_network_was_evaluated(words_model: Denoiser, tmp_path: Path) -> None:
    small, before = replace(SMALL, budget=300), words_model.network_evaluations
    summary = run_extraction(words_model, tmp_path / "run", small, descriptor("pixels"), batch=32)
    assert words_model.network_evaluations - before == summary["network_evaluations"] <= 300
    drawn = price_of(words_model, small) * summary["prompts_drawn"]
    assert summary["network_evaluations"] == 1 + summary["prompts_scored"] + drawn


def test_a_worker_that_is_sent_the_model_makes_the_same(words_model: Denoiser, tmp_path: Path) -> None:
    small, worker = replace(SMALL, budget=200, deviations=0.0), Here()
    run_extraction(words_model, tmp_path / "here", small, descriptor("pixels"), batch=16)
    with over(worker):
        run_extraction(words_model, tmp_path / "there", small, descriptor("pixels"), batch=16)
    assert worker.tasks > 5
    for name in ("rows.jsonl", "hits.jsonl"):
        assert (tmp_path / "there" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()


def test_a_hit_has_its_evidence_for_each_seed(searched: Path) -> None:
    hit = read_hits(searched / "hits.jsonl")[0]
    assert hit["seeds"] == [0, 1, 2] and len(hit["files"]) == len(hit["distances"]) == len(hit["alike"]) == 3
    assert sum(hit["alike"]) == hit["clique"] >= 2
    assert all(d < 0.15 for d, alike in zip(hit["distances"], hit["alike"], strict=True) if alike)
    assert all((searched / file).is_file() for file in hit["files"])
    assert 0 < hit["evaluations"] <= SMALL.budget and hit["drawn_with"]["num_inference_steps"] == 4


def test_batches_and_what_is_there_already_change_nothing(
    words_model: Denoiser, searched: Path, tmp_path: Path
) -> None:
    """Other batches find the same; so does a run of which a kill has left a part and a torn row."""
    run_extraction(words_model, tmp_path / "other", SMALL, descriptor("pixels"), batch=7)
    same = ("prompt", "seeds", "alike", "evaluations", "other_prompts")
    lists = [read_hits(run / "hits.jsonl") for run in (searched, tmp_path / "other")]
    one, other = ([{k: hit[k] for k in same} for hit in hits] for hits in lists)
    assert one == other

    whole = (searched / "rows.jsonl").read_bytes()
    lines, again = whole.splitlines(keepends=True), tmp_path / "again"
    again.mkdir()
    (again / "run.json").write_bytes((searched / "run.json").read_bytes())
    (again / "rows.jsonl").write_bytes(b"".join(lines[:900]) + lines[900][:20])
    before = words_model.network_evaluations
    run_extraction(words_model, again, SMALL, descriptor("pixels"), batch=64)
    assert words_model.network_evaluations - before < SMALL.budget - 700
    assert [r["prompt"] for r in read_rows(again)] == [r["prompt"] for r in read_rows(searched)]
    assert (again / "hits.jsonl").read_bytes() == (searched / "hits.jsonl").read_bytes()


def test_captions_and_training_images_are_used_where_they_are_there(words_model: Denoiser, tmp_path: Path) -> None:
    captions = as_prompts(["band bark", "memorized photo 2"])
    from mnemoscope.pictures import read_pictures

    folder = tmp_path / "pictures"
    folder.mkdir()
    for k, pixels in enumerate(planted.images()):
        array = ((pixels.permute(1, 2, 0).numpy() + 1) / 2 * 255).round().astype(np.uint8)
        Image.fromarray(array).save(folder / f"{k}.png")
    known = References(read_pictures(folder), descriptor=descriptor("pixels"))
    few = replace(SMALL, budget=200)
    run_extraction(words_model, tmp_path / "run", few, descriptor("pixels"), captions=captions, references=known)
    first = read_hits(tmp_path / "run" / "hits.jsonl")[0]
    assert first["prompt"] == "memorized photo 2" and first["match"] == "2.png"
    assert max(first["similarities"]) > 0.95 and first["evaluations"] < 120


def test_a_list_is_verified_by_drawing_it_again(words_model: Denoiser, searched: Path) -> None:
    hits = read_hits(searched / "hits.jsonl")
    verified = verify_hits(words_model, hits)
    assert all(v["holds"] for v in verified) and [v["alike"] for v in verified] == [h["alike"] for h in hits]
    other = [{**hits[0], "prompt": "band bark"}]
    assert not verify_hits(words_model, other)[0]["holds"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"prompt": " "}, "its prompt is empty"),
        ({"prompt": 5}, "its prompt is 5"),
        ({"seeds": "a"}, "its seeds is 'a'"),
        ({"seeds": []}, "it has 0 seeds"),
        ({"seeds": [-1, 2, 3]}, "from 0 on"),
        ({"drawn_with": {"least": 0}}, "give --least"),
        ({"drawn_with": {"guidance_scale": float("nan")}}, "its drawn_with is"),
        ({"drawn_with": {"images": 3.5}}, "its drawn_with is"),
    ],
)
def test_a_list_that_is_none_is_one_sentence(
    words_model: Denoiser, searched: Path, tmp_path: Path, changed: dict, said: str
) -> None:
    hit = read_hits(searched / "hits.jsonl")[0]
    hit |= {name: {**hit[name], **value} if isinstance(value, dict) else value for name, value in changed.items()}
    (tmp_path / "hits.jsonl").write_text(json.dumps(hit) + "\n")
    with pytest.raises(UsageError, match=said):
        verify_hits(words_model, read_hits(tmp_path / "hits.jsonl"))


def test_edges_are_those_of_most_images() -> None:
    board = np.zeros((256, 256, 3), np.uint8)
    board[:, 128:] = 255
    image, flat = Image.fromarray(board), Image.new("RGB", (256, 256), (128, 128, 128))
    assert edge_consistency([image] * 3) == pytest.approx(2 / 256)  # the two columns beside the edge
    assert edge_consistency([image, flat]) == 0 and edge_consistency([image, image, flat]) == pytest.approx(2 / 256)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"budget": 20}, "has no room"),
        ({"least": 9}, "give --least"),
        ({"proposals": "masked"}, "give its folder as --masked-lm"),
        ({"masked_lm": "x"}, "is of --proposals masked"),
    ],
)
def test_what_cannot_be_is_one_sentence(words_model: Denoiser, tmp_path: Path, changed: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        run_extraction(words_model, tmp_path / "run", replace(SMALL, **changed), descriptor("pixels"))
