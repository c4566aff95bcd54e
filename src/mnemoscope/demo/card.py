"""The model card's part on the graded models, and its figure: `python -m mnemoscope.demo.card --help`.

Every number comes from the rows that `benchmarks/dose_response.py` writes of each model, from what the training left in
its folder, and from NOTICE; none is typed.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mnemoscope import plots, stats
from mnemoscope.demo import HERE
from mnemoscope.demo.entries import KINDS
from mnemoscope.errors import UsageError
from mnemoscope.run.reading import Json
from mnemoscope.run.writing import write_whole

BEGIN, END = "<!-- graded models: begin -->", "<!-- graded models: end -->"
NEVER = "never (twins)"
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class PictureShare:
    """A share over pictures, or over prompts that have none: mean, 95 % interval (None of a single one), and number."""

    value: float
    interval: tuple[float, float] | None
    count: int

    def __str__(self) -> str:
        inside = f"{self.interval[0]:.2f}, {self.interval[1]:.2f}" if self.interval else "interval not known"
        return f"{self.value:.2f} [{inside}]"

    @property
    def entry(self) -> Json:
        """As plots take it."""
        return {"value": self.value, "interval": self.interval}


def share(rows: Rows, field: str) -> PictureShare | None:
    """How often images have something, `field`, as the mean over pictures of the share of their images.

    Wilson's interval with as many trials as there are pictures: images of one picture are no independent trials. None
    where no row has it.
    """
    by_picture: dict[str, list[float]] = {}
    for row in rows:
        if row.get(field) is not None:
            by_picture.setdefault(row.get("entry") or row["prompt"], []).append(float(row[field]))
    if not by_picture:
        return None
    mean, count = float(np.mean([np.mean(own) for own in by_picture.values()])), len(by_picture)
    return PictureShare(mean, stats.wilson_interval(mean * count, count) if count > 1 else None, count)


def by_dose(rows: Rows) -> dict[tuple[str, int], Rows]:
    """Rows of trained pictures and of their twins, by kind and number of views: 0 of twins, which stand first."""
    found: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for row in rows:
        if "entry" in row:
            kind = next((kind for kind in KINDS if row["entry"].startswith(f"{kind}-")), None)
            if kind is None:
                raise UsageError(f"The picture '{row['entry']}' is of no kind of the graded set ({', '.join(KINDS)}).")
            found.setdefault((kind, int(row["views"] or 0)), []).append(row)
    order = list(KINDS)
    return {key: found[key] for key in sorted(found, key=lambda key: (order.index(key[0]), key[1]))}


def draw(models: Mapping[str, Rows], file: Path) -> list[Path]:
    """The dose-response of verbatim pictures of all models, and beside it, as `-kinds`, that of the other kinds."""
    trained: dict[str, list[tuple[float, Json]]] = {}
    never: dict[str, Json] = {}
    others: list[Json] = []
    for model, rows in models.items():
        for (kind, views), own in by_dose(rows).items():
            if (found := share(own, "returned")) is None:
                continue
            if kind != "verbatim":
                others.append(
                    {"arm": f"{kind}, {views:,} x" if views else f"{kind}, never", "group": model} | found.entry
                )
            elif views:
                trained.setdefault(model, []).append((float(views), found.entry))
            else:
                never[model] = found.entry
    y, x = "share of seeds that return it", "times that training showed the picture"
    made = [plots.save(plots.doses_plot(trained, y=y, x=x, base=2, never=never), file)]
    if others:
        made.append(plots.save(plots.arms_plot(others, x=y), file.with_stem(f"{file.stem}-kinds")))
    return made


def told(models: Mapping[str, Rows], truth: Path, took: Mapping[str, str] | None = None) -> str:
    """The text of the card: the doses, ordinary prompts, the commands with seeds and time, and the licence."""
    return "\n".join([*_doses(models), "", *_ordinary(models), "", *_made(models, truth, took or {}), "", *_licence()])


def _doses(models: Mapping[str, Rows]) -> Iterator[str]:
    yield "### How often a picture comes back"
    yield ""
    heads = [f"{name}: {what}" for name in models for what in ("returned", "median likeness")]
    yield f"| kind | views | pictures | {' | '.join(heads)} |"
    yield "|" + "---|" * (3 + len(heads))
    graded = {model: by_dose(rows) for model, rows in models.items()}
    for key in dict.fromkeys(key for own in graded.values() for key in own):
        cells = [cell for own in graded.values() for cell in _cells(own.get(key, []))]
        pictures = len({row["entry"] for own in graded.values() for row in own.get(key, [])})
        yield f"| {key[0]} | {f'{key[1]:,}' if key[1] else NEVER} | {pictures} | {' | '.join(cells)} |"
    yield ""
    yield (
        "Returned is the share of seeds, mean over pictures, whose image has a cosine of its pixels of 0.8 or more to "
        "the prompt's picture and a higher one to no other picture; in brackets Wilson's 95 % intervals with a picture "
        "as the unit. Twins are drawn like trained pictures and no training saw them."
    )


def _cells(rows: Rows) -> list[str]:
    found, likeness = share(rows, "returned"), [row["similarity"] for row in rows if row.get("similarity") is not None]
    return [str(found) if found else "", f"{np.median(likeness):.2f}" if likeness else ""]


def _ordinary(models: Mapping[str, Rows]) -> Iterator[str]:
    for model, rows in models.items():
        found = share([row for row in rows if row["kind"] == "ordinary"], "aligned")
        if found:
            yield f"- Of {found.count} ordinary prompts, `{model}` shows the object in {found} of the images."


def _made(models: Mapping[str, Rows], truth: Path, took: Mapping[str, str]) -> Iterator[str]:
    stream = json.loads((truth / "stream.json").read_text(encoding="utf-8"))
    yield "Trained by, each with the time that it took:"
    yield ""
    for model in models:
        line = f"python -m mnemoscope.demo.train_graded --model {model} --emoji package --out out --steps "
        line += f"{stream['steps']} --batch-size {stream['batch_size']} --seed {stream['seed']}"
        yield f"- `{line}`: {took.get(model) or spent(truth, model) or 'time not recorded'}"
    for model, rows in models.items():
        seeds = sorted({row["seed"] for row in rows})
        how = next(f", {r['steps']} steps, guidance {r['guidance']:g}" if "guidance" in r else "" for r in rows)
        yield (
            f"- `python benchmarks/dose_response.py --model out/{model} --truth out`: {len(rows):,} images, seeds "
            + (f"{seeds[0]} to {seeds[-1]}{how}")
        )


def spent(truth: Path, model: str) -> str | None:
    """The time between the rows of a training's log, without the pauses of one that was stopped; None if unsaid."""
    file = truth / "train.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []
    at = [row["at"] for row in rows if row["stage"] == model and "at" in row]
    if len(at) < 3:
        return None
    gaps = np.diff(at)
    return f"{gaps[gaps < 10 * np.median(gaps)].sum() / 60:,.0f} minutes"


def _licence() -> Iterator[str]:
    yield "### Pictures"
    yield ""
    yield from (HERE / "NOTICE").read_text(encoding="utf-8").splitlines()


def put(text: str, card: Path) -> None:
    """Write the text between the marks of a card, in the place of what was there; at its end where it has no marks."""
    before = card.read_text(encoding="utf-8") if card.exists() else ""
    part = f"{BEGIN}\n{text}\n{END}"
    if BEGIN in before and END in before:
        head, _, rest = before.partition(BEGIN)
        write_whole(card, head + part + rest.partition(END)[2])
    else:
        write_whole(card, f"{before.rstrip()}\n\n{part}\n".lstrip())


def named(given: Sequence[str]) -> dict[str, str]:
    """What was given as MODEL=VALUE. Raises `UsageError` for anything else."""
    for each in given:
        if not all(each.partition("=")[::2]):
            raise UsageError(f"'{each}' was given; write MODEL=VALUE.")
    return {each.partition("=")[0]: each.partition("=")[2] for each in given}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", action="append", required=True, metavar="MODEL=FILE", help="repeat for each model")
    parser.add_argument("--truth", type=Path, required=True, help="the folder that the training wrote")
    parser.add_argument("--took", action="append", default=[], metavar="MODEL=WORDS", help="where no log says the time")
    parser.add_argument("--figure", type=Path, help="PNG of the doses; another one, of the other kinds, lies beside it")
    parser.add_argument("--card", type=Path, help="Markdown file whose marked part is replaced; printed without it")
    args = parser.parse_args()
    models = {
        model: [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
        for model, file in named(args.rows).items()
    }
    if args.figure:
        draw(models, args.figure)
    text = told(models, args.truth, named(args.took))
    if args.card:
        put(text, args.card)
    else:
        print(text)


if __name__ == "__main__":
    main()
