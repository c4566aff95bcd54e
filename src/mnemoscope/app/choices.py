"""Mitigations to choose from, and their strengths."""

from mnemoscope import registry
from mnemoscope.app.desk import Desk
from mnemoscope.app.subject import Told
from mnemoscope.audit.run import aimed
from mnemoscope.mitigation.chosen import Mitigation, chosen
from mnemoscope.run.yaml_values import yaml_value

NONE, USUAL = "none", "as usual"
SHARES = (1.0, 0.75, 0.5)  # of the threshold, as targets in a unit whose usual targets nobody established


def mitigations() -> list[str]:
    """Names of the mitigations that need nothing but a prompt."""
    return [name for kind in ("mitigate", "caption") for name in registry.names(kind) if _is_free(name)]


def _is_free(name: str) -> bool:
    parameters = registry.stopping(name).parameters.values()
    return all(each.default is not each.empty for each in parameters)


def strengths(name: str, desk: Desk) -> tuple[str, list[str]]:
    """The parameter that sets how strongly a mitigation acts, and values to choose from; none where it has no such."""
    usual = None if name == NONE else registry.stopping(name).strength
    if usual is None:
        return "", [USUAL]
    parameter, values = usual
    if parameter == "target" and desk.model.units == "x0":
        values = () if desk.limit is None else tuple(f"{desk.limit * share:.3g}:x0" for share in SHARES)
    return parameter, [USUAL, *map(str, values)]


def asked(name: str, strength: str, desk: Desk, *, gated: bool) -> Mitigation | None:
    """The mitigation of that name at that strength; None for none. Raises `UsageError` for a strength it cannot have.

    As usual, what descends the score that flags does so to the threshold, as it does behind a gate.
    """
    if name == NONE:
        return None
    parameter, _ = strengths(name, desk)
    given: Told = {}
    if parameter and strength != USUAL:
        given = {parameter: yaml_value(strength, parameter)}
    (found,) = chosen([name], given)
    if gated or desk.limit is None:
        return found
    return aimed(found, desk.detection, desk.limit, desk.model.units)
