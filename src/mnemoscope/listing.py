"""The table of all methods."""

from rich.table import Table

from mnemoscope import registry
from mnemoscope.registry import Method


def all_methods() -> list[Method]:
    """Every registered method, by kind and name."""
    return [registry.get(kind, name) for kind in registry.PACKAGES for name in registry.names(kind)]


def methods_table() -> Table:
    """Kind, name, quantity, parameters, cost and paper of every method."""
    table = Table("kind", "name", "what it says", "parameters", "cost", "paper", title="Methods", show_lines=True)
    for m in all_methods():
        own = ", ".join(f"{k}={p.default}" for k, p in m.parameters.items())
        given = ", ".join(filter(None, ["steps=1" if m.kind == "score" else "", own]))
        table.add_row(m.kind, m.name, m.summary, given, m.cost, m.paper)
    return table
