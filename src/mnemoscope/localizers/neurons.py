"""NeMo: the few neurons without which a memorized prompt no longer gives the same image for all seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mnemoscope.localization.differences import Setting
from mnemoscope.localization.searching import Plan, find
from mnemoscope.localization.statistics import Statistics, given
from mnemoscope.localization.thresholds import resolved
from mnemoscope.methods.located import Located
from mnemoscope.model.batch import batch_size
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.registry import localizer


@localizer(
    paper="arXiv:2406.02366, section 3",
    cost="1 evaluation a seed, then 1 to as many a test as seeds are alike; fewer tests with search=grouped",
)
def neurons(
    model: Denoiser,
    prompts: Sequence[str],
    *,
    statistics: Statistics | str | Path | None = None,
    threshold: int | float | str | Path | None = None,
    pairwise_threshold: int | float | None = None,
    refinement_threshold: int | float | None = None,
    relative: int | float | None = None,
    initial_theta: int | float | None = 5,
    theta_step: int | float = 0.25,
    min_theta: int | float = 1,
    initial_k: int | None = 0,
    factor: int | float = 0.0,
    layers: Literal["seven", "all"] = "seven",
    order: Literal["backward", "forward", "gradient"] | None = None,
    search: Literal["exact", "grouped"] = "exact",
    seeds: int = 10,
    seed: int = 0,
    num_inference_steps: int = 50,
    guidance_scale: int | float = 1,
    scales: Literal[1, 2, 3] | None = None,
    batch: int | str = "auto",
    compat: Literal["nemo"] | None = None,
) -> list[Located]:
    """Neurons whose blocking makes a prompt's noise differences unlike what they were: those that memorize it.

    Seeds are kept that are more alike than the threshold. Neurons with unusual activations are blocked, more and more,
    until no kept seed's difference is more like the unblocked one than the threshold; then layers and single neurons
    are unblocked where it stays so. A prompt without alike seeds has none. Similarities are MS-SSIM, 0 to 1, and
    compare only at one number of scales. `search="exact"` gives the result of testing one neuron after the
    other; `"grouped"` tests groups, and says in `corrected` how many neurons its last check still unblocked. The result
    depends on the order: from the mid block back to the first layer, forward, or the least important first by one
    gradient, which is the grouped search's own choice.

    Raises `UsageError` for a model without cross-attention, for missing statistics or threshold, and for those of
    another model or other conditions. arXiv:2406.02366, algorithms 1 to 4.
    """
    setting = Setting(seeds, seed, num_inference_steps, guidance_scale, scales, compat)
    plan = Plan(
        setting,
        resolved(threshold, model, setting),
        pairwise_threshold,
        refinement_threshold,
        relative,
        initial_theta,
        theta_step,
        min_theta,
        initial_k,
        factor,
        layers,
        order or ("gradient" if search == "grouped" else "backward"),
        search,
        batch_size(model, batch),
        given(model, statistics, layers) if initial_theta is not None else None,
    )
    return [find(model, prompt, plan) for prompt in prompts]
