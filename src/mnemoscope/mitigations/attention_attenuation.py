"""Zhao et al. (GUARD): attention that spikes is attenuated, and the memorized direction is pushed away from."""

import math
from typing import Literal

from mnemoscope.errors import UsageError
from mnemoscope.model import attention
from mnemoscope.model.start import Start
from mnemoscope.model.step import Step
from mnemoscope.registry import mitigation


@mitigation(
    paper="arXiv:2603.00133",
    cost="1 evaluation a step and image more; none more with repulsion=0",
    strength=("alpha", (0.9, 0.7, 0.5, 0.3, 0.1, 0.0)),
)
def attention_attenuation(
    start: Start,
    *,
    alpha: int | float = 0.3,
    tau: int | float = 0.1,
    repulsion: int | float = 2.0,
    layers: Literal["early", "all"] = "early",
) -> None:
    """Attenuates attention logits that spike, and guides away from what the plain attention would predict.

    A token spikes in a head of a layer if its greatest logit is more than `tau` deviations above the mean of all
    tokens but the first; its logits are multiplied by `alpha`, so that negative ones rise. The first token never
    spikes. `layers` are the down and mid blocks, or all. The prediction is eps_u + s (eps_plus - eps_u) -
    r_t (eps_c - eps_u), eps_plus being the attenuated eps_c and r_t = repulsion cos(pi/2 i/N). Raises `UsageError` for
    a model without cross-attention, and with a `repulsion` for one without an unconditional branch.
    """
    model = start.model
    attention.layers(model.network)
    if not repulsion:
        start.change(cond=attention.attenuate(start.cond, alpha, tau, layers))
        return
    if model.family.unguided:
        raise UsageError(f"Repulsion needs an unconditional branch ({model.family.unguided}); give repulsion=0.")

    def guide(step: Step) -> None:
        cond = attention.attenuate(step.cond, alpha, tau, layers)
        attenuated = model.predict(step.x_t, step.t, cond)
        scale = step.guidance_scale if step.guided else 1
        away = repulsion * math.cos(math.pi / 2 * step.progress) * (step.native_cond - step.native_uncond)
        step.native = step.native + scale * (attenuated - step.native_cond) - away

    start.each_step(guide)
