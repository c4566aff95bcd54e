"""The rows of runs that search for memorized images."""

from typing import Annotated, NotRequired

from mnemoscope.run.rows import FILE, Number, PromptRow


class ExtractRow(PromptRow):
    """A prompt that a search has scored, or drawn, and what came of it."""

    stage: Annotated[str, "`score` of one step, or `draw` of whole images"]
    prompt_id: Annotated[str, "the id of the prompt"]
    score: NotRequired[Annotated[Number, "one-step score; higher is more memorized"]]
    sketch: NotRequired[Annotated[list[Number], "direction of the text's push, pooled, of length 1"]]
    seeds: NotRequired[Annotated[list[int], "seeds of its images"]]
    files: NotRequired[Annotated[list[str], "its images, files of the run"]]
    file: NotRequired[Annotated[str, FILE]]
    edges: NotRequired[Annotated[Number, "share of pixels with an edge at one step whatever the seed"]]
    agreement: NotRequired[Annotated[Number, "mean cosine of the pairs of its images"]]
    distances: NotRequired[Annotated[list[Number], "tiled distance of each image to the nearest other one"]]
    clique: NotRequired[Annotated[int, "most images that are all alike"]]
    alike: NotRequired[Annotated[list[bool], "whether each image is one of these"]]
    hit: NotRequired[Annotated[bool, "whether so many are alike that it counts as memorized"]]
    hit_of: NotRequired[Annotated[str | None, "id of the first hit with the same image; its own if it is that"]]
    match: NotRequired[Annotated[str | None, "nearest training image, where some are at hand"]]
    match_caption: NotRequired[Annotated[str | None, "its caption"]]
    similarities: NotRequired[Annotated[list[Number], "cosine of each image with that training image"]]
