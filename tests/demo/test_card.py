"""The model card of the graded models: its numbers are those of planted rows, and it keeps what is not its own."""

import json
from pathlib import Path

import numpy as np
import pytest

from mnemoscope import demo, plots, stats
from mnemoscope.demo import card
from mnemoscope.errors import UsageError

HOW = {"steps": 20, "guidance": 3.0}


def rows(returned: dict[tuple[str, int], list[list[int]]]) -> list[dict]:
    """A row for each picture's seeds, by kind and views."""
    made = []
    for (kind, views), pictures in returned.items():
        for k, own in enumerate(pictures):
            entry = f"{kind}-{views:02d}{k}" + "-twin" * (not views)
            for seed, value in enumerate(own):
                row = {"prompt": f"{entry} a", "kind": kind if views else "unseen", "entry": entry, "views": views}
                made.append(row | {"seed": 5000 + seed, "returned": bool(value), "similarity": 0.9 * value} | HOW)
    made += [{"prompt": f"o {k}", "kind": "ordinary", "seed": 5000, "aligned": k < 3} | HOW for k in range(4)]
    return made


FOUND = rows(
    {
        ("verbatim", 0): [[0, 0], [0, 0]],
        ("verbatim", 64): [[1, 1], [1, 0], [0, 0]],
        ("verbatim", 8): [[0, 0], [0, 1]],
        ("near-copies", 128): [[1, 1], [0, 0]],
    }
)


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    (tmp_path / "stream.json").write_text('{"seed": 3, "steps": 70, "batch_size": 16}')
    log = [
        {"stage": "demo", "step": k, "at": 60 * k + (90_000 if k > 5 else 0)} for k in range(11)
    ]  # stopped for a day
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in log))
    return tmp_path


def test_a_picture_is_the_unit_of_an_interval() -> None:
    own = card.by_dose(FOUND)["verbatim", 64]
    found = card.share(own, "returned")
    assert found and found.value == 0.5 and found.count == 3
    assert found.interval == stats.wilson_interval(1.5, 3)
    single = card.share(own[:2], "returned")
    assert single and str(single) == "1.00 [interval not known]"
    assert card.share(FOUND[-4:], "returned") is None
    assert list(card.by_dose(FOUND)) == [("verbatim", 0), ("verbatim", 8), ("verbatim", 64), ("near-copies", 128)]
    with pytest.raises(UsageError, match="of no kind of the graded set"):
        card.by_dose([{"entry": "stripes-1", "views": 8}])


def test_the_card_has_the_doses_the_command_the_time_and_the_licence(truth: Path) -> None:
    text = card.told({"demo": FOUND, "demo-flow": FOUND[4:]}, truth, {"demo-flow": "an hour"})
    lines = text.splitlines()
    assert f"| verbatim | 64 | 3 | 0.50 {interval(1.5, 3)} | 0.45 | 0.50 {interval(1.5, 3)} | 0.45 |" in lines
    assert f"| verbatim | never (twins) | 2 | 0.00 {interval(0, 2)} | 0.00 |  |  |" in lines
    assert f"- Of 4 ordinary prompts, `demo` shows the object in 0.75 {interval(3, 4)} of the images." in lines
    command = (
        "`python -m mnemoscope.demo.train_graded --model demo --emoji package --out out --steps 70 --batch-size 16"
    )
    assert f"- {command} --seed 3`: 9 minutes" in lines
    assert f"- {command.replace('--model demo', '--model demo-flow')} --seed 3`: an hour" in lines
    assert any("seeds 5000 to 5001, 20 steps, guidance 3" in line for line in lines)
    assert (demo.HERE / "NOTICE").read_text().strip() in text


def interval(successes: float, n: int) -> str:
    low, high = stats.wilson_interval(successes, n)
    return f"[{low:.2f}, {high:.2f}]"


def test_the_figure_shows_each_model_and_its_twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(plots, "save", lambda figure, path: drawn.append(figure) or path)
    made = card.draw({"demo": FOUND, "demo-flow": FOUND}, tmp_path / "doses.png")
    assert [file.name for file in made] == ["doses.png", "doses-kinds.png"]
    axes = drawn[0].axes[0]
    lines = [line for line in axes.lines if len(line.get_xdata()) and line.get_marker() not in ("None", "")]
    found = [(np.asarray(line.get_xdata(), float), list(line.get_ydata())) for line in lines]
    assert [y for _, y in found] == [[0.25, 0.5], [0.0]] * 2
    assert all(np.allclose(np.log2(x), np.log2([8, 64][: len(x)] if len(x) == 2 else [4]), atol=0.2) for x, _ in found)
    assert not np.allclose(found[0][0], found[2][0])  # apart, so that both are seen
    assert [label.get_text() for label in axes.get_xticklabels()] == ["never", "8", "64"]


def test_a_card_keeps_what_is_not_between_its_marks(tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    file.write_text("# Title\n\nText.\n")
    card.put("one", file)
    assert file.read_text() == f"# Title\n\nText.\n\n{card.BEGIN}\none\n{card.END}\n"
    file.write_text(file.read_text() + "\nLicence.\n")
    card.put("two", file)
    assert file.read_text() == f"# Title\n\nText.\n\n{card.BEGIN}\ntwo\n{card.END}\n\nLicence.\n"


def test_the_command_writes_the_figure_and_the_card(truth: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (truth / "r.jsonl").write_text("".join(json.dumps(r) + "\n" for r in FOUND))
    given = ["--rows", f"demo={truth / 'r.jsonl'}", "--truth", str(truth), "--figure", str(truth / "f.png")]
    monkeypatch.setattr("sys.argv", ["card", *given, "--card", str(truth / "README.md")])
    card.main()
    assert (truth / "f.png").read_bytes()[:4] == b"\x89PNG" and "| verbatim | 64 |" in (truth / "README.md").read_text()
    with pytest.raises(UsageError, match="write MODEL=VALUE"):
        card.named(["demo"])
