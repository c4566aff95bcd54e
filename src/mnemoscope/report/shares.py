"""How much of a prompt's attribution each word carries, and how strongly a page or a terminal colours it."""

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from mnemoscope.errors import plain
from mnemoscope.report.text import number
from mnemoscope.run.reading import Json

HOT, COLD = (213, 94, 0), (0, 114, 178)  # raises the score, lowers it
PALEST = 0.12  # a terminal colours no word paler than this


def read_words(value: object) -> list[Json] | None:
    """The words of a row in their order, each with its numbers; None if one of them is not a word with a sum."""
    if not isinstance(value, list):
        return None
    words = []
    for each in value:
        if not isinstance(each, dict) or (total := number(each.get("sum"))) is None:
            return None
        top = number(each.get("max"))
        words.append(
            {
                "word": str(each.get("word", "")),
                "sum": total,
                "max": total if top is None else top,
                "first": each.get("first"),
                "last": each.get("last"),
            }
        )
    return words


def spaced(words: Sequence[Json], prompt: str) -> list[Json]:
    """Words with whether the prompt has a space before each; taken to have one where a word is not found in it."""
    found: list[Json] = []
    end = 0
    for word in words:
        start = prompt.find(word["word"], end)
        found.append(word | {"is_apart": bool(found) and start != end})
        end = start + len(word["word"]) if start >= 0 else end
    return found


def shares(values: Sequence[int | float]) -> list[float]:
    """Each value over the sum of all absolute values: they add up to 1 where none is negative; 0 where all are 0."""
    whole = sum(map(abs, values))
    return [value / whole if whole else 0.0 for value in values]


def strength(share: int | float) -> float:
    """How strongly a share is coloured, from 0 to 1: its square root, so that small shares can be told apart."""
    return min(abs(share), 1.0) ** 0.5


def spoken(words: Sequence[Json]) -> list[Json]:
    """Words as a page shows them: how strongly, on which side of zero, and exactly what."""
    by_sum, by_max = (shares([word[key] for word in words]) for key in ("sum", "max"))
    return [
        word
        | {"share": a, "by_sum": strength(a), "by_max": strength(b), "is_negative": word["sum"] < 0}
        | {"said": f"sum {word['sum']:.4g} ({100 * a:.1f} %), max {word['max']:.4g} ({100 * b:.1f} %){_tokens(word)}"}
        for word, a, b in zip(words, by_sum, by_max, strict=True)
    ]


def coloured(words: Sequence[Json], console: Console) -> Text:
    """The words of a prompt in a terminal, the background as strong as the share; without colour, bold with a number.

    Without colour a word gets a number if it carries more than an even share.
    """
    text, own = Text(), shares([word["sum"] for word in words])
    for word, share in zip(words, own, strict=True):
        said = plain(word["word"]) or "?"
        text.append(" " if word["is_apart"] else "")
        if console.color_system is None or console.no_color:
            above = len(words) > 1 and abs(share) > 1 / len(words)
            text.append(f"{said}({share:.2f})" if above else said, "bold" if above else "")
        else:
            text.append(said, _style(share))
    return text


def _style(share: float) -> str:
    amount = strength(share)
    if amount < PALEST:
        return ""
    red, green, blue = (round(255 + (c - 255) * amount) for c in (COLD if share < 0 else HOT))
    return f"#000000 on #{red:02x}{green:02x}{blue:02x}"


def _tokens(word: Json) -> str:
    first, last = word["first"], word["last"]
    if not isinstance(first, int) or not isinstance(last, int):
        return ""
    return f", token {first}" if first == last else f", tokens {first} to {last}"
