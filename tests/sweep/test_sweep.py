"""Mitigated images beside unmitigated ones of the same seeds, and the curves of a sweep, on planted truth."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mnemoscope as mn
from mnemoscope import features
from mnemoscope import planted as truth
from mnemoscope.errors import UsageError
from mnemoscope.features.descriptors import Descriptor, unit_length
from mnemoscope.features.geometry import Geometry
from mnemoscope.features.identity import Identity
from mnemoscope.features.references import References, read_references
from mnemoscope.generation.run import Generation, run_generation
from mnemoscope.mitigation.chosen import Mitigation, chosen, mitigated, readable
from mnemoscope.prompts.prompt import as_prompts
from mnemoscope.run.run import read_rows
from mnemoscope.sweep.curves import SweepPoint, curve, points
from mnemoscope.sweep.fitting import fitting
from mnemoscope.sweep.run import run_sweep
from tiny_families import model_of

ASKED = {"num_inference_steps": 10, "guidance_scale": 3.0}
PROMPTS = as_prompts([*truth.prompts(memorized=True)[:2], "ordinary 1", "ordinary 2"])
LIMIT = 0.8


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> References:
    folder = tmp_path_factory.mktemp("references")
    rows = []
    for i, pixels in enumerate(truth.images()):
        Image.fromarray((pixels.permute(1, 2, 0) * 127.5 + 127.5).byte().numpy()).save(folder / f"{i}.png")
        rows.append(json.dumps({"file": f"{i}.png", "caption": f"memorized {i}"}))
    (folder / "captions.jsonl").write_text("\n".join(rows))
    return read_references(folder)


class Brightness:
    """A measure of alignment that any image has, but for one prompt."""

    name, range = "mean brightness", (0.0, 1.0)

    def align(self, images, prompts):
        return np.array(
            [np.nan if p == "ordinary 2" else np.asarray(i).mean() / 255 for i, p in zip(images, prompts, strict=True)]
        )


def swept(planted: mn.Denoiser, out: Path, references: References, **options) -> dict:
    tried = points([Mitigation("embedding_descent", {"iterations": 60})], {"embedding_descent": [1.0, 0.02]})
    drawn = Generation(2, 3, **ASKED, threshold=LIMIT)
    return run_sweep(planted, PROMPTS, out, drawn, tried, references, alignment=Brightness(), **options)


def test_a_stronger_descent_copies_less_and_leaves_the_rest_alone(planted, tmp_path, references) -> None:
    summary = swept(planted, tmp_path / "s", references)
    none, weak, strong = summary["curves"]
    assert [c["mitigation"] for c in summary["curves"]] == ["none", "embedding_descent", "embedding_descent"]
    assert none["replication_rate"] == 1 and strong["replication_rate"] == 0
    assert strong["similarity_mean"] < weak["similarity_mean"] <= none["similarity_mean"] + 1e-6
    assert [c["unchanged"] for c in summary["curves"]] == [1.0, 1.0, 1.0]
    assert (none["images"], none["other_images"]) == (4, 4)
    assert none["evaluations_per_image"] == 20 < strong["evaluations_per_image"]


def test_images_pair_up_by_seed(planted, tmp_path, references) -> None:
    swept(planted, tmp_path / "s", references)
    rows = read_rows(tmp_path / "s")
    assert len(rows) == 3 * 4 * 2 and len({r["id"] for r in rows}) == len(rows)
    with planted.edit("prompts", lambda prompts: prompts):
        (alone,) = planted.generate(["memorized 1"], [4], **ASKED)
    row = next(r for r in rows if r["mitigation"] == "none" and (r["prompt"], r["seed"]) == ("memorized 1", 4))
    assert np.array_equal(np.asarray(alone), np.asarray(Image.open(tmp_path / "s" / row["file"])))
    assert row["baseline_similarity"] == pytest.approx(1) and row["unchanged"]
    touched = [r for r in rows if r["strength"] == 0.02 and r["prompt"].startswith("memorized")]
    assert not any(r["unchanged"] for r in touched) and all(r["flagged"] for r in touched)
    plain = {(r["prompt"], r["seed"]): r["file"] for r in rows if r["mitigation"] == "none"}
    for r in touched:
        one, two = features.pixels([Image.open(tmp_path / "s" / f) for f in (r["file"], plain[r["prompt"], r["seed"]])])
        assert r["baseline_similarity"] == pytest.approx(float(one @ two), abs=1e-5) and one @ two < 0.999
    assert {r["alignment"] is None for r in rows if r["prompt"] == "ordinary 2"} == {True}
    known = [r for r in rows if r["alignment_chance"] is not None]  # its brightness, whatever the prompt
    assert len(known) == len(rows) * 2 // 4 and all(r["alignment"] == r["alignment_chance"] for r in known)


def test_a_sweep_goes_on_where_it_was_and_repeats_to_the_bit(planted, tmp_path, references) -> None:
    swept(planted, tmp_path / "whole", references)
    lines = (tmp_path / "whole" / "rows.jsonl").read_text().splitlines(keepends=True)
    swept(planted, tmp_path / "s", references)
    (tmp_path / "s" / "rows.jsonl").write_text("".join(lines[:9]) + lines[9][:20])
    (tmp_path / "s" / "summary.json").unlink()
    evaluations = planted.network_evaluations
    again = swept(planted, tmp_path / "s", references)
    assert 0 < planted.network_evaluations - evaluations < again["network_evaluations"]
    own = ("seconds", "evaluations")
    for a, b in zip(read_rows(tmp_path / "whole"), read_rows(tmp_path / "s"), strict=True):
        assert {k: v for k, v in a.items() if k not in own} == {k: v for k, v in b.items() if k not in own}


class Reddish(Descriptor):
    """A descriptor whose vectors are the mean colour, with no threshold of its own."""

    def __init__(self, unit: bool = True) -> None:
        super().__init__(Identity("reddish", "mean", "none", 3), Geometry(square=8))
        self.unit = unit

    def _vectors(self, images):
        return unit_length(np.stack([np.asarray(i.convert("RGB"), np.float32).mean((0, 1)) for i in images]))


def test_similarities_of_a_sweep_are_those_of_the_references_descriptor(planted, tmp_path, references) -> None:
    by = Reddish()
    seen = References(references.items, descriptor=by)
    summary = swept(planted, tmp_path / "s", seen, replication_threshold=0.999)
    rows = [r for r in read_rows(tmp_path / "s") if r["own_similarity"] is not None]
    for row in rows:
        own = seen.items[int(row["prompt"].split()[-1])].image()
        drawn = Image.open(tmp_path / "s" / row["file"])
        assert row["own_similarity"] == pytest.approx(float((by([drawn]) @ by([own]).T)[0, 0]), abs=1e-6)
    for point in summary["curves"]:
        of_point = [r["own_similarity"] for r in rows if r["strength"] == point["strength"]]
        assert point["similarity_mean"] == pytest.approx(np.mean(of_point))
        assert point["replication_rate"] == np.mean(np.array(of_point) >= 0.999)
    assert summary["similarity"].startswith("cosine of reddish vectors, preset mean")
    with pytest.raises(UsageError, match="features"):  # nor is the run gone on with by other vectors
        swept(planted, tmp_path / "s", references, replication_threshold=0.999)


def test_a_sweep_asks_for_the_threshold_that_nobody_knows(planted, tmp_path, references) -> None:
    with pytest.raises(UsageError, match="of reddish .* not established; give --replication-threshold"):
        swept(planted, tmp_path / "s", References(references.items, descriptor=Reddish()))
    assert not (tmp_path / "s").exists()
    with pytest.raises(UsageError, match="no similarity; use sscd"):
        References(references.items, descriptor=Reddish(unit=False))


def test_the_curves_are_a_table(planted, tmp_path, references) -> None:
    summary = swept(planted, tmp_path / "s", references)
    with (tmp_path / "s" / "curves.csv").open() as f:
        rows = list(csv.DictReader(f))
    assert [r["strength"] for r in rows] == ["", "1.0", "0.02"]
    for row, one in zip(rows, summary["curves"], strict=True):
        assert float(row["similarity_mean"]) == pytest.approx(one["similarity_mean"])
        assert [float(row["similarity_low"]), float(row["similarity_high"])] == pytest.approx(
            one["similarity_interval"]
        )


def test_a_curve_is_the_mean_over_prompts_of_the_mean_over_images() -> None:
    def row(prompt: str, own: float | None, aligned: float | None) -> dict:
        return {
            "mitigation": "none",
            "strength": None,
            "status": "ok",
            "prompt_id": prompt,
            "own_similarity": own,
            "alignment": aligned,
            "unchanged": own is not None,
            "evaluations": 4.0,
            "seconds": 0.5,
        }

    rows = [row("a", 0.9, 1.0), row("a", 0.1, None), row("a", 0.2, None), row("b", 0.9, 0.5), row("c", None, 0.1)]
    found = curve(rows, SweepPoint(), 0.5)
    assert found["replication_rate"] == pytest.approx((1 / 3 + 1) / 2)
    assert curve(rows, SweepPoint(), 2.0)["replication_interval"] == [
        0.0,
        pytest.approx(0.658, abs=1e-3),
    ]  # Wilson, 0 of 2
    assert found["similarity_mean"] == pytest.approx((0.4 + 0.9) / 2)
    assert found["alignment_mean"] == pytest.approx(0.75) and found["other_alignment_mean"] == pytest.approx(0.1)
    assert (found["images"], found["other_images"], found["unchanged"]) == (4, 1, 0.0)
    assert found["alignment_above_chance"] is None
    by_chance = curve([r | {"alignment_chance": 0.25} for r in rows], SweepPoint(), 0.5)
    assert by_chance["alignment_above_chance"] == pytest.approx(0.5)
    assert by_chance["alignment_above_chance_interval"] == [0.25, 0.75]
    assert found["other_alignment_interval"] is None and found["evaluations_per_image"] == 4


def test_a_mitigated_run_keeps_the_images_it_does_not_touch(planted, tmp_path, references) -> None:
    plain = Generation(1, 3, **ASKED)
    run_generation(planted, PROMPTS, tmp_path / "plain", plain)
    mitigation = (Mitigation("embedding_descent", {"target": 0.02, "iterations": 60}),)
    kept = Generation(1, 3, **ASKED, mitigations=mitigation, threshold=LIMIT, baseline=True)
    run_generation(planted, PROMPTS, tmp_path / "kept", kept, references=references)
    for before, after in zip(read_rows(tmp_path / "plain"), read_rows(tmp_path / "kept"), strict=True):
        images = [
            np.asarray(Image.open(tmp_path / run / row["file"])) for run, row in (("plain", before), ("kept", after))
        ]
        same = np.array_equal(*images)
        assert same == before["prompt"].startswith("ordinary") == (not after["flagged"])
        assert after["mitigation"] == ([] if same else ["embedding_descent"])
        baseline = np.asarray(Image.open(tmp_path / "kept" / after["baseline"]))
        assert np.array_equal(baseline, images[0])
        assert (after["baseline_similarity"] == pytest.approx(1)) == same
        assert after["seen"]["threshold"] == LIMIT and after["score"] == after["seen"]["score"]


def test_parameters_go_to_the_mitigation_that_takes_them() -> None:
    one, two = chosen(["embedding_descent", "guidance_schedule"], {"iterations": 3, "tau": 500, "score.p": 1})
    assert one.params == {"iterations": 3, "score.p": 1} and two.params == {"tau": 500}
    both = ["embedding_descent", "noise_descent"]
    one, two = chosen(both, {"noise_descent.lr": 0.1, "embedding_descent.score.p": 1})
    assert one.params == {"score.p": 1} and two.params == {"lr": 0.1}


WRONG = {
    "both take it": (["embedding_descent", "noise_descent"], {"lr": 1}, "take it: write embedding_descent.lr="),
    "none takes it": (
        ["embedding_descent"],
        {"tau": 1},
        "--param tau was given for embedding_descent, and none of them",
    ),
    "no mitigation": ([], {"tau": 1}, "--param tau was given for no mitigation, and none of them takes it"),
    "no such one": (["hope"], {}, "There is no mitigate method 'hope'"),
    "twice": (["eot_mask", "eot_mask"], {}, "A mitigation was given twice (eot_mask, eot_mask); give each once."),
    "no parameter": (["embedding_descent"], {"embedding_descent.x": 1}, "has no parameter 'x'"),
    "no parameter of the score": (
        ["embedding_descent"],
        {"score.x": 1},
        "score method 'noise_norm' has no parameter 'x'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_mitigations_are_one_sentence(case: str) -> None:
    names, given, said = WRONG[case]
    with pytest.raises(mn.UsageError) as error:
        chosen(names, given)
    assert said in str(error.value)


def test_a_swept_parameter_is_not_given_as_well() -> None:
    with pytest.raises(mn.UsageError, match="^embedding_descent is swept over target; leave it out"):
        points([Mitigation("embedding_descent", {"target": 1.0})])


def test_a_threshold_is_a_number_or_a_summary(tmp_path: Path) -> None:
    assert readable(None) is None and readable("1.5") == 1.5
    with pytest.raises(mn.UsageError, match="There is no .*none.json; give a detection"):
        readable(str(tmp_path / "none.json"))
    (tmp_path / "summary.json").write_text("{}")
    with pytest.raises(mn.UsageError, match="is no summary of a detection"):
        readable(str(tmp_path))


def test_the_usual_sweep_leaves_out_what_a_model_cannot_take_and_says_why(tmp_path, references) -> None:
    model = model_of("sd3")
    every = ("attention_rescaling", "embedding_descent", "embedding_noise", "eot_mask", "random_numbers")
    tried, drawn = points([Mitigation(name) for name in every]), Generation(1, 0, 2, None)
    fit, notes = fitting(model, tried, PROMPTS, drawn)
    assert [p for p in fit if p.method == "embedding_noise"] == [p for p in tried if p.method == "embedding_noise"]
    assert {p.method for p in fit} == {"none", "embedding_noise", "random_numbers"}
    assert [note.split(" is left out: ")[0] for note in notes] == [
        "attention_rescaling",
        "embedding_descent",
        "eot_mask",
    ]
    assert "no cross-attention" in notes[0] and "give --strength embedding_descent=NUMBER:x0" in notes[1]
    with_unit = points([Mitigation("embedding_descent")], {"embedding_descent": ["0.5:x0"]})
    before = model.network_evaluations
    assert fitting(model, with_unit, PROMPTS, drawn) == (with_unit, [])
    assert model.network_evaluations - before < 6  # of one update, and a step
    summary = run_sweep(model, PROMPTS[:1], tmp_path, drawn, fit[:2], references, notes=notes)
    assert summary["notes"] == notes
    with pytest.raises(UsageError, match="^No mitigation suits this model; eot_mask is left out: eot_mask needs one"):
        fitting(model, points([Mitigation("eot_mask")]), PROMPTS, drawn)


def test_caption_transforms_come_before_what_changes_the_embedding(planted) -> None:
    noise = Mitigation("embedding_noise", {"scale": 1.0})
    words = Mitigation("repeat_words", {"count": 1})

    def begun(*mitigations: Mitigation):
        with mitigated(planted, mitigations) as log:
            return next(planted.steps(["memorized 1"], [3])).cond["encoder_hidden_states"], log[0]["mitigation"]

    (one, names), (two, others) = begun(noise, words), begun(words, noise)
    assert names == others == ["repeat_words", "embedding_noise"] and bool((one == two).all())
