"""The rows of a bench: what a method shows on a model whose training is known."""

from typing import Annotated, NotRequired, TypedDict

from mnemoscope.run.rows import AnyRow, Number


class BenchFigure(TypedDict):
    """A figure of a method."""

    quantity: Annotated[str, "what it is"]
    group: Annotated[str, "of which prompts: a kind, a kind at a number of views, or a source"]
    value: Annotated[Number | None, "the figure; null where it lies outside of what was tried"]
    interval: Annotated[list[Number | None] | None, "its 95 % interval; null of what has none, and of an open end"]
    count: Annotated[int, "of how many pictures"]
    text: Annotated[str, "both as a table shows them"]


class BenchRow(AnyRow):
    """A method on a model, at one strength or size where it has several."""

    model: Annotated[str, "the model"]
    method: Annotated[str, "the method, or what it is held against"]
    at: NotRequired[Annotated[str, "its strength or size, empty where it has none"]]
    cell: NotRequired[Annotated[str, "the folder of its run, in that of the bench"]]
    seconds: NotRequired[Annotated[Number, "seconds of a prompt or image"]]
    figures: Annotated[list[BenchFigure], "what came out"]
    origin: NotRequired[Annotated[dict[str, str], "where a method from outside came from"]]
    left_out: NotRequired[Annotated[str, "why it does not run on the model"]]
