"""From a folder of captioned pictures to a verdict: trained, audited, gated, on the bundled model; slow."""

import json
from pathlib import Path

import pytest

from mnemoscope.experiments.scenes import Scenes, scenes
from mnemoscope.run.run import read_json, read_rows

pytestmark = pytest.mark.slow
PICTURES, FEW = 12, 6
TRAIN = "--train lora --lora-layers all --lora-rank 32 --steps 300 --batch-size 12 --learning-rate 2e-3".split()
DRAW = "--num-inference-steps 20 --guidance-scale 3 --explain none --mitigate none --device cpu --seeds 2".split()
CHECK = {"measure": "copied_prompt_share", "group": "kind:training", "max": 0.25}


def stranger(folder: Path) -> Path:
    """Pictures of scenes, each with a text of the same name."""
    folder.mkdir()
    for k, scene in enumerate(scenes(Scenes(count=PICTURES, complexity=0.1, captions=1), 3)):
        scene.image.save(folder / f"{k}.png")
        (folder / f"{k}.txt").write_text(scene.captions[0] + "\n")
    return folder


def test_the_base_passes_the_fine_tune_fails_and_too_few_pictures_are_undecided(mnemoscope, tmp_path: Path) -> None:
    source, run, policy = stranger(tmp_path / "pictures"), tmp_path / "lora", tmp_path / "policy.yaml"
    policy.write_text(json.dumps({"checks": [CHECK]}))
    code, _, error = mnemoscope("train", "demo", "--data", source, *TRAIN, "--lr-scheduler", "cosine", "--out", run)
    assert code == 0, error
    words = ["audit", "demo", "--lora", run, "--data", source, *DRAW]
    code, printed, error = mnemoscope(*words, "--images", 2, "--out", tmp_path / "audit")
    assert code == 0 and "0 with its base" in printed, error
    gate = ["gate", tmp_path / "audit", "--policy", policy, "--baseline", tmp_path / "audit" / "base"]
    code, printed, error = mnemoscope(*gate)
    assert code == 3 and "LoRA none" in printed, printed + error
    code, printed, error = mnemoscope("gate", tmp_path / "audit" / "base", "--policy", policy)
    assert code == 0, printed + error
    found = read_json(tmp_path / "audit" / "finetune" / "summary.json")
    assert found["copied_base"] == 0 and found["added_interval"][0] > 0.3

    few = tmp_path / "few"
    code, _, error = mnemoscope(*words, "--images", 1, "--limit", FEW, "--out", few)
    assert code == 0, error
    code, printed, _ = mnemoscope("gate", few / "base", "--policy", policy)
    assert code == 4 and "6 further prompts" in printed
    (check,) = read_json(few / "base" / "gate" / "verdict.json")["checks"]
    assert check["further_prompts"] == PICTURES - FEW  # and with all of them the base passed

    rule = ["--energy", 0.9, "--least-alignment", 0.5]
    code, _, error = mnemoscope(
        "repair", "demo", "--lora", run, *rule, "--device", "cpu", "--out", tmp_path / "repaired"
    )
    assert code == 0, error
    words += ["--repaired", tmp_path / "repaired", "--images", 1, "--out", tmp_path / "after"]
    code, printed, error = mnemoscope(*words)
    assert code == 0 and "0 with the repaired one" in printed, error
    rows = [row for row in read_rows(tmp_path / "after" / "finetune") if not row["control"]]
    assert all(set(row["best"]) == {"base", "tuned", "repaired"} for row in rows) and len(rows) == PICTURES
