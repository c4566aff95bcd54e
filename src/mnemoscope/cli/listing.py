"""What there is to choose from: every method by kind, read from the methods' files without running them."""

import ast
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mnemoscope import registry
from mnemoscope.errors import UsageError, likely


@dataclass(frozen=True)
class Listed:
    """A method as its file describes it."""

    kind: str
    name: str
    summary: str
    paper: str
    cost: str
    parameters: dict[str, Any]
    strength: tuple[str, tuple[Any, ...]] | None = None

    def lines(self) -> Iterator[str]:
        """All that is known of it, one line each."""
        yield f"{self.name} ({self.kind})"
        yield f"  {self.summary}"
        parameters = ", ".join(f"{name}={value}" for name, value in self.parameters.items()) or "none"
        yield f"  parameters: {parameters}"
        if self.strength is not None:
            yield f"  strength: {self.strength[0]} = {', '.join(map(str, self.strength[1]))}"
        yield f"  cost: {self.cost}"
        if self.paper:
            yield f"  paper: {self.paper}"


def listing(name: str | None = None) -> tuple[list[Listed], str]:
    """The methods of a kind, or of a name, or all, and them as text that fits one screen.

    Raises `UsageError` for a name that is neither.
    """
    kinds = [name] if name in registry.PACKAGES else list(registry.PACKAGES)
    named = [(kind, each) for kind in kinds for each in registry.names(kind) if name in (None, kind, each)]
    if not named:
        known = [*registry.PACKAGES, *(each for kind in kinds for each in registry.names(kind))]
        has = f"the kinds are {', '.join(registry.PACKAGES)}.{likely(str(name), known)}"
        raise UsageError(f"There is no kind of methods and no method '{name}'; {has}")
    methods = [described(kind, each) for kind, each in named]
    if name is None:
        return methods, _names(methods)
    if name in registry.PACKAGES:
        width = max(len(each.name) for each in methods)
        return methods, "\n".join(f"{each.name:<{width}}  {each.summary}" for each in methods)
    return methods, "\n".join(line for each in methods for line in each.lines())


def plain(methods: list[Listed]) -> list[dict[str, Any]]:
    """Methods as JSON takes them."""
    return [asdict(each) for each in methods]


def _names(methods: list[Listed]) -> str:
    lines = []
    for kind in registry.PACKAGES:
        names = "  ".join(each.name for each in methods if each.kind == kind)
        lines.append(textwrap.fill(names, 78, initial_indent=f"{kind:<10}", subsequent_indent=" " * 10))
    return "\n".join(
        [*lines, "", "mnemoscope list KIND says what each one computes, and mnemoscope list NAME all of one."]
    )


def described(kind: str, name: str) -> Listed:
    """A method, from its file alone where it is one of the package's own; others are imported."""
    file = Path(registry.__file__).parents[1] / registry.PACKAGES[kind] / f"{name}.py"
    if not file.is_file():
        return _imported(registry.get(kind, name))
    tree = ast.parse(file.read_text(encoding="utf-8"))
    constants = _constants(tree)
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    about = _decorator(function, constants)
    for default in function.args.kw_defaults:
        constants |= _constants_of(default.value, tree) if isinstance(default, ast.Attribute) else {}
    defaults = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    steps = {"steps": about.get("steps", 1)} if kind == "score" else {}
    parameters = {each.arg: "..." if default is None else _value(default, constants) for each, default in defaults}
    summary = (ast.get_docstring(function) or "").partition("\n")[0]
    cost = about.get("cost", "no evaluation")
    return Listed(kind, name, summary, about["paper"], cost, {**steps, **parameters}, about.get("strength"))


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
    """What the names of a module stand for."""
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    return {name.id: node.value for node in assigned for name in node.targets if isinstance(name, ast.Name)}


def _constants_of(module: ast.expr, tree: ast.Module) -> dict[str, ast.expr]:
    """What `module.NAME` stands for where the file imports `module` from a room of the package."""
    name = ast.unparse(module)
    rooms = [each.module or "" for each in tree.body if isinstance(each, ast.ImportFrom) and name in _names_of(each)]
    constants: dict[str, ast.expr] = {}
    for room in rooms:
        file = Path(registry.__file__).parents[2].joinpath(*room.split("."), f"{name}.py")
        there = _constants(ast.parse(file.read_text(encoding="utf-8"))) if file.is_file() else {}
        constants |= {f"{name}.{constant}": value for constant, value in there.items()}
    return constants


def _names_of(imports: ast.ImportFrom) -> list[str]:
    return [each.asname or each.name for each in imports.names]


def _decorator(function: ast.FunctionDef, constants: dict[str, ast.expr]) -> dict[str, Any]:
    calls = [each for each in function.decorator_list if isinstance(each, ast.Call)]
    return {k.arg: _value(k.value, constants) for call in calls for k in call.keywords if k.arg is not None}


def _value(node: ast.expr, constants: dict[str, ast.expr]) -> Any:
    """A value or fraction that is written out, or the name of a constant that is; its text where it is neither."""
    node = constants.get(ast.unparse(node), node) if isinstance(node, ast.Name | ast.Attribute) else node
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        above, below = _value(node.left, constants), _value(node.right, constants)
        if isinstance(above, int | float) and isinstance(below, int | float):
            return above / below
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _imported(method: registry.Method) -> Listed:
    parameters = {name: "..." if p.default is p.empty else p.default for name, p in method.parameters.items()}
    steps = {"steps": method.steps} if method.kind == "score" else {}
    about = (method.summary, method.paper, method.cost, {**steps, **parameters}, method.strength)
    return Listed(method.kind, method.name, *about)
