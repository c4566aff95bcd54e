"""Measures on the bench: do they know planted copies, and do they tell which pictures were trained."""

from pathlib import Path

from mnemoscope.bench import copies, evidence, similarities
from mnemoscope.bench.cell import Bench, Contest, Outcome, Tried, refused_by
from mnemoscope.bench.copies import COPIES, HALF, SHARE
from mnemoscope.bench.detecting import AUC, FPR, SOURCE
from mnemoscope.bench.detecting import FORMS as DETECTOR_FORMS
from mnemoscope.bench.evidence import HITS, KNOWN, SAID, SAID_FALSE, USUAL, USUAL_FALSE, ToldImages
from mnemoscope.bench.figures import ALL, OTHERS, Form, figures, pictures
from mnemoscope.bench.planting import CHANGES, planted
from mnemoscope.bench.similarities import SEVERAL, telling
from mnemoscope.bench.tables import Sheet
from mnemoscope.bench.transfer import AGREED, AT, AT_MODEL, DENIED, EVIDENCE, FALSE_AT, FALSE_AT_MODEL, transferred
from mnemoscope.bench.truth import TWIN, TWINS, Truth
from mnemoscope.run.bench_rows import BenchFigure
from mnemoscope.run.reading import Json
from mnemoscope.run.run import write_json

FORMS = {
    **DETECTOR_FORMS,
    KNOWN: Form("{:.3f}".format, bounded=True),
    **{name: Form(bounded=True) for name in (HITS, USUAL, SAID)},
    **{name: Form("{:.3f}".format, bounded=True) for name in (USUAL_FALSE, SAID_FALSE)},
}


def refusal(bench: Bench, tried: Tried | None) -> str | None:
    """Why a measure cannot be held against a truth; None where it can."""
    if not (bench.truth.folder / TWINS).is_dir():
        return f"the truth has no folder {TWINS} with pictures that are like the trained ones and were not trained"
    return copies.refusal(bench) if tried is None else refused_by(lambda: telling(bench, tried))


def cell(bench: Bench, tried: Tried | None, folder: Path) -> Outcome:
    """A measure of planted copies and of images that the model draws, each as a run; without one the images drawn."""
    if tried is None:
        return copies.cell(bench, folder, twins=True)
    found, tells, told = telling(bench, tried), tried.method.tells, ToldImages()
    told["family"] = found.family
    made: list[BenchFigure] = []
    work: list[Json] = []
    if SEVERAL not in tried.method.needs:  # planted images have no prompt
        summary, judged = evidence.of_planted(bench, tells, found, folder / "planted", told)
        work.append(summary)
        if judged is not None:
            made += figures(judged.known, judged.statistics, judged.counts(), FORMS, seed=bench.trial.seed)
    if (bench.folder / COPIES / "rows.jsonl").is_file():
        summary, drawn, above = evidence.of_drawn(bench, tells, found, folder / "drawn", told)
        work.append(summary)
        forms, statistics = {**FORMS, HALF: drawn.by_dose.form}, evidence.said(drawn, above)
        made += figures(drawn.known, statistics, pictures(drawn.known), forms, seed=bench.trial.seed)
    write_json(folder / EVIDENCE, told)
    seconds = sum(each["seconds"] for each in work)
    looked = sum(each["images"] + each.get("references", 0) for each in work)
    return Outcome({"": made}, {"": seconds / max(looked, 1)}, 0, seconds)


SHEETS = (
    Sheet(
        "Planted copies found, by change",
        "Share of changed trained pictures above the threshold of 1 % false alarms among twins under the same changes, "
        "of which none was trained: one threshold for all changes. In brackets 95 % intervals over pictures.",
        {HITS: ""},
    ),
    Sheet(
        "AUC on planted copies, by change",
        "Of each change, copies against twins under it.",
        {KNOWN: ""},
    ),
    Sheet(
        "At the measure's own threshold",
        "Planted copies that the measure calls copies as it is, without any truth, and how many twins.",
        {USUAL: "found,", USUAL_FALSE: "false alarms,"},
        groups=(ALL, OTHERS),
    ),
    Sheet(
        "Was this picture trained",
        "AUC of the likeness of drawn images to the picture of their prompt: prompts whose picture was trained against "
        "those of twins.",
        {SOURCE: "members against", AUC: ""},
    ),
    Sheet(
        "Trained pictures found, by kind and number of views",
        "Share of prompts above the threshold of 1 % false alarms among prompts of twins; of copied-images the share "
        "whose pixels have a cosine of 0.8 or more.",
        {SHARE: "", HALF: "half of"},
    ),
    Sheet(
        "Drawn images said to be copies",
        "The threshold comes from planted copies and meets images of the model: share of images above it, and of those "
        "of twins' prompts, whose picture no training saw: false alarms.",
        {SAID: "", SAID_FALSE: "false alarms,"},
    ),
    Sheet(
        "Thresholds of another preset",
        "Planted copies found, and false alarms, where the threshold of 1 % was chosen with another preset of the same "
        "features.",
        {AT: "found at that of", FALSE_AT: "false alarms at that of"},
    ),
    Sheet(
        "Thresholds of another model",
        "Prompts of trained pictures found, and of twins flagged, where the threshold of 1 % was chosen on the images "
        "of another model.",
        {AT_MODEL: "found at that of", FALSE_AT_MODEL: "false alarms at that of"},
    ),
    Sheet(
        "What other measures say of drawn images",
        "Each at its threshold from planted copies, with one vote for each sort of features: of the images that most "
        "others call copies, and of those that most do not, the share that this one does.",
        {AGREED: "of copies by", DENIED: "of no copies by"},
    ),
    Sheet("Cost", "Seconds of an image, references among them.", {KNOWN: "AUC,"}, groups=(ALL,), has_seconds=True),
)


def notes(truth: Truth) -> list[str]:
    """What is planted, and what too few pictures or prompts leave open."""
    if not (truth.folder / TWINS).is_dir():
        return []
    changed = sum(not each.is_member for each in planted(truth))
    asked = sum(not each.is_member and each.source == TWIN for each in truth.known)
    said = [f"{len(CHANGES)} changes of each picture that is the only one of its entry."]
    needs = (("Copies found", "changed twins", changed), ("Trained pictures found", "prompts of twins", asked))
    for what, kind, count in needs:
        if count < 1 / FPR:
            said.append(f"{what} at 1 % false alarms need {round(1 / FPR)} {kind}, and there are {count}: left out.")
    return said


MEASURE = Contest(
    "measure", similarities.names, similarities.found, refusal, cell, SHEETS, (COPIES,), notes, transferred
)
