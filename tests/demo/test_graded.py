"""The graded training set: exact numbers of views, twins that are never seen, and ground truth that agrees."""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnemoscope.demo import drawing, entries, graded_truth, scenes, stream, titles
from mnemoscope.errors import UsageError
from squares import Squares

STEPS, SIZE = 6000, 16


@pytest.fixture(scope="module")
def emoji() -> Squares:
    return Squares(entries.CONCEPTS)


@pytest.fixture(scope="module")
def order() -> stream.Stream:
    return stream.Stream(0, STEPS, SIZE)


@pytest.fixture(scope="module")
def places(order: stream.Stream) -> list[stream.Place]:
    return [order.place(step, position) for step in range(STEPS) for position in range(SIZE)]


@pytest.fixture(scope="module")
def written(emoji: Squares, order: stream.Stream, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("truth")
    graded_truth.write(emoji, order, folder)
    return folder


def of_kind(kind: str, *, twin: bool = False) -> list[entries.GradedPicture]:
    return [e for e in entries.entries() if e.kind == kind and e.twin == twin]


def test_every_entry_is_seen_exactly_as_often_as_it_says(places: list[stream.Place]) -> None:
    counted = Counter(p.entry.key for p in places if p.entry)
    assert counted == {e.key: e.views for e in entries.entries() if not e.twin}
    verbatim = Counter(e.views for e in of_kind("verbatim"))
    assert verbatim == dict.fromkeys((8, 16, 32, 64, 128, 256, 512, 1024), 12)
    for kind in ("duplicated", "near-copies", "template"):
        assert len(Counter(e.views for e in of_kind(kind))) == 2
    assert [p.number for p in places if p.entry is None] == list(range(len(places) - sum(counted.values())))


def test_views_come_in_turn_and_one_in_each_equal_part_of_the_training(places: list[stream.Place]) -> None:
    at: dict[str, list[int]] = {}
    for k, place in enumerate(places):
        if place.entry:
            at.setdefault(place.entry.key, []).append(k)
            assert place.number == len(at[place.entry.key]) - 1
    for entry in of_kind("verbatim")[:8]:
        parts = np.array(at[entry.key]) * entry.views / len(places)
        assert np.abs(parts - np.arange(entry.views) - 0.5).max() < 0.5 + 0.02 * entry.views**0.5


def test_a_place_depends_on_seed_step_and_position_alone(order: stream.Stream, emoji: Squares) -> None:
    again, other = stream.Stream(0, STEPS, SIZE), stream.Stream(1, STEPS, SIZE)
    some = [(step, position) for step in (0, 17, STEPS - 1) for position in (0, 7)]
    assert [order.place(*p) for p in some] == [again.place(*p) for p in some] != [other.place(*p) for p in some]
    one, same, next_one = (s.sample(emoji, 5, k) for s, k in ((order, 2), (again, 2), (order, 3)))
    assert (one.caption, one.image.tobytes()) == (same.caption, same.image.tobytes())
    assert one.image.tobytes() != next_one.image.tobytes()


def test_a_training_too_short_for_the_views_says_how_many_steps_it_takes() -> None:
    with pytest.raises(UsageError, match="47520 views .* take 5940 steps or more"):
        stream.Stream(0, 5939, SIZE)
    assert stream.Stream(0, 5940, SIZE).steps == 5940


def test_twins_are_of_the_same_making_and_never_trained(places: list[stream.Place], emoji: Squares) -> None:
    by_key = {e.key: e for e in entries.entries()}
    captions = Counter(c for e in entries.entries() for c in e.captions)
    assert max(captions.values()) == 1
    for entry in by_key.values():
        twin = by_key[entry.other]
        assert (twin.other, twin.kind, twin.concept, twin.twin) == (
            entry.key,
            entry.kind,
            entry.concept,
            not entry.twin,
        )
        assert drawing.image(emoji, entry, 0).tobytes() != drawing.image(emoji, twin, 0).tobytes()
        assert bool(entry.views) != entry.twin
    assert not any(p.entry.twin for p in places if p.entry)


def test_names_are_in_one_entry_alone_and_in_no_ordinary_caption(emoji: Squares) -> None:
    counted = Counter(n for e in entries.entries() for n in e.names)
    assert max(counted.values()) == 1 and len(counted) == 2 * (2 * 96 + 2 * 12) + 24
    texts = [drawing.ordinary(emoji, 0, n).caption for n in range(600)]
    assert not {w for t in texts for w in re.findall(r"\w+", t)} & set(counted)
    pool = {n for names in entries.spare_names().values() for n in names}
    titled = [t for t in texts if set(re.findall(r"\w+", t)) & pool]
    assert abs(len(titled) / 600 - drawing.TITLED) < 0.07
    assert abs(texts.count("") / 600 - drawing.EMPTY) < 0.06


def test_patterns_come_equally_often() -> None:
    drawn = titles.patterns(np.random.default_rng(0))
    counted = Counter(next(drawn) for _ in range(3 * len(titles.PATTERNS)))
    assert set(counted.values()) == {3}


def test_images_and_captions_of_an_entry_take_turns(emoji: Squares) -> None:
    duplicated, near = of_kind("duplicated")[1], of_kind("near-copies")[1]
    captions = Counter(drawing.caption(duplicated, n) for n in range(duplicated.views))
    assert len(captions) == entries.WORDINGS and set(captions.values()) == {duplicated.views // entries.WORDINGS}
    assert len({drawing.view(emoji, duplicated, n).image.tobytes() for n in range(16)}) == 1
    copies = Counter(drawing.view(emoji, near, n).image.tobytes() for n in range(2 * drawing.VARIANTS))
    assert len(copies) == drawing.VARIANTS and set(copies.values()) == {2}
    assert len({drawing.view(emoji, near, n).caption for n in range(16)}) == 1
    (verbatim,) = {drawing.view(emoji, of_kind("verbatim")[0], n).image.tobytes() for n in range(8)}
    assert verbatim == drawing.image(emoji, of_kind("verbatim")[0], 0).tobytes()


def test_near_copies_are_nearer_to_their_picture_than_its_twin_is(emoji: Squares) -> None:
    def away(one: Image.Image, other: Image.Image) -> float:
        a, b = (np.asarray(i.resize((8, 8), Image.Resampling.BOX), float) for i in (one, other))
        return float(np.abs(a - b).mean())

    by_key = {e.key: e for e in entries.entries()}
    for entry in of_kind("near-copies"):
        whole, twin = drawing.image(emoji, entry, 0), drawing.image(emoji, by_key[entry.other], 0)
        copies = [away(whole, drawing.image(emoji, entry, k)) for k in range(1, drawing.VARIANTS)]
        assert 0 < np.median(copies) < away(whole, twin)


def test_a_template_keeps_all_but_its_object(emoji: Squares) -> None:
    entry = of_kind("template")[2]
    views = [drawing.view(emoji, entry, n) for n in range(len(entries.CONCEPTS))]
    assert {v.concept for v in views} == set(entries.CONCEPTS)
    assert all(v.concept in v.caption for v in views)
    changed = np.argwhere(np.abs(np.asarray(views[0].image, int) - np.asarray(views[1].image, int)).sum(2) > 0)
    assert len(changed) and np.ptp(changed, axis=0).max() < scenes.OBJECT


def test_ordinary_objects_take_turns_and_never_come_the_same(emoji: Squares) -> None:
    samples = [drawing.ordinary(emoji, 0, n) for n in range(4 * len(entries.CONCEPTS))]
    assert set(Counter(s.concept for s in samples).values()) == {4}
    assert len({s.image.tobytes() for s in samples}) == len(samples)


def rows(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_the_ground_truth_says_what_the_stream_did(written: Path, places: list[stream.Place]) -> None:
    found = rows(written / "prompts.jsonl")
    captions = Counter(drawing.caption(p.entry, p.number) for p in places if p.entry)
    steps: dict[str, list[int]] = {}
    for k, place in enumerate(places):
        if place.entry:
            steps.setdefault(place.entry.key, []).append(k // SIZE)
    for row in (r for r in found if "entry" in r):
        assert row["caption_views"] == captions.get(row["prompt"], 0)
        assert row["views"] == len(steps.get(row["entry"], []))
        own = steps.get(row["entry"], [None])
        assert (row["first_step"], row["last_step"]) == (own[0], own[-1])
        assert all(t in row["prompt"].lower() for t in row["triggers"])
        assert (row["kind"] == "unseen") == row["entry"].endswith("-twin") == (row["views"] == 0)
    assert Counter((r["kind"], r["source"]) for r in found) == {
        ("verbatim", "verbatim"): 96,
        ("duplicated", "duplicated"): 12 * graded_truth.SHOWN_WORDINGS,
        ("near-copies", "near-copies"): 12,
        ("template", "template"): 8 * graded_truth.TEMPLATE_NAMES,
        ("unseen", "twin"): 96 + 12 * graded_truth.SHOWN_WORDINGS + 12 + 8 * graded_truth.TEMPLATE_NAMES,
        ("ordinary", "plain"): 120,
        ("ordinary", "title"): 120,
        ("unseen", "plain"): 60,
        ("unseen", "title"): 60,
    }
    assert len({r["prompt"] for r in found}) == len(found)
    assert not {r["concept"] for r in found if r["source"] == "plain" and r["kind"] == "unseen"} & set(entries.CONCEPTS)


def test_references_are_trained_images_and_twins_are_not(emoji: Squares, written: Path) -> None:
    trained, twins = rows(written / "references" / "captions.jsonl"), rows(written / "twins" / "captions.jsonl")
    assert Counter(r["kind"] for r in trained) == {
        "verbatim": 96,
        "duplicated": 12,
        "near-copies": 12 * drawing.VARIANTS,
        "template": 16,
        "ordinary": graded_truth.ORDINARY_REFERENCES,
    }
    by_key = {e.key: e for e in entries.entries()}
    for folder, row in [("references", trained[5]), ("twins", twins[5])]:
        image = Image.open(written / folder / row["file"]).convert("RGB")
        assert image.tobytes() == drawing.image(emoji, by_key[row["entry"]], 0).tobytes()
    assert all(r["entry"].endswith("-twin") for r in twins)
    assert {r["entry"].removesuffix("-twin") for r in twins} == {r["entry"] for r in trained} - {"ordinary"}


def test_masks_are_the_pixels_that_all_images_of_an_entry_share(emoji: Squares, written: Path) -> None:
    """Squares fill their slot, so that every pixel of it differs between two objects."""
    by_key, found = {e.key: e for e in entries.entries()}, rows(written / "prompts.jsonl")
    masks = {int(f.stem): np.asarray(Image.open(f)) for f in (written / "masks").iterdir()}
    trained = [k for k, r in enumerate(found) if r["kind"] in ("verbatim", "duplicated", "template")]
    assert sorted(masks) == trained
    for place in trained[::5] + trained[-64:]:
        entry = by_key[found[place]["entry"]]
        drawn = [np.asarray(drawing.image(emoji, entry, k)) for k in range(drawing.kinds_of_view(entry))]
        same = (np.stack(drawn) == drawn[0]).all((0, 3))
        assert np.array_equal(same, masks[place]), entry.key


def test_near_copies_are_the_same_at_no_pixel_and_have_no_mask(emoji: Squares) -> None:
    for entry in of_kind("near-copies"):
        drawn = [np.asarray(drawing.image(emoji, entry, k)) for k in range(drawing.VARIANTS)]
        assert (np.stack(drawn) == drawn[0]).all((0, 3)).mean() < 0.02
        assert graded_truth.shared(entry) is None


def test_an_entry_s_key_and_seed_are_its_own() -> None:
    every = entries.entries()
    assert len({e.key for e in every}) == len({tuple(e.seed()) for e in every}) == len(every)
    assert replace(every[0], twin=not every[0].twin).key == every[0].other
    assert entries.entries.__wrapped__() == every
