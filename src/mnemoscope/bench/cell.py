"""What every contest of a bench has: its methods, what one does on a model, and how it is told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnemoscope.bench.tables import Sheet
from mnemoscope.bench.truth import Truth
from mnemoscope.errors import UsageError
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.registry import Method, Parameters
from mnemoscope.run.bench_rows import BenchFigure, BenchRow


@dataclass(frozen=True)
class Trial:
    """How methods are tried: the sampling, seeds and images of a prompt, and parameters as METHOD.NAME."""

    num_inference_steps: int = 20
    guidance_scale: int | float | None = 3.0
    seed: int = 0
    seeds: int = 1
    images: int = 1
    params: Mapping[str, Any] = field(default_factory=dict)

    def own(self, method: Method) -> Parameters:
        """The parameters that were given for a method."""
        start = f"{method.name}."
        return {key[len(start) :]: value for key, value in self.params.items() if key.startswith(start)}

    @property
    def sampling(self) -> Parameters:
        """The sampling by the names that jobs take."""
        return {
            "seed": self.seed,
            "num_inference_steps": self.num_inference_steps,
            "guidance_scale": self.guidance_scale,
        }


@dataclass(frozen=True)
class Tried:
    """A method as it was named, which of a method from outside is its file."""

    given: str
    method: Method

    @property
    def name(self) -> str:
        return self.method.name


@dataclass(frozen=True)
class Bench:
    """A model with its truth, the folder of its cells, and how methods are tried."""

    model: Denoiser
    truth: Truth
    folder: Path
    trial: Trial
    batch: int | str = "auto"


@dataclass(frozen=True)
class Outcome:
    """What a method showed, by strength or size ("" where it has none), and the work it took.

    `each` are the seconds of a prompt or image.
    """

    figures: Mapping[str, list[BenchFigure]]
    each: Mapping[str, float]
    evaluations: int
    seconds: float


def refused_by(work: Callable[[], object]) -> str | None:
    """The sentence with which work on one prompt is refused; None where it is done, or fails for this prompt alone."""
    try:
        work()
    except UsageError as e:
        return str(e)
    except (ValueError, RuntimeError):
        pass  # as the row of the prompt will say
    return None


def as_they_are(rows: Sequence[BenchRow], folder: Path) -> Sequence[BenchRow]:
    """Rows that need nothing of each other."""
    return rows


@dataclass(frozen=True)
class Contest:
    """What a bench is about: `beside` names what methods are held against, which comes first and is no method."""

    name: str
    names: Callable[[], list[str]]
    found: Callable[[str], Method]
    refusal: Callable[[Bench, Tried | None], str | None]
    cell: Callable[[Bench, Tried | None, Path], Outcome]
    sheets: Sequence[Sheet]
    beside: tuple[str, ...] = ()
    notes: Callable[[Truth], list[str]] = lambda truth: []
    completed: Callable[[Sequence[BenchRow], Path], Sequence[BenchRow]] = as_they_are
