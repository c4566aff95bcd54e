"""Words of prompts whose accents and vowel signs are characters of their own."""

import unicodedata

import pytest
from transformers import PreTrainedTokenizerBase, T5Tokenizer

from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.spans import clusters, letters_of, located
from mnemoscope.model.words import WORD, aligned, content, merged
from tiny_families import Processor, model_of, pipeline, word_pieces

COMPOSED = ["a café by the sea", "Ångström, naïve façade", "việt nam"]
INDIC = ["हिन्दी भाषा", "தமிழ் மொழி"]


def words(model: Denoiser, prompt: str) -> list[str]:
    (tokens,) = content(model.family, [prompt])
    return [word["word"] for word in merged(prompt, tokens, [1.0] * len(tokens))]


@pytest.mark.parametrize("prompt", COMPOSED)
def test_composed_and_decomposed_text_has_the_same_words(bundled: Denoiser, prompt: str) -> None:
    apart = unicodedata.normalize("NFD", prompt)
    assert apart != prompt
    assert words(bundled, apart) == [unicodedata.normalize("NFD", word) for word in words(bundled, prompt)]
    assert "".join(words(bundled, prompt)) == prompt.replace(" ", "")


@pytest.mark.parametrize("prompt", INDIC)
def test_vowel_signs_end_no_word(bundled: Denoiser, prompt: str) -> None:
    assert words(bundled, prompt) == prompt.split() == WORD.findall(prompt)


def test_tokens_of_a_decomposed_letter_stand_for_all_of_it(bundled: Denoiser) -> None:
    (tokens,) = content(bundled.family, ["a cafe\u0301 by"])
    assert [(t.start, t.end) for t in tokens if t.text == "\ufffd"] == [(5, 7), (5, 7)]


def test_pieces_of_other_codes_are_found_in_decomposed_text() -> None:
    found = aligned("un cafe\u0301 noir", ["un</w>", "café</w>", "noir</w>"])
    assert found is not None and [(t.start, t.end) for t in found] == [(0, 2), (3, 8), (9, 13)]
    assert aligned("un cafe noir", ["un</w>", "café</w>"]) is None


def test_ids_are_located_in_decomposed_text() -> None:
    pieces = ["caf", "é", " noir"]
    assert located("cafe\u0301 noir", range(3), lambda ids: "".join(pieces[i] for i in ids)) == [
        (0, 3),
        (3, 5),
        (6, 10),
    ]


def test_clusters_cover_a_text_without_gaps() -> None:
    assert list(clusters("e\u0301a")) == [(0, 2), (2, 3)] and list(clusters("")) == [] == letters_of("")
    assert list(clusters("\u0301x")) == [(0, 1), (1, 2)]


def spelt(prompt: str, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    ids = tokenizer(prompt, add_special_tokens=False).input_ids
    return [prompt[a:b] for a, b in located(prompt, ids, tokenizer.decode, tokenizer.unk_token_id)]


def test_pieces_of_words_and_letters_without_their_accents_are_found() -> None:
    tokenizer = word_pieces()
    assert spelt("Ein Café.", tokenizer) == ["E", "i", "n", "C", "a", "f", "é", "."]
    assert spelt("a dog 😀 dug a", tokenizer) == ["a", "d", "o", "g", "😀", "d", "u", "g", "a"]


@pytest.mark.parametrize(
    "prompt, expected",
    [
        ("a 狗 at", ["a", "", "狗", "a", "t"]),  # white space has an id of its own before what is not known
        ("狗猫 <a>", ["", "狗猫", "", "<", "a", ">"]),
        ("a~at", ["a", "~", "a", "t"]),
        ("a 狗", ["a", "", "狗"]),
        ("tab a狗a a", ["t", "a", "b", "a", "狗", "a", "a"]),  # the unknown end where the next known ones begin
    ],
)
def test_what_a_tokenizer_does_not_know_lies_between_its_neighbours(prompt: str, expected: list[str]) -> None:
    known = ["\u2581", "\u2581a", "\u2581t", "a", "t", "b"]
    vocab = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), *((piece, -2.0) for piece in known)]
    marks = [(mark, -2.0) for mark in ("<", ">")] if "<" in prompt else []
    assert spelt(prompt, T5Tokenizer(vocab=[*vocab, *marks], extra_ids=0)) == expected


def test_a_prompt_that_was_rewritten_is_refused_and_says_where() -> None:
    pieces = ["two", " cats"]
    with pytest.raises(ValueError, match="rewrites the prompt: 'cats' is not what comes next"):
        located("two dogs", range(2), lambda ids: "".join(pieces[i] for i in ids))


def test_a_processors_tokenizer_is_the_one_inside() -> None:
    model, pipe = model_of("flux2"), pipeline("flux2")
    (plain,), inner = model.family.spans(["a cat"]), pipe.tokenizer
    pipe.tokenizer = Processor(inner)
    try:
        assert model_of("flux2").family.spans(["a cat"]) == [plain]
    finally:
        pipe.tokenizer = inner
