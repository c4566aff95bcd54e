"""The page in a real browser: the whole path of each tab, at desktop and phone width, by keyboard alone, in silence."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import planted_desk
from pages import make_detect
from places import HELPERS
from served_page import planted_page

pytestmark = pytest.mark.slow
SCREENS = {"desktop": (1280, 800), "phone": (390, 844)}
HOSTILE = "memorized 3 <img src=x onerror=alert(4)> {{ 7 * 7 }} ${alert(5)}"
RUN = "<img src=x onerror=alert(1)>"
CONTRAST = (HELPERS / "contrast.js").read_text()
WAIT = 240_000  # milliseconds, on a machine that does other things


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser that is on this machine; the tests are left out where there is none."""
    pytest.importorskip("gradio", reason="gradio is not installed: pip install gradio")
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no chromium was found")
    with sync.sync_playwright() as started:
        made = started.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("page")
    for name in ("first", "second", RUN):
        make_detect(place / "runs" / name, memorized=4, ordinary=100, tested=2)
    return place


@pytest.fixture(scope="module")
def address(folder: Path, browser: Any) -> Iterator[str]:
    with planted_page(folder) as made:
        yield made


@pytest.fixture(params=SCREENS)
def page(request: pytest.FixtureRequest, browser: Any, address: str) -> Iterator[Any]:
    """The page on a screen; nothing may be wider than that, load from elsewhere, complain or open a dialog."""
    width, height = SCREENS[request.param]
    made = browser.new_page(viewport={"width": width, "height": height})
    made.set_default_timeout(WAIT)
    complaints: list[str] = []
    made.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    made.on("pageerror", lambda error: complaints.append(str(error)))
    made.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
    made.on(
        "request",
        lambda asked: None if asked.url.startswith((address, "data:", "blob:")) else complaints.append(asked.url),
    )
    made.goto(address)
    made.wait_for_selector("#prompt textarea")
    yield made
    assert made.evaluate("document.documentElement.scrollWidth") <= width
    assert not complaints
    made.close()


def looked_at(page: Any) -> None:
    """Wait until a look has come to its end."""
    page.wait_for_selector("#look-result [data-state=done]")
    page.wait_for_selector("#look:not([disabled])")


def test_the_first_screen_says_what_to_do(page: Any) -> None:
    height = page.viewport_size["height"]
    for place in (page.get_by_text("Type a prompt"), page.locator("#prompt textarea"), page.locator("#look")):
        box = place.first.bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= height
    assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"


def test_an_example_is_tried_with_the_mouse_and_its_pictures_are_there(page: Any) -> None:
    page.get_by_role("button", name="memorized 1").click()
    page.locator("#look").click()
    looked_at(page)
    text = page.locator("#look-result").inner_text()
    for said in ("Looks memorized", "5 % false alarms on 24 ordinary prompts", "eps", "copy", "pixels-32"):
        assert said in text
    assert "Same seed with embedding_descent" in text and "similarity to the picture without it" in text
    words = page.locator("#look-result .w[title]")
    assert words.all_inner_texts()[:2] == ["memorized", "1"] and "sum" in words.first.get_attribute("title")
    sizes = page.eval_on_selector_all("#look-result img", "all => all.map(each => each.naturalWidth)")
    assert len(sizes) >= 9 and min(sizes) > 0
    page.get_by_text("What the score is").click()
    assert page.get_by_text("A low score does not prove").is_visible()


def test_a_prompt_is_tried_by_keyboard_alone_and_stays_text(page: Any) -> None:
    page.keyboard.type(HOSTILE)
    page.keyboard.press("Enter")
    looked_at(page)
    assert page.locator("#look-result .words").first.inner_text().startswith("memorized 3")
    assert page.locator("#look-result img[src=x]").count() == 0
    assert "<script>alert(2)</script>" in page.locator("#look-result").inner_text()
    assert "49" not in page.locator("#look-result .words").first.inner_text()


def test_a_mitigation_and_its_strength_are_chosen(page: Any) -> None:
    page.get_by_role("button", name="Mitigation and seed").click()
    for place, value in (("#mitigation", "padding_mask"), ("#strength", "0.5")):
        page.locator(f"{place} input").fill(value)
        page.get_by_role("option", name=value, exact=True).click()
        page.wait_for_timeout(500)
    assert "share" in page.locator("#strength").inner_text()
    page.locator("#prompt textarea").fill("memorized 2")
    page.keyboard.press("Enter")
    looked_at(page)
    assert "Same seed with padding_mask at 0.5" in page.locator("#look-result").inner_text()


def test_a_look_is_stopped_by_keyboard(page: Any) -> None:
    page.keyboard.type("memorized 2")
    page.keyboard.press("Enter")
    page.wait_for_selector("#stop:not([disabled])")
    page.locator("#stop").focus()
    page.keyboard.press("Enter")
    page.get_by_text("Stopped.").wait_for()
    page.wait_for_selector("#look:not([disabled])")


def test_an_empty_prompt_is_told(page: Any) -> None:
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    assert "No prompt was given" in page.get_by_role("alert").inner_text()


def test_pictures_are_checked(page: Any, folder: Path, tmp_path: Path) -> None:
    page.get_by_role("tab", name="Check a picture").focus()
    page.keyboard.press("Enter")
    page.set_input_files("#upload input[type=file]", folder / "training" / planted_desk.HOSTILE_NAME)
    page.wait_for_selector("#check-result [data-state=done]")
    text = page.locator("#check-result").inner_text()
    assert "A copy of a training picture" in text and "pixels-32" in text and "<script>alert(2)</script>" in text
    assert page.locator("#check-result img[src=x]").count() == 0
    page.get_by_role("button", name="Clear").or_(page.get_by_label("Remove this file")).first.click()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(tmp_path / "noise.png")
    page.set_input_files("#upload input[type=file]", tmp_path / "noise.png")
    page.get_by_text("No copy of a training picture").wait_for()


def test_runs_are_listed_opened_and_compared(page: Any) -> None:
    page.get_by_role("tab", name="Runs").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#runs table")
    assert RUN in page.locator("#runs").inner_text() and "look memorized" in page.locator("#runs").inner_text()
    with page.context.expect_page() as opened:
        page.get_by_role("link", name=RUN).focus()
        page.keyboard.press("Enter")
    opened.value.wait_for_load_state()
    assert "look memorized" in opened.value.locator("main").inner_text()
    opened.value.close()
    for name in ("first", "second"):
        page.locator("#chosen input").click()
        page.get_by_role("option", name=name, exact=True).click()
    page.locator("#compare").focus()
    page.keyboard.press("Enter")
    page.frame_locator("#comparison iframe").get_by_text("2 runs compared").wait_for()


def test_the_list_follows_what_happens_in_the_folder(page: Any, folder: Path) -> None:
    page.get_by_role("tab", name="Runs").click()
    page.wait_for_selector("#runs table")
    name = f"later-{page.viewport_size['width']}"
    make_detect(folder / "runs" / name, memorized=4, ordinary=100, tested=2)
    page.get_by_role("link", name=name).wait_for()
    row = page.locator("#runs tr", has_text=name)
    assert "finished" in row.inner_text()
    summary = folder / "runs" / name / "summary.json"
    kept = json.loads(summary.read_text())
    summary.unlink()
    row.locator(".tag", has_text="stopped").wait_for()
    summary.write_text(json.dumps(kept))
    row.locator(".tag", has_text="finished").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_in_both_colour_schemes(browser: Any, address: str, folder: Path, scheme: str) -> None:
    """A contrast of 4.5 at least, as WCAG 2 asks of small texts, on each tab before and after its work."""
    page = browser.new_page(color_scheme=scheme, viewport={"width": 1280, "height": 800})
    page.set_default_timeout(WAIT)
    page.goto(address)
    page.wait_for_selector("#prompt textarea")
    grounds = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", grounds)[:3])) < 150) == (scheme == "dark")
    pale = {"empty": page.evaluate(CONTRAST)}
    page.get_by_role("button", name="memorized 1").click()
    page.locator("#look").click()
    looked_at(page)
    pale["looked at"] = page.evaluate(CONTRAST)
    page.get_by_role("tab", name="Check a picture").click()
    page.get_by_text("Click to Upload").wait_for()
    pale["no picture"] = page.evaluate(CONTRAST)
    page.set_input_files("#upload input[type=file]", folder / "training" / "1.png")
    page.wait_for_selector("#check-result [data-state=done]")
    pale["checked"] = page.evaluate(CONTRAST)
    page.get_by_role("tab", name="Runs").click()
    page.wait_for_selector("#runs table")
    pale["runs"] = page.evaluate(CONTRAST)
    page.close()
    assert {when: said for when, said in pale.items() if said} == {}


def test_what_is_pale_is_found(browser: Any) -> None:
    page = browser.new_page()
    page.set_content("<p style='color:#777'>pale</p><p style='color:#767676'>not</p><input placeholder=faint>")
    page.add_style_tag(content="::placeholder { color: #ccc }")
    assert page.evaluate(CONTRAST) == ["pale: 4.48", "faint: 1.61"]  # of #777 and #ccc on white, by WCAG's formula
    page.close()
