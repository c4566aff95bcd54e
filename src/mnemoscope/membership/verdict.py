"""What the rows of a membership run say together: of the set, of each signal, and, where that can be, of pictures."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from mnemoscope.membership.evidence import SetEvidence, adjusted, compared, normal_scores, p_of_set
from mnemoscope.membership.power import detectable, found_by, needed
from mnemoscope.run.image_rows import MembershipRow
from mnemoscope.run.reading import Json
from mnemoscope.stats import FEWEST, auc, bootstrap_interval

DRAWS, DRAWN = 30, 199  # sets drawn for a point of the power curve, and permutations of each of their tests


class Table(NamedTuple):
    """The rows that did not fail as arrays."""

    signals: Float[np.ndarray, "N F"]
    plain: Float[np.ndarray, "N P"]
    names: list[str]  # the signal of each column of `signals`
    member: Bool[np.ndarray, " N"]
    public: Bool[np.ndarray, " N"]

    @classmethod
    def of(cls, rows: Sequence[MembershipRow]) -> "Table":
        names = [name for name, values in rows[0]["signals"].items() for _ in values]
        signals = [[value for values in row["signals"].values() for value in values] for row in rows]
        plain = [list(row["plain"].values()) for row in rows]
        roles = np.array([row["role"] for row in rows])
        made = normal_scores(np.array(signals, float)), normal_scores(np.array(plain, float))
        return cls(*made, names, roles == "picture", roles == "public")

    @property
    def held_out(self) -> Bool[np.ndarray, " N"]:
        return ~self.member & ~self.public


def concluded(
    rows: Sequence[MembershipRow], *, alpha: float, fpr: float, adjust: bool, seed: int
) -> tuple[list[MembershipRow], Json]:
    """The rows with score and false-positive rate of each, and the summary. A p is None for fewer than 20 pictures."""
    done = [row for row in rows if row["status"] == "ok"]
    roles = [row["role"] for row in done]
    counts = {name: roles.count(role) for name, role in _COUNTED.items()}
    if min(counts["pictures"], counts["held_out"]) < FEWEST:
        note = f"Fewer than {FEWEST} pictures of a set could be read, of which no p is said."
        return list(rows), {**counts, "p": None, "verdict": "undecided", "notes": [note]}
    table = Table.of(done)
    features = adjusted(table.signals, table.plain) if adjust else table.signals
    found = compared(features, table.member, public=table.public, seed=seed)
    blind = compared(table.plain[~table.public], table.member[~table.public], seed=seed)
    rates = false_positive_rates(found.scores, table.member, table.held_out)
    said, names = _named(rates, table, found, alpha, fpr)
    summary: Json = {
        **counts,
        "p": found.p,
        "alpha": alpha,
        "auc": found.auc,
        "auc_interval": list(found.interval),
        "blind_p": blind.p,
        "blind_auc": blind.auc,
        "blind_auc_interval": list(blind.interval),
        "verdict": verdict(found.p, blind.p, alpha),
        "signals": _alone(table, features, seed),
        **_power(table, features, found, alpha, seed),
        **said,
    }
    scored = {row["id"]: k for k, row in enumerate(done)}
    return [_scored(row, scored.get(row["id"]), found, rates, names) for row in rows], summary


_COUNTED = {"pictures": "picture", "held_out": "held-out", "public": "public"}


def verdict(p: float, blind_p: float, alpha: float) -> str:
    """`used`, `undecided` where the sets differ without the model, or `no evidence`."""
    if p > alpha:
        return "no evidence"
    return "undecided" if blind_p <= alpha else "used"


def false_positive_rates(
    scores: Float[np.ndarray, " N"], member: Bool[np.ndarray, " N"], held_out: Bool[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """For each picture under question the rate at which a held-out one scores as high, itself counted; else NaN.

    (1 + number as high) / (1 + number held out): at most a with probability a where the picture was not trained on.
    """
    others = np.sort(scores[held_out & ~np.isnan(scores)])
    rates = np.full(len(scores), np.nan)
    rates[member] = (1 + len(others) - np.searchsorted(others, scores[member])) / (1 + len(others))
    return rates


def _named(
    rates: Float[np.ndarray, " N"], table: Table, found: SetEvidence, alpha: float, fpr: float
) -> tuple[Json, Bool[np.ndarray, " N"]]:
    """Which pictures are named, and what is said of that: none where the set is not, or too few were held out."""
    others = int((table.held_out & ~np.isnan(found.scores)).sum())
    below = np.nan_to_num(rates, nan=1.0) <= fpr
    chance = fpr * int(table.member.sum())
    said: Json = {"fpr": fpr, "at_fpr": int(below.sum()), "expected_by_chance": chance, "named": 0, "notes": []}
    if fpr * (1 + others) < 1:
        said["notes"] = [
            f"No single picture is named at {100 * fpr:g} % false alarms: {others} held-out ones are too few."
        ]
    elif found.p > alpha:
        said["notes"] = ["No single picture is named, as the set as a whole gives no evidence."]
    elif below.sum() < 2 * chance:
        count = f"{below.sum()} pictures are at {100 * fpr:g} % false alarms and {chance:.1f} would be by chance"
        said["notes"] = [f"No single picture is named: {count}."]
    else:
        return {**said, "named": int(below.sum())}, below
    return said, np.zeros(len(rates), bool)


def _alone(table: Table, features: Float[np.ndarray, "N F"], seed: int) -> dict[str, Any]:
    """AUC of each signal, the mean of its columns, with its interval."""
    found: dict[str, Any] = {}
    for name in dict.fromkeys(table.names):
        values = features[:, [each == name for each in table.names]].mean(1)
        groups = values[table.member], values[table.held_out]
        found[name] = {"auc": auc(*groups), "auc_interval": list(bootstrap_interval(auc, *groups, seed=seed))}
    return found


def _power(table: Table, features: Float[np.ndarray, "N F"], found: SetEvidence, alpha: float, seed: int) -> Json:
    """Pictures that would be needed, the AUC that these would have found, and how often fewer found it."""
    scored = ~np.isnan(found.scores)
    sizes = int((table.member & scored).sum()), int((table.held_out & scored).sum())
    interval = [needed(end, alpha=alpha) for end in reversed(found.interval)]
    kept = ~table.public
    steps = [k for k in (FEWEST, 40, 80, 160, 320) if k < min(sizes)]

    def again(part: np.ndarray, member: np.ndarray, draw: int) -> float:
        return p_of_set(part, member, permutations=DRAWN, seed=draw)

    power = (
        []
        if table.public.any()
        else found_by(again, features[kept], table.member[kept], steps, alpha=alpha, draws=DRAWS, seed=seed)
    )
    return {
        "needed": needed(found.auc, alpha=alpha),
        "needed_interval": interval,
        "detectable_auc": detectable(*sizes, alpha=alpha),
        "power": power,
    }


def _scored(
    row: MembershipRow,
    place: int | None,
    found: SetEvidence,
    rates: Float[np.ndarray, " N"],
    named: Bool[np.ndarray, " N"],
) -> MembershipRow:
    if place is None:
        return row
    score, rate = (None if np.isnan(each[place]) else float(each[place]) for each in (found.scores, rates))
    return {**row, "score": score, "false_positive_rate": rate, "named": bool(named[place])}
