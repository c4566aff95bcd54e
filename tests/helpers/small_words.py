"""A masked language model and a WordNet of a few words, in the formats of the real ones."""

import collections
from pathlib import Path

import torch
from transformers import BertConfig, BertForMaskedLM, BertTokenizer


def language_model_in(folder: Path) -> Path:
    """A BERT whose answer to any mask is the same: its bias. The likeliest entries are a piece and a comma."""
    bias = {"##ing": 9, ",": 8, "green": 7, "red": 6, "blue": 5, "a": 4, "pink": 3, "[SEP]": 2, "car": 1, "bus": 0}
    words = ["[PAD]", "[UNK]", "[CLS]", "[MASK]", *bias]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    BertTokenizer(vocab={w: i for i, w in enumerate(words)}).save_pretrained(folder)
    network = BertForMaskedLM(
        BertConfig(
            vocab_size=len(words),
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=1,
            intermediate_size=8,
            max_position_embeddings=512,
        )
    )
    with torch.no_grad():
        for value in network.parameters():
            value.zero_()
        network.cls.predictions.bias.copy_(torch.tensor([-9.0] * 4 + [float(b) for b in bias.values()]))
    network.save_pretrained(folder)
    return folder


def wordnet_in(folder: Path) -> Path:
    """WordNet's format in small: a picture is a painting; a lion is a kind of big cat; fine is similar to pretty."""
    synsets = {
        "noun": {"painting": ("n", ["painting", "picture"], []), "big cat": ("n", ["big_cat"], [])}
        | {"lion": ("n", ["lion"], [("@", "big cat")])},
        "adj": {"pretty": ("a", ["pretty(a)"], []), "fine": ("s", ["fine"], [("&", "pretty"), ("!", "missing")])},
        "verb": {},
        "adv": {},
    }
    licence = "  1 This stands for the licence.\n"
    for part, entries in synsets.items():
        places: dict[str, int] = collections.defaultdict(int)
        for _ in range(2):  # the second time the places are known
            data = licence
            for name, (kind, words, pointers) in entries.items():
                places[name] = len(data)
                listed = " ".join(f"{w} 0" for w in words)
                links = "".join(f" {symbol} {places[to]:08d} {kind} 0000" for symbol, to in pointers)
                data += f"{places[name]:08d} 06 {kind} {len(words):02x} {listed} {len(pointers):03d}{links} | a gloss\n"
        (folder / f"data.{part}").write_text(data)
        lines = [
            f"{w.partition('(')[0]} {kind} 1 {len(pointers)} {' '.join(s for s, _ in pointers)} 1 0 {places[name]:08d}"
            for name, (kind, words, pointers) in entries.items()
            for w in words
        ]
        (folder / f"index.{part}").write_text(licence + "".join(" ".join(x.split()) + "\n" for x in sorted(lines)))
    return folder
