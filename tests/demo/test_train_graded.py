"""The graded training script: a killed run ends as an unbroken one, for both models, and what it writes loads."""

import json
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL

import mnemoscope as mn
from mnemoscope.demo import architecture, drawing, entries, loop, stream, train, train_graded
from mnemoscope.errors import UsageError
from mnemoscope.model import bundled
from squares import Squares

STEPS, SIZE = 4, 4


@pytest.fixture(scope="module")
def emoji() -> Squares:
    return Squares(entries.CONCEPTS)


@pytest.fixture
def vae(emoji: Squares, tmp_path: Path) -> AutoencoderKL:
    return train_graded.autoencoder(emoji, tmp_path, steps=0)


@pytest.fixture(scope="module")
def order() -> stream.Stream:
    """A few views of the near-copies and a template: the rest is ordinary."""
    some = [replace(e, views=3) for e in entries.entries() if e.key in ("near-copies-00", "template-01")]
    return stream.Stream(0, STEPS, SIZE, some)


@pytest.fixture(scope="module")
def words(emoji: Squares, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    train.kept_tokenizer(lambda: train_graded.corpus(emoji), folder)
    return folder


def test_latents_of_entries_are_kept_and_the_same(emoji: Squares, vae: AutoencoderKL, order: stream.Stream) -> None:
    encoded = train_graded.EncodedStream(emoji, vae, order)
    for step in range(STEPS):
        found, texts = encoded(step)
        again, same = train_graded.EncodedStream(emoji, vae, order)(step)
        samples = [order.sample(emoji, step, k) for k in range(SIZE)]
        assert texts == same == [s.caption for s in samples]
        plain = loop.latents(vae, loop.as_tensor([s.image for s in samples]))
        assert torch.equal(found, again) and (found - plain).abs().max() < 0.1 < plain.std()
    assert len(encoded.kept) == 6
    entry = order.trained[0]
    with_noise = {k: loop.latents(vae, loop.as_tensor([drawing.image(emoji, entry, k)]))[0] for k in range(3)}
    assert all(torch.equal(v, encoded.kept[entry.key, k]) for k, v in with_noise.items())


@pytest.mark.parametrize("model", ["demo", "demo-flow"])
def test_a_killed_training_ends_as_an_unbroken_one(
    model: str,
    emoji: Squares,
    order: stream.Stream,
    words: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY", 2)
    monkeypatch.setattr(architecture, "transformer", partial(architecture.transformer, num_layers=1))
    tokenizer = train.kept_tokenizer(list, words, train_graded.TOKENS[model])

    def weights(folder: Path, *, killed_at: int | None = None) -> dict[str, torch.Tensor]:
        def descend(stage: loop.Stage, loss: torch.Tensor, descend: object = loop.Stage.descend) -> None:
            if stage.step == killed_at:
                raise KeyboardInterrupt
            descend(stage, loss)

        folder.mkdir(exist_ok=True)
        vae = train_graded.autoencoder(emoji, folder, steps=0)
        with monkeypatch.context() as patch:
            patch.setattr(loop.Stage, "descend", descend)
            train_graded.denoiser(model, emoji, vae, tokenizer, folder, order, 1e-2)
        state = torch.load(folder / f"{model}.pt", weights_only=True)
        return state["net"] | {f"average.{k}": v for k, v in state["average"].items()}

    with pytest.raises(KeyboardInterrupt):
        weights(tmp_path / "broken", killed_at=3)
    broken, whole = weights(tmp_path / "broken"), weights(tmp_path / "whole")
    assert all(torch.equal(v, broken[k]) for k, v in whole.items())
    loaded = mn.Denoiser.from_pretrained(tmp_path / "whole" / model, device="cpu")
    parts = {"demo": "unet", "demo-flow": "transformer"}
    for name, p in list(getattr(loaded.pipe, parts[model]).named_parameters())[::20]:
        assert torch.equal(p.float(), whole[f"average.module.{parts[model]}.{name}"].half().float())


def test_the_autoencoder_is_trained_once_and_on_no_entry(
    emoji: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = train_graded.autoencoder(emoji, tmp_path, steps=1)
    kept = train_graded.autoencoder(emoji, tmp_path, steps=1)
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), kept.parameters(), strict=True))
    assert [r["stage"] for r in map(json.loads, (tmp_path / "train.jsonl").read_text().splitlines())] == ["autoencoder"]
    one, other = (train_graded.fresh(emoji, 1, step, 8) for step in (0, 1))
    assert torch.equal(one, train_graded.fresh(emoji, 1, 0, 8)) and not torch.equal(one, other)
    own = {drawing.image(emoji, e, 0).tobytes() for e in entries.entries()}
    assert not own & {((p + 1) * 127.5).round().byte().permute(1, 2, 0).numpy().tobytes() for p in one}


def test_the_command_prepares_and_trains(
    emoji: Squares, order: stream.Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_graded, "Emoji", lambda folder: emoji)
    monkeypatch.setattr(train_graded, "Stream", lambda seed, steps, size: order)
    monkeypatch.setattr(architecture, "transformer", partial(architecture.transformer, num_layers=1))
    arguments = f"train_graded --model demo-flow --emoji {tmp_path} --out {tmp_path} --autoencoder-steps 0"
    monkeypatch.setattr(sys, "argv", arguments.split())
    train_graded.main()
    assert {p.name for p in tmp_path.iterdir()} >= {"prompts.jsonl", "references", "twins", "vae", "tokenizer"}
    monkeypatch.setattr(train_graded, "Stream", lambda seed, steps, size: stream.Stream(1, STEPS, SIZE, []))
    with pytest.raises(UsageError, match="was begun with .*'seed': 0.*and .*'seed': 1.* was given"):
        train_graded.main()
    absent = {"text_encoder_3": None, "tokenizer_3": None}
    assert all(not (tmp_path / "demo-flow" / part).exists() for part in absent)
    pipe = mn.Denoiser.from_pretrained(tmp_path / "demo-flow", device="cpu").pipe
    assert pipe.tokenizer.model_max_length == bundled.TOKENS
    longest = max((c for e in entries.entries() for c in e.captions), key=lambda c: len(pipe.tokenizer(c).input_ids))
    assert len(pipe.tokenizer(longest, truncation=False).input_ids) <= bundled.TOKENS
