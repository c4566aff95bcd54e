"""A hook of mkdocs: the pages of the Python API, one a room, are made from the code and the registry."""

from collections.abc import Iterator
from functools import cache
from importlib import import_module
from inspect import formatannotation
from pathlib import Path
from typing import Any, NamedTuple

import griffe
from mkdocs.structure.files import File, Files

import mnemoscope
from mnemoscope import registry

ROOT = Path(mnemoscope.__file__).parent
ELSEWHERE = {"cli"}  # its page is made from the commands
NAMES, ROOMS = "<!-- names -->", "<!-- rooms -->"  # where docs/api.md is filled in
KINDS = {folder: kind for kind, folder in registry.PACKAGES.items()}


class Place(NamedTuple):
    """A public name, and where it is defined."""

    name: str
    path: str

    @property
    def link(self) -> str:
        """The name, linked to what is said of it in full."""
        return f"[`{self.name}`][{self.path}]"


def on_config(config: Any) -> Any:
    """List the pages of the rooms below the page of the API."""
    listed = [each for entry in config.nav for part in entry.values() if isinstance(part, list) for each in part]
    title, entry = next((title, entry) for entry in listed for title, page in entry.items() if page == "api.md")
    entry[title] = [{"Names and rooms": "api.md"}, *({room: f"api/{room}.md"} for room in rooms())]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add a page for each room."""
    for room in rooms():
        files.append(File.generated(config, f"api/{room}.md", content=page(room)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Fill in the lists of `api.md`."""
    return filled(markdown) if page.file.src_uri == "api.md" else markdown


def filled(markdown: str) -> str:
    """`docs/api.md` with the names of `mnemoscope` itself, and the rooms."""
    names = (f"- [`mn.{name}`][{path}]: {summary(path)}" for name, path in sorted(attributes().items()))
    each = (f"- [{room}](api/{room}.md): {summary(f'mnemoscope.{room}')}" for room in rooms())
    return markdown.replace(NAMES, "\n".join(names)).replace(ROOMS, "\n".join(each))


def rooms() -> list[str]:
    """The rooms, and the modules beside them."""
    return sorted({inner.name for inner in _inner(code("mnemoscope"))} - ELSEWHERE)


@cache
def _package() -> griffe.Module:
    return griffe.load("mnemoscope", search_paths=[ROOT.parent])


def code(path: str) -> Any:
    """A module, class or function as it is written."""
    inner = path.partition(".")[2]
    return _package()[inner] if inner else _package()


def summary(path: str) -> str:
    """The first line of what something says of itself."""
    docstring = code(path).docstring
    return docstring.value.partition("\n")[0].replace("|", "&#124;") if docstring else ""


def attributes() -> dict[str, str]:
    """The names of `mnemoscope` itself, and where each is defined."""
    renamed = mnemoscope._HIDING
    return {
        name: code(f"mnemoscope.{home}.{renamed.get(name, name)}").canonical_path
        for name, home in mnemoscope._HOMES.items()
    }


def page(room: str) -> str:
    """One room: what it hands out and what lies inside, first as a list, then in full."""
    first = handed_out(room)
    inside = {file: rest for file, places in files(room).items() if (rest := [p for p in places if p not in first])}
    lists = [_methods(room) if room in KINDS else _list(first)]
    lists += [f"`{_file(room, module)}`: {summary(module)}\n\n{_list(places)}" for module, places in inside.items()]
    full = ["## In full\n" * bool(first), *map(_full, first)]
    for module, places in inside.items():
        full += [f"## {_file(room, module)}\n\n{summary(module)}\n", *map(_full, places)]
    return "\n".join([f"# {room}\n\n{code(f'mnemoscope.{room}').docstring.value}\n", *lists, *full])


def _list(places: list[Place]) -> str:
    return "\n".join([*(f"- {place.link}: {summary(place.path)}" for place in places), ""])


def _file(room: str, module: str) -> str:
    return code(module).filepath.relative_to(ROOT / room).as_posix()


def handed_out(room: str) -> list[Place]:
    """What to look at first: methods, what the package itself defines or hands out, names of `mnemoscope`, runs."""
    if room in KINDS:
        return [Place(name, f"mnemoscope.{room}.{name}.{name}") for name in methods(room)]
    package, every = import_module(f"mnemoscope.{room}"), files(room)
    paths = [place.path for place in every[f"mnemoscope.{room}"]]
    paths += [f"mnemoscope.{home}.{name}" for name, home in getattr(package, "_HOMES", {}).items()]
    paths += [code(f"mnemoscope.{room}.{name}").canonical_path for name in getattr(package, "__all__", ())]
    paths += [path for path in attributes().values() if path.startswith(f"mnemoscope.{room}.")]
    paths += [place.path for places in every.values() for place in places if place.name.startswith("run_")]
    return sorted(Place(path.rpartition(".")[2], path) for path in set(paths))


def files(room: str) -> dict[str, list[Place]]:
    """The public classes and functions of each file of a room, in the order in which they are written."""
    return {module.path: list(_defined(module)) for module in _modules(code(f"mnemoscope.{room}"))}


def _modules(module: griffe.Module) -> Iterator[griffe.Module]:
    yield module
    for inner in sorted(_inner(module), key=lambda inner: str(inner.name)):
        yield from _modules(inner)


def _inner(module: griffe.Module) -> Iterator[Any]:
    yield from (member for member in module.members.values() if not member.is_alias and member.is_module)


def _defined(module: griffe.Module) -> Iterator[Place]:
    for name, member in module.members.items():
        if not name.startswith("_") and not member.is_alias and (member.is_class or member.is_function):
            yield Place(name, member.path)


def methods(room: str) -> list[str]:
    """The methods of this package in a room of methods."""
    return [name for name in registry.names(KINDS[room]) if not registry.get(KINDS[room], name).origin]


def _methods(room: str) -> str:
    """The methods of a room with their parameters, what they cost and where they come from."""
    rows = (f"| {' | '.join(_method(room, name))} |" for name in methods(room))
    return "\n".join(["| name | what it is | parameters |", "|---|---|---|", *rows, ""])


def _method(room: str, name: str) -> tuple[str, str, str]:
    place, method = Place(name, f"mnemoscope.{room}.{name}.{name}"), registry.get(KINDS[room], name)
    parameters = (
        f"`{key}`" if each.default is each.empty else f"`{key}={formatannotation(each.default)}`"
        for key, each in method.parameters.items()
    )
    origin = f"{method.paper}; {method.cost}".replace("|", "\\|")
    return place.link, f"{summary(place.path)} *{origin}*", "<br>".join(parameters)


def _full(place: Place) -> str:
    return f"::: {place.path}\n"
