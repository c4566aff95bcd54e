"""Commands that need no model do not load the libraries of models, which takes seconds of every call."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

MODELS = {"diffusers", "transformers", "accelerate", "peft", "onnxruntime"}
WATCHED = MODELS | {"torch", "scipy", "pyarrow", "matplotlib"}
CALL = """
import sys
sys.argv[0] = "mnemoscope"
from mnemoscope.cli import main
try:
    main()
except SystemExit as left:
    code = left.code
print("\\nloaded", code, *(name for name in {watched} if name in sys.modules))
"""


def loaded(folder: Path, *words: str) -> tuple[int, set[str]]:
    """Exit code of a command in a process of its own, and which of the watched libraries it has loaded."""
    code = CALL.format(watched=sorted(WATCHED))
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    _, left, *names = done.stdout.splitlines()[-1].split()
    return int(left), set(names)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, prompts, and a run of `measure` over the pictures, which is what a report is about."""
    made = tmp_path_factory.mktemp("loaded")
    for name in ("a", "b", "c"):
        (made / "pictures").mkdir(exist_ok=True)
        Image.effect_noise((16, 16), 40 + ord(name)).convert("RGB").save(made / "pictures" / f"{name}.png")
    (made / "prompts.txt").write_text("a red chair\n")
    words = ("measure", "pictures", "--references", "pictures", "--features", "pixels", "--metrics", "replication")
    code, names = loaded(made, *words, "--out", "run")
    assert code == 0 and json.loads((made / "run/summary.json").read_text())["images"] == 3
    assert not names & (MODELS | {"scipy"})
    return made


@pytest.mark.parametrize(
    ("words", "code", "needed"),
    [
        ("--help", 0, set()),
        ("detect --help", 0, set()),
        ("list", 0, set()),
        ("seal run", 0, set()),
        ("report run", 0, {"pyarrow", "matplotlib"}),
        ("index build pictures --features pixels --out index", 0, {"pyarrow", "matplotlib"}),
        ("emm ratio pictures --references pictures --out ratio", 0, WATCHED - {"diffusers", "peft", "transformers"}),
        ("detect demo --prompts nowhere.txt --out no", 2, {"pyarrow"}),
        ("audit demo --prompts prompts.txt --negatives nowhere.csv --out no", 2, {"pyarrow"}),
        ("measure nowhere --references pictures --out no", 2, {"pyarrow"}),
    ],
)
def test_a_command_loads_no_more_than_it_needs(folder: Path, words: str, code: int, needed: set[str]) -> None:
    left, names = loaded(folder, *words.split())
    assert left == code and names <= needed
