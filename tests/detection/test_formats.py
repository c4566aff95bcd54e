"""Wen et al.'s result files: written as their code writes them, read back, and refused where they are broken."""

import json
from pathlib import Path
from typing import Any

import pytest

from mnemoscope.detection.formats import read_wen, write_wen
from mnemoscope.detection.run import Detection, import_detection, run_detection
from mnemoscope.errors import UsageError
from mnemoscope.prompts.prompt import as_prompts
from mnemoscope.report.detect import cards, drawings
from mnemoscope.report.reading import read
from mnemoscope.run.run import read_rows


def record(text: str, *images: list[float], **others: Any) -> dict:
    """A line of Wen et al.'s files: norms as [images][steps]."""
    uncond = [[10.0 + x for x in image] for image in images]
    return {"text_noise_norm": list(images), "uncond_noise_norm": uncond, "prompt": text, **others}


def write(file: Path, *records: dict) -> Path:
    file.write_text("".join(json.dumps(r) + "\n" for r in records))
    return file


def test_a_detection_is_written_with_their_keys_and_shapes(planted, tmp_path: Path) -> None:
    detection = Detection(params={"steps": 3}, seeds=2, num_inference_steps=5, companions=("uncond_norm",))
    run_detection(planted, as_prompts(["memorized 1", "ordinary 2"]), tmp_path, detection)
    rows = read_rows(tmp_path)
    write_wen(rows, tmp_path / "wen.jsonl")
    records = [json.loads(line) for line in (tmp_path / "wen.jsonl").read_text().splitlines()]
    assert [set(r) for r in records] == [{"text_noise_norm", "uncond_noise_norm", "prompt"}] * 2
    for row, written in zip(rows, records, strict=True):
        assert written["text_noise_norm"] == row["series"] and written["prompt"] == row["prompt"]
        assert written["uncond_noise_norm"] == row["companions"]["uncond_norm"]
        assert [len(image) for image in written["uncond_noise_norm"]] == [3, 3]


def test_what_was_written_is_read_back(planted, tmp_path: Path) -> None:
    prompts = as_prompts(["memorized 1", "a\u2028photo\u0085of\x1cthe", "two\nlines", "memorized 1", "naïve ☃"])
    run_detection(planted, prompts, tmp_path, Detection(params={"steps": 2}, seeds=2, companions=("uncond_norm",)))
    rows = read_rows(tmp_path)
    write_wen(rows, tmp_path / "wen.jsonl")
    again = read_wen(tmp_path / "wen.jsonl")
    for key in ("id", "prompt", "series", "companions", "method", "seeds"):
        assert [r[key] for r in again] == [r[key] for r in rows]
    assert [r["score"] for r in again] == pytest.approx([r["score"] for r in rows])


def test_failed_rows_are_left_out_of_their_file(tmp_path: Path) -> None:
    write_wen([{"id": "a", "prompt": "a", "status": "failed", "error": "it broke"}], tmp_path / "wen.jsonl")
    assert (tmp_path / "wen.jsonl").read_text() == ""


@pytest.mark.parametrize("change", [{"method": "score_norm"}, {"companions": {}}])
def test_rows_of_another_method_or_without_the_companion_are_refused(tmp_path: Path, change: dict) -> None:
    row = {"status": "ok", "method": "noise_norm", "series": [[1.0]], "companions": {"uncond_norm": [[2.0]]}}
    write_wen([row | {"prompt": "a"}], tmp_path / "wen.jsonl")
    with pytest.raises(UsageError, match="run detect with noise_norm --format wen"):
        write_wen([row | {"prompt": "a"} | change], tmp_path / "wen.jsonl")


@pytest.mark.parametrize(("steps", "score"), [((0, None), 3.5), ((0, 1), 2.5), ((1, 3), 4.0), ((2, None), 4.5)])
def test_the_score_is_the_mean_over_images_and_the_chosen_steps(tmp_path: Path, steps: tuple, score: float) -> None:
    write(tmp_path / "wen.jsonl", record("a", [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]))
    (row,) = read_wen(tmp_path / "wen.jsonl", steps=steps)
    assert row["score"] == pytest.approx(score)
    assert row["per_seed"] == pytest.approx([score - 1.5, score + 1.5]) and row["seeds"] == [0, 1]


def test_steps_that_the_file_has_not_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "wen.jsonl", record("a", [1.0, 2.0]))
    with pytest.raises(UsageError, match="has 2 steps; steps 2 to None are not among them"):
        read_wen(tmp_path / "wen.jsonl", steps=(2, None))


def test_an_imported_run_has_the_auc_that_one_counts_by_hand(tmp_path: Path) -> None:
    memorized = write(tmp_path / "mem.jsonl", record("a", [5.0, 7.0]), record("b", [1.0], [2.0]), record("c", [4.0]))
    ordinary = write(tmp_path / "nonmem.jsonl", record("d", [1.5]), record("e", [4.5]), record("a", [0.0, 2.0]))
    summary = import_detection(memorized, tmp_path / "run", negatives=ordinary)
    # 6 > all three; 1.5 ties with 1.5 and beats 1; 4 beats 1.5 and 1
    assert summary["auc"] == pytest.approx((3 + 1.5 + 2) / 9)
    assert (summary["positives"], summary["negatives"], summary["rows"], summary["failed"]) == (3, 3, 6, 0)
    rows = read_rows(tmp_path / "run")
    assert [(r["prompt"], r["role"], r["score"]) for r in rows] == [
        ("a", "prompt", 6.0),
        ("b", "prompt", 1.5),
        ("c", "prompt", 4.0),
        ("d", "negative", 1.5),
        ("e", "negative", 4.5),
        ("a", "negative", 1.0),
    ]
    assert len({r["id"] for r in rows}) == 6


def test_both_countings_of_one_percent_and_the_curves_are_kept(tmp_path: Path) -> None:
    memorized = write(tmp_path / "m.jsonl", *(record(f"m{k}", [2.0, 9.0 + k], [4.0, 9.0 + k]) for k in range(4)))
    ordinary = write(tmp_path / "o.jsonl", *(record(f"o{k}", [1.0, 10.0 if k == 7 else 0.5]) for k in range(100)))
    summary = import_detection(memorized, tmp_path / "run", negatives=ordinary, steps=(1, 2))
    assert summary["tpr_at_1_fpr"] == 1.0  # one of a hundred may be flagged
    assert summary["tpr_below_1_fpr"] == 0.5  # none may: the two above 10
    few = import_detection(memorized, tmp_path / "few", negatives=write(tmp_path / "f.jsonl", record("o", [1.0])))
    assert few["tpr_below_1_fpr"] is None
    found = read(tmp_path / "run")
    figure = {name: figure for name, _, _, figure in drawings(found)}["series"]
    (axes,) = figure.axes
    assert axes.get_xlabel().startswith("number of the step") and axes.get_xlim()[0] < axes.get_xlim()[1]
    curve = next(line for line in axes.lines if "memorized" in line.get_label() or "unlabelled" in line.get_label())
    assert sorted(zip(curve.get_xdata(), curve.get_ydata(), strict=True)) == [(1, 3.0), (2, 10.5)]
    assert ("Flagged below 1 % false alarms", "50 %") in [card[:2] for card in cards(found)]


def test_importing_again_changes_nothing_and_other_steps_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "mem.jsonl", record("a", [5.0, 7.0]))
    import_detection(file, tmp_path / "run")
    before = (tmp_path / "run" / "rows.jsonl").read_bytes()
    import_detection(file, tmp_path / "run")
    assert (tmp_path / "run" / "rows.jsonl").read_bytes() == before
    with pytest.raises(UsageError, match="other settings .*steps"):
        import_detection(file, tmp_path / "run", steps=(0, 1))


def test_half_a_character_in_their_file_makes_a_run_nonetheless(tmp_path: Path) -> None:
    (tmp_path / "mem.jsonl").write_text(json.dumps(record("broken \ud83d emoji", [5.0])) + "\n")
    import_detection(tmp_path / "mem.jsonl", tmp_path / "run")
    assert read_rows(tmp_path / "run")[0]["prompt"] == "broken \ud83d emoji"


BROKEN = {
    "not JSON": "{",
    "a list": "[1, 2]",
    "a number": "5",
    "no prompt": json.dumps({k: v for k, v in record("a", [1.0]).items() if k != "prompt"}),
    "a prompt that is no text": json.dumps(record("a", [1.0], prompt=5)),
    "no uncond": json.dumps({k: v for k, v in record("a", [1.0]).items() if k != "uncond_noise_norm"}),
    "a flat list": json.dumps(record("a", [1.0], text_noise_norm=[1.0])),
    "no image": json.dumps(record("a", [1.0], text_noise_norm=[])),
    "text for a number": json.dumps(record("a", [1.0], text_noise_norm=[["high"]])),
    "text for a list": json.dumps(record("a", [1.0], text_noise_norm=["high"])),
    "NaN": json.dumps(record("a", [float("nan")])),
    "ragged": json.dumps(record("a", [1.0, 2.0], [1.0])),
    "norms of unequal length": json.dumps(record("a", [1.0], uncond_noise_norm=[[1.0, 2.0]])),
}


@pytest.mark.parametrize("line", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_record_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    good = json.dumps(record("a", [1.0]))
    (tmp_path / "wen.jsonl").write_text(f"{good}\n\n{line}\n{good}\n")
    with pytest.raises(UsageError, match=r"wen\.jsonl, line 3 is not a record of Wen et al\.") as refused:
        read_wen(tmp_path / "wen.jsonl")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "could not be read"), (b"", "holds no records"), (b"\n \n", "holds no records"), (b"\xff", "UTF-8")],
)
def test_a_file_without_records_is_refused(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "wen.jsonl").write_bytes(content)
    with pytest.raises(UsageError, match=said):
        import_detection(tmp_path / "wen.jsonl", tmp_path / "run")
    assert not (tmp_path / "run").exists()
