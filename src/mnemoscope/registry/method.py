"""What a method is: a function with where it comes from, and the decorators that say so."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, TypedDict, TypeVar

OWNER = "__mnemoscope__"
Score = str | Callable[..., Any]  # a score by name, or any function of a step
Gives = Literal["tokens", "regions"]
F = TypeVar("F", bound=Callable[..., Any])


Parameters = dict[str, Any]  # of a method, by name: what it may be given, its signature says


class MethodFacts(TypedDict):
    """What a run says of the method that made it."""

    name: str
    summary: str
    paper: str
    cost: str
    origin: NotRequired[dict[str, str]]


@dataclass(frozen=True)
class Method:
    """A registered function with where it comes from and what it costs."""

    kind: str
    name: str
    function: Callable[..., Any]
    paper: str
    cost: str
    over_seeds: str = "mean"  # how the values of a prompt's seeds become the prompt's: "mean" or "max"
    steps: Any = 1  # which steps a score looks at unless it is told
    units: bool = False  # whether its values are in the unit of the text's push, eps or x0
    needs: tuple[str, ...] = ()  # what a measure's comparison, or a signal's pictures, must have
    tells: tuple[str, ...] = ()  # a measure's column by which copies are told, "-" before where they have less; verdict
    gives: Gives = "tokens"  # what an explanation has a value for
    per_step: Callable[..., Any] | None = None  # the same at each of its steps, for an explanation that has some
    strength: tuple[str, tuple[Any, ...]] | None = None  # a mitigation's parameter of strength, and a usual range of it
    origin: Mapping[str, str] = field(default_factory=dict)  # where it came from, if not from this package

    @property
    def about(self) -> MethodFacts:
        """What a run says of the method that made it."""
        facts: MethodFacts = {"name": self.name, "summary": self.summary, "paper": self.paper, "cost": self.cost}
        return {**facts, "origin": dict(self.origin)} if self.origin else facts

    @property
    def summary(self) -> str:
        """First line of the docstring: the quantity in plain words."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    @property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """The keyword-only arguments."""
        signature = inspect.signature(self.function).parameters
        return {k: p for k, p in signature.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}


def method(kind: str, *, paper: str, cost: str, **about: Any) -> Callable[[F], F]:
    """Register the decorated function under its own name; its keyword-only arguments are its parameters."""

    def register(function: F) -> F:
        setattr(function, OWNER, Method(kind, function.__name__, function, paper, cost, **about))
        return function

    return register


def score(*, paper: str, cost: str, steps: Any = 1, units: bool = False) -> Callable[[F], F]:
    """Register a score: `(step) -> Float["B"]`, differentiable, higher = more memorized.

    `steps` says which steps of a sampling it looks at by default, as in `mnemoscope.detect`; `units` whether its values
    are in the unit of the text's push.
    """
    return method("score", paper=paper, cost=cost, steps=steps, units=units)


def detector(*, paper: str, cost: str, over_seeds: str = "mean", units: bool = False) -> Callable[[F], F]:
    """Register a detector that needs more than single steps: `(trajectory) -> Float["B"]`."""
    return method("detect", paper=paper, cost=cost, over_seeds=over_seeds, units=units)


def explainer(
    *, paper: str, cost: str, gives: Gives = "tokens", per_step: Callable[..., Any] | None = None
) -> Callable[[F], F]:
    """Register an explanation: `(trajectory, *, score, steps) -> Float["B L"]`, one value a token position.

    One that gives "regions" is `(trajectory, *, steps) -> Float["B h w"]`, one value a latent pixel, never negative.
    `per_step` takes the same and gives the values at each of the chosen steps, `[steps, B, L]`, to be shown along them.
    """
    return method("explain", paper=paper, cost=cost, gives=gives, per_step=per_step)


def localizer(*, paper: str, cost: str) -> Callable[[F], F]:
    """Register a search for neurons: `(model, prompts, *, ...) -> list[Located]`, one entry a prompt."""
    return method("localize", paper=paper, cost=cost)


def mitigation(*, paper: str, cost: str, strength: tuple[str, tuple[Any, ...]] | None = None) -> Callable[[F], F]:
    """Register a mitigation: `(start) -> None` changes what a sampling begins from, or each of its steps."""
    return method("mitigate", paper=paper, cost=cost, strength=strength)


def caption(*, paper: str, strength: tuple[str, tuple[Any, ...]] | None = None) -> Callable[[F], F]:
    """Register a caption transform: `(caption, rng) -> caption`, for training and for sampling alike."""
    return method("caption", paper=paper, cost="no evaluation", strength=strength)


def measure(*, paper: str, needs: tuple[str, ...] = (), tells: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Register a measure: `(comparison) -> Measured`, a value for each generated image and a summary over them.

    `needs` names what a comparison must have for it, in the words of `Comparison.known`. `tells` names the column by
    which copies are told from other images, with "-" before it where copies have less, and after it, where there is
    one, the column that says whether an image is a copy; then `bench measure` holds it against truth.
    """
    return method("measure", paper=paper, cost="no evaluation", needs=needs, tells=tells)


def signal(*, paper: str, cost: str, needs: tuple[str, ...] = ()) -> Callable[[F], F]:
    """Register a signal of membership: `(pictured) -> Float["B F"]`, higher = more likely trained on.

    `needs` names what the pictures must have for it, in the words of `SeenPictures.known`.
    """
    return method("signal", paper=paper, cost=cost, needs=needs)
