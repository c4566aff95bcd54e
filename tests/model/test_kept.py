"""What is computed once: a prompt goes through each text encoder a single time, whatever is done with it."""

from pathlib import Path

import pytest
import torch

import mnemoscope as mn
import tiny
import tiny_families
from mnemoscope.detection.run import Detection, detect_rows
from mnemoscope.explanation.asked import Explanation
from mnemoscope.explanation.run import explain_rows
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.kept import Kept
from mnemoscope.prompts.prompt import as_prompts

PROMPTS = ["red", "blue", "green"]
FAMILIES = {
    "sd": tiny.stable_diffusion,
    "xl": tiny.stable_diffusion_xl,
    "sd3": tiny_families.sd3,
}


def counted(pipe):
    """How many samples each text encoder computes from now on."""
    calls = {}

    def count(name, forward):
        def counting(*args, **kwargs):
            calls[name] += len(args[0] if args else kwargs["input_ids"])
            return forward(*args, **kwargs)

        return counting

    for name, module in pipe.components.items():
        if name.startswith("text_encoder") and isinstance(module, torch.nn.Module):
            module.forward, calls[name] = count(name, module.forward), 0
    return calls


@pytest.mark.parametrize("family", FAMILIES)
def test_detect_explain_mitigate_and_generate_encode_each_prompt_once(family: str) -> None:
    pipe = FAMILIES[family]()
    calls, model, prompts = counted(pipe), Denoiser(pipe), as_prompts(PROMPTS)
    detect_rows(model, prompts, Detection(num_inference_steps=3, seeds=2))
    explain_rows(model, prompts, Explanation(num_inference_steps=3))
    with mn.mitigate(model, "embedding_descent", score="noise_norm", iterations=1):
        model.generate(PROMPTS, [0, 1, 2], num_inference_steps=3)
    model.generate(PROMPTS[::-1], [0, 1, 2], num_inference_steps=3)
    assert set(calls.values()) == {len(PROMPTS) + 1}, calls  # and no prompt, for the other branch


@pytest.mark.parametrize("family", FAMILIES)
def test_an_encoding_depends_neither_on_its_neighbours_nor_on_what_was_encoded_before(family: str) -> None:
    alone, model = Denoiser(FAMILIES[family]()), Denoiser(FAMILIES[family]())
    model.encode(PROMPTS[::-1])
    for k, prompt in enumerate(PROMPTS):
        for name, value in alone.encode([prompt]).items():
            assert torch.equal(model.encode(PROMPTS)[name][k], value[0])


def test_what_is_made_of_an_encoding_does_not_change_the_one_that_is_kept() -> None:
    model = Denoiser(tiny.stable_diffusion())
    first = model.encode(["red"])["encoder_hidden_states"]
    before = first.clone()
    first.zero_()
    assert torch.equal(model.encode(["red"])["encoder_hidden_states"], before)
    null = model.null(1)["encoder_hidden_states"]
    null.zero_()
    assert model.null(2)["encoder_hidden_states"].ne(0).any()


@pytest.mark.parametrize("is_counted", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_other_weights_of_an_encoder_make_a_new_encoding(family: str, is_counted: bool) -> None:
    pipe = FAMILIES[family]()
    model = Denoiser(pipe)
    before, null = model.encode(["red"]), model.null(1)
    with torch.no_grad():
        for parameter in pipe.text_encoder.parameters():
            (parameter if is_counted else parameter.data).mul_(1.5)
    assert not torch.equal(model.encode(["red"])["encoder_hidden_states"], before["encoder_hidden_states"])
    if family != "xl":  # whose unconditional branch is zero, not encoded
        assert not torch.equal(model.null(1)["encoder_hidden_states"], null["encoder_hidden_states"])
    other = type(pipe.text_encoder)(pipe.text_encoder.config).eval()
    changed = model.encode(["red"])
    pipe.register_modules(text_encoder=other)
    assert not torch.equal(model.encode(["red"])["encoder_hidden_states"], changed["encoder_hidden_states"])


def test_the_ones_used_longest_ago_give_way() -> None:
    made: list[str] = []

    def value(name: str) -> dict[str, torch.Tensor]:
        made.append(name)
        return {"x": torch.zeros(25)}  # 100 bytes

    kept = Kept(room=250)
    for name in ("a", "b", "a", "c", "a", "b"):
        kept(name, lambda name=name: value(name))
    assert made == ["a", "b", "c", "b"] and kept.made == 4 and kept.held == 200


def test_a_value_larger_than_the_room_is_kept_alone(tmp_path: Path) -> None:
    kept = Kept(room=10)
    for name in ("a", "a", "b"):
        kept(name, lambda: torch.zeros(100))
    assert kept.made == 2 and kept.held == 400
