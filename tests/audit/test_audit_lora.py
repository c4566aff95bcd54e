"""What a LoRA memorized: an audit with it, one without it, and the two compared."""

import json
from pathlib import Path

import pytest

import tiny
from lora_files import saved_with_lora
from mnemoscope.methods import by_name as api
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.trajectory import Trajectory
from mnemoscope.run.run import read_rows

PROMPTS = ["abc", "xyz", "a b c"]
AUDIT = ["--num-inference-steps", 2, "--images", 1, "--seeds", 1, "--explain", "none", "--mitigate", "none"]


@pytest.fixture
def tuned(tmp_path: Path) -> Denoiser:
    """A pipeline with a strong random LoRA, both of them also on the disk, apart."""
    network = saved_with_lora(tmp_path)
    (tmp_path / "captions.txt").write_text("\n".join(PROMPTS) + "\n")
    return Denoiser(tiny.stable_diffusion(network=network))


def test_an_audit_of_a_lora_is_one_of_the_model_with_it_and_compares_with_the_base(
    mnemoscope, tuned: Denoiser, tmp_path: Path
) -> None:
    common = ["--prompts", tmp_path / "captions.txt", "--device", "cpu", *AUDIT]
    options = {"with": ["--lora", tmp_path / "lora"], "without": []}
    for name, more in options.items():
        code, _, error = mnemoscope("audit", tmp_path / "base", *more, *common, "--out", tmp_path / name)
        assert code == 0, error
    scores = {name: _scores(tmp_path / name / "detect") for name in options}
    models = {"with": tuned, "without": Denoiser(tiny.stable_diffusion())}
    for name, model in models.items():
        expected = api.detect(Trajectory(model, PROMPTS, 0, num_inference_steps=2), "noise_norm")
        assert scores[name] == pytest.approx(dict(zip(PROMPTS, expected.tolist(), strict=True)), rel=1e-3)
    assert all(abs(scores["with"][p] / scores["without"][p] - 1) > 0.02 for p in PROMPTS)

    records = [json.loads((tmp_path / name / "detect" / "run.json").read_text()) for name in options]
    assert records[0]["model"]["weights"] != records[1]["model"]["weights"]
    assert json.loads((tmp_path / "with" / "run.json").read_text())["asked"]["parameters"]["lora"] == [
        str(tmp_path / "lora")
    ]
    drawn = [{r["id"]: r["file"] for r in read_rows(tmp_path / name / "generate")} for name in options]
    for image in set(drawn[0]) & set(drawn[1]):
        one, other = ((tmp_path / n / "generate" / d[image]).read_bytes() for n, d in zip(options, drawn, strict=True))
        assert one != other
    parts = [tmp_path / name / "detect" for name in options]
    code, _, error = mnemoscope("report", *parts, "--out", tmp_path / "comparison.html")
    assert code == 0 and (tmp_path / "comparison.html").is_file(), error


def _scores(run: Path) -> dict[str, float]:
    return {row["prompt"]: row["score"] for row in read_rows(run)}
