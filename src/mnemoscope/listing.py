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
    """Name, quantity, parameters, cost and paper of every method, by kind."""
    table = Table(box=SIMPLE, expand=False)
    table.add_column("method", no_wrap=True)
    table.add_column("what it says")
    for m in all_methods():
        own = ", ".join(f"{k}={p.default}" for k, p in m.parameters.items())
        given = ", ".join(filter(None, [f"steps={m.steps}" if m.kind == "score" else "", own])) or "none"
        said = f"{escape(m.summary)}\n[dim]{m.paper}; {m.cost}; parameters: {given}[/dim]"
        table.add_row(f"{m.name}\n[dim]{m.kind}[/dim]", said)
    return table
