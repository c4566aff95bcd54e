"""The documentation tells the truth: its code runs, its commands parse, its messages and fields are the real ones."""

import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from documented import blocks, documented
from mnemoscope import cli, registry
from mnemoscope.cli.reference import reference
from mnemoscope.detection.run import Detection, run_detection
from mnemoscope.features.references import read_references
from mnemoscope.generation.run import Generation, run_generation
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import as_prompts
from mnemoscope.run.run import read_rows
from places import ROOT

DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))])
PAGES = [page for page in PAGES if page.is_file()]
COMMANDS = typer.main.get_command(cli.app).commands
ids = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each `mnemoscope` command: any line of a bash block, a line after `$ ` of a console block."""
    shell = [text for _, text in blocks(page, "bash", "sh")]
    shell += ["\n".join(re.findall(r"^\$ (.*)", text, re.MULTILINE)) for _, text in blocks(page, "console")]
    for line in "\n".join(shell).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if "mnemoscope" in words and words[0] not in ("pip", "git", "docker"):
            own = words[words.index("mnemoscope") + 1 :]
            yield own[: next((k for k, word in enumerate(own) if word in ("|", ">", "&&")), None)]


LONG = {"localize.md"}  # a search for neurons
by_length = [pytest.param(page, marks=pytest.mark.slow) if page.name in LONG else page for page in PAGES]


@pytest.mark.parametrize("page", by_length, ids=lambda page: page.name)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page run in one namespace, in order; a block of the class `notest` is left out."""
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "__page__"}
    for rest, text in blocks(page, "python"):
        if "notest" not in rest:
            exec(compile(text, page.name, "exec"), names)


PARSE = """
import json, os, sys, traceback, typer
from mnemoscope import cli
known = typer.main.get_command(cli.app).commands
def parse(words):
    assert words[0] in known, words
    command, context = known[words[0]], known[words[0]].make_context(words[0], words[1:])
    if hasattr(command, "commands"):
        name, inner, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        inner.make_context(name, rest, parent=context)
wrong = {}
for page, commands in json.load(sys.stdin).items():
    os.chdir(page)
    for words in commands:
        try:
            parse(words)
        except (Exception, SystemExit):
            wrong.setdefault(page, []).append(traceback.format_exc())
print(json.dumps(wrong))
"""
RUN = """
import contextlib, io, json, sys
from mnemoscope import cli
said = []
for words in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as error:
        code = cli._guarded(lambda: cli.app(words))
    said.append([code, error.getvalue()])
print(json.dumps(said))
"""


def apart(code: str, given: Any, folder: Path) -> str:
    """Run code in a process of its own, where nothing checks the types that typer hands to callbacks."""
    command = [sys.executable, "-c", code]
    paths = os.pathsep.join(str(Path(path).resolve()) for path in sys.path if path)  # also those given relatively
    done = subprocess.run(
        command,
        input=json.dumps(given),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def prepared(page: Path, folder: Path) -> list[list[str]]:
    """The commands of a page, and its files of settings in a folder to give them in."""
    given = list(commands(page))
    if page.name == "errors.md":
        given = [words for words in given if "--config" not in words]  # it is run below
    folder.mkdir()
    for rest, text in blocks(page, "yaml"):
        if title := re.search(r'title="([^"]+)"', rest):
            (folder / title[1]).write_text(text)
    return [words for words in given if words not in ([], ["--help"])]


@pytest.fixture(scope="module")
def misread(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What no command understood, by page: all are parsed in one process, which takes two seconds to start."""
    folder = tmp_path_factory.mktemp("pages")
    given = {str(folder / page.name): prepared(page, folder / page.name) for page in PAGES}
    assert sum(map(len, given.values())) > 100
    wrong = json.loads(apart(PARSE, given, folder))
    return {Path(page).name: traces for page, traces in wrong.items()}


@ids
def test_commands_parse(page: Path, misread: dict[str, list[str]]) -> None:
    assert not misread.get(page.name, []), misread[page.name][0]


def test_every_option_is_documented() -> None:
    text = "\n".join([reference(), *(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))])
    every = [each for command in COMMANDS.values() for each in (command, *getattr(command, "commands", {}).values())]
    options = {o for command in every for p in command.params for o in (*p.opts, *p.secondary_opts)}
    missing = [o for o in sorted(options) if o.startswith("--") and not re.search(rf"{o}(?![\w-])", text)]
    assert not missing


HOOK = runpy.run_path(str(DOCS / "hooks" / "cli.py"))
ANCHORS = {title.replace(" ", "-") for title in re.findall(r"^## (.*)", reference(), re.MULTILINE)}


def test_every_command_is_on_the_first_page_and_leads_to_its_options() -> None:
    assert HOOK["TABLE"] in (DOCS / "index.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[`mnemoscope ([\w-]+)`\]\(cli\.md#([\w-]+)\)", HOOK["table"](), re.MULTILINE)
    assert {name for name, _ in rows} == set(COMMANDS) and {anchor for _, anchor in rows} <= ANCHORS


def test_blocks_of_commands_lead_to_their_options() -> None:
    block = "cd x\nmnemoscope detect demo\n$ mnemoscope index build x\nmnemoscope localize demo\nmnemoscope detect y\n"
    said = HOOK["options"](block)
    assert re.findall(r"cli\.md#([\w-]+)", said) == ["detect", "index-build", "localize-prompts"]
    assert HOOK["options"]("pip install .\n") == ""
    for page in PAGES:
        assert all(words[0] in COMMANDS for _, text in blocks(page, "bash") for words in HOOK["called"](text))


def test_nothing_that_is_there_is_called_planned() -> None:
    for page in PAGES:
        assert not re.search(r"\bplanned\b|not there yet|coming soon", page.read_text(encoding="utf-8"), re.I), (
            page.name
        )


def test_every_page_is_reached_and_every_picture_is_small() -> None:
    listed = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert all(f" {page.name}\n" in listed for page in DOCS.glob("*.md"))
    pictures = {picture.name: picture.stat().st_size for picture in (DOCS / "images").glob("*.png")}
    assert max(pictures.values()) < 200_000
    shown = {
        name
        for page in PAGES
        for name in re.findall(r"\]\((?:docs/)?images/([\w-]+\.png)", page.read_text(encoding="utf-8"))
    }
    assert shown == set(pictures)


HOMES = {k: ["detect.md"] for k in ("score", "detect")} | {"explain": ["explain.md"]}
HOMES |= {k: ["mitigate.md"] for k in ("mitigate", "caption")}
HOMES |= {"localize": ["localize.md", "localize-gradient.md"]}
HOMES |= {"measure": ["measure-replication.md", "measure-quality.md"], "signal": ["membership.md"]}


@pytest.mark.parametrize("kind", registry.PACKAGES)
def test_every_method_and_parameter_is_documented(kind: str) -> None:
    pages = "\n".join((DOCS / page).read_text(encoding="utf-8") for page in HOMES[kind])
    sections = re.split(r"^###? ", pages, flags=re.MULTILINE)
    by_name = {section.partition("\n")[0].strip("` "): section for section in sections}
    for name in registry.names(kind):
        found = registry.get(kind, name)
        said = re.search(r"^Parameters: (.*)\.$", by_name[name], re.MULTILINE)
        steps = ["steps"] if kind == "score" else []
        assert said and re.findall(r"`(\w+)`", said[1]) == [*steps, *found.parameters]


def test_every_field_is_documented(planted: Denoiser, tmp_path: Path) -> None:
    prompts, negatives = as_prompts(["memorized 1", "ordinary 2"]), as_prompts(["ordinary 3"])
    sampling = {"num_inference_steps": 2, "guidance_scale": 3.0}
    asked = Detection("noise_norm", companions=("uncond_norm",), **sampling)
    summary = run_detection(planted, prompts, tmp_path / "d", asked, negatives=negatives)
    rows = {row["id"]: row for row in read_rows(tmp_path / "d")}
    assert documented("detect.md") >= {*summary, *(key for row in rows.values() for key in row)}

    reference = tmp_path / "reference.png"
    planted.generate(["memorized 1"], [0], **sampling)[0].save(reference)
    drawn = Generation(1, **sampling)
    references = read_references(reference)
    run_generation(planted, prompts, tmp_path / "g", drawn, references=references, scores=rows)
    assert documented("runs.md") >= {key for row in read_rows(tmp_path / "g") for key in row}
    assert documented("runs.md") >= {path.name for path in (tmp_path / "g").iterdir() if path.name != ".lock"}


def write_inputs(folder: Path) -> None:
    """The files that the commands of errors.md are given."""
    texts = {
        "captions.txt": "a red bicycle\n",
        "ordinary.txt": "".join(f"a thing of kind {k}\n" for k in range(20)),
        "table.csv": "description,licence\na red bicycle,free\n",
        "commas.csv": "caption,label\na red bicycle, an old map,yes\n",
        "labels.csv": "caption,label\na red bicycle,maybe\n",
        "settings.yaml": "model: demo\nprompts: captions.txt\nstepz: 2\n",
        "photo.ckpt": "",
        "unet-only/config.json": "{}",
        "photos/1.jpg": "",
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.slow
def test_errors_are_the_real_ones(tmp_path: Path) -> None:
    """Each command of errors.md is run: it succeeds, or gives the message below it and exit code 2."""
    write_inputs(tmp_path)
    shown = "\n".join(text for _, text in blocks(DOCS / "errors.md", "console"))
    pairs = re.findall(r"^\$ mnemoscope (.*)\n((?:mnemoscope: .*\n)?)", shown, re.MULTILINE)
    assert len(pairs) > 15
    said = json.loads(apart(RUN, [shlex.split(command) for command, _ in pairs], tmp_path))
    for (command, expected), (code, error) in zip(pairs, said, strict=True):
        assert (code, error) == (2 if expected else 0, expected), command


def test_score_of_the_two_pages_is_the_same() -> None:
    """CONTRIBUTING.md repeats the score of extending.md, which is run there."""
    (own,) = (text for _, text in blocks(ROOT / "CONTRIBUTING.md", "python"))
    assert own in [text for _, text in blocks(DOCS / "extending.md", "python")]
    assert len([line for line in own.splitlines() if line.strip(' "')]) <= 12


@pytest.mark.slow
def test_pages_build_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    loaded = re.compile(r"""<(?:script|link|img)[^>]*(?:src|href)=["']?(https?://[^"' >]+)""")
    for page in (tmp_path / "site").rglob("*.html"):
        assert not [url for url in loaded.findall(page.read_text(encoding="utf-8")) if "canonical" not in url]


@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.ipynb")), ids=lambda f: f.stem)
def test_notebook_begins_with_a_question_and_installs_what_is_missing(file: Path) -> None:
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(file.read_text())["cells"]]
    (title, question), (kind, first), *rest = cells
    assert title == "markdown" and question.partition("\n")[0].endswith("?")
    assert kind == "code" and "%pip install" in first and 'find_spec("mnemoscope")' in first
    assert max(len(source.splitlines()) for kind, source in rest if kind == "code") < 15


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the Jupyter client's own event loop and paths
@pytest.mark.parametrize("file", sorted((ROOT / "examples").glob("*.ipynb")), ids=lambda f: f.stem)
def test_notebook_runs_and_is_tidy(file: Path) -> None:
    import nbclient
    import nbformat

    notebook = nbformat.read(file, as_version=4)
    assert file.stat().st_size < 300_000
    kept, shown = json.dumps(notebook), pictures(notebook)
    assert shown
    ran = nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(ROOT)}}).execute()
    assert "Traceback" not in kept and '"name": "stderr"' not in kept
    assert pictures(ran) == shown


def pictures(notebook: Any) -> int:
    """How many pictures the outputs of a notebook hold."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)
