"""Alternatives of a word from the database files of WordNet: true synonyms, or else a more general word."""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from mnemoscope.errors import UsageError
from mnemoscope.rewriting.offline import Offline

PARTS_OF_SPEECH = ("noun", "verb", "adj", "adv")
MORE_GENERAL = ("@", "&")  # pointers to what it is a kind of; for adjectives, to what is similar
SENSES = 2  # of each part of speech, the most frequent ones
FILES = tuple(f"{kind}.{part}" for kind in ("index", "data") for part in PARTS_OF_SPEECH)


def wordnet(folder: Path) -> Offline:
    """A rewriter that draws from a word's synonyms in WordNet's two most frequent senses, or from a more general word.

    `folder` holds WordNet's files index.noun, data.noun and so on. A word that WordNet does not have is kept, so that
    most names are. Raises `UsageError` for a folder without these files.
    """
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise UsageError(f"{folder} holds no {missing[0]}; give the folder of WordNet's database files.")
    index = {part: dict(_entries(folder / f"index.{part}")) for part in PARTS_OF_SPEECH}
    data = {part: (folder / f"data.{part}").read_bytes() for part in PARTS_OF_SPEECH}

    def of(word: str) -> list[str]:
        synsets = [(part, at) for part in PARTS_OF_SPEECH for at in index[part].get(word, ())[:SENSES]]
        records = [(part, _synset(data[part], at)) for part, at in synsets]
        others = [w for _, (words, _) in records for w in words if w != word]
        general = [w for part, (_, above) in records for at in above for w in _synset(data[part], at)[0]]
        return list(dict.fromkeys(w.replace("_", " ") for w in others or general if w != word))

    @cache
    def synonyms(word: str) -> tuple[str, ...]:
        if lemmas := of(word):
            return tuple(lemmas)
        return tuple(w + "s" for w in of(word.removesuffix("s"))) if word.endswith("s") else ()

    def alternatives(before: str, word: str, after: str) -> Sequence[str]:
        return synonyms(word.lower())

    return Offline("wordnet", alternatives)


def _entries(file: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Each lemma of an index file with the places of its synsets, the most frequent sense first."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith(" "):  # the licence
            fields = line.split()
            yield fields[0], tuple(int(at) for at in fields[len(fields) - int(fields[2]) :])


def _synset(data: bytes, at: int) -> tuple[list[str], list[int]]:
    """The words of the synset at a place of a data file, and of the synsets that are more general."""
    fields = data[at : data.index(b"\n", at)].decode().partition(" | ")[0].split()
    count = int(fields[3], 16)
    words = [w.partition("(")[0].lower() for w in fields[4 : 4 + 2 * count : 2]]
    first = 5 + 2 * count
    pointers = fields[first : first + 4 * int(fields[first - 1])]
    return words, [
        int(at) for symbol, at in zip(pointers[0::4], pointers[1::4], strict=False) if symbol in MORE_GENERAL
    ]
