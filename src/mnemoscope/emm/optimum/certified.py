"""The few training images that hold all the weight of an optimal denoiser, where that can be proved."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Integer
from torch import Tensor

from mnemoscope.emm.optimum.stored import Places, Stored

NEGLIGIBLE = 40.0  # nats: all images below it together weigh less than exp(-40) of the best, 4e-18
CANDIDATES = 64
PROBE = 256  # images that show most of the noisy images for which it cannot be proved
ROUNDING = 1e-14  # of a sum in float64, as a share of the lengths of what is multiplied
GATHERED = 2**22  # values of candidates compared at a time


@dataclass(frozen=True)
class Candidates:
    """Of each noisy image in `rows` the places of the training images that can have any weight, best first."""

    rows: Integer[Tensor, " A"]
    places: Integer[Tensor, "A K"]
    possible: Bool[Tensor, "A K"]


def screen(
    stored: Stored, x: Float64[Tensor, "B P"], variance: float, log_weights: Tensor | None, places: Places
) -> Candidates:
    """Candidates of those noisy images that no more than `CANDIDATES` training images can have any weight for.

    Half the squared distance less a constant, h = x.y - |y|^2 / 2, is known to within the length of what is left out
    of x times that of the longest y. An image whose h is further below the best than twice that and
    `NEGLIGIBLE` + log N nats is proved to be negligible, and all such images together.
    """
    query = stored.products.prepare(x, None)
    count = len(stored) if places is None else len(places)
    spread = 0.0 if log_weights is None else float(log_weights.max() - log_weights.min())
    slack = 2.02 * stored.longest * (query.rest + ROUNDING * (x.norm(dim=1) + stored.longest))
    slack = slack + (NEGLIGIBLE + math.log(count) + spread) * variance
    rows = torch.arange(len(x), device=x.device)
    values = x.new_full((len(x), CANDIDATES + 1), -math.inf)
    best = torch.zeros_like(values, dtype=torch.int64)
    for at, images in stored.blocks(places, PROBE):
        block = stored.products.load(images, query)
        upper = heights(stored, stored.products.inner(query, block), at, variance, log_weights)
        values, picked = torch.cat([values, upper], dim=1).topk(CANDIDATES + 1, dim=1)
        best = torch.cat([best, at.expand(len(best), -1)], dim=1).gather(1, picked)
        few = values[:, -1] < values[:, 0] - slack
        if not bool(few.all()):
            rows, values, best, slack, query = rows[few], values[few], best[few], slack[few], query[few]
        if not len(rows):
            break
    possible = values[:, :-1] >= (values[:, 0] - slack)[:, None]
    most = int(possible.sum(dim=1).max()) if len(rows) else 0
    return Candidates(rows, best[:, :most], possible[:, :most])


def heights(stored: Stored, products: Tensor, at: Tensor, variance: float, log_weights: Tensor | None) -> Tensor:
    """Logits times the variance, up to a constant of each row: products less half squared lengths, plus priors."""
    values = products - stored.half_squares[at]
    return values if log_weights is None else values + variance * log_weights[at]


def decide(
    stored: Stored, x: Float64[Tensor, "B P"], variance: float, log_weights: Tensor | None, candidates: Candidates
) -> tuple[Float64[Tensor, "A P"], Bool[Tensor, " A"]]:
    """The mean of the candidates, their distances compared in float64, and whether all of them are the same image."""
    means = x.new_empty(len(candidates.rows), x.shape[1])
    alone = torch.empty(len(candidates.rows), dtype=torch.bool, device=x.device)
    step = max(1, GATHERED // (x.shape[1] * max(1, candidates.places.shape[1])))
    for start in range(0, len(candidates.rows), step):
        part = slice(start, start + step)
        possible = candidates.possible[part]
        row, places = possible.nonzero()[:, 0], candidates.places[part][possible]
        images, first = stored.take(places).double(), stored.take(candidates.places[part, 0]).double()
        differences = first[row] - images
        middles = x[candidates.rows[part]][row] - images - differences / 2
        deficits = (differences * middles).sum(
            dim=1
        )  # half of a squared distance less that of the first, exact if near
        if log_weights is not None:
            deficits = deficits - variance * log_weights[places]
        table = x.new_full(possible.shape, math.inf)
        table[possible] = deficits
        weights = falling(table - table.amin(dim=1, keepdim=True), variance)
        weights = weights / weights.sum(dim=1, keepdim=True)
        means[part] = torch.zeros_like(first).index_add_(0, row, weights[possible][:, None] * images)
        others = torch.zeros(len(first), dtype=torch.bool, device=x.device)
        others[row[(differences != 0).any(dim=1)]] = True
        alone[part] = ~others
    return means, alone


def falling(deficits: Float64[Tensor, "..."], variance: float) -> Float64[Tensor, "..."]:
    """exp(-deficit / variance), 1 where there is no deficit, at a variance of 0 too."""
    if variance > 0:
        return deficits.neg().div_(variance).exp_()
    return (deficits <= 0).to(deficits.dtype)
