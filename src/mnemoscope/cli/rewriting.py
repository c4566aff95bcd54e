"""The command that rewrites prompts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app
from mnemoscope.cli.command import command
from mnemoscope.errors import UsageError
from mnemoscope.run.reading import Json

if TYPE_CHECKING:
    from mnemoscope.model.denoiser import Denoiser
    from mnemoscope.rewriting.offline import Rewriter
    from mnemoscope.rewriting.rescoring import Scorer

ENDPOINT, SCORING = "Endpoint", "Scores"


@command(app, spreads=True)
def rewrite(
    run: Annotated[Path, typer.Argument(help="Folder of an explanation.")],
    out: opt.Out,
    level: Annotated[list[int] | None, opt.of(opt.METHOD, "How many words to change; repeat it for several.")] = None,
    rewrites: Annotated[int, opt.of(opt.METHOD, "Rewrites of each prompt at each level.")] = 5,
    temperature: Annotated[float, opt.of(opt.METHOD, "Of the choice of words: near 0 takes the highest.")] = 0.1,
    seed: Annotated[int, opt.of(opt.METHOD, "Of the choice of words, and of what replaces them.", min=0)] = 0,
    model: Annotated[str | None, opt.of(ENDPOINT, "Language model of a chat-completions endpoint.")] = None,
    base_url: Annotated[str | None, opt.of(ENDPOINT, "Address of that endpoint, OpenAI's if not given.")] = None,
    timeout: Annotated[float, opt.of(ENDPOINT, "Seconds to wait for an answer of the endpoint.")] = 60,
    retries: Annotated[int, opt.of(ENDPOINT, "How often a request is repeated that did not get through.")] = 4,
    masked_lm: Annotated[Path | None, opt.of(opt.METHOD, "Folder of a masked language model to rewrite with.")] = None,
    wordnet: Annotated[Path | None, opt.of(opt.METHOD, "Folder of WordNet's files to rewrite with.")] = None,
    score: Annotated[str, opt.of(SCORING, "Detection method to score rewrites with, or none.")] = "noise_norm",
    param: opt.Param = None,
    seeds: Annotated[int | None, opt.of(SCORING, "Seeds of the scores; the explanation's if none.", min=1)] = None,
    rescore: Annotated[str | None, opt.of(SCORING, "Model to score with; the explanation's if not given.")] = None,
    threshold: Annotated[Path | None, opt.of(SCORING, "summary.json of a detection, to compare with.")] = None,
    batch_size: opt.Batch = "auto",
    device: opt.Device = "auto",
    format: Annotated[str, opt.of(opt.RUN, "mnemoscope, or layer6 for perturbations.json too.")] = "mnemoscope",
    overwrite: opt.Overwrite = False,
) -> None:
    """Rewrite prompts in the words that an explanation blames, and score them again."""
    from mnemoscope.rewriting.choice import Choice
    from mnemoscope.rewriting.outcome import export_layer6
    from mnemoscope.rewriting.rewrites import explanation, run_rewriting
    from mnemoscope.run.settings import one_of, parameters

    one_of("--format", format, ("mnemoscope", "layer6"))
    choice = Choice(tuple(level or (3,)), rewrites, temperature, seed)
    record, _ = explanation(run)
    ask = _endpoint(model, base_url, timeout, retries, others=(masked_lm, wordnet))
    audited = _audited(record, rescore, device) if score != "none" or not any((ask, masked_lm, wordnet)) else None
    scorer = _scorer(audited, record, score, parameters(param), seeds, threshold, batch_size)
    rewriter = _rewriter(ask, masked_lm, wordnet, audited, out)
    summary = run_rewriting(run, out, rewriter, choice, scorer=scorer, overwrite=overwrite)
    if format == "layer6":
        export_layer6(out)
    opt.show(out, summary["failed"])


def _endpoint(
    model: str | None, base_url: str | None, timeout: float, retries: int, others: tuple[Path | None, ...]
) -> Any:
    """A connection to the endpoint that was asked for, or None."""
    from mnemoscope.rewriting.endpoint import OPENAI, Connection, Endpoint, find_key

    if sum(given is not None for given in (model, *others)) > 1:
        raise UsageError("More than one of --model, --masked-lm and --wordnet was given; rewrite with one of them.")
    if model is None:
        if base_url is not None:
            raise UsageError("--base-url was given without --model; name the language model to ask there.")
        return None
    endpoint = Endpoint(model, base_url or OPENAI, timeout=timeout, retries=retries)
    return Connection(endpoint, find_key())


def _audited(record: Json, rescore: str | None, device: str) -> "Denoiser":
    """The explanation's own model, known by its weights, or another one that was asked for."""
    from mnemoscope.run.asked import parameters

    about, given = record.get("model") or {}, parameters(record)
    source = rescore or about.get("source")
    if source is None:
        raise UsageError("The explanation was imported and names no model; give --rescore MODEL.")
    same = opt.MODEL_PARTS if rescore is None else ("scheduler", "dtype")
    options = {name: given[name] for name in same if given.get(name) is not None}
    loaded = opt.Model(**{**options, "model": source, "device": device}).load()
    if rescore is None and about.get("weights") != loaded.weights_hash:
        raise UsageError(f"{source} has other weights than when it was explained; give --rescore {source} to go on.")
    return loaded


def _scorer(
    model: "Denoiser | None",
    record: Json,
    score: str,
    params: Json,
    seeds: int | None,
    threshold: Path | None,
    batch: str,
) -> "Scorer | None":
    from mnemoscope.rewriting.rescoring import Scorer, detection_of

    if model is None or score == "none":
        if params or threshold or seeds:
            raise UsageError("--score none was given, so that --param, --seeds and --threshold have no meaning.")
        return None
    return Scorer(model, detection_of(record, score, params, seeds), threshold=threshold, batch=batch)


def _rewriter(
    endpoint: Any, masked_lm: Path | None, wordnet: Path | None, model: "Denoiser | None", out: Path
) -> "Rewriter":
    if endpoint is not None:
        from mnemoscope.rewriting.chat import Chat

        return Chat(endpoint, out / "cache")
    if masked_lm is not None:
        from mnemoscope.rewriting.masked import masked

        return masked(masked_lm)
    if wordnet is not None:
        from mnemoscope.rewriting import wordnet as database

        return database.wordnet(wordnet)
    from mnemoscope.rewriting.neighbours import neighbours

    assert model is not None
    return neighbours(model)
