"""The rows of trainings, of what watches them, and of small networks; the others are in `mnemoscope.run.rows`."""

from typing import Annotated, NotRequired, TypedDict

from mnemoscope.run.rows import AnyRow, Number, RunFile


class Filtered(TypedDict):
    """What the filter of memorization let through of a step."""

    loss: Annotated[Number | None, "its loss; null where every sample was filtered out"]
    seen_memorized: NotRequired[Annotated[int, "samples of memorized pictures, or all where none are told apart"]]
    excluded_memorized: NotRequired[Annotated[Number, "the share of them that the filter left out"]]
    loss_memorized: NotRequired[Annotated[Number | None, "the loss of those that are left"]]
    seen_base: NotRequired[Annotated[int, "samples of the other pictures"]]
    excluded_base: NotRequired[Annotated[Number, "the share of them that the filter left out"]]
    loss_base: NotRequired[Annotated[Number | None, "the loss of those that are left"]]


class StepLog(Filtered):
    """What a step of a training says."""

    step: Annotated[int, "counted from 1"]
    lr: NotRequired[Annotated[Number, "the learning rate"]]
    gradient_norm: NotRequired[Annotated[Number | None, "the norm of the gradient, before it was clipped"]]
    updated: NotRequired[Annotated[bool, "whether the weights were changed"]]
    seconds: NotRequired[Annotated[Number, "the time it took"]]


class TrainRow(AnyRow, StepLog):
    """A step of a training."""


class ProbeRow(TypedDict):
    """A look at a prompt by one detector, at one step of a training."""

    step: int
    prompt: str
    group: str
    detector: str | None
    score: float | None
    own_similarity: float | None


class WatchedCaption(TypedDict):
    """A look at a training picture's caption by one detector, and whether the picture comes back."""

    checkpoint: Annotated[str, "name of the checkpoint; `base` for the untrained model"]
    probe: Annotated[int, "place of the caption among those looked at"]
    picture: Annotated[str | None, "its picture, in the data"]
    step: NotRequired[Annotated[int | None, "the number in that name"]]
    prompt: Annotated[str, "the caption"]
    group: Annotated[str, "the group that its picture belongs to"]
    detector: Annotated[str | None, "what computed the score"]
    score: Annotated[Number | None, "higher is more memorized"]
    own_similarity: Annotated[Number | None, "likeness of what is drawn to the picture; null where nothing is drawn"]
    returning: Annotated[bool | None, "whether the picture comes back"]


class WatchRow(AnyRow, WatchedCaption):
    """A look at a training picture's caption by one detector, at one checkpoint."""

    sha256: Annotated[str, "hash of the checkpoint's weights"]
    file: NotRequired[RunFile]
    reference: NotRequired[RunFile]


class TrainedLikeness(TypedDict):
    """How like its own picture, and the nearest of all that were trained on, an image is."""

    own_similarity: NotRequired[Annotated[Number, "how alike the image and its own picture are"]]
    similarity: Annotated[Number, "how alike the image and the picture nearest to it are"]
    own_nearest: NotRequired[Annotated[bool, "whether its own picture is the nearest one"]]
    match: NotRequired[Annotated[str, "the nearest picture"]]


class ExperimentRow(AnyRow, TrainedLikeness):
    """An image of an arm of an experiment."""

    arm: Annotated[str, "the arm"]
    seed: Annotated[int, "the seed of the training"]
    group: Annotated[str, "the group of pictures"]
    prompt: NotRequired[Annotated[str, "the prompt"]]
    picture: Annotated[str, "the picture that it is compared with"]
    seed_image: NotRequired[Annotated[int, "the seed of the image"]]
    file: NotRequired[RunFile]
    entropy: NotRequired[Annotated[Number, "entropy of the picture's grey levels, in nats"]]
    jpeg: NotRequired[Annotated[Number, "bytes of the picture as a JPEG"]]
    views: NotRequired[Annotated[Number, "how often the picture was shown, on average"]]
