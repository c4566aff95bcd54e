"""Words in a report and in a terminal: repeated words stay apart, colours mean shares, hostile words stay text."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from mnemoscope import plots
from mnemoscope.errors import UsageError
from mnemoscope.report import write
from mnemoscope.report.reading import headline, read
from mnemoscope.report.shares import coloured, shares, spaced, strength
from mnemoscope.report.terminal import print_run
from mnemoscope.report.text import percent
from pages import HOSTILE, Page, edit, make_explain, printed, rows_of, save, word_row

WORDS = ["the", "fox", "and", "the", "fox"]


def explained(folder: Path, sums: list[float], words: list[str] | None = None, **changes: Any) -> Path:
    """An explain run of one prompt with these words."""
    words = WORDS if words is None else words
    spoken = [word_row(word, [value], k) for k, (word, value) in enumerate(zip(words, sums, strict=True))]
    return edit(
        make_explain(folder, prompts=1), lambda _, row: row | {"words": spoken, "prompt": " ".join(words)} | changes
    )


def spans(page: Page) -> list[dict[str, str | None]]:
    """The words that a page shows, without those of the legend."""
    return [a for a in page.tags("span") if (a.get("class") or "").startswith("w") and "title" in a]


def test_repeated_words_have_a_bar_each_at_their_place() -> None:
    values = [0.1, 0.4, 0.2, 0.3, 0.5]
    [axes] = plots.word_plot(WORDS, {"m": values}).axes
    assert [round(bar.get_x() + bar.get_width() / 2, 9) for bar in axes.patches] == [0, 1, 2, 3, 4]  # type: ignore[attr-defined]
    assert [bar.get_height() for bar in axes.patches] == values  # type: ignore[attr-defined]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == WORDS
    assert axes.get_legend() is None and not axes.figure.legends  # type: ignore[union-attr]


def test_methods_stand_side_by_side_and_are_named() -> None:
    figure = plots.word_plot(WORDS, {"a": [1.0] * 5, "_b $x^{2$": [-1.0] * 5})
    bars = figure.axes[0].patches
    edges = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars]  # type: ignore[attr-defined]
    for k in range(5):
        (left, right), (other, end) = edges[k], edges[5 + k]
        assert k - 0.5 < left < right <= other < end < k + 0.5
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", r"b \$x^{2\$"]
    assert plots.png(figure)[:4] == b"\x89PNG"


@pytest.mark.parametrize(("words", "values"), [([], {"a": []}), (["x"], {}), (["x"], {"a": [1.0, 2.0]})])
def test_a_chart_without_words_or_with_other_values_is_refused(words: list[str], values: dict) -> None:
    with pytest.raises(UsageError):
        plots.word_plot(words, values)


@pytest.mark.parametrize("count", [1, 75])
def test_hostile_and_long_prompts_can_be_drawn(count: int) -> None:
    words = [HOSTILE[k % len(HOSTILE)] for k in range(count)]
    figure = plots.word_plot(words, {"m": [0.0] * count})
    assert plots.png(figure)[:4] == b"\x89PNG" and figure.get_figwidth() <= 22
    assert all(len(tick.get_text()) <= 40 for tick in figure.axes[0].get_xticklabels())


def test_shares_add_up_to_one_and_keep_their_sign() -> None:
    assert shares([1, 3]) == [0.25, 0.75] and shares([1, -3]) == [0.25, -0.75] and shares([0, 0]) == [0, 0]
    grown = [strength(share) for share in (0, 0.02, 0.1, 0.5, 1)]
    assert grown == sorted(grown) and grown[0] == 0 and grown[-1] == 1 and strength(-0.25) == strength(0.25) == 0.5


def test_a_page_shows_every_word_in_order_with_its_own_numbers(tmp_path: Path) -> None:
    page = Page(write([explained(tmp_path / "run", [0.1, 0.4, 0.0, 0.2, 0.3])]))
    said = [a["title"] for a in spans(page)]
    assert said[1] == "sum 0.4 (40.0 %), max 0.4 (40.0 %), token 1" and len(said) == 5
    assert said[4] == "sum 0.3 (30.0 %), max 0.3 (30.0 %), token 4"
    styles = [float(re.search(r"--sum:([\d.]+)", a["style"] or "")[1]) for a in spans(page)]  # type: ignore[index]
    np.testing.assert_allclose(styles, np.sqrt([0.1, 0.4, 0, 0.2, 0.3]), atol=1e-3)
    assert re.search(r"the fox and the fox", page.text) and "2 % 10 % 25 % 50 %" in page.text
    assert (tmp_path / "run" / "plots" / "words-01.png").is_file()


def test_sum_and_maximum_are_both_on_the_page(tmp_path: Path) -> None:
    words = [word_row("sub-words", [0.1, 0.1, 0.2], 0), word_row("x", [0.4], 3)]
    folder = edit(make_explain(tmp_path / "run", prompts=1), lambda _, row: row | {"words": words})
    first, second = spans(Page(write([folder])))
    assert first["title"] == "sum 0.4 (50.0 %), max 0.2 (33.3 %), tokens 0 to 2"
    assert first["style"] == "--sum:0.707;--max:0.577" and second["style"] == "--sum:0.707;--max:0.816"


def test_a_word_that_lowers_the_score_has_another_colour(tmp_path: Path) -> None:
    page = Page(write([explained(tmp_path / "run", [0.5, -0.5, 0.0, 0.0, 0.0])]))
    assert [a["class"] for a in spans(page)] == ["w", "w lowers", "w", "w", "w"] and "lowers the score" in page.text
    page = Page(write([explained(tmp_path / "other", [0.5, 0.5, 0.0, 0.0, 0.0])]))
    assert "lowers the score" not in page.text


def test_the_headline_compares_with_even_shares(tmp_path: Path) -> None:
    folder = explained(tmp_path / "run", [0.1, 0.6, 0.1, 0.1, 0.1])
    assert headline(read(folder)) == (
        "1 prompt explained by token_gradients; the word with the most attribution carries 60 % of it in the median "
        "prompt; even shares would be 20 %."
    )
    assert "it gives all words of a prompt one value" in headline(read(explained(tmp_path / "even", [0.2] * 5)))
    assert "none has more than one word" in headline(read(explained(tmp_path / "one", [0.2], ["fox"])))


def test_hostile_words_stay_text(tmp_path: Path) -> None:
    words = [word_row(text, [0.1 * (k + 1)], k) for k, text in enumerate(HOSTILE)]
    changes = {"words": words, "prompt": HOSTILE[1], "kind": HOSTILE[0]}
    folders = [
        edit(make_explain(tmp_path / name, name), lambda _, row: row | changes) for name in ("a", "b" + HOSTILE[0][:8])
    ]
    page = Page(write(folders))
    assert len(page.tags("script")) == 1 and not page.values("onerror") and "x" not in page.values("src")
    assert not [k for _, a in page.elements for k in a if k.startswith("on")]
    for text in (HOSTILE[0], HOSTILE[1], HOSTILE[6], "صورة قط أحمر", "🦊👩‍🚀"):
        assert text in page.text
    shown = [tag for tag, _ in page.elements if tag == "bdi"]
    assert len(shown) >= 2 * len(HOSTILE)  # each word is isolated from the direction of its neighbours
    terminal = printed(folders[0], force_terminal=True)
    assert "<script>" in terminal and "[red]not" in terminal and ":warning:" in terminal
    assert not set("\x07\x00\ud800\u202e") & set(terminal) and "\x1b[31m" not in terminal


@pytest.mark.parametrize("words", [None, "x", [1], [{"word": "a"}], [{"word": "a", "sum": "1", "first": 0, "last": 0}]])
def test_a_row_without_a_list_of_words_is_refused_by_its_line(tmp_path: Path, words: object) -> None:
    folder = edit(make_explain(tmp_path / "run", prompts=2), lambda k, row: row | ({"words": words} if k else {}))
    with pytest.raises(UsageError, match=r"line 2 is no row \(its words is"):
        write([folder])


def test_rows_whose_words_have_no_number_have_failed(tmp_path: Path) -> None:
    words = [{"word": "a", "sum": float("nan"), "first": 0, "last": 0}]
    folder = edit(make_explain(tmp_path / "run", prompts=2), lambda k, row: row | ({"words": words} if k else {}))
    text = Page(write([folder])).text
    assert "1 prompt explained" in text and "1 row failed." in text
    assert "it has no list of words, each with a finite sum" in text


def test_a_prompt_without_words_and_one_that_is_cut_are_shown(tmp_path: Path) -> None:
    folder = edit(make_explain(tmp_path / "a", prompts=1), lambda _, row: row | {"words": [], "prompt": ""})
    assert "(empty prompt)" in Page(write([folder])).text and "-" in printed(folder)
    folder = edit(make_explain(tmp_path / "b", prompts=1), lambda _, row: row | {"prompt": row["prompt"] + " and more"})
    assert "The model reads no further." in Page(write([folder])).values("title")
    assert "The model reads no further." not in Page(write([make_explain(tmp_path / "c")])).values("title")


def test_all_rows_failed_still_makes_a_page(tmp_path: Path) -> None:
    rows = [{"id": "a", "prompt": "p", "status": "failed", "error": "no"}]
    folder = make_explain(tmp_path / "run", prompts=1)
    save(folder, {"command": "explain"}, rows, {})
    assert "0 prompts explained" in Page(write([folder])).text and "1 row failed." in printed(folder)


def test_long_runs_are_cut_and_say_so(tmp_path: Path) -> None:
    text = Page(write([make_explain(tmp_path / "run", prompts=14)])).text
    assert "The first 12 prompts have a bar chart" in text
    assert len(list((tmp_path / "run" / "plots").glob("words-*.png"))) == 12


def test_several_methods_are_compared_by_shares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [
        explained(tmp_path / "a", [1.0, 2.0, 0.0, 0.0, 1.0]),
        explained(tmp_path / "b", [-10.0, 0.0, 0.0, 10.0, 20.0]),
    ]
    record = read(runs[1]).info
    record["method"]["name"] = "token_occlusion"
    save(runs[1], record, rows_of(runs[1]), {})
    drawn: list[dict[str, list[float]]] = []
    plain = plots.word_plot

    def kept(words: list[str], values: dict[str, list[float]], **settings: Any) -> object:
        drawn.append(values)
        return plain(words, values, **settings)

    monkeypatch.setattr(plots, "word_plot", kept)
    page = Page(write(runs))
    assert "2 explanations compared" in page.text
    both = next(values for values in drawn if len(values) == 2)
    assert both == {"token_gradients": [0.25, 0.5, 0, 0, 0.25], "token_occlusion": [-0.25, 0, 0, 0.25, 0.5]}
    assert (tmp_path / "a" / "plots" / "words-compared-01.png").is_file()


def test_prompts_that_cannot_be_compared_are_counted(tmp_path: Path) -> None:
    runs = [explained(tmp_path / name, [0.2] * 5) for name in "ab"]
    edit(runs[1], lambda _, row: row | {"words": row["words"][:4]})
    assert "no prompt in common that they cut into the same words" in Page(write(runs)).text
    more = [make_explain(tmp_path / "c", prompts=3), make_explain(tmp_path / "d", prompts=2)]
    assert "1 prompt that only one run has" in Page(write(more)).text


def test_a_terminal_colours_words_and_says_numbers_where_it_cannot() -> None:
    values = {"fox": 0.6, "the": 0.1, "Fox": -0.3, ",": 0.0}
    words = spaced([word_row(word, [v], k) for k, (word, v) in enumerate(values.items())], "fox the Fox, of")
    plain = coloured(words, Console(file=io.StringIO(), color_system=None))
    assert plain.plain == "fox(0.60) the Fox(-0.30)," and [s.style for s in plain.spans] == ["bold", "bold"]
    text = coloured(words, Console(file=io.StringIO(), force_terminal=True, color_system="truecolor"))
    assert text.plain == "fox the Fox,"
    hot, mild, cold = (str(span.style) for span in text.spans)
    assert hot != mild != cold and all(style.startswith("#000000 on #") for style in (hot, mild, cold))
    red, blue = (int(style[-6:-4], 16) - int(style[-2:], 16) for style in (hot, cold))
    assert red > 0 > blue


def test_the_terminal_shows_words_of_the_first_prompts(tmp_path: Path) -> None:
    folder = make_explain(tmp_path / "run", prompts=12)
    shown = printed(folder)
    assert headline(read(folder)) in " ".join(shown.split()) and "fox(0." in shown and "heaviest word" in shown
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="truecolor", no_color=False)
    print_run(folder, console, limit=3)
    assert "48;2;" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_share_is_said_in_percent_and_what_is_no_number_is_none() -> None:
    assert percent([0.25, "x", None, [1]]) == [25.0, None, None, [100]]
