"""The rows of each kind of run, as types: `docs/runs.md` is made from them, and rows are checked by them when read.

Columns that are not named here may stand beside them.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, NotRequired, TypedDict, TypeVar

FILE = "a file of the run"
RunFile = Annotated[str, FILE]
Number = int | float
ReadRow = Mapping[str, Any]  # a row of whatever kind, that is only looked at


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
    is_own: NotRequired[Annotated[bool, "whether it is the image's own"]]
    picture: NotRequired[Annotated[str | None, "a small copy of it, a file of the run"]]


class AnyRow(TypedDict):
    """A row of any run."""

    id: Annotated[str, "what the row is of; no two rows of a run have the same"]
    status: Annotated[str, "`ok` or `failed`"]
    error: NotRequired[Annotated[str | None, "why it failed"]]


R = TypeVar("R", bound=AnyRow)
Kind = Callable[..., R]  # a kind of row: the type itself


class OwnCaption(TypedDict):
    """The caption whose pictures are a prompt's own."""

    reference_caption: NotRequired[Annotated[str, "the caption whose pictures are its own, if not the prompt"]]


class PromptRow(AnyRow, OwnCaption):
    """A row of a prompt."""

    prompt: Annotated[str, "the prompt"]
    label: NotRequired[Annotated[bool | None, "whether the prompt is known to be memorized, where that is known"]]
    kind: NotRequired[Annotated[str | None, "what kind of prompt it is, where that is known"]]
    cut_off: NotRequired[Annotated[int, "how many of its tokens lie beyond what the text encoder reads"]]


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
    units: NotRequired[Annotated[str, "of a push of the text, `eps` or `x0`: what it is measured in"]]
    per_element: NotRequired[Annotated[Number, "of `noise_norm` in x0, the score over the root of the latents' number"]]
    role: NotRequired[Annotated[str, "`prompt`, or `negative` for what the threshold is set on"]]
    flagged: NotRequired[Annotated[bool | None, "whether the score passes the threshold; null where there is none"]]
    threshold: NotRequired[Annotated[Number | None, "the threshold"]]
    timesteps: NotRequired[Annotated[list[Number], "the timesteps of the series"]]
    series: NotRequired[Annotated[list[list[Number]], "the score of each seed at each step"]]
    companions: NotRequired[Annotated[dict[str, Any], "series of other scores of the same steps"]]
    looks: NotRequired[Annotated[int, "of `sequential`, after how many seeds the prompt was decided"]]
    evaluations: NotRequired[Annotated[Number, "of `sequential`, network evaluations of its looks, its share of each"]]


Scored = TypeVar("Scored", bound=ScoredRow)


class KnownPrompt(TypedDict):
    """What is known of a prompt before anything looks at it."""

    label: bool | None
    kind: str | None


class KnownRole(KnownPrompt):
    """The same of a prompt that a threshold may be set on."""

    role: str


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
    special: NotRequired[Annotated[dict[str, Number] | None, "sums of the values that are of none of its tokens"]]
    method: NotRequired[Annotated[str, "what explained it"]]
    params: NotRequired[Annotated[dict[str, Any], "its parameters"]]
    seeds: NotRequired[Annotated[list[int], "the seeds that the values are means over"]]
    timesteps: NotRequired[Annotated[list[Number], "the timesteps of the series"]]
    series: NotRequired[Annotated[list[list[Number]], "the values of the tokens at each step"]]


class LocatedRow(TypedDict):
    """The neurons that were found for a prompt."""

    prompt: Annotated[str, "the prompt"]
    neurons: Annotated[dict[str, list[int]], "channels by layer"]
    initial_neurons: Annotated[dict[str, list[int]], "those that the refinement began with"]
    count: Annotated[int, "how many neurons there are"]
    value: Annotated[str, "the quantity that was brought down"]
    before: Annotated[Number | None, "that quantity with all neurons"]
    after: Annotated[Number | None, "that quantity without those that were found"]
    layers: Annotated[str, "`seven` or `all`: where it was looked"]
    evaluations: NotRequired[Annotated[int | None, "forward passes in samples"]]
    ssim: NotRequired[Annotated[Number | None, "`after`, where the quantity is the similarity of seeds"]]
    initial_ssim: NotRequired[Annotated[Number | None, "that similarity without the initial neurons"]]
    is_enough: NotRequired[Annotated[bool, "whether the first selection brought the similarity down to the threshold"]]


class LocalizeRow(PromptRow, LocatedRow):
    """A prompt and the neurons that its memorization needs."""

    method: NotRequired[Annotated[str, "what found them"]]
    seed: NotRequired[Annotated[int, "the first seed, of a prompt that has one of its own"]]
    url: NotRequired[Annotated[str | None, "the address of the prompt's picture, where its source has one"]]


class ThresholdRow(PromptRow):
    """An ordinary prompt and how alike its noise differences are."""

    similarities: Annotated[list[Number], "of each pair of seeds"]
    max: Annotated[Number, "the highest of them"]


class RewriteRow(PromptRow):
    """A rewrite of a prompt."""

    prompt_id: Annotated[str, "the id of the prompt"]
    level: Annotated[int, "how many words were rewritten"]
    rewrite: Annotated[str, "the new prompt"]
    chosen: Annotated[list[ChosenWord], "the words that were rewritten"]
    k: NotRequired[Annotated[int, "which of the rewrites of this level it is, from 0"]]
    rewriter: NotRequired[Annotated[str, "what rewrote it"]]
    score_before: NotRequired[Annotated[Number, "the score of the prompt"]]
    score_after: NotRequired[Annotated[Number, "the score of the rewrite"]]
    selected: NotRequired[Annotated[bool, "whether it is the rewrite to take"]]
