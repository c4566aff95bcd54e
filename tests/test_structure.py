"""The shape of the code: small files, arrows in one direction, nothing that points to a machine."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mnemoscope import registry

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src" / "mnemoscope").rglob("*.py"))
CORE = {"errors", "stats", "registry", "model", "methods"}  # what a method of any kind may import
BESIDE = {"captions": "prompts", "localizers": "localization", "mitigations": "localization", "measures": "measuring"}


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{a.name}" for a in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
    return {name for name in found if name.startswith("mnemoscope.")}


def test_tests_lie_in_the_room_that_they_test() -> None:
    rooms = {p.name for p in (ROOT / "src" / "mnemoscope").iterdir() if (p / "__init__.py").exists()}
    assert {p.parent.name for p in (ROOT / "tests").rglob("test_*.py")} <= rooms | {"tests"}


def test_no_two_files_of_tests_have_one_name() -> None:
    counts = Counter(file.name for file in (ROOT / "tests").rglob("test_*.py"))
    assert not [name for name, count in counts.items() if count > 1]  # pytest collects neither of them beside the other


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def test_modules_are_short() -> None:
    limits = {"sources.py": 260, "denoiser.py": 240, "traced.py": 280, "options.py": 250}
    lines = {file: len(file.read_text().splitlines()) for file in SOURCES}
    assert not {name_of(file): count for file, count in lines.items() if count > limits.get(file.name, 230)}


def test_functions_are_short() -> None:
    long = {}
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) and len(node.body) > 1 else node.body
                if (lines := body[-1].end_lineno - body[0].lineno + 1) > 40:
                    long[f"{name_of(file)}: {node.name}"] = lines
    assert not long


@pytest.mark.parametrize("folder", registry.PACKAGES.values())
def test_method_files_import_the_core_and_no_other_method(folder: str) -> None:
    for file in (ROOT / "src" / "mnemoscope" / folder).glob("[!_]*.py"):
        modules = {name.split(".")[1] for name in imports(file)}
        assert modules <= CORE | {BESIDE.get(folder)}, f"{file.name} imports {modules - CORE}"
        assert f"def {file.stem}(" in file.read_text()


def test_each_name_of_a_class_means_one_thing() -> None:
    homes: dict[str, list[str]] = {}
    for file in SOURCES:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(name_of(file))
    assert not {name: files for name, files in homes.items() if len(files) > 1}


def test_what_a_dictionary_holds_is_said_by_a_type_or_a_name() -> None:
    bare = [file for file in SOURCES for line in file.read_text().splitlines() if "dict[str, Any]" in line]
    assert len(bare) <= 70, Counter(file.parent.name for file in bare)


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, mnemoscope.cli; print([m for m in ('torch', 'diffusers', 'pyarrow') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_file_names_a_machine() -> None:
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    hidden = re.compile("|".join(("/" + "work/", "/" + "root/", "/" + "opt/py", r"\.lib" + "rary")))
    for name in listed.stdout.splitlines():
        file = ROOT / name
        if file.suffix in (".py", ".md", ".toml", ".txt", ".yml", ".html", ".ipynb", ".cfg") and file.is_file():
            assert not hidden.search(file.read_text(encoding="utf-8")), name
