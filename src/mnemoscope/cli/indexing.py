"""The commands that index images, search them and find those that are there more than once."""

from pathlib import Path
from typing import Annotated

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app

index = typer.Typer(help="Search training images of any number: build an index, search it, find duplicates in it.")
app.add_typer(index, name="index", no_args_is_help=True)

Source = Annotated[str, typer.Argument(help="Images: folder, zip, tars, parquet, hub:owner/name, a run of generate.")]
Indexed = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of an index.")]
Captions = Annotated[Path | None, typer.Option(help="File with the captions of a folder or zip: json, jsonl or csv.")]
Images = Annotated[int | None, typer.Option(min=1, help="Take only the first N images.")]
BatchSize = Annotated[int, typer.Option(min=1, help="Images that the features are computed of at a time.")]
Runner = Annotated[str, typer.Option(help="local, or ray for the machines of a Ray cluster.")]


@index.command()
def build(
    source: Source,
    out: Annotated[Path, typer.Option(help="Folder of the index.")],
    features: opt.Features = "sscd",
    preset: opt.Preset = None,
    weights: opt.Weights = None,
    captions: Captions = None,
    column: opt.Column = None,
    limit: Images = None,
    shard_size: Annotated[int, typer.Option(min=1, help="Images in one file of vectors.")] = 10_000,
    batch_size: BatchSize = 32,
    runner: Runner = "local",
    gpus: Annotated[float, typer.Option(min=0.0, help="Share of a GPU for each worker of Ray.")] = 0.0,
    device: opt.Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite/--resume", help="Start anew, or go on in --out.")] = False,
    config: opt.ConfigOption = None,
) -> None:
    """Embed every image of a source into an index; what was interrupted goes on."""
    from functools import partial

    from rich.console import Console

    from mnemoscope.features import descriptor
    from mnemoscope.report.index import print_index
    from mnemoscope.run.settings import one_of
    from mnemoscope.search.build import build_index

    meta = build_index(
        source,
        out,
        partial(descriptor, features, preset=preset, weights=weights, device=device),
        captions=captions,
        column=column,
        limit=limit,
        shard_size=shard_size,
        batch=batch_size,
        runner=one_of("--runner", runner, ("local", "ray")),  # type: ignore[arg-type]
        gpus=gpus,
        overwrite=overwrite,
    )
    print_index(out, Console())
    if meta["statuses"].get("unreadable"):
        raise typer.Exit(1)


@index.command()
def search(
    index: Indexed,
    queries: Annotated[str, typer.Argument(help="Images to look for: an image file, or what an index is built of.")],
    out: opt.Out,
    top_k: Annotated[int, typer.Option(min=1, help="Nearest images of each query.")] = 5,
    features: Annotated[str | None, typer.Option(help="The index's own if not given.")] = None,
    preset: opt.Preset = None,
    weights: opt.Weights = None,
    captions: Captions = None,
    column: opt.Column = None,
    limit: Images = None,
    batch_size: BatchSize = 32,
    runner: Runner = "local",
    ann: Annotated[str | None, typer.Option(help="Approximate search: faiss or lance. Exact if not given.")] = None,
    ann_uri: Annotated[str | None, typer.Option(help="Where the Lance table is, as s3://bucket/name.lance.")] = None,
    probes: Annotated[int | None, typer.Option(min=1, help="Lists of an approximate search to look through.")] = None,
    device: opt.Device = "auto",
    overwrite: opt.Overwrite = False,
    config: opt.ConfigOption = None,
) -> None:
    """Find the images of an index nearest to each query, and write a report."""
    from mnemoscope.features import descriptor
    from mnemoscope.run.settings import one_of
    from mnemoscope.search.querying import run_search
    from mnemoscope.search.shards import Index

    own = Index.open(index).identity
    summary = run_search(
        index,
        queries,
        out,
        descriptor(features or own.features, preset=preset or own.preset, weights=weights, device=device),
        k=top_k,
        captions=captions,
        column=column,
        limit=limit,
        batch=batch_size,
        runner=one_of("--runner", runner, ("local", "ray")),  # type: ignore[arg-type]
        ann=ann and one_of("--ann", ann, ("faiss", "lance")),  # type: ignore[arg-type]
        uri=ann_uri,
        probes=probes,
        overwrite=overwrite,
        asked=opt.asked_for(weights=weights),
    )
    opt.show(out, summary["failed"] or len(summary["gaps"]))


@index.command()
def info(index: Indexed) -> None:
    """Print what an index holds: counts, features, why images are missing, size."""
    from rich.console import Console

    from mnemoscope.report.index import print_index

    if print_index(index, Console()):
        raise typer.Exit(1)


@index.command()
def duplicates(
    index: Indexed,
    out: Annotated[Path, typer.Option(help="Folder of the lists.")],
    threshold: Annotated[float, typer.Option(help="Similarity from which two images are duplicates.")] = 0.95,
) -> None:
    """List groups of near-duplicates in an index: how often each training image is there."""
    from rich.console import Console

    from mnemoscope.report.index import print_duplicates
    from mnemoscope.search.duplicates import run_duplicates

    print_duplicates(run_duplicates(index, out, threshold=threshold), out, Console())
