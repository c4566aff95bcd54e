"""The rows of trainings, of what watches them, and of small networks; the others are in `mnemoscope.run.rows`."""

from typing import Annotated, NotRequired

from mnemoscope.run.rows import FILE, AnyRow, Number, RunFile


class TrainRow(AnyRow):
    """A step of a training."""

    step: Annotated[int, "counted from 1"]
    loss: Annotated[Number | None, "its loss; null where every sample was filtered out"]


class WatchRow(AnyRow):
    """A look at a training picture's caption by one detector, at one checkpoint."""

    checkpoint: Annotated[str, "name of the checkpoint; `base` for the untrained model"]
    step: NotRequired[Annotated[int | None, "the number in that name"]]
    sha256: Annotated[str, "hash of its weights"]
    probe: Annotated[int, "place of the caption among those looked at"]
    prompt: Annotated[str, "the caption"]
    group: Annotated[str, "the group that its picture belongs to"]
    picture: Annotated[str | None, "its picture, in the data"]
    detector: Annotated[str | None, "what computed the score"]
    score: Annotated[Number | None, "higher is more memorized"]
    own_similarity: Annotated[Number | None, "likeness of what is drawn to the picture; null where nothing is drawn"]
    returning: Annotated[bool | None, "whether the picture comes back"]
    file: NotRequired[RunFile]
    reference: NotRequired[RunFile]


class ExperimentRow(AnyRow):
    """An image of an arm of an experiment."""

    arm: Annotated[str, "the arm"]
    seed: Annotated[int, "the seed of the training"]
    group: Annotated[str, "the group of pictures"]
    picture: Annotated[str, "the picture that it is compared with"]
    similarity: Annotated[Number, "how alike the two are"]


class EmmTrainRow(AnyRow):
    """A snapshot's ratio of memorized images."""

    step: Annotated[int, "the step of the snapshot"]
    ema: Annotated[str, "the average of the weights"]
    part: Annotated[str, "which images it was computed on"]
    ratio: Annotated[Number, "the share of memorized images"]


class EmmRatioRow(AnyRow):
    """An image, its nearest training image and the second one."""

    place: Annotated[int, "its place in the set"]
    file: Annotated[str, "its name there"]
    match: Annotated[str, "the nearest training image"]
    memorized: Annotated[bool, "whether it is a copy of it"]


class EmmSweepRow(AnyRow):
    """A cell of a sweep."""

    level: Annotated[str, "the level"]
    n: Annotated[int, "the number of training images"]
    seed: Annotated[int, "the seed of the training"]
    ratio: Annotated[Number, "the share of memorized images"]


class EmmImageRow(AnyRow):
    """An image drawn from the optimum of the training data, or from a trained network."""

    seed: Annotated[int, "its seed"]
    file: Annotated[str, FILE]
