"""What the page does when something is pressed: values in, fragments out."""

import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mnemoscope.app import fragments
from mnemoscope.app.desk import Desk
from mnemoscope.app.looking import PromptLook, Question, look
from mnemoscope.app.nearest import check
from mnemoscope.app.runs import Runs
from mnemoscope.app.working import followed
from mnemoscope.errors import UsageError

STOPPED = "Stopped. What was found up to then stays."
Shown = tuple[str, str | None]  # how far it is, and what is known; None where that has not changed


class Handlers:
    """A desk and a folder of runs behind a page; `sessions` are the looks at work, by who asked for them."""

    def __init__(self, desk: Desk, runs: Runs) -> None:
        self.desk, self.runs = desk, runs
        self.sessions: dict[str, threading.Event] = {}

    def look(self, question: Question, session: str) -> Iterator[Shown]:
        """A prompt looked at, with word of how far it is."""
        stop, folder = threading.Event(), Path(tempfile.mkdtemp(prefix="look-", dir=self.desk.folder))
        self.sessions[session] = stop
        last: PromptLook | None = None
        try:
            yield fragments.status("Waiting for the model."), ""
            for news in followed(self.desk.model, self.desk.lock, lambda: look(self.desk, question, folder), stop):
                last = news.found or last
                shown = fragments.looked(self.desk, news.found) if news.found else None
                yield fragments.status(news=news, look=last), shown
            done = f"Done in {news.seconds:.0f} s with {news.evaluations:,} evaluations of the network."
            yield fragments.status(STOPPED if last and last.doing else done), None
        except UsageError as e:
            yield fragments.status(problem=str(e)), None
        finally:
            self.sessions.pop(session, None)
            shutil.rmtree(folder, ignore_errors=True)

    def stop(self, session: str) -> None:
        """Let what this session asked for end at the next evaluation of the network."""
        if session in self.sessions:
            self.sessions[session].set()

    def check(self, upload: str | None) -> Shown:
        """A person's own picture held against the training pictures; it is not kept."""
        if upload is None:
            return fragments.status(), ""
        folder = Path(tempfile.mkdtemp(prefix="check-", dir=self.desk.folder))
        try:
            found = check(self.desk, Path(upload), folder)
        except UsageError as e:
            return fragments.status(problem=str(e)), ""
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return fragments.status("Checked."), fragments.checked(found)

    def table(self) -> tuple[str, list[str]]:
        """The runs as a table, and the names of those that have a report."""
        lines = self.runs.lines()
        return fragments.listed(lines, str(self.runs.folder)), [line.name for line in lines if line.state != "damaged"]

    def compare(self, names: list[Any]) -> Shown:
        """Two runs side by side."""
        if len(names) != 2:
            return fragments.status(problem="Choose two runs to compare."), ""
        return fragments.status(), fragments.framed([str(name) for name in names])
