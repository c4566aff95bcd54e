"""Make the pictures of the documentation from runs on the bundled model: `python docs/pictures.py [--runs FOLDER]`.

Runs that are in the folder already are gone on with, as of any command. It needs the extra `test` and a Chromium.
`floors.png` is drawn by `docs/floors.py`, `app.png` is made by `docs/app_picture.py`.
"""

import argparse
import io
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from playwright.sync_api import sync_playwright

import mnemoscope as mn
from mnemoscope import demo

IMAGES = Path(__file__).parent / "images"
WIDTH = 1040  # of a page, in pixels
COLOURS = 128  # of a picture: a page needs no more, and the file is a third of the size
SAMPLING = ["--num-inference-steps", "20", "--guidance-scale", "3"]
COMPARED = ["--references", "data/references"]
PROMPTS = ["--prompts", "data/prompts.csv"]
OPENED = """() => {
    for (const each of document.querySelectorAll("details")) each.open = each.matches(".fold");
    for (const each of document.images) each.loading = "eager";
}"""
MITIGATIONS = ["--mitigate", "embedding_descent", "--mitigate", "embedding_noise"]
COMMANDS = (  # the folder of each run, and how it is made
    ("audit", ["demo"]),
    ("sweep", ["sweep", "demo", *PROMPTS, "--limit", "4", "--images", "2", *COMPARED, *SAMPLING, *MITIGATIONS]),
    ("regions", ["explain", "demo", *PROMPTS, "--start", "30", "--limit", "4", "--method", "curvature_map", *SAMPLING]),
    ("drawn", ["generate", "demo", *PROMPTS, "--start", "28", "--limit", "6", "--images", "2", *COMPARED, *SAMPLING]),
    ("measured", ["measure", "drawn", *COMPARED, "--features", "pixels"]),
)


class Shot(NamedTuple):
    """A picture of a page: of which run, from where on (the text of a heading; the top if none), and how high."""

    name: str
    run: str
    heading: str | None
    height: int


SHOTS = (
    Shot("report", "audit", None, 680),
    Shot("scores", "audit", "Plots", 476),
    Shot("words", "audit", "Prompts in coloured words", 600),
    Shot("mitigated", "audit", "Does a mitigation help?", 940),
    Shot("sweep", "sweep", "Mitigations along their strength", 578),
    Shot("regions", "regions", "Regions", 620),
    Shot("gallery", "measured", "Images beside their nearest references", 640),
)


def runs(folder: Path) -> None:
    """Make the runs that the pictures are of."""
    mnemoscope = [sys.executable, "-m", "mnemoscope.cli"]
    if not (folder / "data").is_dir():
        subprocess.run([*mnemoscope, "demo", "--export", "data"], cwd=folder, check=True)
    for name, words in COMMANDS:
        subprocess.run([*mnemoscope, *words, "--out", name], cwd=folder, check=True)


def shoot(folder: Path, shots: Sequence[Shot]) -> None:
    """Take the pictures of the runs' pages."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 800}, color_scheme="light")
        for shot in shots:
            page.goto((folder / shot.run / "report.html").resolve().as_uri())
            page.evaluate(OPENED)
            page.wait_for_function("[...document.images].every(each => each.complete)")
            write(shot.name, Image.open(io.BytesIO(page.screenshot(clip=_clip(page, shot), full_page=True))))
        browser.close()


def _clip(page: Any, shot: Shot) -> dict[str, float]:
    top = 0.0
    if shot.heading is not None:
        found = page.get_by_role("heading", name=shot.heading, exact=True).first
        top = found.evaluate("each => each.getBoundingClientRect().top + window.scrollY") - 16
    end = page.evaluate("document.documentElement.scrollHeight")
    return {"x": 0, "y": top, "width": WIDTH, "height": min(shot.height, end - top)}


def drawn() -> Image.Image:
    """Two memorized captions and two ordinary ones: the training image, if there is one, beside four seeds."""
    prompts = demo.prompts("verbatim")[1:3] + demo.prompts("ordinary")[4:6]
    own = {picture.caption: Image.open(io.BytesIO(picture.data())).convert("RGB") for picture in demo.references()}
    model = mn.Denoiser.from_pretrained("demo", device="cpu")
    seeds = [seed for _ in prompts for seed in range(4)]
    texts = [prompt for prompt in prompts for _ in range(4)]
    images = model.generate(texts, seeds, num_inference_steps=20, guidance_scale=3.0)
    size, gap = 128, 8
    sheet = Image.new("RGB", (5 * (size + gap) + 2 * gap, 4 * (size + gap) - gap), "white")
    for row, prompt in enumerate(prompts):
        known = [own[prompt]] if row < 2 else []
        for column, image in enumerate([*known, *images[4 * row : 4 * row + 4]], start=1 - len(known)):
            place = column * (size + gap) + (2 * gap if column else 0)
            sheet.paste(image.resize((size, size), Image.Resampling.BICUBIC), (place, row * (size + gap)))
    return sheet


def write(name: str, picture: Image.Image) -> None:
    """Keep a picture, small."""
    picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(IMAGES / f"{name}.png", optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("build/pictures"), help="folder of the runs")
    folder = parser.parse_args().runs
    folder.mkdir(parents=True, exist_ok=True)
    runs(folder)
    shoot(folder, SHOTS)
    write("demo", drawn())


if __name__ == "__main__":
    main()
