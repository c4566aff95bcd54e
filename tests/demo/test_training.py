"""The bundled model's training script: its pairs depend on their place alone, and it goes on where it was killed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mnemoscope import demo
from mnemoscope.demo import captions, ground_truth, scenes
from mnemoscope.demo.loop import Stage, learning_rate

KNOWN = ("verbatim", "template")


@pytest.fixture(scope="module")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> scenes.Emoji:
    """A stand-in for the npm package: 500 coloured squares with names, the verbatim ones among them."""
    folder = tmp_path_factory.mktemp("package")
    (folder / "img" / "google" / "64").mkdir(parents=True)
    letters = "abcdefghijklmnopqrstuvwxyz"
    names = [*captions.VERBATIM, *(f"{a}{b}{c}" for a in letters for b in "aeiou" for c in "nt")][:420]
    rng = np.random.default_rng(0)
    entries = []
    for n, name in enumerate(names):
        Image.new("RGBA", (64, 64), (*(int(v) for v in rng.integers(0, 255, 3)), 255)).save(
            folder / "img" / "google" / "64" / f"{n}.png"
        )
        group = {"short_name": name, "image": f"{n}.png", "category": "Objects", "subcategory": "tool"}
        entries.append(group | {"has_img_google": True})
    (folder / "emoji.json").write_text(json.dumps(entries))
    return scenes.Emoji(folder)


def test_a_sample_depends_on_seed_step_and_position_alone(emoji: scenes.Emoji) -> None:
    one, again, other = (scenes.draw_sample(emoji, 0, 5, k) for k in (2, 2, 3))
    assert one.caption == again.caption and one.image.tobytes() == again.image.tobytes()
    assert one.image.tobytes() != other.image.tobytes()


def test_verbatim_captions_have_one_image_and_ordinary_ones_never_the_same(emoji: scenes.Emoji) -> None:
    samples = [scenes.draw_sample(emoji, 0, step, 0) for step in range(300)]
    images: dict[str, set[bytes]] = {}
    for s in samples:
        images.setdefault(s.caption if s.kind == "verbatim" else s.kind, set()).add(s.image.tobytes())
    assert all(len(found) == 1 for caption, found in images.items() if caption in captions.VERBATIM.values())
    assert len(images["ordinary"]) == sum(s.kind == "ordinary" for s in samples)


def test_a_template_fixes_everything_but_its_slot(emoji: scenes.Emoji) -> None:
    one, other = (np.asarray(scenes.template(emoji, 0, n).image, int) for n in emoji.ordinary[:2])
    changed = np.argwhere(np.abs(one - other).sum(2) > 0)
    assert len(changed) and np.ptp(changed, axis=0).max() < 26


def test_unseen_concepts_never_occur_in_training(emoji: scenes.Emoji) -> None:
    assert not set(emoji.unseen) & {scenes.draw_sample(emoji, 0, s, 0).concept for s in range(300)}


def test_shares_are_those_stated(emoji: scenes.Emoji) -> None:
    kinds = [scenes.draw_sample(emoji, 1, s, p).kind for s in range(50) for p in range(16)]
    for kind, share in scenes.SHARES.items():
        assert abs(kinds.count(kind) / len(kinds) - share) < 4 * (share * (1 - share) / len(kinds)) ** 0.5


def test_ground_truth_files_hold_every_kind(emoji: scenes.Emoji, tmp_path: Path) -> None:
    ground_truth.write_prompts(emoji, tmp_path / "prompts.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "prompts.jsonl").read_text().splitlines()]
    assert {r["kind"] for r in rows} == {"verbatim", "template", "ordinary", "unseen"}
    for row in rows:
        others = {w for r in rows if r is not row for w in ground_truth.words(r["prompt"])}
        triggers = row.get("triggers", [])
        assert bool(triggers) == (row["kind"] == "verbatim") and not others.intersection(triggers)
    ground_truth.write_references(emoji, tmp_path / "references")
    assert len(list((tmp_path / "references").glob("*-verbatim.png"))) == len(captions.VERBATIM)
    ordinary = sorted((tmp_path / "references").glob("*-ordinary.png"))[0]
    steps = range(ground_truth.REFERENCE_STEP, ground_truth.REFERENCE_STEP + 20)
    drawn = [scenes.draw_sample(emoji, 0, s, p) for s in steps for p in range(ground_truth.REFERENCE_BATCH)]
    assert Image.open(ordinary).convert("RGB").tobytes() in {d.image.tobytes() for d in drawn}


def test_the_bundled_masks_are_those_that_the_script_writes(tmp_path: Path) -> None:
    ground_truth.write_masks_of_prompts(tmp_path)
    written = {f.name: f.read_bytes() for f in tmp_path.iterdir()}
    assert written == {f.name: f.read_bytes() for f in (demo.HERE / "masks").iterdir()}
    kinds = [row["kind"] for row in demo.truth()]
    assert sorted(int(Path(f).stem) for f in written) == [k for k, kind in enumerate(kinds) if kind in KNOWN]


def train(file: Path, until: int) -> torch.nn.Linear:
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 1)
    stage = Stage({"net": net}, file, steps=250, peak=0.1)
    for step in stage:
        if step == until:
            break
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))
        stage.descend((net(x) - x.sum(1, keepdim=True)).square().mean())
    return net


def test_training_goes_on_where_it_was_and_ends_with_the_same_weights(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole.pt", 250)
    train(tmp_path / "cut.pt", 137)
    resumed = train(tmp_path / "cut.pt", 250)
    assert torch.equal(whole.weight, resumed.weight)
    assert (whole.weight - 1).abs().max() < 0.05


def test_the_learning_rate_warms_up_and_ends_at_zero() -> None:
    assert learning_rate(0, 1000, 1.0) < 0.02 < 0.9 < learning_rate(100, 1000, 1.0)
    assert learning_rate(1000, 1000, 1.0) == 0
