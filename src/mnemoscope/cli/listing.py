"""The table of all methods."""

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from mnemoscope import registry
from mnemoscope.registry import Method


def all_methods() -> list[Method]:
    """Every registered method, by kind and name."""
    return [registry.get(kind, name) for kind in registry.PACKAGES for name in registry.names(kind)]


def methods_table() -> Table:
    """Name, quantity, parameters, strength, cost and paper of every method, by kind."""
    table = Table(box=SIMPLE, expand=False)
    table.add_column("method", no_wrap=True)
    table.add_column("what it says")
    for m in all_methods():
        own = ", ".join(f"{k}={p.default}" for k, p in m.parameters.items())
        given = ", ".join(filter(None, [f"steps={m.steps}" if m.kind == "score" else "", own])) or "none"
        about = "; ".join(filter(None, [m.paper, m.cost, f"parameters: {given}", _strength(m)]))
        said = f"{escape(m.summary)}\n[dim]{escape(about)}[/dim]"
        table.add_row(f"{m.name}\n[dim]{m.kind}[/dim]", said)
    return table


def _strength(m: Method) -> str:
    """What makes a mitigation stronger, and the values that a sweep takes unless it is told."""
    if m.strength is None:
        return ""
    name, values = m.strength
    return f"strength: {name} = {', '.join(map(str, values))}"
