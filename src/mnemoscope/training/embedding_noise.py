"""Noise on the text embedding while training: Gaussian, and a mixture with another caption's."""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.cond import Cond
from mnemoscope.training.noise import Draws

HIDDEN = "encoder_hidden_states"
TEXTS = (HIDDEN, "text_embeds")  # what the words of a prompt become


def noisy(cond: Cond, scale: int | float, draws: Draws) -> Cond:
    """The conditioning with Gaussian noise of standard deviation `scale` on every token's embedding.

    The first token, the end token and the padding get it too; a pooled embedding does not. Raises `UsageError` for a
    model without a text embedding. Somepalli et al., arXiv:2305.20086 (GN).
    """
    hidden = _hidden(cond)
    noise = draws.normal("embedding_noise", hidden.shape[1:]).to(hidden.device)
    return {**cond, HIDDEN: (hidden.float() + scale * noise).to(hidden.dtype)}


def mixed(cond: Cond, alpha: int | float, draws: Draws, *, mixup: Literal["batch", "sample"] = "batch") -> Cond:
    """The conditioning mixed with that of another sample of the batch: lam own + (1 - lam) other's.

    lam is from Beta(alpha, 1), one for the whole "batch", as published, or one for each "sample". Its mean is
    alpha / (alpha + 1): at alpha = 0.1 a sample keeps 9 % of its own caption on average, and at 10 it keeps 91 %. The
    others are a random order of the batch, in which a sample may meet itself. What belongs to the picture and not to
    the words is not mixed. Raises `UsageError` for a model without a text embedding.
    """
    lam = own_share(alpha, draws, mixup)
    partner = draws.permutation("mixup_partner")
    return {k: _mix(v, lam, partner) if k in TEXTS else v for k, v in {**cond, HIDDEN: _hidden(cond)}.items()}


def own_share(alpha: int | float, draws: Draws, mixup: Literal["batch", "sample"]) -> Float[Tensor, " B"]:
    """lam of each sample, from Beta(alpha, 1): the distribution function is lam^alpha, so lam = U^(1 / alpha)."""
    lam = draws.uniform("mixup") ** (1 / alpha)
    return (lam if mixup == "sample" else lam[:1].expand(len(lam))).float()


def _mix(value: Tensor, lam: Tensor, partner: Tensor) -> Tensor:
    share = lam.to(value.device).reshape(-1, *[1] * (value.ndim - 1))
    kept = value.float()
    return (share * kept + (1 - share) * kept[partner.to(value.device)]).to(value.dtype)


def _hidden(cond: Cond) -> Tensor:
    if HIDDEN not in cond:
        raise UsageError("Embedding noise changes a text embedding, and this model has none.")
    return cond[HIDDEN]
