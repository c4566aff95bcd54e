"""Textual inversions of several vectors: every position is that of what the pipeline encodes, not of what was typed."""

import copy
from pathlib import Path

import pytest
import torch

import mnemoscope as mn
import tiny
from mnemoscope.detection.run import Detection
from mnemoscope.explanation.asked import Explanation
from mnemoscope.model import tokens
from mnemoscope.model.inversion import spelt
from mnemoscope.model.words import content, merged
from mnemoscope.prompts.prompt import as_prompts


@pytest.fixture(scope="module")
def model() -> mn.Denoiser:
    pipe = tiny.stable_diffusion()
    pipe.tokenizer = copy.deepcopy(pipe.tokenizer)  # all tests share the other one
    pipe.load_textual_inversion({"<toy>": 0.1 * torch.randn(3, tiny.WIDTH)}, token="<toy>")
    pipe.load_textual_inversion({"<one>": 0.1 * torch.randn(tiny.WIDTH)}, token="<one>")
    return mn.Denoiser(pipe)


def test_a_token_of_three_vectors_is_three_positions(model: mn.Denoiser) -> None:
    plain, learnt = model.family.ends(["a b"]), model.family.ends(["a <toy> b"])
    assert learnt[0] == plain[0] + 3
    (names,) = model.family.tokens(["a <toy> b"])
    assert names[2:5] == ["<toy>", "<toy>_1", "<toy>_2"]


def test_tokens_and_words_are_credited_to_the_characters_that_were_typed(model: mn.Denoiser) -> None:
    prompt = "a <toy> b <one>"
    (found,) = content(model.family, [prompt])
    assert [prompt[t.start : t.end] for t in found] == ["a", "<toy>", "<toy>", "<toy>", "b", "<one>"]
    assert [t.place for t in found] == [1, 2, 3, 4, 5, 6]
    words = merged(prompt, found, [1, 2, 3, 4, 5, 6])
    assert {w["word"]: w["sum"] for w in words if w["word"] in ("a", "b")} == {"a": 1, "b": 5}
    assert sum(w["sum"] for w in words) == 21


def test_positions_are_those_whose_embedding_changes(model: mn.Denoiser) -> None:
    def embedded(prompt: str) -> torch.Tensor:
        return model.encode([prompt])["encoder_hidden_states"][0]

    prompt = "a <toy> b"
    (end,) = model.family.ends([prompt])
    (found,) = content(model.family, [prompt])
    changed = (embedded(prompt) != embedded("a <toy> c")).any(1).nonzero()[0].item()
    assert found[-1].place == changed and end == changed + 1


def test_mitigations_of_the_end_and_the_padding_act_on_what_is_encoded(model: mn.Denoiser) -> None:
    prompt = "a <toy> b"
    (end,) = model.family.ends([prompt])
    plain = model.encode([prompt])["encoder_hidden_states"]
    with mn.mitigate(model, "eot_mask"):
        (step,) = mn.Trajectory(model, [prompt], 0, num_inference_steps=2).first(1)
    touched = (step.cond["encoder_hidden_states"] != plain)[0].any(1).nonzero().flatten().tolist()
    assert touched == [end]
    padded = tokens.encode_padded(model, [prompt], "!")
    assert torch.equal(padded[0, : end + 1], plain[0, : end + 1]) and not torch.equal(
        padded[0, end + 1 :], plain[0, end + 1 :]
    )


def test_what_is_cut_off_counts_every_vector(model: mn.Denoiser) -> None:
    room = model.pipe.tokenizer.model_max_length - 2
    assert tokens.cut_off(model, ["a " * (room - 1) + "b"]) == [0]
    assert tokens.cut_off(model, ["a " * (room - 1) + "<toy>"]) == [2]


def test_without_inversions_a_prompt_is_itself() -> None:
    prompt = "a <toy> b"
    (plain,) = spelt(tiny.stable_diffusion(), [prompt])
    assert plain.text == prompt and plain.span(2, 7) == (2, 7)


def test_runs_say_which_prompts_are_cut_off(tmp_path: Path) -> None:
    model = mn.Denoiser(tiny.stable_diffusion())
    prompts = as_prompts(["a fox", "a " * 20 + "b", "a " * 17 + "c"])
    summary = mn.run_detection(model, prompts, tmp_path / "d", Detection(num_inference_steps=2))
    assert [row["cut_off"] for row in mn.run.read_rows(tmp_path / "d")] == [0, 7, 4]
    assert summary["cut_off"] == {"prompts": 2, "most_tokens": 7}
    assert any("2 prompts are longer than the text encoder reads: up to 7 tokens" in n for n in summary["notes"])
    asked = Explanation("random", num_inference_steps=2)
    summary = mn.run_explanation(model, prompts[:2], tmp_path / "e", asked)
    assert summary["cut_off"] == {"prompts": 1, "most_tokens": 7} and "1 prompt is longer" in summary["notes"][0]
