"""Any run is the prompts of the next command: what it flagged, what it rewrote, what it trained on."""

import json
from pathlib import Path

import pytest

import mnemoscope as mn
from mnemoscope.generation.rewritten import rewriting_summary
from mnemoscope.prompts.prompt import read_prompts


def run(folder: Path, command: str, rows: list[dict]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"command": command, "settings": {}}))
    (folder / "rows.jsonl").write_text("".join(json.dumps({"status": "ok", **row}) + "\n" for row in rows))
    return folder


def detected(folder: Path, flags: list[bool | None]) -> Path:
    rows = [{"id": f"p{k}", "prompt": f"prompt {k}", "score": float(k), "flagged": f} for k, f in enumerate(flags)]
    return run(folder, "detect", [*rows, {"id": "n-1", "prompt": "ordinary", "score": 0.0, "role": "negative"}])


def test_what_is_flagged_and_what_is_not(tmp_path: Path) -> None:
    source = detected(tmp_path, [True, False, True])
    assert [p.text for p in read_prompts(source)] == ["prompt 0", "prompt 1", "prompt 2"]
    assert [p.text for p in read_prompts(source, only="flagged")] == ["prompt 0", "prompt 2"]
    assert [p.text for p in read_prompts(source, only="unflagged")] == ["prompt 1"]
    assert read_prompts(source, only="flagged")[1].source["score"] == 2.0


def test_an_audit_stands_for_its_detection(tmp_path: Path) -> None:
    detected(tmp_path / "detect", [True, False])
    (tmp_path / "run.json").write_text(json.dumps({"command": "audit", "settings": {}}))
    assert [p.text for p in read_prompts(tmp_path, only="flagged")] == ["prompt 0"]


def test_rewrites_are_drawn_and_keep_the_picture_that_they_stand_for(tmp_path: Path) -> None:
    base = {"prompt_id": "x", "prompt": "a red fox", "level": 3, "k": 0, "chosen": []}
    rows = [{"id": f"x-{k}", **base, "rewrite": f"a scarlet animal {k}"} for k in range(2)]
    source = run(
        tmp_path, "rewrite", [*rows, {"id": "y", "prompt_id": "y", "prompt": "b", "status": "failed", "error": "no"}]
    )
    found = read_prompts(source)
    assert [p.text for p in found] == ["a scarlet animal 0", "a scarlet animal 1"]
    assert {p.reference for p in found} == {"a red fox"}
    assert [p.text for p in read_prompts(source, only="original")] == ["a red fox"]
    both = read_prompts(source, only="both")
    assert [p.text for p in both] == ["a red fox", "a scarlet animal 0", "a scarlet animal 1"]
    assert both[0].reference == "a red fox"


def test_images_of_a_prompt_are_one_prompt(tmp_path: Path) -> None:
    about = {"prompt_id": "p", "prompt": "a fox", "mitigation": []}
    rows = [{"id": f"p-{s}", **about, "seed": s, "file": f"images/{s}.png"} for s in (0, 1)]
    assert [p.text for p in read_prompts(run(tmp_path, "generate", rows))] == ["a fox"]


@pytest.mark.parametrize(
    ("flags", "only", "said"),
    [([None, None], "flagged", "flags nothing"), ([False], "flagged", "has no flagged prompts")],
)
def test_a_run_without_them_is_refused(tmp_path: Path, flags: list, only: str, said: str) -> None:
    with pytest.raises(mn.UsageError, match=said):
        read_prompts(detected(tmp_path, flags), only=only)


def test_only_is_about_runs(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a fox\n")
    with pytest.raises(mn.UsageError, match="it is no run, and --only flagged is about one"):
        read_prompts(tmp_path / "p.txt", only="flagged")


def test_whether_rewrites_copy_less_is_paired_by_what_they_stand_for() -> None:
    def drawn(prompt: str, own: float, reference: str | None = None) -> dict:
        row = {"status": "ok", "prompt": prompt, "own_similarity": own}
        return row | ({"reference_caption": reference} if reference else {})

    rows = [drawn("a", 0.9), drawn("a", 1.0), drawn("b", 0.8), drawn("a2", 0.5, "a"), drawn("a3", 0.4, "a")]
    said = rewriting_summary([*rows, drawn("b2", 0.2, "b"), drawn("c2", 0.1, "c"), drawn("d", 0.3)])["rewriting"]
    assert said["captions"] == 3 and said["rewritten"] == pytest.approx((0.45 + 0.2 + 0.1) / 3)
    assert said["original"] == pytest.approx((0.95 + 0.8) / 2)
    assert said["difference"] == pytest.approx((-0.5 - 0.6) / 2)
    low, high = said["difference_interval"]
    assert low <= said["difference"] <= high < 0
    assert rewriting_summary(rows[:3]) == {}
