"""Draw the floors of the code from the import rules: `python docs/floors.py` writes docs/images/floors.png."""

import json
import tomllib
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

HERE = Path(__file__).parent
GROUPS = {
    "what a person meets": ("cli", "app", "report"),
    "jobs": (
        "audit gate bench repair sweep recovery experiments emm rewriting explanation generation detection"
        " training localization measuring mitigation membership extract"
    ).split(),
    "methods, one a file": "scores detectors explainers localizers mitigations captions measures signals".split(),
    "what jobs and methods share": "methods search features demo plots planted job pictures run".split(),
    "the model": ("model",),
    "ground": "prompts registry stats study errors".split(),
}
COLOURS = ("#fde2c8", "#d7e8f7", "#d5eddb", "#eee3f6", "#f9d8dc", "#e8e8e8")


def floors() -> list[list[str]]:
    """The rooms of each floor, from the top."""
    rules = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return [[room.strip() for room in layer.split("|")] for layer in rules[0]["layers"]]


def draw() -> Figure:
    """One row a floor; a room may import what stands below it and nothing else."""
    rows = floors()
    figure = Figure(figsize=(11, 0.52 * len(rows) + 0.8), dpi=110)
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axes.set_xlim(0, 14)
    axes.set_ylim(-len(rows) - 0.9, 0.4)
    axes.axis("off")
    for place, rooms in enumerate(rows):
        width = 13.8 / max(len(rooms), 1)
        for k, room in enumerate(rooms):
            colour = next((c for c, own in zip(COLOURS, GROUPS.values(), strict=True) if room in own), "white")
            box = FancyBboxPatch((0.1 + k * width, -place - 0.78), width - 0.12, 0.66, boxstyle="round,pad=0.02")
            box.set(facecolor=colour, edgecolor="#555555", linewidth=0.8)
            axes.add_patch(box)
            axes.text(0.1 + (k + 0.5) * width - 0.06, -place - 0.45, room, ha="center", va="center", fontsize=10)
    for x, name, colour in zip((0.1, 2.6, 3.7, 6.2, 9.8, 11.7), GROUPS, COLOURS, strict=True):
        y = -len(rows) - 0.6
        axes.add_patch(
            FancyBboxPatch((x, y), 0.22, 0.3, boxstyle="round,pad=0.02", facecolor=colour, edgecolor="#555555")
        )
        axes.text(x + 0.36, y + 0.15, name, va="center", fontsize=8)
    return figure


if __name__ == "__main__":
    draw().savefig(HERE / "images" / "floors.png", metadata={"Description": json.dumps(floors())})
