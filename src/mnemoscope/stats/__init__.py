"""How well a score separates memorized from ordinary prompts, and how sure that is; higher means memorized."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from statistics import NormalDist
from typing import cast

import numpy as np
from jaxtyping import Float

from mnemoscope.errors import UsageError
from mnemoscope.stats.checks import require_negatives, require_scores, require_share
from mnemoscope.stats.figures import CalibrationFigures, Separation

Memorized = Float[np.ndarray, " M"]
Ordinary = Float[np.ndarray, " N"]
Values = Float[np.ndarray, " V"]
Statistic = Callable[[Memorized, Ordinary], float]
Draw = Callable[[np.random.Generator], float]

# Independent values below which no p is said and no bootstrap decides. Of 20 points a correlation is unlikely by chance
# (p < .05) from .44 on, of 5 only from .88 on: there a p says how few points there are. And percentiles of a mean drawn
# anew cover the truth about 93 times in 100 at 20 values and 83 times at 5, where they say 95.
FEWEST = 20


def auc(memorized: Memorized, ordinary: Ordinary) -> float:
    """Probability that a memorized prompt scores above an ordinary one, ties counting half.

    In [0, 1], 0.5 for a score that knows nothing. Raises UsageError for an empty group or a non-finite score.
    The Mann-Whitney U statistic divided by its largest value, M N.
    """
    require_scores(memorized=memorized, ordinary=ordinary)
    ranked = np.sort(ordinary)
    below = np.searchsorted(ranked, memorized, side="left").sum()
    not_above = np.searchsorted(ranked, memorized, side="right").sum()
    return float((below + not_above) / (2 * memorized.size * ordinary.size))


def roc(memorized: Memorized, ordinary: Ordinary) -> tuple[Values, Values, Values]:
    """Share of ordinary (FPR) and of memorized prompts (TPR) with score >= threshold, for every distinct threshold.

    Returns (fpr, tpr, thresholds), thresholds falling from infinity, where nothing is flagged, to the lowest score.
    Raises UsageError for an empty group or a non-finite score.
    """
    require_scores(memorized=memorized, ordinary=ordinary)
    thresholds = np.append(np.unique(np.append(memorized, ordinary)), np.inf)[::-1]
    fpr, tpr = ((g.size - np.searchsorted(np.sort(g), thresholds)) / g.size for g in (ordinary, memorized))
    return fpr, tpr, thresholds


def tpr_at_fpr(memorized: Memorized, ordinary: Ordinary, fpr: float = 0.01, *, strict: bool = False) -> float:
    """Largest share of memorized prompts that some threshold flags while it flags at most `fpr` of the ordinary ones.

    In [0, 1], without interpolation; `strict` asks for less than `fpr`, as the notebook of Wen et al. does.
    Raises UsageError for fewer than 1 / fpr negatives, an empty group or a non-finite score.
    """
    require_scores(memorized=memorized, ordinary=ordinary)
    require_negatives("TPR", fpr, ordinary.size)
    return float(np.mean(memorized > _highest_passed(ordinary, fpr, strict)))


def balanced_accuracy(memorized: Memorized, ordinary: Ordinary) -> float:
    """Mean of the shares of memorized and of ordinary prompts told right, 1 - (FPR + FNR) / 2, at the best threshold.

    In [0.5, 1], optimistic on few prompts. Raises UsageError for an empty group or a non-finite score.
    """
    fpr, tpr, _ = roc(memorized, ordinary)
    return float(np.max(1 + tpr - fpr) / 2)


def threshold_at_fpr(ordinary: Ordinary, fpr: float = 0.01) -> float:
    """Smallest threshold for which `score >= threshold` flags at most `fpr` of the ordinary prompts.

    In the score's unit: the next number of the array's dtype above an ordinary score, so compare in that dtype or a
    wider one. Raises UsageError for fewer than 1 / fpr negatives or a non-finite score.
    """
    require_scores(ordinary=ordinary)
    require_negatives("A threshold", fpr, ordinary.size)
    passed = _highest_passed(ordinary, fpr)
    return float(np.nextafter(passed, passed.dtype.type(np.inf)))


def bootstrap_interval(
    statistic: Statistic,
    memorized: Memorized,
    ordinary: Ordinary,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Range that a statistic of the two groups covers when prompts are drawn anew, each group on its own.

    Percentile bootstrap; of no width where the statistic cannot vary, as for an AUC of 1.
    Raises UsageError for an empty group, a non-finite score, no resamples or a level outside (0, 1).
    """
    require_scores(memorized=memorized, ordinary=ordinary)

    def draw(rng: np.random.Generator) -> float:
        return statistic(*(rng.choice(group, group.size) for group in (memorized, ordinary)))

    return bootstrap(draw, resamples=resamples, level=level, seed=seed)


def mean_interval(values: Values, *, resamples: int = 1000, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Range that the mean of the values covers when they are drawn anew, in their unit: percentile bootstrap.

    Raises UsageError for no or non-finite values, no resamples or a level outside (0, 1).
    """
    require_scores(averaged=values)
    return bootstrap(
        lambda rng: rng.choice(values, values.size).mean(dtype=np.float64), resamples=resamples, level=level, seed=seed
    )


def bootstrap(draw: Draw, *, resamples: int = 1000, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap: where the middle of a statistic's resamples begins and ends, in its unit.

    `draw` makes a resample with a generator and returns its statistic. Raises as `resampler` and `middle` do.
    """
    rng = resampler(resamples, seed)
    return middle([draw(rng) for _ in range(resamples)], level)


def resampler(resamples: int, seed: int | Sequence[int]) -> np.random.Generator:
    """The generator that so many resamples are drawn with. Raises UsageError for none of them."""
    if resamples < 1:
        raise UsageError(f"{resamples} resamples were asked for; ask for at least 1.")
    return np.random.default_rng(seed)


def middle(drawn: Sequence[float] | Values, level: float = 0.95, *, outward: bool = False) -> tuple[float, float]:
    """Percentiles between which the middle `level` of resamples lies: interpolated, or the next resamples outward.

    Raises UsageError for a level outside (0, 1).
    """
    require_share("level", level)
    low = np.quantile(drawn, (1 - level) / 2, method="lower" if outward else "linear")
    high = np.quantile(drawn, (1 + level) / 2, method="higher" if outward else "linear")
    return float(low), float(high)


def wilson_interval(successes: int | float, n: int | float, level: float = 0.95) -> tuple[float, float]:
    """Range of success probabilities that `successes` in `n` independent trials leave plausible, in [0, 1].

    Either may be a fraction, where alike trials are worth fewer independent ones.
    Raises UsageError unless 0 <= successes <= n, n >= 1 and level is in (0, 1). Wilson, JASA 22 (1927).
    """
    require_share("level", level)
    if not 0 <= successes <= n or n < 1:
        raise UsageError(f"{successes} successes in {n} trials were given; give 0 <= successes <= n with n at least 1.")
    z, p = NormalDist().inv_cdf((1 + level) / 2), successes / n
    centre = p + z**2 / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = ((centre + side) / (1 + z**2 / n) for side in (-half, half))
    return max(0.0, min(low, p)), min(1.0, max(high, p))


RATES: dict[str, Statistic] = {"auc": auc, **{f"tpr_at_{p}_fpr": partial(tpr_at_fpr, fpr=p / 100) for p in (1, 3, 5)}}


def calibration(memorized: Memorized, ordinary: Ordinary, *, fpr: float = 0.01, seed: int = 0) -> CalibrationFigures:
    """All that two groups of scores say about a detector, ready for JSON: AUC, TPRs, their 95% intervals, a threshold.

    Either group may be empty. What the prompts given cannot support is None, with a sentence in `notes`; the interval
    of an AUC or TPR of exactly 0 or 1 is Wilson's. Raises UsageError for a non-finite score or an fpr outside (0, 1).
    """
    require_scores(at_least=0, memorized=memorized, ordinary=ordinary)
    require_share("fpr", fpr)
    separation, notes = _separation(memorized, ordinary, seed)
    threshold = None
    if ordinary.size:
        try:
            threshold = threshold_at_fpr(ordinary, fpr)
        except UsageError as too_few:
            notes.append(str(too_few))
    return {
        **separation,
        "threshold": threshold,
        "threshold_fpr": None if threshold is None else fpr,
        "negatives": ordinary.size,
        "positives": memorized.size,
        "notes": notes,
    }


def _separation(memorized: Memorized, ordinary: Ordinary, seed: int) -> tuple[Separation, list[str]]:
    """The figures of two groups, and a sentence for each that is lacking or whose interval is Wilson's."""
    figures: dict[str, float | list[float] | None] = {k: None for name in RATES for k in (name, f"{name}_interval")}
    accuracy, notes, degenerate = None, [], []
    if not ordinary.size:
        notes = ["No negatives were given: scores only rank, and no threshold was set."]
    elif not memorized.size:
        notes = ["No positives were given: AUC, TPR and balanced accuracy were not measured."]
    else:
        accuracy = balanced_accuracy(memorized, ordinary)
        for name, statistic in RATES.items():
            try:
                value = statistic(memorized, ordinary)
            except UsageError as too_few:
                notes.append(str(too_few))
                continue
            if value in (0, 1):
                n = min(memorized.size, ordinary.size) if name == "auc" else memorized.size
                interval = wilson_interval(round(value) * n, n)
                degenerate.append(f"{name} is exactly {value:g} (n = {n})")
            else:
                interval = bootstrap_interval(statistic, memorized, ordinary, seed=seed)
            figures |= {name: value, f"{name}_interval": list(interval)}
    if degenerate:
        why = "which leaves the bootstrap nothing to vary: Wilson's interval stands in."
        notes.append(f"{', '.join(degenerate)}, {why}")
    return cast(Separation, {**figures, "balanced_accuracy": accuracy}), notes


def _highest_passed(ordinary: Ordinary, fpr: float, strict: bool = False) -> np.floating:
    """The highest ordinary score that has to pass unflagged."""
    allowed = round(fpr * ordinary.size, 6)  # 0.29 * 100 is 28.999999999999996
    flags = math.ceil(allowed) - 1 if strict else math.floor(allowed)
    return np.sort(ordinary)[max(-1 - flags, -ordinary.size)]
