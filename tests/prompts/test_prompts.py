"""Every source of prompts reads back what was written, and every hostile one ends in one sentence."""

import contextlib
import csv
import dataclasses
import io
import json
import re
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnemoscope.errors import UsageError
from mnemoscope.pictures import open_source
from mnemoscope.prompts.documents import KNOWN
from mnemoscope.prompts.prompt import Prompt, as_prompts, read_prompts

CAPTIONS = ['a "dog", red', "<i>cät</i>; sleeping", "two\twords", "a 'dog'"]


def texts(prompts: list[Prompt]) -> list[str]:
    return [prompt.text for prompt in prompts]


def ids(prompts: list[Prompt]) -> list[str]:
    return [prompt.id for prompt in prompts]


def sentence(source: Any, **options: Any) -> str:
    """The message of the UsageError that reading must raise; one line, one full stop at its end."""
    with pytest.raises(UsageError) as caught:
        read_prompts(source, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and message.endswith(".") and not message.endswith("..")
    return message


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes | str], Path]:
    def write(name: str, content: bytes | str) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


@pytest.fixture
def datasets(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The datasets package, kept from the network."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    package = pytest.importorskip("datasets")
    monkeypatch.setattr(package.config, "HF_HUB_OFFLINE", True)
    return package


def table(delimiter: str, header: list[str], rows: list[list[Any]]) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows([header, *rows])
    return out.getvalue()


# Ids


def test_ids_depend_on_the_text_alone_and_are_unique() -> None:
    once, again = as_prompts(["a cat", "a dog", "a cat", "a cat"]), as_prompts(["a dog"])
    assert ids(once) == ["51e467415607", "7dbdf68ac0bb", "51e467415607-2", "51e467415607-3"]
    assert again == [once[1]] == [Prompt("7dbdf68ac0bb", "a dog", None, None, {})]


def test_a_prompt_is_frozen_and_can_be_in_a_set() -> None:
    prompt = Prompt("1", "a cat", source={"index": 3})
    assert prompt in {prompt, Prompt("1", "a dog")}
    with pytest.raises(dataclasses.FrozenInstanceError):
        prompt.text = "a dog"  # type: ignore[misc]


def test_texts_that_are_not_a_list_of_strings_are_refused() -> None:
    with pytest.raises(UsageError, match="given 'a cat' and expected several strings"):
        as_prompts("a cat")
    with pytest.raises(UsageError, match="given <list_iter.* and expected several strings"):
        as_prompts(iter(["a cat", 7]))  # type: ignore[list-item]


# Formats


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_txt(write: Callable, newline: str, bom: str) -> None:
    content = bom + newline.join(["a cat", "", "  ", " two\u2028lines? ", "a, b; c"])
    assert texts(read_prompts(write("p.txt", content))) == ["a cat", "two\u2028lines?", "a, b; c"]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("a cät\n\na dog\n".encode()), encoding="ascii"))
    assert texts(read_prompts("-")) == ["a cät", "a dog"]
    assert sentence("-") == "standard input: there are no prompts in it; expected at least one."


@pytest.mark.parametrize("bom", ["", "\ufeff"])
@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "P.CSV"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_tables_of_each_delimiter(write: Callable, delimiter: str, name: str, bom: str) -> None:
    rows = [[i, caption, f"https://x/?a=1,2;{i}"] for i, caption in enumerate(CAPTIONS)]
    prompts = read_prompts(write(name, bom + table(delimiter, ["", "Caption", "URL"], rows)))
    assert texts(prompts) == CAPTIONS
    assert prompts[2].source == {"URL": "https://x/?a=1,2;2"}


@pytest.mark.parametrize(
    ("header", "first"),
    [
        ("Caption;size,w;size,h", "a"),
        ('"size,w,h";text', "b"),
        ("prompt", "a"),
        ('"Title"', "a"),
        ("\n id\tTEXT ", "b"),
    ],
)
def test_the_delimiter_is_the_one_that_splits_off_a_caption(write: Callable, header: str, first: str) -> None:
    delimiter = "\t" if "\t" in header else ";"
    width = header.count(delimiter) + 1
    prompts = read_prompts(write("p.csv", f"{header}\n{delimiter.join('abc'[:width])}\n\n"))
    assert texts(prompts) == [first]


def test_a_quoted_caption_may_hold_line_breaks(write: Callable) -> None:
    assert texts(read_prompts(write("p.csv", 'caption,n\r\n"a\r\nb",1\r\n'))) == ["a\r\nb"]


@pytest.mark.parametrize("name", ["p.jsonl", "p.ndjson"])
def test_json_lines(write: Callable, name: str) -> None:
    lines = [
        {
            "caption": "a\u2028cat",
            "index": 3,
            "x": float("nan"),
            "y": {"z": 1},
            "z": [1, "\ud800"],
            "tags": ["b", None],
        },
        {"caption": "a dog"},
    ]
    prompts = read_prompts(write(name, "\n\n".join(json.dumps(line).replace("\\u2028", "\u2028") for line in lines)))
    assert texts(prompts) == ["a\u2028cat", "a dog"]
    assert [prompt.source for prompt in prompts] == [{"index": 3, "tags": ["b", None]}, {}]
    assert texts(read_prompts(write(name, '"a cat"\n"a dog"\n'))) == ["a cat", "a dog"]


@pytest.mark.parametrize(
    "document",
    [
        ["a cat", "a dog"],
        [{"n": 1, "Text": "a cat"}, {"Text": "a dog"}],
        {"a cat": [["a</w>", 0.1], ["cat</w>", 0.9]], "a dog": []},
        [{"n": 1, "captions": ["a cat", "a dog"]}],
    ],
)
def test_json(write: Callable, document: Any) -> None:
    assert texts(read_prompts(write("p.json", json.dumps(document)))) == ["a cat", "a dog"]


def test_parquet_keeps_what_json_can_write(tmp_path: Path) -> None:
    columns = {
        "caption": pa.array(["a cat", "a dog"]).dictionary_encode(),
        "image": [{"bytes": b"\xff", "path": None}] * 2,
        "raw": [b"\x00"] * 2,
        "taken": pa.array([1, 2], pa.timestamp("ns")),
        "size": [3, None],
        "score": [float("nan"), 0.5],
        "tags": [["x"], []],
    }
    pq.write_table(pa.table(columns), tmp_path / "p.parquet")
    prompts = read_prompts(tmp_path / "p.parquet")
    assert texts(prompts) == ["a cat", "a dog"]
    assert [p.source for p in prompts] == [{"size": 3, "tags": ["x"]}, {"size": None, "score": 0.5, "tags": []}]


def test_decimal_fractions_of_a_table_are_numbers(tmp_path: Path) -> None:
    decimals = {
        "label": pa.array([Decimal(1), Decimal(0), None], pa.decimal128(38, 0)),
        "score": pa.array([Decimal("0.50"), Decimal("2.00"), None], pa.decimal256(60, 2)),
        "several": pa.array([[Decimal("1.5")], [], None], pa.list_(pa.decimal128(9, 1))),
    }
    pq.write_table(pa.table({"caption": ["a cat", "a dog", "a bird"], **decimals}), tmp_path / "p.parquet")
    prompts = read_prompts(tmp_path / "p.parquet")
    assert [p.label for p in prompts] == [True, False, None]
    sources = [{"score": 0.5, "several": [1.5]}, {"score": 2, "several": []}, {"score": None, "several": None}]
    assert [p.source for p in prompts] == sources


@pytest.mark.parametrize("labels", [pa.array([b"1"]), pa.array([1], pa.timestamp("s"))], ids=["bytes", "times"])
def test_labels_of_another_type_are_not_dropped(tmp_path: Path, labels: pa.Array) -> None:
    pq.write_table(pa.table({"caption": ["a cat"], "memorized": labels}), tmp_path / "p.parquet")
    assert "says neither memorized nor ordinary" in sentence(tmp_path / "p.parquet")


# Columns


def test_the_usual_names_are_tried_in_order(write: Callable) -> None:
    names = ["title", "Sentence", "CAPTIONS", "TEXT", "Caption", "Prompt"]
    for count in range(1, len(names) + 1):
        path = write("p.csv", ",".join(names[:count]) + "\n" + ",".join(names[:count]))
        assert texts(read_prompts(path)) == [names[count - 1]]


def test_a_column_can_be_named(write: Callable) -> None:
    path = write("p.csv", "caption,alt,type\nx,a cat,VM\n")
    assert read_prompts(path, column="alt")[0].source == {"caption": "x"}
    assert texts(read_prompts(path, column="type")) == ["VM"]
    assert sentence(path, column="Alt") == (
        f"{path}: there is no column 'Alt'; give one of its columns: caption, alt, type."
    )


@pytest.mark.parametrize("name", ["label", "Memorized", "IS_MEMORIZED"])
@pytest.mark.parametrize(
    ("value", "label"),
    [("true", True), ("1", True), ("YES", True), (" memorized ", True), (True, True), (1, True), (1.0, True)]
    + [("False", False), ("0", False), ("no", False), ("ordinary", False), ("Unmemorized", False), (False, False)]
    + [(0, False), (None, None), ("", None), (float("nan"), None)],
)
def test_labels(write: Callable, name: str, value: Any, label: bool | None) -> None:
    (prompt,) = read_prompts(write("p.json", json.dumps([{"caption": "a cat", name: value}])))
    assert (prompt.label, prompt.source) == (label, {})


@pytest.mark.parametrize("value", ["maybe", "2", 2, 0.5, [1], {"a": 1}])
def test_other_labels_are_refused(write: Callable, value: Any) -> None:
    path = write("p.jsonl", '"a dog"\n' + json.dumps({"prompt": "a cat", "label": value}))
    message = sentence(path)
    assert message.startswith(f"{path}, line 2: the label {value!r} says neither memorized nor ordinary; write one of")


@pytest.mark.parametrize(
    ("columns", "label", "kind", "source"),
    [
        ({"type": "VM"}, True, "VM", {}),
        ({"kind": " tm "}, True, "tm", {}),
        ({"type": "VM", "label": "no"}, False, "VM", {}),
        ({"type": "VM", "label": ""}, True, "VM", {}),
        ({"kind": "verbatim"}, True, "verbatim", {}),
        ({"kind": "template"}, True, "template", {}),
        ({"kind": "ordinary"}, False, "ordinary", {}),
        ({"kind": "unseen"}, False, "unseen", {}),
        ({"kind": "portrait"}, None, "portrait", {}),
        ({"kind": "x" * 41}, None, None, {"kind": "x" * 41}),
        ({"kind": 3}, None, None, {"kind": 3}),
    ],
)
def test_kinds(write: Callable, columns: dict, label: bool | None, kind: str | None, source: dict) -> None:
    (prompt,) = read_prompts(write("p.json", json.dumps([{"caption": "a cat", **columns}])))
    assert (prompt.label, prompt.kind, prompt.source) == (label, kind, source)


def test_limit_takes_the_first_prompts(write: Callable) -> None:
    path = write("p.jsonl", '{"captions": ["a", "b"]}\n{"captions": ["c"]}\nnot JSON')
    assert texts(read_prompts(path, limit=1)) == ["a"]
    assert texts(read_prompts(path, limit=2)) == ["a", "b"]
    assert "line 3: malformed JSON" in sentence(path, limit=3)
    for limit in (0, -1):
        assert sentence(path, limit=limit) == (
            f"limit is {limit} and must be at least 1; leave it out to read all prompts."
        )


# Hostile files

NO_COLUMN = (
    "no caption column (prompt, caption, text, captions, sentence, title) among its columns: a, b; "
    "name one with `column`."
)
NO_PROMPTS = ": there are no prompts in it; expected at least one."
LONG = "the prompt has 10000000 characters and may have 20000; shorten it."
DEEP = "[" * 200_000

HOSTILE: list[tuple[str, bytes, str]] = [
    ("p.txt", b"", NO_PROMPTS),
    ("p.txt", b"\n \n", NO_PROMPTS),
    ("p.csv", b"", NO_PROMPTS),
    ("p.csv", b"caption,url\n", NO_PROMPTS),
    ("p.jsonl", b"", NO_PROMPTS),
    ("p.json", b"", NO_PROMPTS),
    ("p.json", b"[]", NO_PROMPTS),
    ("p.parquet", b"", NO_PROMPTS),
    ("p.txt", b"a\n" + b"x" * 10_000_000, f", line 2: {LONG}"),
    ("p.jsonl", b'"' + b"x" * 10_000_000 + b'"', f", line 1: {LONG}"),
    ("p.txt", "a\nü\n".encode("latin1"), ", line 2: byte 0xfc is not UTF-8; save the file as UTF-8."),
    ("p.csv", "caption\na cat".encode("utf-16"), ", line 1: byte 0xff is not UTF-8; save the file as UTF-8."),
    ("p.json", b'["a",\n"\xe2\x82"]', ", line 2: byte 0xe2 is not UTF-8; save the file as UTF-8."),
    ("p.txt", b"a\nb\0c", ", line 2: a NUL byte is not text; give a text file."),
    ("p.csv", b"caption\na\0b", ", line 2: a NUL byte is not text; give a text file."),
    ("p.json", b'["a", "b\\u0000"]', ", item 2: the prompt holds '\\x00', which is not text; remove that character."),
    ("p.jsonl", b'"\\ud800"', ", line 1: the prompt holds '\\ud800', which is not text; remove that character."),
    ("p.csv", b"a,b\nx,y\n", f": {NO_COLUMN}"),
    ("p.jsonl", b'{"a": "x", "b": 1}', f": {NO_COLUMN}"),
    ("p.json", b'[{"caption": NaN}, ""]', ": none of its 2 rows has a caption; fill them in."),
    (
        "p.jsonl",
        b'{"caption": 7}',
        ", line 1: the caption 7 is not text; expected a string, choose another column.",
    ),
    (
        "p.json",
        b'[{"caption": Infinity}]',
        ", item 1: the caption inf is not text; expected a string, choose another column.",
    ),
    ("p.jsonl", b'"x"\n\n{"caption": }', ", line 3: malformed JSON (Expecting value); correct it."),
    ("p.json", b'["x",\n"y"\n"z"]', ", line 3: malformed JSON (Expecting ',' delimiter); correct it."),
    ("p.json", b'{"caption": "x"}\n{"caption": "y"}', ", line 2: malformed JSON (Extra data); correct it."),
    ("p.json", DEEP.encode(), ", line 1: malformed JSON (nested too deeply); correct it."),
    ("p.jsonl", b'"x"\n' + DEEP.encode(), ", line 2: malformed JSON (nested too deeply); correct it."),
    (
        "p.jsonl",
        b'{"caption": "x", "n": ' + b"9" * 5000 + b"}",
        ", line 1: malformed JSON (a number has too many digits); correct it.",
    ),
    ("p.jsonl", b'"x"\n3', ", line 2: 3 is neither a string nor an object; give one of them."),
    ("p.json", b'["x", null]', ", item 2: None is neither a string nor an object; give one of them."),
    (
        "p.json",
        b'"x"',
        f": it is a str, in which no prompts are found; {KNOWN}.",
    ),
    (
        "p.json",
        b'{"Caption": "x", "n": 1}',
        f": it is an object with the keys 'Caption', 'n', in which no prompts are found; {KNOWN}.",
    ),
    (
        "p.csv",
        b"caption,n\nx,1\na, b,2\n",
        ", line 3: 3 fields where the header has 2; quote the captions that contain ','.",
    ),
    (
        "p.csv",
        b"n;caption\n1\n",
        ", line 2: 1 fields where the header has 2; quote the captions that contain ';'.",
    ),
    (
        "p.csv",
        b'caption,n\n"x,1\ny,2\n',
        ", line 3: malformed table (unexpected end of data); check its quotes.",
    ),
    (
        "p.csv",
        b"caption,n\n" + b"x" * 200_000 + b",1\n",
        ", line 2: malformed table (field larger than field limit (131072)); check its quotes.",
    ),
    ("p.csv", b"caption,n,n\nx,1,2\n", ": several columns are called 'n'; rename all but one."),
]


@pytest.mark.parametrize(
    ("name", "content", "problem"), HOSTILE, ids=[f"{i}-{name}" for i, (name, _, _) in enumerate(HOSTILE)]
)
def test_hostile_files(write: Callable, name: str, content: bytes, problem: str) -> None:
    path = write(name, content)
    assert sentence(path) == f"{path}{problem}"


def test_json_nested_almost_too_deeply(write: Callable) -> None:
    for depth in range(sys.getrecursionlimit() - 300, sys.getrecursionlimit()):
        path = write("p.jsonl", '{"caption": "x", "label": ' + "[" * depth + "]" * depth + "}")
        assert re.search("the label .* says neither|nested too deeply", sentence(path))
        path = write("p.jsonl", path.read_bytes().replace(b"label", b"n"))
        with contextlib.suppress(UsageError):
            assert read_prompts(path) == as_prompts(["x"])


def test_no_such_file(tmp_path: Path) -> None:
    problem = "no such file; give an existing one, or hub:owner/name for a hub dataset."
    for name in ("p.csv", "owner/name"):
        assert sentence(tmp_path / name) == f"{tmp_path / name}: {problem}"


def test_unknown_suffix(write: Callable) -> None:
    for name, suffix in (("p.xlsx", ".xlsx"), ("p", "")):
        path = write(name, "a cat")
        assert sentence(path) == (
            f"{path}: unknown suffix {suffix!r}; expected one of .txt, .csv, .tsv, .jsonl, .ndjson, .json, .parquet."
        )


def test_a_folder_without_pictures_holds_no_prompts(tmp_path: Path) -> None:
    assert sentence(tmp_path) == (
        f"{tmp_path} holds no image, and no .tar, .zip or .parquet file with images; give a folder that does."
    )


@pytest.mark.parametrize("name", ["x" * 5000 + ".txt", "a\0b.txt", "a cat\non a mat"])
def test_names_that_no_file_can_have(name: str) -> None:
    assert re.search("no such file|cannot be read", sentence(name))


@pytest.mark.parametrize("cut", [0, 3, 40, -1])
def test_corrupt_parquet(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"caption": ["a cat"]}), path)
    path.write_bytes(b"x" + path.read_bytes()[1:cut] + b"x")
    assert re.fullmatch(r".*p\.parquet: not a readable parquet file \(.+\); write it again\.", sentence(path))


@pytest.mark.parametrize(
    ("column", "problem"),
    [
        (pa.array([1.5, 2]), "row 1: the caption 1.5 is not text; expected a string, choose another column."),
        (pa.array([b"x"]), "row 1: the caption b'x' is not text; expected a string, choose another column."),
        (
            pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers()),
            "after row 0: unreadable ('utf-8' codec can't decode byte 0xff in position 0: invalid start byte); "
            "write it again.",
        ),
    ],
)
def test_hostile_parquet_rows(tmp_path: Path, column: pa.Array, problem: str) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"caption": column}), path)
    assert sentence(path) == f"{path}, {problem}"


# Round trips

ONE_LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), min_size=1, max_size=30)
TEXTS = st.lists(ONE_LINE.map(str.strip).filter(bool), min_size=1, max_size=8)
WRITERS: dict[str, Callable[[list[str]], str]] = {
    "p.txt": lambda captions: "\ufeff" + "\n".join(captions),
    "p.csv": lambda captions: table(",", ["n", "caption"], [[i, text] for i, text in enumerate(captions)]),
    "p.tsv": lambda captions: table("\t", ["caption"], [[text] for text in captions]),
    "p.jsonl": lambda captions: "\n".join(json.dumps({"text": text}, ensure_ascii=False) for text in captions),
    "p.json": lambda captions: json.dumps(captions),
}


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=60, deadline=None)
@given(captions=TEXTS)
def test_texts_read_back_as_written(tmp_path_factory: pytest.TempPathFactory, name: str, captions: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(WRITERS[name](captions).encode())
    prompts = read_prompts(path)
    assert texts(prompts) == captions
    assert len(set(ids(prompts))) == len(captions)
    assert prompts == [
        dataclasses.replace(p, source=q.source) for p, q in zip(as_prompts(captions), prompts, strict=True)
    ]


# Real files


def test_published_tables(shared: Path) -> None:
    folder = shared / "data" / "prompts"
    memorized = read_prompts(folder / "memorized_laion_prompts.csv")
    assert len(memorized) == 500 and {prompt.label for prompt in memorized} == {True}
    assert [prompt.kind for prompt in memorized].count("VM") == 112
    assert memorized[3].text == '"Watch: Passion Pit\'s New Video, ""Lifted Up (1985)"""'
    assert memorized[0].source["Index"] == "1030727993"
    assert len(read_prompts(folder / "unmemorized_laion_prompts.csv")) == 500
    assert len(read_prompts(folder / "coco2014_val_2000.csv")) == 2000


def test_published_json(shared: Path) -> None:
    folder = shared / "data" / "prompts"
    lines = read_prompts(folder / "sdv1_500_memorized.jsonl")
    assert len(lines) == 500 and lines[0].source["index"] == 1030727993
    verbatim = read_prompts(folder / "match_verbatim_captions.json")
    assert len(verbatim) == 86 and set(ids(verbatim)) <= set(ids(lines))


def test_published_parquet(shared: Path) -> None:
    photos = read_prompts(shared / "data" / "coco_open_photos.parquet", limit=12)
    assert len(photos) == 12 and len({prompt.source["flickr_url"] for prompt in photos}) < 12
    assert texts(read_prompts(shared / "data" / "openclipart64.parquet", limit=1)) == ["2 dead frogs"]


# Random tokens


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """CLIP's tokenizer with one token a printable ASCII character, and the same at a word's end."""
    from transformers import CLIPTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    letters = [chr(code) for code in range(33, 127)]
    vocabulary = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(vocabulary)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer.from_pretrained(str(folder), model_max_length=77)


class Numbers:
    """A tokenizer whose token i reads "i "."""

    all_special_ids = [0, 1]

    def __init__(self, size: int, model_max_length: int) -> None:
        self.size, self.model_max_length = size, model_max_length

    def get_vocab(self) -> dict[str, int]:
        return {f"{i} ": i for i in range(self.size)}

    def decode(self, tokens: list[int]) -> str:
        return " ".join(map(str, tokens))


def test_random_tokens_are_seeded(tokenizer: Any) -> None:
    first = texts(read_prompts("random:50", tokenizer=tokenizer, seed=3))
    assert len(first) == 50 and first == texts(read_prompts("random:50", tokenizer=tokenizer, seed=3))
    assert first != texts(read_prompts("random:50", tokenizer=tokenizer, seed=4))
    assert first[:7] == texts(read_prompts("random", tokenizer=tokenizer, seed=3, limit=7))
    assert not any("<|" in text for text in first)


@pytest.mark.parametrize(
    ("size", "model_max_length", "longest"), [(500, 10**30, 76), (500, 77, 75), (500, 12, 10), (7, 77, 5)]
)
def test_random_tokens_are_distinct_and_of_every_length(size: int, model_max_length: int, longest: int) -> None:
    drawn = [text.split() for text in texts(read_prompts("random", tokenizer=Numbers(size, model_max_length)))]
    assert len(drawn) == 2000
    assert {len(tokens) for tokens in drawn} == set(range(longest + 1))
    assert all(len(set(tokens)) == len(tokens) for tokens in drawn)
    assert {token for tokens in drawn for token in tokens} == {str(i) for i in range(2, size)}


def test_random_prompts_need_a_tokenizer_and_a_number() -> None:
    assert sentence("random") == "random: random prompts need a tokenizer; give the model's."
    for number in ("0", "-1", "", "x", "1.5"):
        assert sentence(f"random:{number}", tokenizer=Numbers(9, 77)) == (
            f"random:{number}: the number of random prompts must be a whole number of at least 1; write random:2000."
        )


# Datasets


def test_hub_dataset(datasets: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(path: str, *, split: str | None) -> Any:
        asked.append((path, split))
        rows = datasets.Dataset.from_dict({"Prompt": ["a cat", "a dog", "a cow"], "n": [1, 2, 3]})
        return datasets.DatasetDict(train=rows) if split is None else rows.select([2, 0])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert texts(read_prompts("hub:owner/name")) == ["a cat", "a dog", "a cow"]
    chosen = read_prompts("hub:owner/name:test")
    assert [(p.text, p.source) for p in chosen] == [("a cow", {"n": 3}), ("a cat", {"n": 1})]
    assert asked == [("owner/name", None), ("owner/name", "test")]
    assert sentence("hub:owner/name", column="x") == (
        "hub:owner/name: there is no column 'x'; give one of its columns: Prompt, n."
    )


def test_a_dataset_of_several_splits_needs_one_named(datasets: Any, tmp_path: Path) -> None:
    rows = datasets.Dataset.from_dict({"caption": ["a cat"], "label": [1]})
    datasets.DatasetDict(train=rows, test=rows).save_to_disk(tmp_path / "saved")
    assert sentence(tmp_path / "saved") == (
        f"{tmp_path / 'saved'}: it has the splits train, test; name one, as in {tmp_path / 'saved'}/train."
    )
    (prompt,) = read_prompts(tmp_path / "saved" / "train")
    assert (prompt.text, prompt.label) == ("a cat", True)


@pytest.mark.parametrize("name", ["hub:owner-nobody/no-such-dataset", "hub:no such name!", "hub:a/b:x"])
def test_a_dataset_out_of_reach(datasets: Any, name: str) -> None:
    message = sentence(name)
    assert message.startswith(f"{name}: datasets cannot load it (")
    assert message.endswith("); check name, split and network.")


def test_a_format_is_no_dataset(datasets: Any) -> None:
    said = "hub:parquet: parquet is a format of files, not a dataset; write hub:owner/name or give a folder."
    assert sentence("hub:parquet") == said
    with pytest.raises(UsageError, match="^hub:parquet: parquet is a format of files"):
        open_source("hub:parquet")


def test_a_corrupt_saved_dataset(datasets: Any, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    assert sentence(tmp_path).startswith(f"{tmp_path}: datasets cannot load it (")


def test_hub_without_a_name_or_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sentence("hub:") == "hub:: no dataset is named; write hub:owner/name or hub:owner/name:split."
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert sentence("hub:owner/name") == (
        "hub:owner/name: reading it needs datasets; run pip install 'mnemoscope[data]'."
    )
