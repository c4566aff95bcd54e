"""Captions of training: each style's text, transforms with their probability, and the same chain when sampling."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

import tiny
from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.training.data.conditioning import CaptionChain
from mnemoscope.training.data.manifest import read_manifest, write_manifest
from mnemoscope.training.data.options import chosen_transforms
from picture_files import encoded, image, written
from training_pairs import pairs, training

WORDS = "one two three four"


def used(found, index: int, epochs: int) -> list[str]:
    return [found.texts(index, epoch)[1] for epoch in range(epochs)]


def chain(*names: str, probability: float = 1.0) -> CaptionChain:
    return CaptionChain(chosen_transforms(names), probability)


# Styles


def test_the_manifest_holds_the_texts_that_each_picture_is_trained_under(tmp_path: Path) -> None:
    data, tokenizer = pairs(tmp_path / "data", 4), tiny.tokenizer()
    for style in ("nolevel", "random", "original", "multiple"):
        found = training(data, tokenizer, conditioning=style)
        shown = [row["shown"] for row in read_manifest(write_manifest(found, tmp_path).parent)]
        assert all(found.texts(k, epoch)[0] in shown[k] for k in range(4) for epoch in range(3))
        assert all(len(texts) == 1 for texts in shown) or style == "multiple"


@pytest.mark.parametrize("style", ["original", "random"])
def test_a_list_of_token_ids_is_the_text_that_the_tokenizer_makes_of_it(tmp_path: Path, style: str) -> None:
    tokenizer = tiny.tokenizer()
    ids = tokenizer("fox", add_special_tokens=False).input_ids
    texts = {"0.png": [str(ids)], "1.png": [str([*ids, 10**9])], "2.png": ["[a] list, of sorts"]}
    files = {name: encoded(image(k)) for k, name in enumerate(texts)}
    written(tmp_path, files | {"captions.json": json.dumps(texts)})
    found = training(tmp_path, tokenizer, conditioning=style)
    assert found.texts(0, 0)[0].replace(" ", "") == "fox"
    assert [row.file for row in found.left_out] == ["1.png"] and "token 1000000000" in found.left_out[0].status
    assert found.texts(1, 0)[0] == "[a] list, of sorts" or style == "random"


def test_styles_give_their_texts(tmp_path: Path) -> None:
    texts = {"n01440764/0.png": ["a fish", "a big fish"], "french_horn/1.png": ["a horn"]}
    files = {name: encoded(image(k)) for k, name in enumerate(texts)}
    written(tmp_path, files | {"captions.json": json.dumps(texts)})
    styles = {
        "nolevel": ["An image"] * 2,
        "class": ["An image of french horn", "An image of tench"],
        "original": ["a horn", "a fish"],
        "instance": ["a horn", "a fish"],
    }
    for style, wanted in styles.items():
        found = training(tmp_path, conditioning=style)
        assert [found.example(k, epoch).caption for epoch in (0, 4) for k in (0, 1)] == wanted * 2
    multiple = training(tmp_path, conditioning="multiple")
    drawn = Counter(multiple.texts(1, epoch)[0] for epoch in range(1000))
    assert set(drawn) == {"a fish", "a big fish"} and abs(drawn["a fish"] - 500) < 5 * 15.8
    assert [row["class"] for row in training(tmp_path).manifest()] == ["french horn", "tench"]


def test_classes_of_a_column_come_before_those_of_folders(tmp_path: Path) -> None:
    rows = [{"file": "x/0.png", "class": "heron"}, {"file": "x/1.png", "kind": "owl"}]
    files = {row["file"]: encoded(image(k)) for k, row in enumerate(rows)}
    written(tmp_path, files | {"captions.jsonl": "".join(json.dumps(row) + "\n" for row in rows)})
    found = training(tmp_path, conditioning="class")
    assert [found.texts(k, 0)[0] for k in (0, 1)] == ["An image of heron", "An image of owl"]


def test_random_captions_are_a_key_of_the_picture(tmp_path: Path) -> None:
    data, tokenizer = pairs(tmp_path, 12), tiny.tokenizer()
    found = training(data, tokenizer, conditioning="random")
    keys = [found.texts(k, 0)[0] for k in range(12)]
    assert len(set(keys)) == 12 and keys == [found.texts(k, 99)[0] for k in range(12)]
    again = training(data, tokenizer, conditioning="random", subset=5)
    assert [again.texts(k, 0)[0] for k in range(5)] == keys[:5]
    assert training(data, tokenizer, conditioning="random", seed=1).texts(0, 0)[0] != keys[0]
    for key in keys:
        assert len(tokenizer(key).input_ids) == 4 + 2  # a token of this tokenizer is a character


# Transforms


@pytest.mark.parametrize("name", registry.names("caption"))
@pytest.mark.parametrize("probability", [0.0, 0.1, 0.4, 1.0])
def test_a_transform_is_applied_as_often_as_asked(name: str, probability: float) -> None:
    own = chain(f"{name}:count=1", probability=probability)
    changed = sum(own(WORDS, 3, epoch, 5) != WORDS for epoch in range(2000))
    error = 5 * (probability * (1 - probability) / 2000) ** 0.5
    assert abs(changed / 2000 - probability) <= error


@pytest.mark.parametrize("name", ["random_words", "random_numbers"])
def test_every_gap_of_a_caption_is_as_likely(name: str) -> None:
    own = chain(f"{name}:count=1")
    places: Counter = Counter()
    for epoch in range(2500):
        words = own(WORDS, 0, epoch, 1).split()
        places[next(k for k, word in enumerate([*words, None]) if word not in WORDS.split())] += 1
    assert sorted(places) == list(range(5)) and all(abs(n - 500) < 100 for n in places.values())  # 5 deviations


def test_transforms_follow_one_another_with_draws_of_their_own() -> None:
    both = chain("random_numbers:count=2", "repeat_words:count=1")
    words = both(WORDS, 0, 0, 0).split()
    assert len(words) == 7 and words == both(WORDS, 0, 0, 0).split()
    twice = chain("random_words:count=1", "random_words:count=1")(WORDS, 0, 0, 0).split()
    assert len(set(twice) - set(WORDS.split())) == 2
    halves = chain("random_words:count=1", "random_numbers:count=1", probability=0.5)
    lengths = Counter(len(halves(WORDS, 0, epoch, 0).split()) for epoch in range(2000))
    assert set(lengths) == {4, 5, 6} and abs(lengths[5] - 1000) < 112  # independent of one another


def test_the_chain_is_the_same_for_training_and_for_sampling(tmp_path: Path) -> None:
    found = training(pairs(tmp_path, 3), tiny.tokenizer(), transform=("random_words:count=2",), probability=0.5, seed=9)
    own = CaptionChain(chosen_transforms(["random_words:count=2"]), 0.5, tiny.tokenizer())
    for index in range(3):
        assert used(found, index, 20) == [own(f"text of {index}", 9, epoch, index) for epoch in range(20)]
    assert len(set(used(found, 0, 20))) > 5


def test_words_are_tokens_of_the_models_tokenizer(tmp_path: Path) -> None:
    found = training(pairs(tmp_path, 1), tiny.tokenizer(), transform=("random_caption:count=3",))
    vocabulary = {tiny.tokenizer().decode([k]).strip() for k in range(len(tiny.tokenizer()))}
    for text in used(found, 0, 100):
        assert len(tiny.tokenizer()(text).input_ids) == 3 + 2 and set(text.replace(" ", "")) <= vocabulary


def test_a_view_that_is_repeated_in_an_epoch_is_transformed_anew(tmp_path: Path) -> None:
    from mnemoscope.training.data.order import Order

    found = training(pairs(tmp_path, 2), repeats=20, transform=("random_words:count=1",))
    texts = [found.texts(*view)[1] for view in Order(found, 40, 0).batch(0)]
    assert len(set(texts)) == 40


def test_parameters_are_read_and_refused() -> None:
    (method, given), (other, none) = chosen_transforms(["random_numbers:count=3", "repeat_words"])
    assert (method.name, given, other.name, none) == ("random_numbers", {"count": 3}, "repeat_words", {})
    assert len(method.function("", random.Random(0), **given).split()) == 3
    for text, said in {"random_words:": "", "random_words:count": "is not a parameter; write name=value"}.items():
        if said:
            with pytest.raises(UsageError, match=said):
                chosen_transforms([text])
        else:
            assert chosen_transforms([text])[0][1] == {}
    with pytest.raises(UsageError, match="random_words takes int as count, and 'x' was given"):
        chosen_transforms(["random_words:count=x"])


def test_previews_of_a_set_sorted_by_class_show_three_classes() -> None:
    """However many rows the first class has; of a set with fewer captions all of them."""
    from mnemoscope.training.data.dataset import TrainingSet
    from mnemoscope.training.watching.previews import first_captions

    class Rows(TrainingSet):
        def __init__(self, captions: list) -> None:
            self.rows = captions

        def possible(self, index: int) -> tuple[str, ...]:
            return self.rows[index]

    classes = (
        [("An image of tench", "x")] * 900 + [()] + [("An image of a church",)] * 300 + [("An image of a ball",)] * 9
    )
    assert first_captions(Rows(classes)) == ["An image of tench", "An image of a church", "An image of a ball"]
    assert first_captions(Rows(classes[:5])) == ["An image of tench"]
