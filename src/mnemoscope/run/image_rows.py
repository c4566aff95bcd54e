"""The rows of runs about images, adapters and recoveries; those about prompts are in `mnemoscope.run.rows`."""

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from mnemoscope.run.rows import FILE, AnyRow, ImageRow, Neighbour, Number, PromptRow


class RegionFiles(TypedDict):
    """The pictures of a map, files of the run: laid over its image, what stands out of it, and the truth."""

    overlay: NotRequired[Annotated[str, FILE]]
    region: NotRequired[Annotated[str, FILE]]
    truth: NotRequired[Annotated[str, FILE]]


class RegionRow(ImageRow, RegionFiles):
    """An image and the map of what in it is memorized."""

    map: Annotated[str, FILE]
    peak: NotRequired[Annotated[Number, "the highest value of the map"]]
    mean: NotRequired[Annotated[Number, "the mean of the map"]]
    share: NotRequired[Annotated[Number, "the share of the image that stands out"]]
    iou: NotRequired[Annotated[Number, "its overlap with the true region"]]
    method: NotRequired[Annotated[str, "what explained it"]]
    params: NotRequired[Annotated[dict[str, Any], "its parameters"]]


class DetectorFlag(TypedDict):
    """What a detection said of an image."""

    score: NotRequired[Annotated[Number | None, "what a detection said of it"]]
    flagged: NotRequired[Annotated[bool | None, "whether that passes the threshold"]]


class UnmitigatedTwin(TypedDict):
    """The image that the same seed gives without any mitigation."""

    baseline: NotRequired[Annotated[str, FILE]]
    baseline_similarity: NotRequired[Annotated[Number | None, "cosine with the unmitigated image of the seed"]]


class NearestPicture(TypedDict):
    """The training image nearest to an image, kept in the run, and how alike the two are."""

    match: str
    match_file: str
    match_caption: str | None
    similarity: float
    own_similarity: float | None


class GenerateRow(ImageRow, DetectorFlag, UnmitigatedTwin):
    """An image, what acted on it, and the training image nearest to it."""

    mitigation: Annotated[list[str], "the mitigations that acted on the image"]
    seen: NotRequired[Annotated[dict[str, Any], "what the mitigations saw of the image, and did"]]
    match: NotRequired[Annotated[str | None, FILE]]
    match_file: NotRequired[Annotated[str | None, "that picture by its name in its source"]]
    match_caption: NotRequired[Annotated[str | None, "its caption"]]
    similarity: NotRequired[Annotated[Number | None, "cosine with the nearest training image"]]
    own_similarity: NotRequired[Annotated[Number | None, "cosine with the training image of the same caption"]]


class Unmitigated(TypedDict):
    """How an image of a sweep compares with the unmitigated one of its seed; null where that failed."""

    baseline_similarity: NotRequired[Annotated[Number | None, "cosine with the unmitigated image of the seed"]]
    unchanged: Annotated[bool | None, "whether the image is the unmitigated one bit for bit"]


class SweepRow(ImageRow, Unmitigated):
    """An image at one strength of a mitigation."""

    mitigation: Annotated[str, "the mitigation; `none` for sampling without one"]
    strength: Annotated[Any, "its strength"]
    parameter: NotRequired[Annotated[str | None, "the parameter that the strength is of"]]
    own_similarity: Annotated[Number | None, "likeness to the training image of the same caption"]
    alignment: Annotated[Number | None, "likeness of image and caption"]
    alignment_chance: NotRequired[Annotated[Number | None, "likeness of the image and another caption"]]
    similarity: NotRequired[Annotated[Number | None, "cosine with the nearest training image"]]
    flagged: NotRequired[Annotated[bool | None, "whether the mitigation was let in"]]
    evaluations: NotRequired[Annotated[Number, "network evaluations of the image"]]
    seconds: NotRequired[Annotated[Number, "the time it took"]]
    match: NotRequired[Annotated[str | None, FILE]]
    match_file: NotRequired[Annotated[str | None, "that picture by its name in its source"]]
    match_caption: NotRequired[Annotated[str | None, "its caption"]]


class NearestReference(TypedDict):
    """The references nearest to an image, the nearest one by name, and how alike the image's own is."""

    match: str
    match_caption: str | None
    score: float | None
    own_score: float | None
    neighbours: list[Neighbour]


class MeasureRow(AnyRow):
    """An image that was measured."""

    file: Annotated[str, "the image by its name in its source"]
    prompt: NotRequired[Annotated[str, "what was asked for"]]
    prompt_id: NotRequired[Annotated[str, "the id of the prompt"]]
    seed: NotRequired[Annotated[int | None, "the seed of the image, where it is known"]]
    kind: NotRequired[Annotated[str | None, "what kind of prompt it is"]]
    label: NotRequired[Annotated[bool | None, "whether it is known to be memorized"]]
    mitigation: NotRequired[Annotated[list[str], "what acted on the image"]]
    match: NotRequired[Annotated[str | None, "the nearest reference by its name in its source"]]
    match_caption: NotRequired[Annotated[str | None, "its caption"]]
    picture: NotRequired[Annotated[str | None, "a small copy of the image, a file of the run"]]
    score: NotRequired[Annotated[Number | None, "likeness to the nearest reference"]]
    own_score: NotRequired[Annotated[Number | None, "likeness to the image's own reference"]]
    neighbours: NotRequired[Annotated[list[Neighbour], "the nearest references"]]


class SearchRow(AnyRow):
    """A query and one of the pictures nearest to it."""

    file: Annotated[str, "the query"]
    rank: Annotated[int, "1 for the nearest"]
    match: Annotated[str | None, "the picture that was found"]
    score: Annotated[Number | None, "how alike the two are"]
    query: NotRequired[Annotated[int, "the place of the query among all"]]
    prompt: NotRequired[Annotated[str, "its caption"]]
    prompt_id: NotRequired[Annotated[str, "its name again"]]
    kind: NotRequired[Annotated[str | None, "what kind of picture it is"]]
    label: NotRequired[Annotated[bool | None, "whether it is known to be memorized"]]
    seed: NotRequired[Annotated[int | None, "its seed, where it is known"]]
    caption: NotRequired[Annotated[str | None, "the caption of the picture that was found"]]
    url: NotRequired[Annotated[str | None, "its address"]]
    shard: NotRequired[Annotated[str, "the part of the index that it is in"]]
    row: NotRequired[Annotated[int, "its place in the index"]]
    picture: NotRequired[Annotated[str | None, "a small copy of the query, a file of the run"]]
    match_picture: NotRequired[Annotated[str | None, "a small copy of the picture that was found, a file of the run"]]


Stage = Literal["before", "after", "attacked"]
MemorizedAt = Literal["memorized_before", "memorized_after", "memorized_attacked"]


class RecoverRow(PromptRow):
    """A training image and what an edited model gives of it."""

    reference: Annotated[str, FILE]
    control: Annotated[bool, "whether it was never memorized"]
    before: Annotated[list[Number], "likeness of each image before the edit"]
    after: Annotated[list[Number], "likeness after it"]
    attacked: Annotated[list[Number], "likeness under attack"]
    seeds: NotRequired[Annotated[list[int], "the seeds of the images"]]
    before_files: NotRequired[Annotated[list[str], "the images before the edit, files of the run"]]
    after_files: NotRequired[Annotated[list[str], "the images after it, files of the run"]]
    attacked_files: NotRequired[Annotated[list[str], "the images under attack, files of the run"]]
    memorized_before: NotRequired[Annotated[bool, "whether one before the edit is above the threshold"]]
    memorized_after: NotRequired[Annotated[bool, "whether one after it is above the threshold"]]
    memorized_attacked: NotRequired[Annotated[bool, "whether one under attack is above the threshold"]]
    loss: NotRequired[Annotated[list[Number], "the loss of the attack, first and last"]]


class ArmScores(TypedDict):
    """Score and flag of a prompt by each model that was asked."""

    scores: Annotated[dict[str, Number], "the score by `base`, `tuned` and `repaired`, as far as there are"]
    flags: Annotated[dict[str, bool | None], "whether it passes the model's own threshold"]


class PictureLikeness(TypedDict):
    """How like a picture the images of its caption are, by each model."""

    similarities: Annotated[
        dict[str, Number], "mean likeness of the images to the picture; of a control to the nearest training picture"
    ]
    best: NotRequired[Annotated[dict[str, Number], "the highest of these likenesses"]]
    copied: NotRequired[Annotated[dict[str, bool], "whether that passes the threshold of a copy"]]
    best_files: NotRequired[Annotated[dict[str, str], "the image that it is of, a file of the audit"]]
    like_base: Annotated[dict[str, Number], "mean likeness of the images to the base's from the same seeds"]


class MembershipRow(PromptRow):
    """A picture of a set, and what the model does with it."""

    file: Annotated[str, "the picture by its name in its source"]
    role: Annotated[str, "`picture` under question, `held-out`, or `public` for one that was surely trained on"]
    signals: Annotated[dict[str, list[Number]], "values of each signal, higher for what was trained on"]
    plain: Annotated[dict[str, Number], "what the picture shows without any model"]
    score: NotRequired[Annotated[Number | None, "all signals together, by a fit that did not see the picture"]]
    false_positive_rate: NotRequired[
        Annotated[Number | None, "how often a held-out picture scores as high, of pictures under question"]
    ]
    named: NotRequired[Annotated[bool, "whether the picture is named as one that was trained on"]]


class FinetuneRow(PromptRow, ArmScores, PictureLikeness):
    """A training picture, or a caption that was not trained on, and what each model gives of it."""

    prompt_id: Annotated[str, "the id of the prompt, which several pictures may share"]
    control: Annotated[bool, "whether the fine-tune has not seen it"]
    added: Annotated[Number | None, "what the fine-tune added: the likeness with `tuned` less that with `base`"]
    reference: NotRequired[Annotated[str, FILE]]


class RepairRow(AnyRow):
    """A layer of a LoRA and the channels of its update."""

    rank: Annotated[int, "how many channels there are"]
    damped: Annotated[int, "how many of them leave the base weight's principal subspace"]
    subspace: Annotated[int, "the dimension of that subspace"]
    alignments: Annotated[list[Number], "of each channel, the largest one first: 1 lies within, 0 outside"]
    values: Annotated[list[Number], "their singular values, before"]
    norm_before: Annotated[Number, "Frobenius norm of the update"]
    norm_after: Annotated[Number, "that norm afterwards"]
