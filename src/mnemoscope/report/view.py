"""What a page shows of a run: on top what a reader with a minute needs, below it the rest, folded by question."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mnemoscope import plots
from mnemoscope.report import audit, leaks
from mnemoscope.report import cost as costs
from mnemoscope.report.command import command_lines
from mnemoscope.report.kinds import KINDS
from mnemoscope.report.pictures import data_uri
from mnemoscope.report.reading import headline, notes
from mnemoscope.report.record import Card, Fold, Record, Section
from mnemoscope.report.text import number
from mnemoscope.report.verdict import verdict_of
from mnemoscope.run.asked import parameters
from mnemoscope.run.reading import Json

ORDER = (
    "finetune.html",
    "bench.html",
    "methods.html",
    "repair.html",
    "neurons.html",
    "rewrites.html",
    "curves.html",
    "experiment.html",
    "emm_sweep.html",
    "emm_train.html",
    "watched.html",
    "previews.html",
    "sheets.html",
    "extracted.html",
    "recovered.html",
    "membership.html",
    "neighbours.html",
    "measures.html",
    "emm_images.html",
    "pairs.html",
    "regions.html",
    "gallery.html",
    "words.html",
    "scores.html",
    "scores_compared.html",
)
NUMBERS = 5  # on top of a page
DRAWN, MITIGATED = "What else was drawn?", "Does a mitigation help?"
HOW, LIMITS = "How was this measured?", "What do these numbers not say?"
QUESTIONS = {"scores.html": "Which prompts look memorized?", "words.html": "Which words give them away?"}
FINETUNE = "finetune.html"
ABOVE = {"neighbours.html", FINETUNE}  # sections of an audit's parts that stand, as a list of copies or whole, above
# of runs without a model: its name, the setting with it
SUBJECTS = (("Images", "generated"), ("Index", "index"), ("File", "file"), ("Images", "data"))


def view(run: Path, name: str, records: list[Record], page: Path) -> Json:
    """All that the page in a folder shows of one run, or of the runs of an audit."""
    is_audit = records[0].path != run
    sections = _sections(records)
    above = _of_audit(run, records, sections, page) if is_audit else _of_run(records, sections, page)
    below = _audit_folds(records, sections) if is_audit else _run_folds(records, sections)
    said = [note for record in records for note in notes(record) if note not in record.notes]  # those stand on top
    said += [note for section in [*above, *sections] for note in section.notes]
    said += [caveat for record in records for caveat in KINDS[record.command].caveats(record)]
    below += [Fold(LIMITS, [Section("notes.html", {"notes": list(dict.fromkeys(said))})])] if said else []
    return {"name": name, "above": above, "folds": [*below, provenance(run, records)]}


def provenance(run: Path, records: Sequence[Record]) -> Fold:
    """The command that makes a run again, and all that was recorded of it."""
    content = {"commands": command_lines(run, records), "records": records}
    return Fold("How can this run be made again?", [Section("provenance.html", content)])


def lead(sentences: Sequence[str], **more: Any) -> Section:
    """The top of a page: a verdict if there is one, and sentences."""
    content: Json = {"verdict": None, "command": "", "hint": "", "under": [], "warnings": []}
    said = [" ".join(sentences)] if more.get("verdict") and sentences else sentences
    return Section("verdict.html", content | {"sentences": said} | more)


def _of_audit(run: Path, records: list[Record], sections: list[Section], page: Path) -> list[Section]:
    """Verdict, pairs, numbers, what a fine-tune added, copies."""
    verdict, note = verdict_of(run)
    warnings = [note] if note else []
    if len(records) < 2:
        warnings.append(f"Only the {records[0].title} run of this audit has rows: it was interrupted or goes on still.")
    told: Json = {"warnings": [*warnings, *_damage(records)], "under": under(records), "verdict": verdict}
    if verdict is None:
        told |= {"hint": audit.HOW, "command": f"mnemoscope gate {shlex.quote(str(run))} --policy policy.yaml"}
    tuned = [record for record in records if record.command == "finetune"]
    made = [lead([*map(headline, tuned), *audit.findings(records)], **told)]
    pairs = leaks.exhibits([r for r in records if r.title not in ("mitigate", "measure, mitigated")], page)
    made += [pairs] if pairs else []
    cards = _cards(tuned)[:NUMBERS] if tuned else audit.numbers(records)
    made += [Section("numbers.html", {"cards": cards}), *(s for s in sections if s.template == FINETUNE)]
    measured = [record for record in records if record.title == "measure"]
    return [*made, *([leaks.section(measured, page)] if measured else [])]


def _of_run(records: list[Record], sections: list[Section], page: Path) -> list[Section]:
    """Headline, pairs where images were compared, numbers, and what the run is about."""
    record = records[0]
    pairs = leaks.exhibits(records, page) if record.command in ("generate", "measure") else None
    made = [lead([headline(record)], under=under(records), warnings=_damage(records))]
    made += [pairs] if pairs else []
    made += [Section("numbers.html", {"cards": shown})] if (shown := _cards(records)[:NUMBERS]) else []
    drawn = [] if pairs else _plots(records)
    return [*made, *drawn, *sections, *_failures(records)]


def _audit_folds(records: list[Record], sections: list[Section]) -> list[Fold]:
    """The parts of an audit by the question that each answers."""
    by_question: dict[str, list[Section]] = dict.fromkeys(("What failed?", MITIGATED), [])
    found = costs.cost(records)
    by_question |= {"What failed?": _failures(records), MITIGATED: [costs.section(found)] if found else []}
    for section in sections:
        if section.template not in ABOVE:
            drawn = MITIGATED if section.content.get("is_mitigated") else DRAWN
            question = QUESTIONS.get(section.template, drawn if section.template == "gallery.html" else HOW)
            by_question.setdefault(question, []).append(section)
    by_question.setdefault(HOW, [])
    counts = [each for record in records for each in _more(_cards([record]), f"Numbers of {record.title}")]
    by_question[HOW] = [*_about(records), *counts, *_plots(records), *by_question[HOW]]
    order = ("What failed?", *QUESTIONS.values(), MITIGATED, DRAWN, HOW)
    return [Fold(question, by_question[question]) for question in order if by_question.get(question)]


def _run_folds(records: list[Record], sections: list[Section]) -> list[Fold]:
    has_pairs = bool(records[0].command in ("generate", "measure") and records[0].done)
    inner = [*_about(records), *_more(_cards(records)[NUMBERS:]), *(_plots(records) if has_pairs else [])]
    return [Fold(HOW, inner)] if inner else []


def _sections(records: list[Record]) -> list[Section]:
    found = [section for record in records for section in KINDS[record.command].sections(record)]
    return sorted(found, key=lambda section: ORDER.index(section.template))


def _about(records: list[Record]) -> list[Section]:
    rows = [each for record in records for each in KINDS[record.command].about(record)]
    return [Section("about.html", {"rows": list({row[0] + row[2]: row for row in rows}.values())})] if rows else []


def _cards(records: list[Record]) -> list[Card]:
    made = [card for record in records for card in KINDS[record.command].cards(record)]
    return [*made, *(card for record in records if (card := _work(record))[0])]


def _more(cards: list[Card], title: str = "More numbers") -> list[Section]:
    return [Section("numbers.html", {"cards": cards, "title": title})] if cards else []


def _failures(records: list[Record]) -> list[Section]:
    return [Section("failures.html", {"record": record}) for record in records if record.failures]


def _damage(records: list[Record]) -> list[str]:
    return list(dict.fromkeys(note for record in records for note in record.notes))


def under(records: Sequence[Record]) -> list[str]:
    """Model, methods and sampling, as a line."""
    first = next((record for record in records if record.part("model")), records[0])
    settings = {**first.part("source"), **parameters(first.info)}
    truths = first.summary.get("truths")  # of a bench, by model
    model = first.part("model").get("source") or (" and ".join(truths) if isinstance(truths, dict) else None)
    name, key = next((each for each in SUBJECTS if each[1] in settings and not model), ("Model", ""))
    said = [f"{name} {model or settings.get(key) or 'not recorded'}"]
    said += [f"method {record.method}" for record in records if record.part("method")]
    said += [f"methods {', '.join(record.part('methods'))}" for record in records if record.part("methods")]
    if steps := settings.get("num_inference_steps"):
        said.append(f"{steps} sampling steps")
    if settings.get("guidance_scale") is not None:
        said.append(f"guidance {settings['guidance_scale']}")
    return said


def _work(record: Record) -> Card:
    """What a run cost; an empty card where that is not recorded."""
    evaluations, seconds = (number(record.summary.get(key)) for key in ("network_evaluations", "seconds"))
    if not evaluations:
        return "", "", ""
    took = "" if seconds is None else f", in {seconds:,.0f} s"
    return f"Evaluations, {record.title}", f"{evaluations:,.0f}", f"of the network{took}"


def _plots(records: list[Record]) -> list[Section]:
    """The figures of runs, saved under their `plots/`: title, what to look for, data URI, whether it needs room."""
    made = []
    for record in records:
        for name, title, hint, figure in KINDS[record.command].drawings(record):
            data = plots.kept(figure, record.path / "plots" / f"{name}.png")
            uri, is_wide = data_uri(data, "png"), figure.get_figwidth() > 7
            made.append({"title": title, "hint": hint, "uri": uri, "is_wide": is_wide})
    return [Section("plots.html", {"plots": made})] if made else []
