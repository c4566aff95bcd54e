"""Which words a rewrite changes, and what the rewriters without a language model put in their place."""

import collections
import json
import math
from pathlib import Path

import numpy as np
import pytest

from mnemoscope.errors import UsageError
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.rewriting.choice import Choice, choose, draw_seed, probabilities
from mnemoscope.rewriting.masked import masked
from mnemoscope.rewriting.neighbours import neighbours
from mnemoscope.rewriting.offline import Offline, in_case_of, nearby
from mnemoscope.rewriting.passage import NotRewritten, Passage, passage, same, tidy
from mnemoscope.rewriting.wordnet import wordnet
from small_words import language_model_in, wordnet_in

SCORES = [1.0, 0.8, 0.6, 0.5, 0.4, 0.3]


def explained(scores: list[float], method: str = "token_gradients", prompt: str = "a b c d e f") -> dict:
    words = [{"word": w, "sum": s, "max": s, "first": k, "last": k} for k, (w, s) in enumerate(zip("abcdef", scores))]  # noqa: B905
    return {"id": "1", "prompt": prompt, "words": words, "method": method, "status": "ok"}


def cut(prompt: str, *chosen: str) -> Passage:
    """The prompt as a passage with these of its words chosen."""
    words = prompt.split()
    return passage(prompt, words, [words.index(w) for w in chosen])


# Choice


def test_probabilities_are_the_softmax_of_shares_with_a_floor() -> None:
    shares = [s / sum(SCORES) / 0.1 for s in SCORES]
    soft = [math.exp(s) / sum(map(math.exp, shares)) for s in shares]
    expected = [(p + 0.001) / (1 + 6 * 0.001) for p in soft]
    assert probabilities(SCORES, 0.1) == pytest.approx(expected, rel=1e-12)
    assert probabilities(SCORES, 0.1)[0] == pytest.approx(0.4011, abs=1e-4)  # worked out by hand


def test_only_the_proportions_of_the_scores_count() -> None:
    """Raw scores would give .167 and .995 for the first word at these two scales."""
    for scale in (1e-3, 1, 100):
        assert probabilities([s * scale for s in SCORES], 0.1) == pytest.approx(probabilities(SCORES, 0.1), rel=1e-9)


def test_temperature_goes_from_the_highest_word_to_all_alike() -> None:
    assert probabilities(SCORES, 1e-3)[0] == pytest.approx(1.001 / 1.006, abs=1e-6)
    assert probabilities(SCORES, 1e6) == pytest.approx([1 / 6] * 6, abs=1e-6)


def test_a_negative_score_counts_as_none_and_no_score_at_all_as_all_alike() -> None:
    assert probabilities([-5.0, 1.0], 0.1) == pytest.approx(probabilities([0.0, 1.0], 0.1))
    assert probabilities([-1.0, -2.0, 0.0], 0.1) == pytest.approx([1 / 3] * 3)
    with pytest.raises(NotRewritten, match="not finite"):
        probabilities([1.0, math.nan], 0.1)


def test_words_are_drawn_as_often_as_their_probability_says() -> None:
    drawn = collections.Counter(choose(explained(SCORES), 1, k, Choice())[0] for k in range(2000))
    assert [drawn[i] / 2000 for i in range(6)] == pytest.approx(probabilities(SCORES, 0.1).tolist(), abs=0.035)


def test_the_control_draws_evenly_whatever_its_scores_say() -> None:
    row = explained([1000.0, 0, 0, 0, 0, 0], method="random")
    drawn = collections.Counter(choose(row, 1, k, Choice())[0] for k in range(2000))
    assert [drawn[i] / 2000 for i in range(6)] == pytest.approx([1 / 6] * 6, abs=0.035)


def test_words_are_drawn_without_replacement_and_in_order() -> None:
    for level in (1, 3, 6, 8):
        for k in range(20):
            chosen = choose(explained(SCORES), level, k, Choice())
            assert len(set(chosen)) == min(level, 6) and chosen == sorted(chosen)


def test_a_draw_depends_on_seed_prompt_level_and_number() -> None:
    values = {draw_seed(s, p, level, k) for s in (0, 1) for p in ("a", "b") for level in (1, 2) for k in (0, 1)}
    assert len(values) == 16
    row = explained([1.0] * 6)
    assert len({tuple(choose(row, 3, k, Choice())) for k in range(20)}) > 10
    assert choose(row, 3, 4, Choice(levels=(1, 3))) == choose(row, 3, 4, Choice(levels=(3,), rewrites=9))
    assert any(choose(row, 3, k, Choice()) != choose(row, 3, k, Choice(seed=1)) for k in range(5))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"levels": (0,)}, "--level 0"),
        ({"levels": ()}, "at least one"),
        ({"levels": (3, 3)}, "only once"),
        ({"rewrites": 0}, "--rewrites 0"),
        ({"temperature": 0}, "above 0"),
        ({"temperature": math.inf}, "above 0"),
    ],
)
def test_an_impossible_choice_is_refused(values: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Choice(**values)


# Places


def test_words_are_found_by_position_not_by_spelling() -> None:
    prompt = "The cat, the other cat"
    assert passage(prompt, ["the", "cat", ",", "the", "other", "cat"], [3, 5]).marked() == (
        "The cat, [[the]] other [[cat]]"
    )


def test_a_piece_of_a_word_or_number_stands_for_the_whole() -> None:
    prompt = "Octopus print 1912"
    pieces = ["octo", "pus", "print", "1", "9", "1", "2"]
    assert passage(prompt, pieces, [1, 4, 6]).marked() == "[[Octopus]] print [[1912]]"


def test_a_prompt_cut_off_in_its_last_word_keeps_its_end() -> None:
    assert passage("a red bicycle here", ["a", "red", "bicy"], [2]).marked() == "a red [[bicycle]] here"


def test_letters_that_grow_in_lower_case_do_not_shift_the_places() -> None:
    assert passage("İİ view of İzmir bay", ["view", "bay"], [0, 1]).marked() == "İİ [[view]] of İzmir [[bay]]"


def test_a_word_that_is_not_there_is_named() -> None:
    with pytest.raises(NotRewritten, match="'dog'"):
        passage("a cat", ["a", "dog"], [1])


def test_spaces_are_tidied_and_captions_compared_without_case() -> None:
    assert tidy("  oil on  canvas , museum .") == "oil on canvas, museum."
    assert same("A  Cat", "a cat") and not same("a cat", "a cats")


# Without a language model


def offline(**alternatives: list[str]) -> Offline:
    return Offline("test", lambda before, word, after: alternatives.get(word.lower(), []))


def test_numbers_move_a_little_and_keep_their_zeros() -> None:
    assert [nearby("003", step) for step in (-3, -2, 1, 2)] == ["000", "001", "004", "005"]
    assert nearby("1", -3) == "4" and nearby("9", 3) == "12"
    found = {offline()(cut("view 100", "100"), k) for k in range(40)}
    assert found == {f"view {n}" for n in (97, 98, 99, 101, 102, 103)}


def test_punctuation_is_left_out_and_words_keep_their_capitals() -> None:
    words = ["The", "Lion", ",", "OIL", "|", "paint"]
    place = passage("The Lion, OIL | paint", words, [1, 2, 3, 4])
    assert offline(lion=["big cat"], oil=["fat"])(place, 0) == "The Big cat FAT paint"
    assert [in_case_of(w, "other") for w in ("A", "Aa", "AA", "aA")] == ["Other", "Other", "OTHER", "other"]


def test_a_word_without_alternatives_is_kept_and_an_unchanged_prompt_is_no_rewrite() -> None:
    assert offline(red=["green"])(cut("red Barnaby", "red", "Barnaby"), 0) == "green Barnaby"
    for alternatives in ({}, {"barnaby": ["BARNABY"]}):
        with pytest.raises(NotRewritten, match="no rewrite found"):
            offline(**alternatives)(cut("red Barnaby", "Barnaby"), 0)
    with pytest.raises(NotRewritten, match="no rewrite found"):
        offline()(cut("...", "..."), 0)


def test_a_draw_follows_its_seed_alone() -> None:
    rewriter = offline(red=["green", "blue", "pink", "brown"], car=["bus", "van", "lorry"])
    place = cut("a red car", "red", "car")
    assert [rewriter(place, k) for k in range(9)] == [rewriter(place, k) for k in range(9)]
    assert len({rewriter(place, k) for k in range(60)}) == 12


def test_odd_digits_and_huge_numbers_do_not_break() -> None:
    for number in ("9" * 5000, "²", "٣"):
        with pytest.raises(NotRewritten, match="no rewrite found"):
            offline()(cut(f"view {number}", number), 0)


# Neighbours in the model's own vocabulary


def test_neighbours_are_the_nearest_words_by_cosine(bundled: Denoiser) -> None:
    rewriter = neighbours(bundled)
    tokenizer = bundled.pipe.tokenizer
    table = bundled.pipe.text_encoder.get_input_embeddings().weight.numpy().astype(np.float64)
    query = table[tokenizer("octopus", add_special_tokens=False).input_ids].mean(0)
    names = {n[:-4]: i for n, i in tokenizer.get_vocab().items() if n.endswith("</w>") and n[:-4].isalpha()}
    by_cosine = sorted(
        (n for n in names if len(n) >= 4 and n != "octopus"),
        key=lambda n: -float(table[names[n]] @ query / np.linalg.norm(table[names[n]])),
    )
    assert list(rewriter.alternatives("", "Octopus", "")) == by_cosine[:5]


def test_planted_words_give_way_to_the_only_others(planted: Denoiser) -> None:
    found = {neighbours(planted)(cut("memorized 1", "memorized"), k) for k in range(20)}
    assert found == {"ordinary 1", "photo 1"}


def test_a_model_without_words_is_refused(planted: Denoiser) -> None:
    planted.pipe.tokenizer = None
    with pytest.raises(UsageError, match="no vocabulary of words"):
        neighbours(planted)


# Masked language model


@pytest.fixture
def language_model(tmp_path: Path) -> Path:
    return language_model_in(tmp_path)


def test_a_masked_language_model_offers_its_likeliest_whole_words(language_model: Path) -> None:
    rewriter = masked(language_model)
    assert rewriter.alternatives("a ", "red", " car") == ["green", "blue", "a", "pink", "car"]
    assert rewriter.alternatives("a " * 5000, "bus", " car" * 5000)[0] == "green"  # far longer than it can read
    found = {rewriter(cut("one red car", "red"), k) for k in range(60)}
    assert found == {f"one {w} car" for w in ("green", "blue", "a", "pink", "car")}


def test_what_is_no_masked_language_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="masked language model: no such folder"):
        masked(tmp_path / "none")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "unheard-of"}))
    with pytest.raises(UsageError, match="could not be loaded as a masked language model"):
        masked(tmp_path)


# WordNet


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return wordnet_in(tmp_path)


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("Painting", ["picture"]),
        ("paintings", ["pictures"]),
        ("lion", ["big cat"]),
        ("fine", ["pretty"]),
        ("barnaby", []),
        ("s", []),
    ],
)
def test_wordnet_gives_synonyms_or_what_is_more_general(database: Path, word: str, found: list[str]) -> None:
    assert list(wordnet(database).alternatives("", word, "")) == found


def test_a_folder_without_wordnet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no index.noun"):
        wordnet(tmp_path)
