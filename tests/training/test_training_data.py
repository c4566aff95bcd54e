"""Training data: what is read, what is left out and why, how often each row is shown, and what a view of it is."""

import hashlib
import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import tiny
from mnemoscope.errors import UsageError
from mnemoscope.training.data.dataset import TrainingSet
from mnemoscope.training.data.manifest import read_manifest, write_manifest
from mnemoscope.training.data.options import DataOptions
from mnemoscope.training.data.order import Order
from picture_files import DATA, HOSTILE, LAYOUTS, encoded, image, tarred, written, zipped
from training_pairs import pairs, training


def same_views(one: TrainingSet, other: TrainingSet) -> bool:
    views = [(k, e) for k in range(len(one)) for e in range(3)]
    pixels = all(torch.equal(one.pixels(*v), other.pixels(*v)) for v in views)
    return len(one) == len(other) and pixels and all(one.texts(*v) == other.texts(*v) for v in views)


# Layouts


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of datasets and what it loads
@pytest.mark.parametrize("layout", ["zip", "tar", "parquet", "saved", *LAYOUTS])
def test_every_layout_gives_the_same_rows_in_any_order(layout: str, tmp_path: Path) -> None:
    said = LAYOUTS.get(layout, LAYOUTS["texts"])()
    captions = ["one fox", "two foxes", "ten foxes", "a bee"]
    if layout == "zip":
        source = zipped(tmp_path / "set.zip", {**DATA, **said})
    elif layout == "tar":
        members = [(f"{k:04d}.{end}", value) for k, n in enumerate(DATA) for end, value in _sample(n, captions[k])]
        source = tarred(tmp_path / "set.tar", members)
    elif layout == "parquet":
        rows = [{"image": data, "caption": c} for data, c in zip(DATA.values(), captions, strict=True)]
        source = tmp_path / "set.parquet"
        pq.write_table(pa.Table.from_pylist(rows), source)
    elif layout == "saved":
        datasets = pytest.importorskip("datasets")
        rows = {"image": [{"bytes": d, "path": None} for d in DATA.values()], "caption": captions}
        kinds = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
        source = tmp_path / "saved"
        datasets.Dataset.from_dict(rows, features=kinds).save_to_disk(str(source))
    else:
        source = written(tmp_path / "set", {**DATA, **said})
    found = training(source, random_flip=True, center_crop=False)
    assert [found.example(k, 0).caption for k in (3, 0, 2, 1)] == [captions[k] for k in (3, 0, 2, 1)]
    plain = training(written(tmp_path / "plain", {**DATA, **LAYOUTS["texts"]()}), random_flip=True, center_crop=False)
    assert same_views(found, plain)
    assert [row["sha256"] for row in found.manifest()] == [row["sha256"] for row in plain.manifest()]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of forking beside threads, which take no part
def test_forked_processes_read_what_was_copied(tmp_path: Path) -> None:
    """The workers of a loader share the open file: each of them gets its own pictures."""
    files = {f"{k}.png": encoded(image(k)) for k in range(8)} | {f"{k}.txt": str(k) for k in range(8)}
    found = training(zipped(tmp_path / "set.zip", files))
    wanted = [row.sha256 for row in found.rows]
    children = []
    for _ in range(3):
        if not (child := os.fork()):
            right = False
            try:
                right = all(hashlib.sha256(found.rows[k].read()).hexdigest() == wanted[k] for k in [*range(8)] * 20)
            finally:
                os._exit(0 if right else 1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]


def _sample(name: str, caption: str) -> list[tuple[str, bytes | str]]:
    return [("png", DATA[name]), ("txt", caption)]


@pytest.mark.parametrize("is_zip", [False, True])
@pytest.mark.parametrize("own_name", [False, True])
def test_several_true_images_have_the_caption_of_their_prompt(is_zip: bool, own_name: bool, tmp_path: Path) -> None:
    rows = [{"caption": f"prompt {k}", "index": k, "url": f"http://a/{k}"} for k in (3, 12, 7)]
    table = "my_groundtruth.jsonl" if own_name else "other.jsonl"
    files: dict[str, bytes | str] = {table: "".join(json.dumps(row) + "\n" for row in rows)}
    files |= {f"gt_images/{name}": encoded(image(k)) for k, name in enumerate(["3/0.png", "3/1.png", "012/x.png"])}
    source = zipped(tmp_path / "my_groundtruth.zip", files) if is_zip else written(tmp_path / "my_groundtruth", files)
    found = training(source)
    assert [row["caption"] for row in found.manifest()] == ["prompt 3", "prompt 3", "prompt 12"]
    (lost,) = found.left_out
    assert lost.file.endswith("gt_images/7") and lost.status == "missing: no true image of this prompt is there"


def test_a_table_of_true_images_without_an_index_is_refused(tmp_path: Path) -> None:
    files = {"gt_images/0/0.png": DATA["b.png"], "set.jsonl": '{"caption": "x"}\n'}
    with pytest.raises(UsageError, match=r"^set.jsonl is no table of true images .*; write index and caption in each"):
        training(written(tmp_path / "set", files))


def test_a_captions_file_stands_before_or_behind_the_sources_own(tmp_path: Path) -> None:
    folder = written(tmp_path / "set", {**DATA, **LAYOUTS["texts"]()})
    file = tmp_path / "blip.json"
    file.write_text(json.dumps({f"/else/set/{name}": [f"blip of {name}", "a bee"] for name in DATA}))
    asked = {"captions": str(file)}
    assert training(folder, conditioning="instance", **asked).possible(3) == ("blip of b.png",)
    own = training(folder, conditioning="original", **asked)
    assert own.possible(3) == ("a bee",) and own.rows[3].captions == ("a bee", "blip of b.png")
    assert own.rows[0].captions == ("one fox", "blip of a/1.png", "a bee")


# What is left out


def test_what_cannot_be_used_is_counted_with_its_reason(tmp_path: Path) -> None:
    files = {name: data for name, (data, _) in HOSTILE.items()}
    texts = {f"{name.rpartition('.')[0]}.txt": "said" for name in HOSTILE}
    good = {"good.png": encoded(image(1)), "good.txt": "fine", "mute.png": encoded(image(2))}
    found = training(written(tmp_path / "set", {**files, **texts, **good}))
    reasons = {row.file: row.status for row in found.left_out}
    assert reasons == {n: f"unreadable: {r}" for n, (_, r) in HOSTILE.items()} | {"mute.png": "no caption"}
    report = found.report()
    assert (report["memorized"], report["left_out"]) == (1, len(HOSTILE) + 1)
    assert set(report["left_out_reasons"].items()) <= set(reasons.items())
    write_manifest(found, tmp_path)
    rows = read_manifest(tmp_path)
    assert [row["index"] for row in rows] == [0] + [None] * len(reasons) and rows[0]["status"] == "ok"
    assert {row["file"]: row["status"] for row in rows[1:]} == reasons
    assert [row["file"] for row in training(tmp_path / "set", conditioning="nolevel").manifest()] == [
        "good.png",
        "mute.png",
    ]


@pytest.mark.parametrize(
    ("files", "options", "said"),
    [
        (
            {"a.png": b"x", "a.txt": "t"},
            {},
            r"^None of the 1 pictures of .* \(a.png: unreadable: text, not an image\)\.$",
        ),
        ({"a.png": DATA["b.png"]}, {}, r"^None of the 1 pictures of .* \(a.png: no caption\)\.$"),
        ({"a.png": DATA["b.png"]}, {"conditioning": "class"}, r"\(a.png: no class: its folder or a column class has"),
        ({"a.txt": "t"}, {}, "holds no image, and no .tar, .zip or .parquet"),
        ({"a.png": DATA["b.png"], "a.txt": "t"}, {"conditioning": "random"}, "draws tokens, and the model has no tok"),
        ({"a.png": DATA["b.png"], "a.txt": "t"}, {"duplication": "both"}, "0.05 of 1 pictures is none; give a larger"),
        (
            {"a.png": DATA["b.png"], "a.txt": "t"},
            {"duplication": "image", "duplicated": 1},
            "needs duplicated pictures with several captions, and .* has none; give --captions",
        ),
        ({"a.png": DATA["b.png"], "a.txt": "t"}, {"subset": 2}, "--subset 2 of 1 pictures is 2; give a number from 1"),
        ({"a.png": DATA["b.png"], "a.txt": "t"}, {"subset": 0.5}, "--subset 0.5 of 1 pictures is none"),
    ],
)
def test_wrong_data_get_one_sentence(files: dict, options: dict, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        training(written(tmp_path / "set", files), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"conditioning": "blip"}, "--conditioning blip is not known; give original, nolevel"),
        ({"duplication": "dup_both"}, "--duplication dup_both is not known"),
        ({"repeats": 0}, "--repeats 0 was given; give 1 or more"),
        ({"base_ratio": 1}, "--base and --base-ratio go together"),
        ({"base": "x"}, "--base and --base-ratio go together"),
        ({"duplicated": 1.5}, "--duplicated 1.5 was given; give a number from 0 to 1"),
        ({"probability": -0.1}, "--probability -0.1 was given; give a number from 0 to 1"),
        ({"subset": 1.5}, "--subset 1.5 was given; give a whole number, or a share"),
        ({"subset": 0}, "--subset 0 leaves no picture"),
        ({"captions": "nowhere.json"}, "There is no captions file nowhere.json"),
        ({"duplication": "image", "conditioning": "multiple"}, "multiple draws from all captions anyway; use"),
        ({"duplication": "image", "conditioning": "class"}, "class uses none of them; use --duplication both"),
        ({"transform": ("shuffle",)}, "There is no caption method 'shuffle'"),
        ({"transform": ("random_words:size=2",)}, "has no parameter 'size'; it takes: count, tokenizer"),
        ({"transform": ("random_words:count=0",)}, "random_words got count=0; give 1 or more"),
        ({"resolution": 4}, "--resolution 4 was given; give a number from 8 to 8192"),
    ],
)
def test_wrong_options_get_one_sentence(options: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        DataOptions("somewhere", **options)


# Repeats, base set, subset


def test_repeats_and_base_are_as_many_as_asked(tmp_path: Path) -> None:
    data, base = pairs(tmp_path / "data", 5), pairs(tmp_path / "base", 40, first=100)
    written(base, {"3.png": b"broken", "3.txt": "x"})
    found = training(data, base=str(base), base_ratio=1.5, repeats=4, subset=4)
    rows = found.manifest()
    assert [row["group"] for row in rows] == ["memorized"] * 4 + ["base"] * 24
    assert found.shares.per_epoch == 4 * 4 * (1 + 1.5) == 40
    assert [row["copies"] for row in rows] == [4] * 4 + [1] * 24
    assert [row.file for row in found.left_out] == ["3.png"]  # it comes before the 24th
    assert [row["file"] for row in rows[4:7]] == ["100.png", "101.png", "102.png"]
    with pytest.raises(UsageError, match=r"has 40 usable pictures, and --base-ratio 3 asks for 48; .* at most 2.5\.$"):
        training(data, base=str(base), base_ratio=3, repeats=4, subset=4)


def test_the_recipe_of_wen_is_one_pass_of_200_views(tmp_path: Path) -> None:
    found = training(pairs(tmp_path / "d", 4), base=str(pairs(tmp_path / "b", 30)), base_ratio=3, repeats=2)
    views = Counter(k for step in range(found.shares.per_epoch // 8) for k, _ in Order(found, 8, 0).batch(step))
    assert found.shares.per_epoch == 32 and views == Counter({k: 2 for k in range(4)} | {4 + k: 1 for k in range(24)})


def test_subsets_are_the_first_or_as_many_of_each_class(tmp_path: Path) -> None:
    files = {f"{kind}/{k}.png": encoded(image(k)) for kind, n in (("a", 12), ("b", 6), ("c", 2)) for k in range(n)}
    folder = written(tmp_path / "set", files)
    first = training(folder, subset=0.3, conditioning="class").manifest()
    assert [row["file"] for row in first] == [f"a/{k}.png" for k in range(6)]
    chosen = {}
    for seed in range(4):
        rows = training(folder, subset=10, subset_by="random", conditioning="class", seed=seed).manifest()
        assert Counter(row["class"] for row in rows) == {"a": 6, "b": 3, "c": 1}
        chosen[tuple(row["file"] for row in rows)] = seed
    assert len(chosen) == 4 and all(list(files) == sorted(files, key=list(files).index) for files in chosen)


# Duplication


def test_weights_of_a_twentieth_times_five_show_4_17_and_0_83(tmp_path: Path) -> None:
    found = training(pairs(tmp_path, 200), duplication="both", seed=3)
    assert int(found.shares.duplicated.sum()) == 10 and found.shares.per_epoch == 200
    report = found.report()
    assert report["views_per_epoch_duplicated"] == pytest.approx(5 / 1.2)
    assert report["views_per_epoch_other"] == pytest.approx(1 / 1.2)
    np.testing.assert_allclose(found.expected_views(200)[found.shares.duplicated], 4.1667, atol=1e-4)
    epochs, order = 300, Order(found, 200, seed=1)
    seen = np.bincount([k for epoch in range(epochs) for k, _ in order.batch(epoch)], minlength=200) / epochs
    mean, other = seen[found.shares.duplicated].mean(), seen[~found.shares.duplicated].mean()
    assert abs(mean - 4.1667) < 5 * (4.1667 / epochs / 10) ** 0.5 and abs(other - 0.8333) < 0.02
    assert abs(seen[~found.shares.duplicated] - 0.8333).max() < 5 * (0.8333 / epochs) ** 0.5


def test_repeats_in_the_place_of_weights_are_exact(tmp_path: Path) -> None:
    found = training(pairs(tmp_path, 20), duplication="both", duplicated=0.1, factor=3, duplication_by="repeat")
    order = Order(found, 24, seed=5)
    assert found.shares.per_epoch == 24 and not found.shares.replaced
    for epoch in range(3):
        views = order.batch(epoch)
        counts = np.bincount([k for k, _ in views], minlength=20)
        assert (counts == np.where(found.shares.duplicated, 3, 1)).all()
        assert {view for view in views} == {
            (k, epoch * int(counts[k]) + copy) for k in range(20) for copy in range(counts[k])
        }
    np.testing.assert_allclose(found.expected_views(48), 2 * found.shares.copies)


def test_duplicates_are_drawn_by_the_seed_and_stand_in_the_manifest(tmp_path: Path) -> None:
    data, base = pairs(tmp_path / "d", 40), pairs(tmp_path / "b", 40, first=50)
    drawn = [training(data, duplication="both", duplicated=0.25, seed=seed).shares.duplicated for seed in (0, 0, 1)]
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any() and all(each.sum() == 10 for each in drawn)
    mixed = training(data, base=str(base), base_ratio=1, duplication="both", duplicated=0.25, factor=7, repeats=1)
    weights = [row["weight"] for row in mixed.manifest()]
    assert weights[:40] == np.where(drawn[0], 7, 1).tolist() and weights[40:] == [1] * 40
    assert mixed.example(int(drawn[0].argmax()), 0).weight == 7


def test_the_same_bytes_are_one_group_of_duplicates(tmp_path: Path) -> None:
    files = {f"{k}.png": encoded(image(k % 3)) for k in range(5)} | {f"{k}.txt": f"{k}" for k in range(5)}
    found = training(written(tmp_path, files))
    assert [row["dup_group"] for row in found.manifest()] == [0, 1, 2, 0, 1]
    assert found.report()["exact_duplicates"] == 2


def test_only_duplicated_images_change_their_captions(tmp_path: Path) -> None:
    texts = {f"{k}.png": [f"{k} a", f"{k} b", f"{k} c"] for k in range(40)}
    files = {name: encoded(image(0)) for name in texts} | {"captions.json": json.dumps(texts)}
    found = training(written(tmp_path, files), duplication="image", duplicated=0.5)
    for k, is_duplicated in enumerate(found.shares.duplicated):
        drawn = Counter(found.texts(k, epoch)[0] for epoch in range(600))
        wanted = texts[f"{k}.png"] if is_duplicated else texts[f"{k}.png"][:1]
        assert set(drawn) == set(wanted)
        assert not is_duplicated or all(abs(n - 200) < 5 * 11.6 for n in drawn.values())  # 5 deviations


# Identity


def test_a_set_knows_itself_and_its_changes(tmp_path: Path) -> None:
    data = pairs(tmp_path / "d", 6)
    one, again = training(data), training(data)
    assert one.content == again.content == one.report()["data_hash"]
    others = [training(data, repeats=2), training(data, subset=5)]
    written(data, {"3.txt": "another"})
    others.append(training(data))
    written(data, {"3.txt": "text of 3", "2.png": encoded(image(77))})
    others.append(training(data))
    assert len({one.content, *(each.content for each in others)}) == 5


def test_a_file_that_goes_away_is_one_sentence(tmp_path: Path) -> None:
    found = training(pairs(tmp_path, 3))
    (tmp_path / "1.png").unlink()
    with pytest.raises(UsageError, match=r"^1.png was readable when the training began and is not now .*; restore it"):
        found.example(1, 0)


# Views


def test_a_view_is_a_function_of_seed_epoch_and_index(tmp_path: Path) -> None:
    data = written(tmp_path, {f"{k}.png": encoded(image(k, 40, 20)) for k in range(4)})
    written(data, {f"{k}.txt": "some words of a caption" for k in range(4)})
    asked = {"center_crop": False, "random_flip": True, "transform": ("random_words:count=1",), "seed": 4}
    one, other = training(data, **asked), training(data, **asked)
    views = [(k, epoch) for epoch in (0, 1, 5000) for k in range(4)]
    first = [one.example(*view) for view in views]
    for view, example in zip(reversed(views), reversed(first), strict=True):
        again = other.example(*view)
        assert torch.equal(example.pixels, again.pixels) and replace(example, pixels=again.pixels) == again
    assert len({example.pixels.numpy().tobytes() for example in first}) == len({e.used for e in first}) == len(views)
    elsewhere = training(data, **{**asked, "seed": 5})
    assert not torch.equal(elsewhere.pixels(0, 0), one.pixels(0, 0)) and elsewhere.texts(0, 0) != one.texts(0, 0)


def test_pixels_are_resized_cropped_and_flipped(tmp_path: Path) -> None:
    wide = Image.fromarray(np.repeat(np.arange(32, dtype=np.uint8)[None, :, None] * 8, 16, 0).repeat(3, 2))
    written(tmp_path, {"a.png": encoded(wide), "a.txt": "t"})
    centre = training(tmp_path, resolution=16).pixels(0, 0)
    levels = torch.arange(8, 24) * 8 / 127.5 - 1
    torch.testing.assert_close(centre, levels.expand(3, 16, 16), rtol=0, atol=1e-6)
    flipped = training(tmp_path, resolution=16, random_flip=True)
    seen = [bool((flipped.pixels(0, epoch) == centre.flip(2)).all()) for epoch in range(200)]
    same = [bool((flipped.pixels(0, epoch) == centre).all()) for epoch in range(200)]
    assert [not each for each in seen] == same == [not flipped.framing.is_flipped(e, 0) for e in range(200)]
    assert 65 < sum(seen) < 135  # 5 deviations
    anywhere = training(tmp_path, resolution=16, center_crop=False)
    lefts = Counter(round((anywhere.pixels(0, e)[0, 0, 0].item() + 1) * 127.5 / 8) for e in range(1700))
    assert set(lefts) == set(range(17)) and all(abs(n - 100) < 50 for n in lefts.values())
    small = training(tmp_path, resolution=32)
    assert small.pixels(0, 0).shape == (3, 32, 32) and small.report()["enlarged"] == 1


# Order


@pytest.mark.parametrize("options", [{}, {"repeats": 3}, {"duplication": "both", "duplicated": 0.2}])
def test_processes_see_the_union_and_so_do_accumulated_batches(options: dict, tmp_path: Path) -> None:
    found = training(pairs(tmp_path, 10), **options)
    whole, half = Order(found, 4, 7), Order(found, 2, 7)
    for step in (0, 3, 40, 7, 2):
        parts = [whole.batch(step, rank, 2) for rank in (0, 1)]
        assert parts[0] + parts[1] == whole.batch(step) == half.batch(2 * step) + half.batch(2 * step + 1)
    with pytest.raises(UsageError, match="A batch of 4 cannot be cut into 3 even parts; give a multiple"):
        whole.batch(0, 0, 3)
    assert [Order(found, 4, 7).batch(step) for step in range(9)] == [whole.batch(step) for step in range(9)]
    assert [Order(found, 4, 8).batch(step) for step in range(9)] != [whole.batch(step) for step in range(9)]
    every = [view for step in range(200) for view in whole.batch(step)]
    assert len(set(every)) == len(every)  # no view comes twice, so that each has draws of its own


def test_without_repeats_a_view_is_the_epoch_and_every_row_comes_once(tmp_path: Path) -> None:
    found = training(pairs(tmp_path, 7))
    order = Order(found, 7, 0)
    epochs = [order.batch(step) for step in range(5)]
    assert all(sorted(batch) == [(k, e) for k in range(7)] for e, batch in enumerate(epochs))
    assert len({tuple(k for k, _ in batch) for batch in epochs}) > 3
    small = Order(found, 3, 0)
    assert [v for step in range(7) for v in small.batch(step)] == [v for batch in epochs[:3] for v in batch]
    with pytest.raises(UsageError, match="The batch size is 0; give 1 or more"):
        Order(found, 0, 0)


def test_texts_that_the_tokenizer_cuts_off_are_counted(tmp_path: Path) -> None:
    files = {f"{k}.png": encoded(image(k)) for k in range(4)}
    texts = {"0.txt": "a" * 14, "1.txt": "a" * 15, "2.txt": "b" * 20, "3.txt": "short"}  # 16 with begin and end
    found = training(written(tmp_path, {**files, **texts}), tiny.tokenizer())
    report = found.report()
    assert (report["captions"], report["captions_cut_off"], report["most_tokens_cut_off"]) == (4, 2, 6)
    assert [found.example(k, 0).cut_off for k in range(4)] == [0, 1, 6, 0]
    longer = training(tmp_path, tiny.tokenizer(), transform=("random_words:count=19",))
    assert longer.example(3, 0).cut_off > 0 and longer.report()["captions_cut_off"] == 2
