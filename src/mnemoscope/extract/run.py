"""Extraction: a budgeted search for prompts whose images are memorized, into a run and a list of hits."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from mnemoscope.errors import UsageError
from mnemoscope.extract.hits import write_hits
from mnemoscope.extract.journal import Journal, PaidWork
from mnemoscope.extract.proposals import ByGradient, ByLanguage, Proposes, Worth
from mnemoscope.extract.scoring import FirstLook
from mnemoscope.extract.search import Search, captions_scored, purse_of
from mnemoscope.extract.settings import Extraction
from mnemoscope.extract.vocabulary import Vocabulary
from mnemoscope.features import Descriptor
from mnemoscope.features.references import References
from mnemoscope.job.batching import Batch
from mnemoscope.job.seeds import content_of
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.run.content import content_hash
from mnemoscope.run.reading import Json


def run_extraction(
    model: Denoiser,
    out: Path | str,
    extraction: Extraction,
    descriptor: Descriptor,
    *,
    captions: Sequence[Prompt] = (),
    references: References | None = None,
    batch: int | str = "auto",
    overwrite: bool = False,
) -> Json:
    """Search for memorized prompts into a run, and return its summary; the hits are in its `hits.jsonl`.

    Captions are scored first, then the model's own vocabulary is searched. The budget is kept to the evaluation, and
    the search is the same whatever is done already. Raises `UsageError` for a model without an unconditional branch or
    without a tokenizer, and for a budget that has no room for the images of one prompt.
    """
    extraction = replace(extraction.checked(), guidance_scale=model.family.guidance(extraction.guidance_scale))
    vocabulary, price = Vocabulary(getattr(model.pipe, "tokenizer", None)), price_of(model, extraction)
    if extraction.budget < 2 * price:
        raise UsageError(
            f"--budget {extraction.budget} has no room for a search: the images of one prompt take {price} "
            f"evaluations; give {2 * price} or more, fewer --images or fewer steps."
        )
    beside = [picture.key for picture in references.items] if references else []
    settings = {**asdict(extraction), "content": content_hash([content_of(captions), *beside])}
    record: Json = {"model": model.describe(), "device": str(model.device)}
    record["features"] = asdict(descriptor.identity)
    size, drawn = Batch.of(model, batch, 1), Batch.of(model, batch, extraction.images)
    with (
        Journal(out, "extract", settings, overwrite=overwrite, **record) as run,
        model.bounded(max(size.at_once, drawn.at_once)),
    ):
        look = _first_look(run, model, extraction)
        purse = purse_of(extraction)
        works = PaidWork(run, model, size, purse), PaidWork(run, model, drawn, purse)
        search = Search(*works, extraction, look, price, descriptor=descriptor, references=references)
        _carry_out(search, vocabulary, captions)
        write_hits(run.folder, search, model)
        run.replace_rows(search.rows)
        return run.finish(**summary(search))


def price_of(model: Denoiser, extraction: Extraction) -> int:
    """Evaluations that the images of one prompt take."""
    sampler = model.sampler(extraction.num_inference_steps, extraction.guidance_scale)
    branches = 2 if model.family.guides(float(sampler.guidance_scale)) else 1
    return extraction.images * len(sampler.timesteps) * branches


def _first_look(run: Journal, model: Denoiser, extraction: Extraction) -> FirstLook:
    before, scale = model.network_evaluations, extraction.guidance_scale
    assert scale is not None
    look = FirstLook.at(model, extraction.seed, extraction.num_inference_steps, scale)
    run.append([], evaluations=model.network_evaluations - before, part="without a prompt")
    return look


def _carry_out(search: Search, vocabulary: Vocabulary, captions: Sequence[Prompt]) -> None:
    search.measure(vocabulary)
    captions_scored(search, captions)
    if not search.extraction.chains:
        return search.at_random(vocabulary)
    worth = Worth(vocabulary)
    search.scan(vocabulary, worth)
    search.walk(vocabulary, worth, _proposals(search, vocabulary, worth))
    if search.purse.gradients:
        search.scores.run.append([], evaluations=search.purse.gradients, part="gradients")


def _proposals(search: Search, vocabulary: Vocabulary, worth: Worth) -> Proposes:
    kind = search.extraction.proposals
    if kind == "gradient":
        return ByGradient(search.scores.model, search.look, search.extraction.score, worth)
    if search.extraction.masked_lm is not None:
        return ByLanguage(search.extraction.masked_lm, vocabulary)
    return worth


def summary(search: Search) -> Json:
    """What was found, for how much, and from which score on prompts stood out."""
    drawn = [row for row in search.rows if row["stage"] == "draw"]
    return {
        "budget": search.extraction.budget,
        "hits": len(search.hits),
        "hit_prompts": sum(bool(row.get("hit")) for row in drawn),
        "prompts_scored": len(search.rows) - len(drawn),
        "prompts_drawn": len(drawn),
        "found_at": search.found,
        "random_median": search.middle,
        "random_deviation": search.scale,
        "score_floor": search.floor,
    }
