"""The names of averages of the weights."""

from dataclasses import dataclass

from mnemoscope.errors import UsageError

MODES = ("mode1", "mode2", "mode3", "mode4")


@dataclass(frozen=True)
class Average:
    """Which average: a mode, and for mode4 the decay of a step that it comes to (0 for the weights themselves).

    Written `mode1`, `mode2`, `mode3`, or a number such as `0.999` for mode4. Raises `UsageError` for anything else.
    """

    mode: str
    final: float | int | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES or (self.final is None) != (self.mode != "mode4"):
            raise UsageError(f"There is no average {self}; give mode1, mode2, mode3 or a decay from 0 to below 1.")
        if self.final is not None and not 0 <= self.final < 1:
            raise UsageError(f"A decay of {self.final} was given; give one from 0 to below 1.")

    def __str__(self) -> str:
        return self.mode if self.final is None else f"{self.final:g}"

    @classmethod
    def of(cls, text: str) -> "Average":
        """The average that a text names."""
        try:
            return cls("mode4", float(text))
        except UsageError:
            raise
        except ValueError:
            return cls(text)
