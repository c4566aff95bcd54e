"""The rows of trainings from scratch, of ratios of memorized images, and of sweeps over them."""

from typing import Annotated, Any, NotRequired, TypedDict

from mnemoscope.run.rows import FILE, AnyRow, Number


class Ratios(TypedDict):
    """What images amount to: ratios with 95 % intervals; `apart` is with copies among the training images merged."""

    ratio: Annotated[Number, "the share of memorized images"]
    ratio_low: NotRequired[Annotated[Number, "the lower end of its 95 % interval"]]
    ratio_high: NotRequired[Annotated[Number, "the upper end"]]
    ratio_apart: NotRequired[Annotated[Number, "the ratio with copies among the training images merged"]]
    ratio_apart_low: NotRequired[Annotated[Number, "the lower end of its 95 % interval"]]
    ratio_apart_high: NotRequired[Annotated[Number, "the upper end"]]
    mean_distance: NotRequired[Annotated[Number, "the mean distance to the nearest training image"]]
    coverage: NotRequired[Annotated[Number, "the share of distinct training images with a memorized copy"]]


class EmmTrainRow(AnyRow, Ratios):
    """A snapshot's ratio of memorized images."""

    step: Annotated[int, "the step of the snapshot"]
    images: NotRequired[Annotated[int, "how many images it had seen"]]
    epochs: NotRequired[Annotated[Number, "the same in epochs"]]
    ema: Annotated[str, "the average of the weights"]
    part: Annotated[str, "which images it was computed on"]
    samples: NotRequired[Annotated[int, "how many images were drawn"]]
    first_seed: NotRequired[Annotated[int, "the seed of the first of them"]]
    seconds: NotRequired[Annotated[Number, "the time it took"]]


class LossRow(TypedDict):
    """Means over some steps of a training, a line of `losses.jsonl`."""

    step: int
    lr: float
    loss: float
    gradient_norm: float | None
    bad_gradients: int
    skipped: int


class Distances(TypedDict):
    """The distances of an image to the training images nearest to it."""

    d1: NotRequired[Annotated[Number | None, "the distance to the nearest training image"]]
    d2: NotRequired[Annotated[Number | None, "the distance to the second one"]]
    d2_apart: NotRequired[Annotated[Number | None, "the distance to the second one that is no copy of the first"]]
    quotient: NotRequired[Annotated[Number | None, "`d1` over `d2`"]]
    quotient_apart: NotRequired[Annotated[Number | None, "`d1` over `d2_apart`"]]
    match_index: NotRequired[Annotated[int, "the place of the nearest training image"]]
    memorized_apart: NotRequired[Annotated[bool, "whether it is a copy by `quotient_apart`"]]


class EmmRatioRow(AnyRow, Distances):
    """An image, its nearest training image and the second one."""

    snapshot: NotRequired[Annotated[str, "the set that it is of"]]
    place: Annotated[int, "its place in the set"]
    file: Annotated[str, "its name there"]
    match: Annotated[str, "the nearest training image"]
    other_index: NotRequired[Annotated[int, "the place of the second one"]]
    memorized: Annotated[bool, "whether it is a copy of it"]


class EmmSweepRow(AnyRow, Ratios):
    """A cell of a sweep."""

    level: Annotated[str, "the level"]
    x: NotRequired[Annotated[Number | None, "its place on a line of levels"]]
    n: Annotated[int, "the number of training images"]
    seed: Annotated[int, "the seed of the training"]
    step: NotRequired[Annotated[int, "the step that was read"]]
    ema: NotRequired[Annotated[str, "the average of the weights that was read"]]
    samples: NotRequired[Annotated[int, "how many images were drawn"]]
    stopped: NotRequired[Annotated[bool, "whether the training ended before the step that was to be read"]]
    training: NotRequired[Annotated[str, "the folder of the training"]]
    steps: NotRequired[Annotated[int, "how many steps it did"]]


class EmmImageRow(AnyRow, Distances):
    """An image drawn from the optimum of the training data, or from a trained network."""

    seed: Annotated[int, "its seed"]
    file: Annotated[str, FILE]
    label: NotRequired[Annotated[Any, "the class it was drawn from, null for none"]]
    evaluations: NotRequired[Annotated[int, "evaluations of the optimal denoiser, of its batch if it is the first"]]
    certified: NotRequired[Annotated[int, "how many of them were proved to need few training images, likewise"]]
    match: NotRequired[Annotated[str, "the nearest training image"]]
    memorized: NotRequired[Annotated[bool, "whether it is a copy of it"]]
