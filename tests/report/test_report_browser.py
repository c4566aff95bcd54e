"""The page of an audit in a browser: the first picture lies in the first screen, and the list can be searched."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mnemoscope.report import write
from pages import make_audit

pytestmark = pytest.mark.slow
SCREENS = [(1280, 800), (390, 844)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser that is on this machine; the tests are left out where there is none."""
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no chromium was found")
    with sync.sync_playwright() as started:
        made = started.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write([make_audit(tmp_path_factory.mktemp("browser") / "audit")])


@pytest.mark.parametrize(("width", "height"), SCREENS)
def test_the_first_pair_lies_in_the_first_screen_and_nothing_overflows(
    browser: Any, audit: Path, width: int, height: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": height})
    page.goto(audit.as_uri())
    for place in (0, 1):
        box = page.locator("img").nth(place).bounding_box()
        assert box["y"] + box["height"] <= height and box["width"] >= 150
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_the_list_of_copies_is_searched_sorted_and_thinned(browser: Any, audit: Path) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(audit.as_uri())
    bar, shown = page.locator(".filter").first, page.locator(".leak:visible")
    assert shown.count() == 32 and bar.locator("output").inner_text() == "32 shown"
    scores = [float(each.get_attribute("data-score")) for each in shown.all()]
    assert scores == sorted(scores, reverse=True)
    bar.locator("select").select_option("-score")
    assert [float(each.get_attribute("data-score")) for each in shown.all()] == sorted(scores)
    bar.locator("[type=number]").fill("0.95")
    assert shown.count() == sum(score >= 0.95 for score in scores)
    bar.locator("[type=number]").fill("")
    bar.locator("[type=search]").fill("number 3 from the Orsini")
    assert shown.count() == 4 and not said
    page.close()
