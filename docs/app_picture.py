"""Picture for docs/app.md: `python docs/app_picture.py` serves the page, tries a prompt, writes images/app.png."""

import io
import shutil
import tempfile
from pathlib import Path

from pictures import write
from PIL import Image
from playwright.sync_api import sync_playwright

from mnemoscope.app.serving import served
from mnemoscope.app.subject import PageSubject, bundled
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.loading import quiet

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SIZE = {"width": 1100, "height": 1240}


def main() -> None:
    """Serve the bundled model, try the first example, and keep what is seen."""
    quiet()
    found = bundled("demo")
    subject = PageSubject(model=Denoiser.from_pretrained("demo", device="cpu"), **found)
    browser = next(filter(None, map(shutil.which, BROWSERS)))
    with tempfile.TemporaryDirectory() as runs, served(subject, Path(runs)) as address, sync_playwright() as started:
        page = started.chromium.launch(executable_path=browser, args=["--no-sandbox"]).new_page(viewport=SIZE)
        page.goto(address)
        page.locator("#prompt textarea").fill(found["examples"][0])
        page.keyboard.press("Enter")
        page.wait_for_selector("#look-result [data-state=done]", timeout=300_000)
        page.wait_for_selector("#look:not([disabled])")
        write("app", Image.open(io.BytesIO(page.screenshot())))


if __name__ == "__main__":
    main()
