"""What the page shows, as HTML: captions and file names are text in it, whatever they hold."""

from collections.abc import Sequence
from functools import cache
from typing import Any
from urllib.parse import urlencode

from jinja2 import ChoiceLoader, Environment, PackageLoader

from mnemoscope.app.desk import Desk, facts
from mnemoscope.app.looking import PromptLook
from mnemoscope.app.runs import RunLine
from mnemoscope.app.subject import Told
from mnemoscope.app.working import News
from mnemoscope.report import detect
from mnemoscope.report.explain import legend
from mnemoscope.report.page import templates

HEAVIEST = 3  # words that are named beside the coloured ones


@cache
def pages() -> Environment:
    """The page's own templates, which may take parts of a report's."""
    own = templates()
    return own.overlay(loader=ChoiceLoader([PackageLoader("mnemoscope.app"), own.loader]))  # type: ignore[list-item]


def _made(template: str, **content: Any) -> str:
    return pages().get_template(template).render(content)


def style() -> str:
    """The style sheet of all fragments."""
    return _made("app.css")


def intro(desk: Desk) -> str:
    """The head of the page: which model it is about."""
    return _made("intro.html", facts=facts(desk))


def looked(desk: Desk, look: PromptLook) -> str:
    """What is known of a prompt so far."""
    words = sorted(look.words, key=lambda word: -abs(word["share"]))
    return _made(
        "look.html",
        look=look,
        scale=_scale(look.score),
        unit=detect.UNITS.get(str((look.score or {}).get("units")), ""),
        caveats=detect.CAVEATS[:2],
        legend=legend([{"words": look.words}]),
        heaviest=words[:HEAVIEST],
        compared=desk.compared_by,
        judge=desk.subject.aligner,
    )


def _scale(score: Told | None) -> dict[str, float]:
    """Where a score and its threshold lie on a bar, in percent."""
    if score is None or not score["limit"]:
        return {"score": 0.0, "limit": 0.0}
    whole = 1.15 * max(score["score"], score["limit"])
    return {"score": max(100 * score["score"] / whole, 0.0), "limit": 100 * score["limit"] / whole}


def status(said: str = "", *, news: News[Any] | None = None, look: PromptLook | None = None, problem: str = "") -> str:
    """How far the work is, what came of it, or why there is none."""
    content: Told = {"said": said, "problem": problem, "doing": ""}
    if news is not None and look is not None:
        content |= {"doing": look.doing, "at": look.at, "of": look.of}
        content |= {"seconds": news.seconds, "evaluations": news.evaluations}
    return _made("status.html", **content)


def checked(found: Told) -> str:
    """What a person's picture is nearest to."""
    return _made("check.html", found=found)


def listed(lines: Sequence[RunLine], folder: str) -> str:
    """The list of runs."""
    return _made("runs.html", lines=lines, folder=folder)


def framed(names: Sequence[str]) -> str:
    """The comparison of two runs within the page."""
    address = "comparison?" + urlencode([("run", name) for name in names])
    return _made("frame.html", address=address, title="Comparison of " + " and ".join(names))


def refusal(sentence: str) -> str:
    """A whole page that says why there is no other."""
    return _made("refusal.html", sentence=sentence)


def lead(sentence: str) -> str:
    """A sentence on top of a tab."""
    return _made("lead.html", sentence=sentence)
