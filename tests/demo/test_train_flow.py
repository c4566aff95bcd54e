"""The training script of the second bundled model: exact shortcuts, and a killed run that ends as an unbroken one."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from torch import nn

from mnemoscope.demo import architecture, captions, loop, train_flow
from mnemoscope.demo.scenes import Emoji
from mnemoscope.model import bundled

CONCEPTS = 230  # more than the ordinary and unseen ones, so that some are left for the tail


@pytest.fixture(scope="module")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> Emoji:
    """A package of one picture under many names."""
    folder = tmp_path_factory.mktemp("emoji")
    pictures = folder / "img" / "google" / "64"
    pictures.mkdir(parents=True)
    Image.linear_gradient("L").resize((64, 64)).convert("RGBA").save(pictures / "one.png")
    letters = [a + b for a in "abcdefghijklmnopqrstuvwxyz" for b in "abcdefghij"]
    names = [*captions.VERBATIM, *letters[:CONCEPTS]]
    usual = {"image": "one.png", "has_img_google": True, "category": "Objects", "subcategory": "tool"}
    (folder / "emoji.json").write_text(json.dumps([usual | {"short_name": name} for name in names]))
    return Emoji(folder)


def networks() -> tuple[nn.Module, nn.ModuleList]:
    """Both networks without the zeros that they begin with, which would hide what attention does."""
    torch.manual_seed(0)
    net = architecture.transformer()
    for p in net.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.05)
    return net.eval(), nn.ModuleList([architecture.projected_text_encoder(1766) for _ in range(2)]).eval()


@torch.no_grad()
def test_one_token_in_place_of_the_padding_gives_the_plain_network_s_outputs() -> None:
    net, texts = networks()
    x_t = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    ids, t = (
        torch.randint(1766, (2, bundled.TOKENS), generator=torch.Generator().manual_seed(2)),
        torch.tensor([900.0, 30]),
    )
    plain = net(x_t, *train_flow.encode(texts, ids, padding=train_flow.PADDING), t).sample
    other = net(x_t, *train_flow.encode(texts, ids, padding=train_flow.PADDING // 2), t).sample
    net.set_attn_processor(train_flow.MergedPadding())
    merged = net(x_t, *train_flow.encode(texts, ids, padding=1), t).sample
    assert (plain - merged).abs().max() < 1e-5 < 0.01 * (plain - other).abs().max()


def test_a_killed_training_ends_as_an_unbroken_one(
    emoji: Emoji, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY", 2)
    monkeypatch.setattr(architecture, "transformer", partial(architecture.transformer, num_layers=1))

    def weights(folder: Path, *, killed_at: int | None = None) -> dict[str, torch.Tensor]:
        def descend(stage: loop.Stage, loss: torch.Tensor, descend: object = loop.Stage.descend) -> None:
            if stage.step == killed_at:
                raise KeyboardInterrupt
            descend(stage, loss)

        folder.mkdir(exist_ok=True)
        torch.manual_seed(0)
        with monkeypatch.context() as patch:
            patch.setattr(loop.Stage, "descend", descend)
            train_flow.train(emoji, folder, 4, 5, 1e-2)
        state = torch.load(folder / "flow.pt", weights_only=True)
        return state["net"] | {f"average.{k}": v for k, v in state["average"].items()}

    with pytest.raises(KeyboardInterrupt):
        weights(tmp_path / "broken", killed_at=3)
    broken, whole = weights(tmp_path / "broken"), weights(tmp_path / "whole")
    assert all(torch.equal(v, broken[k]) for k, v in whole.items())
    lines = [json.loads(line) for line in (tmp_path / "whole" / "train.jsonl").read_text().splitlines()]
    assert [row["step"] for row in lines] == [0]
    absent = {"text_encoder_3": None, "tokenizer_3": None}
    pipe = DiffusionPipeline.from_pretrained(tmp_path / "whole" / "model", dtype=torch.float32, **absent)
    name = "transformer_blocks.0.attn.to_q.weight"
    trained = whole[f"average.module.transformer.{name}"]
    assert torch.equal(pipe.transformer.get_parameter(name), trained.half().float())


def test_the_number_of_steps_matters_only_in_the_last_part() -> None:
    rate = loop.flat_then_down
    assert [rate(s, 1000, 1.0) for s in range(0, 700, 50)] == [rate(s, 3000, 1.0) for s in range(0, 700, 50)]
    assert rate(999, 1000, 1.0) == pytest.approx(1 / 300) and rate(850, 1000, 1.0) == pytest.approx(0.5)
