"""A guard with an index: a copy that its threshold misses is drawn again, or withheld, and calls do not mix."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mnemoscope as mn
import tiny
from mnemoscope import planted
from mnemoscope.errors import UsageError
from mnemoscope.features import descriptor
from mnemoscope.mitigation.redraw import Lookout
from mnemoscope.search import build_index

ASKED: dict[str, Any] = {"num_inference_steps": 12, "guidance_scale": 3.0}
MISSED = 1e6  # a threshold that nothing passes
MIXED = ["ordinary 1", "memorized 0", "memorized 3"]


@pytest.fixture(scope="module")
def pipe() -> Any:
    return tiny.quiet(planted.pipeline())


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index")
    (folder / "pictures").mkdir()
    for k, image in enumerate(planted.images()):
        pixels = ((image + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / "pictures" / f"{k}.png")
    build_index(folder / "pictures", folder / "index", descriptor("pixels"))
    return folder / "index"


def arrays(images: list[Image.Image]) -> list[np.ndarray]:
    return [np.asarray(image, int) for image in images]


def test_a_copy_that_the_threshold_misses_is_drawn_again_and_the_others_are_not(pipe: Any, index: Path) -> None:
    plain = mn.Guard(pipe, threshold=MISSED)(MIXED, generator=tiny.generators([1, 2, 3]), **ASKED)
    guard = mn.Guard(pipe, threshold=MISSED, index=index, target=0.02, iterations=60)
    out = guard(MIXED, generator=tiny.generators([1, 2, 3]), **ASKED)
    lookout = Lookout(index)
    assert [m.copied for m in lookout.look(plain.images)] == [False, True, True]
    assert not any(m.copied for m in lookout.look(out.images))
    assert np.array_equal(*(arrays(o.images)[0] for o in (plain, out)))
    assert [s["copied"] for s in out.seen] == [False, True, True]
    assert [s["withheld"] for s in out.seen] == [False, False, False]
    first, *again = out.seen[1]["attempts"]
    assert first["nearest"].endswith("0.png") and first["similarity"] > 0.9 and not first["mitigated"]
    assert [a["mitigated"] for a in again] == [True] and again[0]["similarity"] < lookout.similarity
    assert len(out.seen[0]["attempts"]) == 1


def test_a_copy_from_every_seed_is_withheld_after_the_attempts(pipe: Any, index: Path) -> None:
    guard = mn.Guard(pipe, threshold=MISSED, index=index, again="seed", attempts=2)
    images, _ = guard("memorized 2", generator=tiny.generators([5])[0], return_dict=False, **ASKED)
    assert not arrays(images)[0].any() and guard.seen[0]["withheld"]
    attempts = guard.seen[0]["attempts"]
    assert len(attempts) == 3 and all(a["copied"] and a["nearest"].endswith("2.png") for a in attempts)
    assert len({a.get("seed") for a in attempts}) == 3


def test_attempts_follow_from_the_callers_seed_and_from_its_own_prompt(pipe: Any, index: Path) -> None:
    guard = mn.Guard(pipe, threshold=MISSED, index=index, target=0.02, iterations=60)
    runs = [guard(MIXED, generator=tiny.generators([1, 2, 3]), negative_prompt=["a"] * 3, **ASKED) for _ in range(2)]
    assert [s["attempts"] for s in runs[0].seen] == [s["attempts"] for s in runs[1].seen]
    assert all(np.array_equal(a, b) for a, b in zip(*(arrays(r.images) for r in runs), strict=True))
    several = guard(MIXED[1:], num_images_per_prompt=2, generator=tiny.generators([1, 2, 3, 4]), **ASKED)
    assert [s["attempts"][0]["nearest"][-5:] for s in several.seen] == ["0.png", "0.png", "3.png", "3.png"]


def test_threads_wait_for_one_another_and_have_what_is_theirs(pipe: Any, index: Path) -> None:
    prompts = ["memorized 0", "ordinary 1", "memorized 1", "ordinary 2"]
    guard, other = (mn.Guard(pipe, threshold=0.8, index=index, target=0.02, iterations=20) for _ in range(2))

    def drawn(place: int) -> tuple[np.ndarray, list[dict], bool]:
        own = (guard, other)[place % 2]
        out = own(prompts[place], generator=tiny.generators([place])[0], **ASKED)
        return arrays(out.images)[0], out.seen, own.seen is out.seen

    alone = [drawn(k) for k in range(4)]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(drawn, range(4)))
    for (one, seen, _), (two, again, is_own) in zip(alone, together, strict=True):
        assert np.array_equal(one, two) and seen == again and is_own


@pytest.mark.parametrize(
    "given,asked,said",
    [
        ({}, {"output_type": "latent"}, "looks at images; leave out output_type=latent"),
        ({}, {"prompt": None, "prompt_embeds": torch.zeros(1, 16, 32)}, "draws again from prompts"),
        ({"attempts": 0}, {}, "attempts=0 was given; give 1 or more"),
        ({"again": "never"}, {}, "again='never' was given; give mitigate or seed"),
    ],
)
def test_what_cannot_be_looked_at_is_refused(pipe: Any, index: Path, given: dict, asked: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        mn.Guard(pipe, threshold=1, index=index, **given)(**{"prompt": "ordinary 1", **ASKED, **asked})


def test_an_index_that_cannot_be_searched_is_refused(pipe: Any, index: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(index, tmp_path / "index")
    guard = mn.Guard(pipe, threshold=MISSED, index=tmp_path / "index")
    next((tmp_path / "index" / "shards").glob("*.npy")).write_bytes(b"damaged")
    with pytest.raises(UsageError, match="of the index cannot be searched"):
        guard("ordinary 1", generator=tiny.generators([1])[0], **ASKED)
