"""Sweeps of a factor: ratios by size, how much each level can memorize, and what they say of what was expected."""

from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from mnemoscope import plots
from mnemoscope.report.record import Card, Drawings, Record, Section, checked, grouped, listed, part
from mnemoscope.report.tables import table as terminal_table
from mnemoscope.report.text import counted, ends, number, shown
from mnemoscope.run.reading import Json

NUMBERS = ("n", "x", "step", "ratio", "mean_distance")
EMPTY = ("x", "n", "ratio", "interval", "difference", "difference_interval", "seeds", "mean_distance", "coverage")
WANTED = ("level", "against", "n", "measure", "sign", "margin", "within", "value", "interval", "verdict", "source")
BARS = 3  # levels at one size that are worth a figure
CAVEATS = [
    "An image counts as memorized if it is three times nearer to one training image than to any other. With more "
    "training images the second one is nearer too, so that the ratio falls by the criterion alone as well.",
    "EMM is of one budget: longer trainings memorize more images. Levels that learn at other speeds differ in it.",
    "With three seeds an interval is rough; one that holds no difference is not told apart, which is not the same as "
    "no difference.",
]


def check(raw: Json) -> Json:
    """A row with its level and numbers."""
    row = checked(raw) | {key: number(raw.get(key)) for key in NUMBERS}
    return row | {"level": str(raw.get("level") or "")}


def headline(record: Record) -> str:
    """The question, EMM or the ratio of the baseline, and how many of the expectations were met."""
    question = str(record.summary.get("question") or part(record.part("settings"), "content").get("question") or "")
    if not record.summary:
        return f"{question} {counted(len(record.done), 'ratio')} measured before the sweep stopped.".strip()
    said = [str(each["verdict"]) for each in _expected(record)]
    told = ", ".join(f"{said.count(word)} {word}" for word in dict.fromkeys(said))
    met = f" Of {counted(len(said), 'expectation')}: {told}." if said else ""
    return f"{question} {_base_told(record)}{met}".strip()


def emm_told(found: Json) -> str:
    """EMM in words, or what is known of it where the line is crossed outside of the sizes."""
    low, high = [*listed(found.get("bracket")), None, None][:2]
    if (value := number(found.get("value"))) is not None:
        return f"{value:,.0f} images, " + _between(found.get("interval"))
    if found.get("flag") == "above grid":
        return f"above {shown(low, '{:,.0f}')} images, the most that were tried"
    return f"below {shown(high, '{:,.0f}')} images, the fewest that were tried"


def _base_told(record: Record) -> str:
    baseline = _baseline(record)
    if (found := _emm(record).get(baseline)) is not None:
        return f"EMM of {baseline}: {emm_told(found)}."
    own = [f"{e['ratio']:.1%} at {e['n']:,.0f}" for e in _table(record) if e["level"] == baseline]
    return f"Memorized of {baseline}: {', '.join(own)} images." if own else ""


def about(record: Record) -> list[tuple[str, Any, str]]:
    """What EMM is, how levels are compared, and what else changes with the factor."""
    eps = number(record.summary.get("eps"))
    if eps is None:
        return []
    text = (
        f"EMM is the largest number of training images of which {100 * (1 - eps):g} % of what is drawn is memorized: "
        "ratios, averaged over seeds and made to fall with size, crossed at that line by interpolation in log size. "
        f"Levels share images, first weights and noise for a seed. Differences are paired, from {_baseline(record)}; "
        "intervals draw seeds anew, and of each ratio what its samples leave plausible."
    )
    found = [("How much is memorized", {"paper": record.summary.get("paper") or None}, text)]
    beside = " ".join(str(each) for each in listed(record.summary.get("confounders")))
    return found + ([("What changes with the factor", {}, beside)] if beside else [])


def cards(record: Record) -> list[Card]:
    """EMM of the baseline, and how much was trained."""
    found, summary = _emm(record).get(_baseline(record), {}), record.summary
    made: list[Card] = []
    if (value := number(found.get("value"))) is not None:
        made.append((f"EMM, {_baseline(record)}", f"{value:,.0f}", _between(found.get("interval"))))
    if (trainings := number(summary.get("trainings"))) is not None:
        steps = shown(summary.get("steps"), "{:,.0f}")
        made.append(("Trainings", f"{trainings:,.0f}", f"{steps} steps, {shown(summary.get('seeds'))} seeds"))
    return made


def drawings(record: Record) -> Drawings:
    """Ratios by size, by level at one size, and along the factor."""
    entries, eps = _table(record), number(record.summary.get("eps")) or 0.1
    several = [e for own in grouped(entries, lambda e: e["level"]).values() for e in own if len(own) > 1]
    if several:
        values = {level: number(found.get("value")) for level, found in _emm(record).items()}
        hint = f"The line is at {100 * (1 - eps):g} %; ticks on it mark EMM. Bars are 95 % intervals over seeds."
        yield "sizes", "Ratio by size of the training set", hint, plots.sizes_plot(several, values, eps=eps)
    for n, own in grouped(entries, lambda e: e["n"]).items():
        if len(own) >= BARS and any(e not in several for e in own):
            hint = "Bars are means over seeds, lines 95 % intervals."
            yield f"levels_{n:.0f}", f"Levels at {n:,.0f} images", hint, plots.bars_plot(own)
    placed = [e for e in entries if e["x"] is not None]
    lines = [e for own in grouped(placed, lambda e: e["n"]).values() for e in own if len(own) > 1]
    if lines:
        hint = "One line for each number of training images, with 95 % intervals."
        yield "along", "Ratio along the factor", hint, plots.along_plot(lines, x=str(record.summary.get("factor")))


def sections(record: Record) -> list[Section]:
    """What was expected, EMM of each level, and the table of ratios."""
    entries = _table(record)
    found = [own | {"level": level, "told": emm_told(own)} for level, own in _emm(record).items()]
    content = {"rows": entries, "emm": found, "expected": _expected(record), "baseline": _baseline(record)}
    return [Section("emm_sweep.html", content)] if entries else []


def caveats(record: Record) -> list[str]:
    """What a ratio and EMM do not say."""
    return CAVEATS


def table(record: Record, limit: int, console: Console) -> RenderableType | None:
    """Ratio and difference for each level and size."""
    rows: list[list[str | Text]] = [
        [
            str(entry["level"]),
            shown(entry["n"], "{:,.0f}"),
            _told(entry["ratio"], entry["interval"]),
            _told(entry["difference"], entry["difference_interval"], "{:+.3f}"),
        ]
        for entry in _table(record)
    ]
    columns = [("level", "fill"), ("images", "right"), ("memorized", "right"), ("difference", "right")]
    return terminal_table(columns, rows, wrap=True) if rows else None


def _table(record: Record) -> list[Json]:
    found = [each for each in listed(record.summary.get("table")) if isinstance(each, dict) and "level" in each]
    kept = [dict.fromkeys(EMPTY) | each | {key: number(each.get(key)) for key in ("n", "x", "ratio")} for each in found]
    return [each for each in kept if each["n"] is not None and each["ratio"] is not None]


def _emm(record: Record) -> dict[str, Json]:
    """EMM of the levels that were tried at two sizes or more."""
    found = {name: own for name, own in part(record.summary, "emm").items() if isinstance(own, dict)}
    return {name: own for name, own in found.items() if len(listed(own.get("fitted"))) > 1}


def _expected(record: Record) -> list[Json]:
    found = [each for each in listed(record.summary.get("expected")) if isinstance(each, dict)]
    return [dict.fromkeys(WANTED) | each | {"wanted": _wanted(each)} for each in found]


def _wanted(each: Json) -> str:
    if (within := ends(each.get("within"))) is not None:
        return f"{within[0]:g} to {within[1]:g}"
    return f"within {shown(each.get('margin'))}" if each.get("sign") == "=" else str(each.get("sign"))


def _baseline(record: Record) -> str:
    return str(record.summary.get("baseline"))


def _between(interval: object) -> str:
    """An interval of images in words; an open end is one that no size that was tried tells."""
    if not isinstance(interval, list | tuple) or len(interval) != 2:
        return "no interval was recorded"
    low, high = map(number, interval)
    if low is not None and high is not None:
        return f"95 % interval {low:,.0f} to {high:,.0f}"
    return f"95 % interval {'open' if low is None else f'{low:,.0f}'} to {'open' if high is None else f'{high:,.0f}'}"


def _told(value: object, interval: object, form: str = "{:.3f}") -> str:
    found = ends(interval)
    between = "" if found is None else f" [{form.format(found[0])}, {form.format(found[1])}]"
    return shown(value, form) + between
