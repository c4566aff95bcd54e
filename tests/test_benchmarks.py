"""Every benchmark runs at its smallest size, and their page says what came of each."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from mnemoscope import demo

BENCHMARKS = next(folder for p in Path(__file__).parents if (folder := p / "benchmarks").is_dir())
SHARED = {"timing", "everything"}
LONG = {"neurons", "parts", "train", "flipd", "search", "mitigate", "start", "nearest_pixels"}
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The scripts are found by each other, forgotten afterwards, and write nowhere but into the test's folder."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if (file := getattr(sys.modules[name], "__file__", None)) and Path(file).parent == BENCHMARKS:
            del sys.modules[name]


@pytest.fixture
def everything() -> ModuleType:
    return importlib.import_module("everything")


def test_every_script_is_of_one_sort(everything: ModuleType) -> None:
    scripts = {file.stem for file in BENCHMARKS.glob("*.py")} - SHARED
    assert set(everything.TIMED) | everything.FOUND == scripts and not set(everything.TIMED) & everything.FOUND


TIMED = sorted(file.stem for file in BENCHMARKS.glob("*.py") if "timing.Results(" in file.read_text())


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LONG)) for n in TIMED])
def test_a_timed_script_writes_its_rows(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = importlib.import_module(name)
    monkeypatch.setattr("sys.argv", [f"{name}.py", "--smallest", "--rows", "rows.jsonl"])
    script.main()
    lines = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    rows = [line for line in lines if "what" in line]
    plain = [row["plain"] for row in rows]
    assert plain[0] == 1 and all(ratio > 0 for ratio in plain)
    assert all(row["cpu"] > 0 for row in rows if row["by"] == "CPU")
    bounds = {row["bound"] for row in rows if row["way"].startswith("bound")}
    assert bounds <= {1.0} and (not bounds or all(row["bound"] for row in rows if row["what"] == rows[0]["what"]))


FOUND = {  # what each prints of its smallest size
    "bundled": (["--scores", "noise_norm"], "noise_norm   verbatim  vs ordinary"),
    "dose_response": (["--model", "demo", "--truth", "truth"], "| memorized | picture | 3 | 1 |"),
    "early_warning": (["run"], '"probe": "noise_norm", "captions": 3, "spearman": 1.0'),
    "full_size": (["--threads", "1"], "| sd1, float32, 128x128 | detect |"),
    "mitigations": ([], "| ordinary | `attention_attenuation` | 0.3 |"),
    "neurons_by_gradient": ([], "| all | outlier |"),
    "presets": ([], "| `sscd-320` |"),
    "recover": ([], "| own neurons |"),
    "regions": ([], "| inside `bright_ending` |"),
    "words": ([], "| noise_norm | ordinary |"),
}
BRIEF = {"dose_response", "early_warning", "presets"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in BRIEF)) for n in FOUND])
def test_a_script_of_findings_prints_them(name: str, monkeypatch, capsys) -> None:
    script, (words, said) = importlib.import_module(name), FOUND[name]
    truth(Path("truth"))
    probed(Path("run"))
    monkeypatch.setattr("sys.argv", [f"{name}.py", "--smallest", *words])
    script.main()
    assert said in capsys.readouterr().out


def truth(folder: Path) -> None:
    """What `dose_response` is told of a training: one picture and its prompt, and a twin that was not seen."""
    reference = next(iter(demo.references()))
    for name, entry in (("references", "seen"), ("twins", "twin")):
        (folder / name).mkdir(parents=True)
        reference.image().save(folder / name / "a.png")
        (folder / name / "captions.jsonl").write_text(json.dumps({"file": "a.png", "entry": entry, "caption": "a"}))
    row = {"prompt": "a red chair", "kind": "memorized", "source": "picture", "views": 3, "entry": "seen"}
    (folder / "prompts.jsonl").write_text(json.dumps(row | {"concept": "chair"}))


def probed(folder: Path) -> None:
    """A run of an experiment, of which one training was probed: the score knows what is copied in the end."""
    (folder / "trainings/whole-s0").mkdir(parents=True)
    captions = {"a": 0.1, "b": 0.5, "c": 0.9}
    about = {"id": "", "status": "ok", "arm": "whole", "seed": 0}
    rows = [about | {"id": p, "prompt": p, "own_similarity": end} for p, end in captions.items()]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    probe = {"status": "ok", "step": 40, "detector": "noise_norm"}
    probes = [probe | {"id": p, "prompt": p, "score": end, "own_similarity": 1 - end} for p, end in captions.items()]
    (folder / "trainings/whole-s0/probes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in probes))


def test_ways_take_turns_and_are_held_against_the_plain_one_and_the_bound(monkeypatch, tmp_path: Path) -> None:
    timing = importlib.import_module("timing")
    clock, called = [0.0], []
    monkeypatch.setattr(timing.time, "process_time", lambda: clock[0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: 2 * clock[0])

    def way(name: str, *seconds: float):
        def work() -> str:
            called.append(name)
            clock[0] += seconds[called.count(name) - 1]
            return f"{name} {called.count(name)}"

        return work

    ways = {"plain": way("plain", 99, 6, 90, 8), "ours": way("ours", 99, 4, 3, 2), "bound": way("bound", 99, 1, 2, 9)}
    taken = timing.in_turn(ways, 3)
    assert called == ["plain", "ours", "bound"] * 4 and taken["ours"].last == "ours 4"
    timing.Results(Path("rows.jsonl")).times(
        "a thing", "a unit", taken, each={"plain": 2, "ours": 1, "bound": 1}, evaluations={"ours": 5}, bound="bound"
    )
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert [(r["cpu"], r["wall"], r["evaluations"]) for r in rows] == [(4, 8, None), (3, 6, 5), (2, 4, None)]
    assert [r["plain"] for r in rows] == [1, 4 / 3, 2] and [r["bound"] for r in rows] == [2, 1.5, 1]


SCRIPT = """
import sys, timing
results = timing.Results(timing.parsed(timing.parser(__doc__)).rows)
results.rows([timing.Row("a thing", "plain", "a unit", 2.0, 3.0, 4, 1.0, 2.5)])
results.say("And that is so.")
{end}
"""


def test_the_page_has_what_came_to_its_end_and_names_what_failed(everything, tmp_path: Path, monkeypatch) -> None:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "timing.py").write_text((BENCHMARKS / "timing.py").read_text())
    (scripts / "good.py").write_text(SCRIPT.format(end=""))
    (scripts / "bad.py").write_text(SCRIPT.format(end="raise SystemExit('no room left')"))
    monkeypatch.setattr(everything, "HERE", scripts)
    monkeypatch.setattr(everything, "TIMED", {"good": ("",), "bad": ("",), "later": ("",)})
    words = ["everything.py", "--results", "results", "--page", "page.md", "--only"]

    def made(*only: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", [*words, *only])
        with pytest.raises(SystemExit) as left:
            everything.main()
        return left.value.code, Path("page.md").read_text()

    code, page = made("good", "bad")
    assert code == 1 and "1 of 3 runs came to their end, 1 failed; not run yet: later." in page
    assert "- failed: `benchmarks/bad`: `no room left`" in page and "## bad" not in page
    assert "## good" in page and "| a thing, a unit | plain | 2 | 3 | 4 | 1.00 | 2.50 |" in page
    assert "- And that is so." in page
    (scripts / "bad.py").write_text(SCRIPT.format(end=""))
    (scripts / "good.py").write_text("raise SystemExit('run again')")
    code, page = made("good", "bad")  # what came to its end is not run again
    assert code == 0 and "## good" in page and "## bad" in page
