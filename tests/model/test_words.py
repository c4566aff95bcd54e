"""Words of prompts whose accents and vowel signs are characters of their own."""

import unicodedata

import pytest

from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.spans import clusters, letters_of, located
from mnemoscope.model.words import WORD, aligned, content, merged

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
