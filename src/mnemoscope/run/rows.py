"""The rows of each kind of run, as types: `docs/runs.md` is made from them, and rows are checked by them when read.

Columns that are not named here may stand beside them.
"""

from collections.abc import Mapping
from typing import Annotated, Any, NotRequired, TypedDict

FILE = "a file of the run"
RunFile = Annotated[str, FILE]
Number = int | float
Row = dict[str, Any]  # a row while it is made
ReadRow = Mapping[str, Any]  # a row that is only looked at


class Word(TypedDict):
    """A word of an explained prompt."""

    word: Annotated[str, "its text"]
    sum: Annotated[Number | None, "the sum of its tokens' values"]
    max: NotRequired[Annotated[Number | None, "the highest of them"]]
    first: Annotated[int, "its first token, counted from 0"]
    last: Annotated[int, "its last token"]


class ChosenWord(TypedDict):
    """A word that was rewritten."""

    word: Annotated[str, "its text"]
    first: NotRequired[Annotated[int, "its first token, counted from 0"]]
    last: NotRequired[Annotated[int, "its last token"]]


class Neighbour(TypedDict):
    """A reference near to an image."""

    match: Annotated[str, "the reference by its name in its source"]
    score: Annotated[Number | None, "how alike the two are"]
    caption: NotRequired[Annotated[str | None, "the caption of the reference"]]


class AnyRow(TypedDict):
    """A row of any run."""

    id: Annotated[str, "what the row is of; no two rows of a run have the same"]
    status: Annotated[str, "`ok` or `failed`"]
    error: NotRequired[Annotated[str | None, "why it failed"]]


class PromptRow(AnyRow):
    """A row of a prompt."""

    prompt: Annotated[str, "the prompt"]
    label: NotRequired[Annotated[bool | None, "whether the prompt is known to be memorized, where that is known"]]
    kind: NotRequired[Annotated[str | None, "what kind of prompt it is, where that is known"]]
    cut_off: NotRequired[Annotated[int, "how many of its tokens lie beyond what the text encoder reads"]]
    reference_caption: NotRequired[Annotated[str, "the caption whose pictures are its own, if not the prompt"]]


class ImageRow(PromptRow):
    """A row of an image that was drawn."""

    prompt_id: Annotated[str, "the id of the prompt"]
    seed: Annotated[int, "the seed of the image"]
    file: Annotated[str, FILE]


class ScoredRow(PromptRow):
    """A prompt with a score."""

    score: Annotated[Number, "higher is more memorized"]
    params: NotRequired[Annotated[dict[str, Any], "its parameters"]]
    seeds: NotRequired[Annotated[list[int], "the seeds that the score is a mean over"]]
    per_seed: NotRequired[Annotated[list[Number], "the score of each seed"]]
    per_element: NotRequired[Annotated[Number, "of `noise_norm` in x0, the score over the root of the latents' number"]]
    role: NotRequired[Annotated[str, "`prompt`, or `negative` for what the threshold is set on"]]
    flagged: NotRequired[Annotated[bool | None, "whether the score passes the threshold; null where there is none"]]
    threshold: NotRequired[Annotated[Number | None, "the threshold"]]
    timesteps: NotRequired[Annotated[list[Number], "the timesteps of the series"]]
    series: NotRequired[Annotated[list[list[Number]], "the score of each seed at each step"]]
    companions: NotRequired[Annotated[dict[str, Any], "series of other scores of the same steps"]]


class DetectRow(ScoredRow):
    """A prompt and how memorized it looks."""

    method: NotRequired[Annotated[str, "what computed the score"]]


class DetectionsRow(ScoredRow):
    """A prompt and how memorized it looks to one of several methods."""

    method: Annotated[str, "the method"]
    prompt_id: Annotated[str, "the id of the prompt, which its rows of all methods share"]


class ExplainRow(PromptRow):
    """A prompt and what each of its words adds to the score."""

    tokens: Annotated[list[str], "the tokens of the prompt"]
    scores: Annotated[list[Number], "the value of each token"]
    words: Annotated[list[Word], "the words of the prompt, each with its value"]


class RegionRow(ImageRow):
    """An image and the map of what in it is memorized."""

    map: Annotated[str, FILE]
    overlay: NotRequired[Annotated[str, FILE]]
    region: NotRequired[Annotated[str, FILE]]
    truth: NotRequired[Annotated[str, FILE]]
    peak: NotRequired[Annotated[Number, "the highest value of the map"]]
    mean: NotRequired[Annotated[Number, "the mean of the map"]]
    share: NotRequired[Annotated[Number, "the share of the image that stands out"]]
    iou: NotRequired[Annotated[Number, "its overlap with the true region"]]


class LocalizeRow(PromptRow):
    """A prompt and the neurons that its memorization needs."""

    neurons: Annotated[dict[str, list[int]], "channels by layer"]
    initial_neurons: Annotated[dict[str, list[int]], "those that the refinement began with"]
    count: Annotated[int, "how many neurons there are"]
    value: Annotated[str, "the quantity that was brought down"]
    before: Annotated[Number | None, "that quantity with all neurons"]
    after: Annotated[Number | None, "that quantity without those that were found"]
    layers: Annotated[str, "`seven` or `all`: where it was looked"]


class ThresholdRow(PromptRow):
    """An ordinary prompt and how alike its noise differences are."""

    similarities: Annotated[list[Number], "of each pair of seeds"]
    max: Annotated[Number, "the highest of them"]


class GenerateRow(ImageRow):
    """An image, what acted on it, and the training image nearest to it."""

    mitigation: Annotated[list[str], "the mitigations that acted on the image"]
    baseline: NotRequired[Annotated[str, FILE]]
    match: NotRequired[Annotated[str | None, FILE]]
    similarity: NotRequired[Annotated[Number | None, "cosine with the nearest training image"]]
    own_similarity: NotRequired[Annotated[Number | None, "cosine with the training image of the same caption"]]
    score: NotRequired[Annotated[Number | None, "what a detection said of it"]]
    flagged: NotRequired[Annotated[bool | None, "whether that passes the threshold"]]


class SweepRow(ImageRow):
    """An image at one strength of a mitigation."""

    mitigation: Annotated[str, "the mitigation; `none` for sampling without one"]
    strength: Annotated[Any, "its strength"]
    own_similarity: Annotated[Number | None, "likeness to the training image of the same caption"]
    alignment: Annotated[Number | None, "likeness of image and caption"]
    unchanged: Annotated[bool | None, "whether the image is the unmitigated one bit for bit"]
    match: NotRequired[Annotated[str | None, FILE]]


class RewriteRow(PromptRow):
    """A rewrite of a prompt."""

    prompt_id: Annotated[str, "the id of the prompt"]
    level: Annotated[int, "how many words were rewritten"]
    rewrite: Annotated[str, "the new prompt"]
    chosen: Annotated[list[ChosenWord], "the words that were rewritten"]


class MeasureRow(AnyRow):
    """An image that was measured."""

    file: Annotated[str, "the image by its name in its source"]
    score: NotRequired[Annotated[Number | None, "likeness to the nearest reference"]]
    own_score: NotRequired[Annotated[Number | None, "likeness to the image's own reference"]]
    neighbours: NotRequired[Annotated[list[Neighbour], "the nearest references"]]


class SearchRow(AnyRow):
    """A query and one of the pictures nearest to it."""

    file: Annotated[str, "the query"]
    rank: Annotated[int, "1 for the nearest"]
    match: Annotated[str | None, "the picture that was found"]
    score: Annotated[Number | None, "how alike the two are"]


class RecoverRow(PromptRow):
    """A training image and what an edited model gives of it."""

    reference: Annotated[str, FILE]
    control: Annotated[bool, "whether it was never memorized"]
    before: Annotated[list[Number], "likeness of each image before the edit"]
    after: Annotated[list[Number], "likeness after it"]
    attacked: Annotated[list[Number], "likeness under attack"]


class FinetuneRow(PromptRow):
    """A training picture, or a caption that was not trained on, and what each model gives of it."""

    prompt_id: Annotated[str, "the id of the prompt, which several pictures may share"]
    control: Annotated[bool, "whether the fine-tune has not seen it"]
    scores: Annotated[dict[str, Number], "the score by `base`, `tuned` and `repaired`, as far as there are"]
    flags: Annotated[dict[str, bool | None], "whether it passes the model's own threshold"]
    similarities: Annotated[
        dict[str, Number], "mean likeness of the images to the picture; of a control to the nearest training picture"
    ]
    best: NotRequired[Annotated[dict[str, Number], "the highest of these likenesses"]]
    copied: NotRequired[Annotated[dict[str, bool], "whether that passes the threshold of a copy"]]
    best_files: NotRequired[Annotated[dict[str, str], "the image that it is of, a file of the audit"]]
    like_base: Annotated[dict[str, Number], "mean likeness of the images to the base's from the same seeds"]
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
