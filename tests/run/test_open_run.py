"""Runs opened from Python: what is in the table, the summary and the images is what the run wrote."""

from pathlib import Path

import pytest

import mnemoscope as mn
from mnemoscope.detection.run import Detection
from mnemoscope.generation.run import Generation
from mnemoscope.prompts.prompt import as_prompts


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit's folder, made of a detection and of images."""
    folder, planted = tmp_path_factory.mktemp("runs"), mn.planted.model()
    prompts = as_prompts(["memorized 0", "ordinary 1", "ordinary 2"])
    mn.run_detection(planted, prompts, folder / "detect", Detection(num_inference_steps=5))
    mn.run_generation(planted, prompts[:2], folder / "generate", Generation(images=2, num_inference_steps=3))
    return folder


def test_rows_are_a_table_of_what_the_run_wrote(runs: Path) -> None:
    run = mn.open(runs / "detect")
    written = mn.run.read_rows(runs / "detect")
    assert list(run.rows["prompt"]) == [row["prompt"] for row in written] and len(run.rows) == 3
    assert run.rows["score"].tolist() == [row["score"] for row in written]
    assert run.rows["score"].idxmax() == 0 and run.summary["network_evaluations"] == 4
    assert run.images == [] and run.headline in repr(run)


def test_images_are_those_of_the_rows(runs: Path) -> None:
    run = mn.open(runs / "generate")
    assert len(run.images) == 4 and {p.name for p in run.images} == {Path(f).name for f in run.rows["file"]}
    assert run.report(runs / "page.html").read_text().count("<html") == 1


def test_an_audit_is_its_parts(runs: Path) -> None:
    audit = mn.open(runs)
    assert set(audit.parts) == {"detect", "generate"} and set(audit.summary) == {"detect", "generate"}
    assert audit.rows["part"].value_counts().to_dict() == {"generate": 4, "detect": 3}
    assert audit.images == mn.open(runs / "generate").images
    with pytest.raises(mn.UsageError, match="take one of its parts: detect, generate"):
        _ = audit.record


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(mn.UsageError, match="holds no run"):
        mn.open(tmp_path)
    with pytest.raises(mn.UsageError, match="is not a folder"):
        mn.open(tmp_path / "gone")
