"""The audit of a fine-tune: each training picture without and with it, on planted models and by the command."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tiny
from lora_files import saved_with_lora
from mnemoscope import planted as planted_model
from mnemoscope.audit.changes import notes, summary
from mnemoscope.audit.finetune import Beyond, Finetune, run_finetune_audit
from mnemoscope.audit.run import Copying, Examination, thinned
from mnemoscope.audit.training_set import controls_of, recombined, training_pictures
from mnemoscope.detection.run import Detection
from mnemoscope.errors import UsageError
from mnemoscope.features import descriptor
from mnemoscope.generation.run import Generation
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import as_prompts
from mnemoscope.run.run import read_json, read_rows

SAMPLING = {"num_inference_steps": 8, "guidance_scale": 3.0}
QUICK = ["--num-inference-steps", 2, "--images", 1, "--seeds", 1, "--explain", "none", "--mitigate", "none"]
CAPTIONS = ["red cat on mat", "blue dog in fog", "green hen by pen"]


def folder_of(place: Path, captions: list[str], side: int = 16) -> Path:
    """Pictures of noise with a text of the same name beside each."""
    place.mkdir()
    for k, caption in enumerate(captions):
        noise = np.random.default_rng(k).integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(noise).save(place / f"{k}.png")
        (place / f"{k}.txt").write_text(caption + "\n")
    return place


def test_prompts_are_the_captions_once_each_and_pictures_without_one_are_counted(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "set", ["a photo of sks", "a photo of sks", "another"])
    Image.new("RGB", (8, 8)).save(source / "bare.png")
    data = training_pictures(str(source))
    assert [p.text for p in data.prompts] == ["a photo of sks", "another"]
    assert [p.key for p in data.pictures] == ["0.png", "1.png", "2.png"]
    assert data.prompt_ids[0] == data.prompt_ids[1] == data.prompts[0].id != data.prompt_ids[2]
    assert {p.kind for p in data.prompts} == {"training"}
    assert (data.counts["with_caption"], data.counts["without_caption"]) == (3, 1)
    assert [p.key for p in training_pictures(str(source), start=1, limit=1).pictures] == ["1.png"]
    (source / "only").mkdir()
    Image.new("RGB", (8, 8)).save(source / "only" / "bare.png")
    with pytest.raises(UsageError, match="None of the 1 pictures of .* has a caption"):
        training_pictures(str(source / "only"))


def test_made_controls_have_the_captions_words_at_their_places_and_are_none_of_them() -> None:
    found = recombined(CAPTIONS, 20, seed=1)
    assert len(set(found)) == 20 and not set(found) & set(CAPTIONS)
    columns = [set(words) for words in zip(*(caption.split() for caption in CAPTIONS), strict=True)]
    assert all(word in columns[k] for text in found for k, word in enumerate(text.split()))
    assert found == recombined(CAPTIONS, 20, seed=1) != recombined(CAPTIONS, 20, seed=2)
    with pytest.raises(UsageError, match="too few or too alike to make 20 others"):
        recombined(["a photo of sks dog"], 20)


def test_controls_that_were_trained_on_are_refused(tmp_path: Path) -> None:
    data = training_pictures(str(folder_of(tmp_path / "set", CAPTIONS)))
    with pytest.raises(UsageError, match="1 of the 2 negatives are captions of"):
        controls_of(data, as_prompts(["unseen", "red  cat on mat"]), fpr=0.5, seed=0)
    given = controls_of(data, as_prompts(["unseen"]), fpr=0.5, seed=0)
    assert [p.text for p in given.prompts] == ["unseen"] and not given.made
    made = controls_of(data, [], fpr=0.1, seed=0)
    assert len(made.prompts) == 10 and made.made and {p.id[:2] for p in made.drawn} == {"n-"}


def forgetful() -> Denoiser:
    """The planted model, to which the word "memorized" says nothing."""
    model = planted_model.model()
    model.pipe.unet.word_keys.zero_()
    return model


def planted_audit(tmp_path: Path, **models: object) -> tuple[Path, list[dict], dict]:
    """An audit of planted models on two captions that own their picture and one that does not."""
    captions = ["memorized 1", "memorized 2", "ordinary 3"]
    pictures = planted_model.images()
    source = tmp_path / "set"
    source.mkdir()
    for k, caption in enumerate(captions):
        pixels = pictures[int(caption.split()[1])].add(1).mul(127.5).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(source / f"{k}.png")
        (source / f"{k}.txt").write_text(caption)
    data = training_pictures(str(source))
    controls = controls_of(data, as_prompts([f"ordinary {k}" for k in range(20, 24)]), fpr=0.5, seed=0)
    asked = Examination(
        Detection(**SAMPLING), Generation(2, **SAMPLING), copying=Copying(str(source), descriptor("pixels")), fpr=0.5
    )
    out = tmp_path / "audit"
    assert run_finetune_audit(Finetune(**models), data, controls, out, asked) == 0  # type: ignore[arg-type]
    return out, read_rows(out / "finetune"), read_json(out / "finetune" / "summary.json")


def test_what_the_fine_tune_added_is_its_own_likeness_less_the_bases(tmp_path: Path) -> None:
    tuned, base = planted_model.model(), forgetful()
    out, rows, found = planted_audit(tmp_path, tuned=tuned, base=base)
    pictures = [row for row in rows if not row["control"]]
    assert [row["id"] for row in pictures] == ["0.png", "1.png", "2.png"]
    for row in pictures:
        is_memorized = row["prompt"].startswith("memorized")
        assert row["added"] == row["similarities"]["tuned"] - row["similarities"]["base"]
        assert row["copied"] == {"base": False, "tuned": is_memorized}
        assert row["flags"]["tuned"] is is_memorized
        own = Image.open(out / "finetune" / row["reference"])
        image = Image.open(out / row["best_files"]["tuned"])
        one, other = descriptor("pixels")([own, image])
        assert row["best"]["tuned"] == pytest.approx(float(one @ other), abs=1e-5)
    assert found["copied_anew"] == pytest.approx(2 / 3) and found["copied_base"] == 0
    assert found["added"] == pytest.approx(np.mean([row["added"] for row in pictures]))
    assert found["added_interval"][0] <= found["added"] <= found["added_interval"][1]
    for name, folder in (("base", out / "base"), ("tuned", out)):
        assert found[f"threshold_{name}"] == read_json(folder / "detect" / "summary.json")["threshold"] > 0
    assert "set anew" in found["notes"][0] and len(found["notes"]) == 1 and found["control_copied_tuned"] == 0
    assert read_json(out / "base" / "run.json")["command"] == "audit"
    assert read_json(out / "summary.json")["finetune"]["drawn"] == 3


def test_a_repaired_model_and_one_drawn_beyond_stand_beside_them(tmp_path: Path) -> None:
    tuned, base = planted_model.model(), forgetful()
    repaired = forgetful()
    _, rows, found = planted_audit(tmp_path, tuned=tuned, base=base, repaired=repaired, beyond=Beyond(2.0))
    for row in rows[:3]:
        assert set(row["similarities"]) == {"base", "tuned", "repaired", "extrapolated"}
        assert row["best"]["repaired"] == row["best"]["base"] and row["like_base"]["repaired"] == pytest.approx(1)
        assert set(row["scores"]) == {"base", "tuned", "repaired"}
    assert found["removed"] == pytest.approx(-found["added"]) and found["copied_repaired"] == 0
    assert "beyond" in found and set(rows[3]["similarities"]) == {"base", "tuned", "repaired"}


def changed_row(prompt: str, value: float, before: bool = False) -> Any:
    return {"prompt_id": prompt, "control": False, "scores": {}, "flags": {}, "added": value, "like_base": {}} | {
        "similarities": {"base": 0.0, "tuned": value},
        "copied": {"base": before, "tuned": value > 0.5},
    }


def test_what_the_base_copies_already_is_not_copied_anew() -> None:
    found = summary([changed_row(str(k), 1.0, before=k < 3) for k in range(4)])
    assert found["copied_tuned"] == 1 and found["copied_base"] == 0.75 and found["copied_anew"] == 0.25


def test_pictures_of_one_caption_are_one_prompt_in_an_interval() -> None:
    apart = summary([changed_row(str(k), float(k % 2)) for k in range(20)])
    together = summary([changed_row(str(k % 2), float(k % 2)) for k in range(20)])
    widths = [found["added_interval"][1] - found["added_interval"][0] for found in (apart, together)]
    assert apart["added"] == together["added"] == 0.5 and widths[0] < 0.6 < widths[1] == 1
    assert apart["captions"] == 20 and together["captions"] == 2


@pytest.mark.parametrize("text", ["1", "0", "nan", "inf", "x", "3:null", ""])
def test_a_weight_that_goes_nowhere_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="give WEIGHT"):
        Beyond.of(text)
    assert Beyond.of("3:uncond") == Beyond(3.0, "uncond") and Beyond.of("1.5") == Beyond(1.5, "guided")


@pytest.fixture
def tuned(tmp_path: Path) -> Path:
    """A pipeline and a strong random LoRA of it, on the disk, and a folder of captioned pictures."""
    saved_with_lora(tmp_path)
    folder_of(tmp_path / "set", CAPTIONS)
    return tmp_path


def test_the_command_compares_a_lora_with_its_base(mnemoscope, tuned: Path) -> None:
    words = ["audit", tuned / "base", "--lora", f"{tuned / 'lora'}:0.5", "--data", tuned / "set", "--device", "cpu"]
    words += [*QUICK, "--fpr", 0.2, "--extrapolate", "2:cond", "--repaired", f"{tuned / 'lora'}:0.1"]
    code, printed, error = mnemoscope(*words, "--out", tuned / "audit")
    assert code == 0, error
    assert "training pictures come back with the fine-tune" in printed and "set anew" in printed
    page = (tuned / "audit" / "report.html").read_text()
    assert "Each training picture, without and with the fine-tune" in page and "made of the training captions" in page
    weights = {n: read_json(tuned / "audit" / n / "detect" / "run.json")["model"] for n in ("", "base", "repaired")}
    assert len({model["weights"] for model in weights.values()}) == 3
    assert weights[""]["parts"]["loras"][0]["scale"] == 0.5 and "parts" not in weights["base"]
    plain = Denoiser.from_pretrained(str(tuned / "base"), device="cpu").describe()
    assert weights["base"]["weights"] == plain["weights"]
    rows = read_rows(tuned / "audit" / "finetune")
    assert [row["id"] for row in rows[:3]] == ["0.png", "1.png", "2.png"] and len(rows) == 3 + 5
    assert sum(bool(row["similarities"]) for row in rows[3:]) == 3

    before = json.dumps(rows)
    code, _, error = mnemoscope(*words, "--out", tuned / "audit")
    assert code == 0 and json.dumps(read_rows(tuned / "audit" / "finetune")) == before, error
    policy = tuned / "policy.yaml"
    policy.write_text("checks:\n  - {measure: replication_rate, group: kind:training, max: 0.5}\n")
    code, printed, error = mnemoscope("gate", tuned / "audit", "--policy", policy, "--baseline", tuned / "audit/base")
    assert code == 4 and "safetensors:0.5, scheduler" in printed and "LoRA none, scheduler" in printed, error


def test_a_whole_fine_tuned_model_is_compared_with_the_base_that_is_named(mnemoscope, tuned: Path) -> None:
    tiny.stable_diffusion(network=tiny.unet(5)).save_pretrained(tuned / "whole")
    words = ["audit", tuned / "whole", "--base", tuned / "base", "--data", tuned / "set", "--device", "cpu", *QUICK]
    code, _, error = mnemoscope(*words, "--fpr", 0.2, "--out", tuned / "audit")
    assert code == 0, error
    rows = read_rows(tuned / "audit" / "finetune")
    assert all(row["scores"]["base"] != row["scores"]["tuned"] for row in rows)
    code, _, error = mnemoscope(*words[:2], "--unet", tuned / "base", *words[4:], "--fpr", 0.2, "--out", tuned / "put")
    assert code == 0, error
    other = {row["id"]: row["scores"] for row in read_rows(tuned / "put" / "finetune")}
    for row in rows:  # the same two networks, the other way round
        swapped = {"base": row["scores"]["tuned"], "tuned": row["scores"]["base"]}
        assert other[row["id"]] == pytest.approx(swapped, rel=1e-5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "An audit needs --prompts, or --data"),
        (["--data", "set"], "give --lora or --unet, or the model"),
        (["--data", "set", "--prompts", "p.txt"], "leave out --prompts"),
        (["--data", "set", "--references", "set"], "leave out --references"),
        (["--prompts", "p.txt", "--repaired", "x"], "--repaired is of the audit of a fine-tune"),
        (["--data", "set", "--base", "demo", "--repaired", "x"], "--repaired takes the place of --lora"),
    ],
)
def test_options_that_do_not_go_together_are_refused(mnemoscope, tmp_path: Path, monkeypatch, words, said) -> None:
    monkeypatch.chdir(tmp_path)
    folder_of(tmp_path / "set", CAPTIONS)
    (tmp_path / "p.txt").write_text("a cat\n")
    code, _, error = mnemoscope("audit", "demo", *words, "--out", "run")
    assert code == 2 and said in error and not (tmp_path / "run").exists()


def test_prompts_are_thinned_alike_for_training_captions_and_controls() -> None:
    assert [p.text for p in thinned(as_prompts(["a", "b", "c", "d"]), 2)] == ["a", "c"]


def test_controls_that_give_a_training_picture_back_are_told() -> None:
    found = {"control_copied_tuned": 0.25, "controls_drawn": 8}
    assert "2 of 8 controls" in notes(found, made=False)[1] and "too high" in notes(found, made=False)[1]
    assert len(notes({"control_copied_tuned": 0.0, "controls_drawn": 8}, made=True)) == 2
