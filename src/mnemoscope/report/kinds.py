"""What each kind of run shows: one module a command, all of one shape."""

from typing import Any, Protocol

from rich.console import Console, RenderableType

from mnemoscope.report import (
    bench,
    detect,
    detections,
    emm_generate,
    emm_optimum,
    emm_ratio,
    emm_sweep,
    emm_train,
    experiment,
    explain,
    extract,
    finetune,
    generate,
    localize,
    measure,
    membership,
    recover,
    regions,
    repair,
    rewrite,
    search,
    sweep,
    train,
    watch,
)
from mnemoscope.report.record import Card, Drawings, Record, Section
from mnemoscope.run.reading import Json


class Kind(Protocol):
    """What a command's module says of its runs."""

    def check(self, raw: Json) -> Json:
        """A row with all fields that a page needs, in the type it needs, or marked as a failure."""

    def headline(self, record: Record) -> str:
        """The result in one plain sentence."""

    def about(self, record: Record) -> list[tuple[str, Any, str]]:
        """What the numbers mean: a title, what describes the method, and what else there is to say."""

    def cards(self, record: Record) -> list[Card]:
        """The few numbers on top of the page."""

    def drawings(self, record: Record) -> Drawings:
        """The figures, each saved under the run's `plots/`."""

    def sections(self, record: Record) -> list[Section]:
        """The rest of the page."""

    def caveats(self, record: Record) -> list[str]:
        """What the numbers do not say."""

    def table(self, record: Record, limit: int, console: Console) -> RenderableType | None:
        """The most telling rows in a terminal; None if there are none."""


KINDS: dict[str, Kind] = {
    "detect": detect,
    "detections": detections,
    "generate": generate,
    "explain": explain,
    "regions": regions,
    "localize": localize,
    "rewrite": rewrite,
    "sweep": sweep,
    "measure": measure,
    "search": search,
    "recover": recover,
    "membership": membership,
    "extract": extract,
    "finetune": finetune,
    "repair": repair,
    "train": train,
    "watch": watch,
    "experiment": experiment,
    "bench-detect": bench,
    "bench-mitigate": bench,
    "bench-explain": bench,
    "bench-localize": bench,
    "bench-measure": bench,
    "emm-sweep": emm_sweep,
    "emm-train": emm_train,
    "emm-ratio": emm_ratio,
    "emm-optimum": emm_optimum,
    "emm-generate": emm_generate,
}
