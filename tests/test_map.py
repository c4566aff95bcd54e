"""The page about the code tells the truth: files that it names exist, and the picture has every room."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "map.md").read_text()


def test_eleven_tasks_name_files_that_are_there() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "`src/" in line]
    assert len(rows) == 11
    for name in re.findall(r"`(src/[\w/.]+)`", PAGE):
        assert (ROOT / name).exists(), name


def test_the_picture_has_every_room_on_a_floor_and_in_a_group() -> None:
    drawn = runpy.run_path(str(ROOT / "docs" / "floors.py"))
    rooms = {room for row in drawn["floors"]() for room in row}
    there = {p.name for p in (ROOT / "src" / "mnemoscope").iterdir() if (p / "__init__.py").exists()}
    assert there | {"errors", "stats", "planted"} == rooms
    assert rooms == {room for own in drawn["GROUPS"].values() for room in own}
    assert len(drawn["draw"]().axes[0].texts) == len(rooms) + len(drawn["GROUPS"])


def test_the_stored_picture_is_that_of_todays_floors() -> None:
    floors = runpy.run_path(str(ROOT / "docs" / "floors.py"))["floors"]()
    with Image.open(ROOT / "docs" / "images" / "floors.png") as picture:
        assert json.loads(picture.info["Description"]) == floors


def test_the_page_names_every_room() -> None:
    rooms = {p.parent.name for p in (ROOT / "src" / "mnemoscope").glob("*/__init__.py")}
    assert rooms == set(re.findall(r"`(\w+)/`", PAGE))


def test_an_import_of_a_room_above_fails_the_rules(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src")
    with (tmp_path / "src" / "mnemoscope" / "model" / "cond.py").open("a") as file:
        file.write("\nfrom mnemoscope.report import page\n")
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--config", ROOT / "pyproject.toml"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "src"), "COLUMNS": "200"}
    done = subprocess.run(command, cwd=tmp_path / "src", env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "mnemoscope.model is not allowed to import mnemoscope.report" in done.stdout
