"""The pages of the Python API leave out nothing: every public name has one place, with a line that says what it is."""

import ast
import re
import runpy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import mnemoscope as mn
from mnemoscope import registry

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "src" / "mnemoscope"
API = runpy.run_path(str(ROOT / "docs" / "hooks" / "api.py"))


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    return {room: API["page"](room) for room in API["rooms"]()}


def defined(room: Path) -> Iterator[tuple[str, str]]:
    """Path and first line of each public class and function that the files of a room define."""
    for file in sorted(room.rglob("*.py")) if room.is_dir() else [room]:
        module = ".".join(["mnemoscope", *file.relative_to(SOURCES).with_suffix("").parts]).removesuffix(".__init__")
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            is_defined = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if is_defined and "overload" not in map(ast.unparse, node.decorator_list):
                yield f"{module}.{node.name}", (ast.get_docstring(node) or "").partition("\n")[0]


def rooms() -> list[Path]:
    return [each for each in SOURCES.iterdir() if (each / "__init__.py").exists() or each.suffix == ".py"]


def test_every_room_has_a_page(pages: dict[str, str]) -> None:
    assert set(pages) == {room.stem for room in rooms()} - {"cli", "__init__"}


def test_every_public_name_is_described_once_on_the_page_of_its_room(pages: dict[str, str]) -> None:
    places = {room: Counter(re.findall(r"^::: (\S+)$", page, re.MULTILINE)) for room, page in pages.items()}
    for room in rooms():
        for path, line in defined(room) if room.stem in pages else ():
            assert line, f"{path} does not say what it is"
            assert [name for name in places if path in places[name]] == [room.stem], path
            assert places[room.stem][path] == 1, path
            link = f"[`{path.rpartition('.')[2]}`][{path}]"
            assert any(link in row and line.replace("|", "&#124;") in row for row in pages[room.stem].splitlines()), (
                path
            )


@pytest.mark.parametrize("kind", registry.PACKAGES)
def test_methods_are_listed_with_all_their_parameters(kind: str, pages: dict[str, str]) -> None:
    rows = [row.split(" | ") for row in pages[registry.PACKAGES[kind]].splitlines() if row.startswith("| [")]
    listed = {re.match(r"\| \[`(\w+)`\]", row[0])[1]: re.findall(r"`(\w+)", row[-1]) for row in rows}
    here = {name: registry.get(kind, name) for name in registry.names(kind)}
    assert listed == {name: list(method.parameters) for name, method in here.items() if not method.origin}
    for name, method in here.items():
        assert method.origin or f"*{method.paper}; {method.cost}*" in pages[registry.PACKAGES[kind]], name


def test_the_page_of_the_api_names_what_mnemoscope_itself_has_and_the_rooms(pages: dict[str, str]) -> None:
    page = API["filled"]((ROOT / "docs" / "api.md").read_text(encoding="utf-8"))
    links = dict(re.findall(r"^- \[`mn\.(\w+)`\]\[(\S+)\]: \S", page, re.MULTILINE))
    assert set(links) == set(mn.__all__)
    for name, path in links.items():
        home = getattr(mn, name)
        assert path == f"{home.__module__}.{home.__qualname__}"
        assert f"\n::: {path}\n" in pages[path.split(".")[1]]
    assert set(re.findall(r"\(api/(\w+)\.md\)", page)) == set(pages)
