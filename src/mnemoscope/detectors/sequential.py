"""A score of several seeds, of which a detection takes one, and more only of prompts near the threshold."""

from jaxtyping import Float
from torch import Tensor

from mnemoscope.methods import by_name
from mnemoscope.model.trajectory import Trajectory
from mnemoscope.registry import detector


@detector(paper="control", cost="the base score's, of 1 seed, and of more near the threshold")
def sequential(
    trajectory: Trajectory,
    *,
    score: str = "noise_norm",
    steps: int | float | str | list[int] | None = None,
    most: int | None = None,
    error: int | float = 0.05,
    budget: int | float | None = None,
) -> Float[Tensor, " B"]:
    """Mean of a score over as many seeds as tell on which side of the threshold the mean of all lies.

    In the score's unit. `score` is any method whose seeds are averaged, `steps` those it looks at. A detection takes
    the first seed of each prompt, and further ones, up to `most`, of prompts whose mean may still cross the threshold:
    at most a share `error` of the prompts that all seeds would flag is cleared early, and of those that they would
    clear flagged. `budget` bounds the evaluations of a prompt, on average over the detection; where they do not
    suffice, the error is larger, and told. These three take ordinary prompts to know the threshold by, which samplings
    on their own have not: there it is the score of every sample. Raises `UsageError` as `detect` does.
    Stochastic curtailment: Lan, Simon and Halperin, Communications in Statistics C 1 (1982).
    """
    own = {} if steps is None else {"steps": steps}
    return by_name.detect(trajectory, score, **own)
