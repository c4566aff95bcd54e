"""The index commands: build, search, info, duplicates; exit codes, what they print, the report of a search."""

import json
import re
import shlex
from pathlib import Path

import pytest
import typer
from PIL import Image

from mnemoscope import cli
from mnemoscope.report.command import command_line
from mnemoscope.run.run import read_json, read_rows
from mnemoscope.search.shards import Index
from places import ROOT
from search_pictures import COUNT, encoded, pictures

DOCS = ROOT / "docs" / "search.md"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return pictures(tmp_path / "source")


@pytest.fixture
def index(mnemoscope, source: Path, tmp_path: Path) -> Path:
    assert build(mnemoscope, source, tmp_path / "index")[0] == 0
    return tmp_path / "index"


def build(mnemoscope, source: Path | str, out: Path, *words: object) -> tuple[int, str, str]:
    return mnemoscope("index", "build", source, "--out", out, "--features", "pixels", "--shard-size", 8, *words)


def test_build_and_info_say_what_there_is(mnemoscope, source: Path, tmp_path: Path) -> None:
    (source / "4.png").write_bytes(b"<html>")
    code, out, _ = build(mnemoscope, source, tmp_path / "index")
    assert code == 1  # one image could not be read
    assert f"{COUNT - 1} images of {COUNT} listed are indexed." in out and "pixels, preset pixels-32" in out
    assert re.search(r"1\s+a web page", out)
    code, again, _ = mnemoscope("index", "info", tmp_path / "index")
    assert (code, again.strip()) == (0, out.strip())
    (tmp_path / "index" / "shards" / "emb-00002.npy").unlink()
    code, out, _ = mnemoscope("index", "info", tmp_path / "index")
    assert code == 1 and "Shard emb-00002: emb-00002.npy cannot be read" in out and "1 shard to mend" in out


def test_search_prints_coverage_and_writes_a_page(mnemoscope, source: Path, index: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code, out, _ = mnemoscope("index", "search", index, source / "7.png", "--top-k", 3, "--out", run)
    assert code == 0 and "highest 1.00; 23 of 23 listed images searched (100 %)" in out
    assert [r["match"] for r in read_rows(run)][0] == "7.png" and len(read_rows(run)) == 3
    page = (run / "report.html").read_text()
    assert "data:image/" in page and "image missing" not in page and "not kept" not in page
    assert str(tmp_path) not in re.sub(
        r"<h2>How can this run be made again.*|<p class=\"under\">.*?</p>", "", page, flags=re.DOTALL
    )
    assert "caption 7" in page and "Model" not in re.findall('<p class="under">(.*)</p>', page)[0]
    words = shlex.split(command_line(read_json(run / "run.json")))
    assert words[:5] == ["mnemoscope", "index", "search", str(index), str(source / "7.png")]
    assert words[words.index("--top-k") + 1] == "3"
    (run / "images").rename(tmp_path / "gone")
    assert mnemoscope("report", run)[0] == 0  # a page without the pictures


def test_a_gap_or_a_bad_query_leaves_with_one(mnemoscope, source: Path, index: Path, tmp_path: Path) -> None:
    (index / "shards" / "emb-00001.npy").write_bytes(b"")
    code, out, _ = mnemoscope("index", "search", index, source, "--limit", 2, "--out", tmp_path / "run")
    summary = read_json(tmp_path / "run" / "summary.json")
    assert code == 1 and "15 of 23 listed images searched (65.22 %). 1 shard of the index could not be searched." in out
    assert [g["shard"] for g in summary["gaps"]] == ["emb-00001"] and summary["coverage"] == 15 / 23
    assert "emb-00001" in (tmp_path / "run" / "report.html").read_text()
    assert build(mnemoscope, source, index)[0] == 0  # mends it
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "x.png").write_bytes(encoded(0)[:90])
    (bad / "y.png").write_bytes(encoded(0))
    code, out, _ = mnemoscope("index", "search", index, bad, "--out", tmp_path / "other")
    assert code == 1 and "1 row failed" in out
    assert "truncated" in (tmp_path / "other" / "report.html").read_text()


def test_duplicates_are_listed(mnemoscope, source: Path, tmp_path: Path) -> None:
    (source / "9.png").write_bytes((source / "3.png").read_bytes())
    build(mnemoscope, source, tmp_path / "i")
    code, out, _ = mnemoscope("index", "duplicates", tmp_path / "i", "--out", tmp_path / "d", "--threshold", 0.9)
    assert code == 0 and "2 images, 8.70% of 23 images, have a near-duplicate: 1 group." in out
    lines = [json.loads(line) for line in (tmp_path / "d" / "duplicates.jsonl").read_text().splitlines()]
    assert lines == [{"key": k, "group": 3, "count": 2} for k in ("3.png", "9.png")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("build", "nowhere"), "There is nothing at nowhere"),
        (("build", "SOURCE", "--runner", "cluster"), "--runner cluster is not known; give local or ray"),
        (("build", "SOURCE", "--features", "eyes"), "There are no features 'eyes'"),
        (("search", "SOURCE", "SOURCE"), "holds no index; build one with"),
        (("search", "INDEX", "SOURCE", "--features", "other"), "There are no features 'other'"),
        (("search", "INDEX", "SOURCE", "--ann", "tree"), "--ann tree is not known; give faiss or lance"),
        (("duplicates", "INDEX", "--threshold", "2"), "is no similarity of duplicates"),
    ],
)
def test_mistakes_are_one_sentence(
    words: tuple, said: str, mnemoscope, source: Path, index: Path, tmp_path: Path
) -> None:
    named = [{"SOURCE": source, "INDEX": index}.get(word, word) for word in words]
    code, _, error = mnemoscope("index", *named, "--out", tmp_path / "out")
    assert code == 2 and said in error and error.count("\n") == 1


def test_an_index_of_another_preset_is_refused(mnemoscope, source: Path, index: Path, tmp_path: Path) -> None:
    meta = read_json(index / "meta.json")
    meta["identity"]["weights"] = "0123456789abcdef"
    (index / "meta.json").write_text(json.dumps(meta))
    code, _, error = mnemoscope("index", "search", index, source, "--out", tmp_path / "run")
    assert code == 2 and "weights none and 0123456789abcdef" in error and not (tmp_path / "run").exists()
    code, _, error = build(mnemoscope, source, index)
    assert code == 2 and "index of something else (identity.weights" in error
    assert build(mnemoscope, source, index, "--overwrite")[0] == 0 and Index.open(index).count == COUNT


def test_a_settings_file_gives_options(mnemoscope, source: Path, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("features: pixels\nshard-size: 4\nlimit: 6\n")
    code, out, _ = mnemoscope("index", "build", source, "--config", tmp_path / "s.yaml", "--out", tmp_path / "i")
    assert code == 0 and "6 images of 6 listed" in out and len(Index.open(tmp_path / "i").shards) == 2


def test_pictures_of_a_page_stay_in_the_run(mnemoscope, source: Path, index: Path, tmp_path: Path) -> None:
    """A row that points out of the run is shown without its picture."""
    run = tmp_path / "run"
    mnemoscope("index", "search", index, source / "0.png", "--top-k", 1, "--out", run)
    Image.new("RGB", (50, 50)).save(tmp_path / "secret.png")
    (row,) = read_rows(run)
    (run / "rows.jsonl").write_text(json.dumps(row | {"match_picture": "../secret.png"}) + "\n")
    mnemoscope("report", run)
    page = (run / "report.html").read_text()
    assert "image missing" in page or "image not kept" in page


def test_the_commands_of_the_page_parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/search.md shows, with every option of the commands among its words."""
    monkeypatch.chdir(tmp_path)
    known = typer.main.get_command(cli.app).commands["index"].commands
    text = DOCS.read_text(encoding="utf-8")
    for line in re.findall(r"^mnemoscope index (.*)$", text.replace("\\\n", " "), re.MULTILINE):
        words = shlex.split(line, comments=True)
        known[words[0]].make_context(words[0], words[1:])
    everything = "\n".join(page.read_text(encoding="utf-8") for page in DOCS.parent.glob("*.md"))
    options = {o for command in known.values() for p in command.params for o in (*p.opts, *p.secondary_opts)}
    assert not [o for o in sorted(options) if o.startswith("--") and not re.search(rf"{o}(?![\w-])", everything)]
