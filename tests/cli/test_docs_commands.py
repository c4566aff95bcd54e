"""Every command that a page of the documentation prints is run, in the page's order, in a folder of the page's own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from documented import blocks
from places import HELPERS, PACKAGE, ROOT
from reader_files import give

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NETWORK = "asks an index of packages or a hub"
CLUSTER = "needs several machines in a cluster of Ray"
GPUS = "is for several GPUs"
NOT_RUN = {  # the beginning of a line, and why it is not run here
    "pip install": NETWORK,
    "python -m venv img2dataset-env": NETWORK,
    "img2dataset-env/": NETWORK,
    "mnemoscope detect stable-diffusion-v1-5/stable-diffusion-v1-5": NETWORK,
    "mnemoscope detect demo --prompts hub:owner/captions:train": NETWORK,
    "mnemoscope rewrite words --model NAME": "asks a language model's provider; tests/rewriting has its own",
    "mnemoscope rewrite words --model llama3": "asks a server at a port that is not the tests' to take",
    "export ": "a key or a region, for the line after it, which is in this list",
    "make ": "a target of the Makefile in the checkout; tests/test_packaging.py, test_docs.py and CI have them",
    "docker ": "needs a builder of images; make container-steps carries out its steps",
    "python -m pytest tests/methods/test_contract.py -k noise_share": "tests a file that the reader adds",
    "torchrun --nproc_per_node 8": GPUS,
    "accelerate launch --num_processes 4": GPUS,
    "mnemoscope index search train.index generated/ --out found --ann lance --ann-uri s3://": "needs an object store",
    "mnemoscope index build 'laion/{00000..23000}.tar' --out /shared": "needs 23,001 tars and a cluster",
    "mnemoscope index search /shared/laion.index": "needs that index",
    "mnemoscope audit demo --prompts captions.txt --out audit --runner ray --workers 8": "is for eight GPUs",
    "ray ": CLUSTER,
    "RAY_ADDRESS=auto mnemoscope detect": CLUSTER,
}
SMALLER = {  # appended to the lines that begin so, for the same work on less: the last of an option counts
    r"mnemoscope (detect|explain|generate|audit|sweep|recover|bench \w+) ": "--num-inference-steps 5",
    r"mnemoscope audit ": "--images 1 --most 2",
    r"mnemoscope sweep ": "--limit 1",
    r"mnemoscope detect .*--runner ray": "--workers 1",
    r"mnemoscope localize demo ": "--limit 1",
    r"mnemoscope bench detect ": "--limit 2 --images 0 --method noise_norm",
    r"mnemoscope bench mitigate ": "--limit 1 --images 1 --method embedding_noise",
    r"mnemoscope bench measure ": "--limit 1 --method pixels-32",
    r"mnemoscope bench explain ": "--limit 1 --method token_gradients",
    r"mnemoscope bench localize ": "--limit 1 --images 1 --method neurons_by_gradient",
    r"mnemoscope localize (threshold|statistics) ": "--limit 8",
    r"mnemoscope recover ": "--limit 1 --images 1 --attack-steps 2 --attack-batch 1",
    r"mnemoscope membership ": "--limit 20",
    r"mnemoscope extract ": "--budget 300 --num-inference-steps 5 --images 2 --least 2",
    r"mnemoscope watch ": "--wait 0 --probe-count 2 --probe-inference-steps 5",
    r"mnemoscope (experiment|emm sweep) .*--out": "--seeds 1",
    r".*--images 10000": "--images 16",
    r"mnemoscope emm ratio runs/digits": "--samples 16",
    r"mnemoscope emm train": "--steps 10 --batch-size 4 --snapshots 2 --samples 4",
    r".*--preset paper": "--width 8 --multipliers 1,1 --augment 0",
    r"mnemoscope train ": "--steps 4 --batch-size 2",
    r".*--hard-threshold 0.0156": "--hard-threshold 10",  # the page's is of Stable Diffusion 1, of smaller norms
    r".*--resume run/checkpoints/step-002000": "--steps 8 --resume run/checkpoints/step-000004",
    r".*20\]'": "--num-inference-steps 21",
}
CODES = {  # of what is no mistake of the page: a verdict, a stop, rows of words that a WordNet of eight words lacks
    r"mnemoscope gate ": (0, 3, 4),
    r"mnemoscope audit .*--policy": (0, 3, 4),
    r"mnemoscope watch ": (0, 3),
    r"mnemoscope verify-list ": (0, 2, 3),
    r"mnemoscope rewrite .*--wordnet": (0, 1),
}
SERVERS = re.compile(r"mnemoscope app|.*\buvicorn ")


def lines(page: Path) -> list[str]:
    """The command lines of a page, in workflows too; `console` blocks are run with what they say by test_docs.py."""
    text = "\n".join(text for _, text in blocks(page, "bash", "sh")).replace("\\\n", " ")
    workflows = re.findall(r"^ +(mnemoscope .*)$", "\n".join(text for _, text in blocks(page, "yaml")), re.MULTILINE)
    return [*(line for line in text.splitlines() if line.strip() and not line.startswith("#")), *workflows]


def is_run(line: str) -> bool:
    return not line.startswith(tuple(NOT_RUN))


def smaller(line: str) -> str:
    """The line with what makes it quick at its end, before a comment."""
    command, hash_, comment = line.partition(" #")
    added = [words for pattern, words in SMALLER.items() if re.match(pattern, command)]
    return " ".join([command.rstrip(), *added]) + (f"  {hash_}{comment}" if comment else "")


def codes(line: str) -> tuple[int, ...]:
    return next((each for pattern, each in CODES.items() if re.match(pattern, line)), (0,))


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(map(is_run, lines(page)))], ids=lambda page: page.name)
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path) -> None:
    printed = [line for line in lines(page) if is_run(line)]
    named = {title[1]: text for rest, text in blocks(page, "yaml") if (title := re.search(r'title="([^"]+)"', rest))}
    for name, text in named.items():
        (tmp_path / name).write_text(text)
    before = give(tmp_path, [*printed, *re.findall(r"^\w+: .*$", named.get("settings.yaml", ""), re.MULTILINE)])
    asked = [*before, *(smaller(line) for line in printed if not SERVERS.match(line))]
    said = given(asked, tmp_path)
    assert [(line, code, error) for line, code, error, _ in said if code not in codes(line)] == []
    assert [line for line, *_ in said] == asked
    for line in filter(SERVERS.match, printed):  # last: nothing reads what they make
        assert answers(line, tmp_path)


def environment() -> dict[str, str]:
    """Of a reader on a machine without a network, who has this checkout installed."""
    programs = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    return {**os.environ, "PATH": programs, "PYTHONPATH": str(PACKAGE), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def given(asked: list[str], folder: Path) -> list[tuple[str, int, str, float]]:
    """Each line with its exit code, what it said as an error, and its seconds, up to the first that failed."""
    (folder / "asked.json").write_text(json.dumps([(line, codes(line)) for line in asked]))
    command = [sys.executable, str(HELPERS / "given.py"), "asked.json"]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def answers(line: str, folder: Path) -> bool:
    """Whether a server, at a free port, answers over HTTP before it is ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["bash", "-c", f"{line} --port {port}"]
    with open(folder / "server.log", "w+") as log:
        made = subprocess.Popen(command, cwd=folder, env=environment(), stdout=log, stderr=log, start_new_session=True)
        try:
            while made.poll() is None:
                if speaks(f"http://127.0.0.1:{port}/"):
                    return True
                time.sleep(0.5)
            raise AssertionError((folder / "server.log").read_text())
        finally:
            os.killpg(made.pid, signal.SIGTERM)
            made.wait(60)


def speaks(address: str) -> bool:
    """Whether something speaks HTTP there."""
    try:
        urllib.request.urlopen(address, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def test_what_is_not_run_is_there() -> None:
    every = [line for page in PAGES for line in lines(page)]
    assert [start for start in NOT_RUN if not any(line.startswith(start) for line in every)] == []
    assert all(NOT_RUN.values())
    assert [page.name for page in PAGES if list(blocks(page, "console"))] == ["errors.md"]
    assert [pattern for pattern in (*SMALLER, *CODES) if not any(re.match(pattern, line) for line in every)] == []


def test_what_makes_a_line_quick_stands_before_its_comment() -> None:
    assert smaller("mnemoscope detect demo  # why") == "mnemoscope detect demo --num-inference-steps 5   # why"
    assert smaller("mnemoscope report runs/first") == "mnemoscope report runs/first"
