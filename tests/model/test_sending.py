"""A model on its way to another process: by the words that opened it, or as it is; what would not arrive is refused."""

import pickle
from pathlib import Path

import pytest

import tiny
from mnemoscope.errors import UsageError
from mnemoscope.model import sending
from mnemoscope.model.denoiser import Denoiser


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.stable_diffusion().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(autouse=True)
def nothing_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_OPEN", type(sending._OPEN)())


def test_a_model_is_opened_again_as_it_was_opened_and_only_once(folder: Path) -> None:
    model = Denoiser.from_pretrained(folder, scheduler="ddpm", device="cpu")
    model.family.negate("blurred")
    model.at_once = 3
    sent = pickle.dumps(model)
    there = pickle.loads(sent)
    assert len(sent) < 10_000 and there is not model and there is pickle.loads(sent)
    assert there.describe() == model.describe() and there.at_once == 3
    assert there.generate(["a"], [0], num_inference_steps=2)[0].tobytes() == (
        model.generate(["a"], [0], num_inference_steps=2)[0].tobytes()
    )


def test_other_weights_in_the_same_place_are_refused(folder: Path) -> None:
    sent = pickle.dumps(Denoiser.from_pretrained(folder, device="cpu"))
    tiny.stable_diffusion(network=tiny.unet(seed=5)).save_pretrained(folder)
    with pytest.raises(UsageError, match=r"opened another model as .*model \(weights"):
        pickle.loads(sent)


def test_a_model_that_was_changed_since_it_was_opened_is_refused(folder: Path) -> None:
    model = Denoiser.from_pretrained(folder, device="cpu")
    model.pipe.register_modules(scheduler=tiny.scheduler("ddpm"))
    with pytest.raises(UsageError, match="change nothing of a model that is open"):
        pickle.loads(pickle.dumps(model))


def test_a_model_around_a_pipeline_goes_as_it_is_without_what_it_keeps(planted: Denoiser) -> None:
    empty = len(pickle.dumps(planted))
    planted.encode(["memorized 0"])
    planted.network_evaluations = 7
    sent = pickle.dumps(planted)
    there = pickle.loads(sent)
    assert abs(len(sent) - empty) < 1000 and there.network_evaluations == 0
    assert there.weights_hash == planted.weights_hash and there.source == "planted"


def test_open_edits_are_refused_and_closed_ones_are_not(planted: Denoiser) -> None:
    with planted.edit("noise", lambda noise: noise), pytest.raises(UsageError, match="planted is edited now"):
        pickle.dumps(planted)
    handle = planted.network.register_forward_hook(lambda *given: None)
    with pytest.raises(UsageError, match="planted is edited now"):
        pickle.dumps(planted)
    handle.remove()
    assert pickle.dumps(planted)
