"""The commands that index images, search them and find those that are there more than once."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import group
from mnemoscope.cli.command import command

if TYPE_CHECKING:
    from mnemoscope.search.linking import Linkage

index = group("index", "Search training images of any number: build an index, search it, find duplicates in it.")

Source = Annotated[str, typer.Argument(help="Images: folder, zip, tars, parquet, hub:owner/name, a run of generate.")]
Indexed = Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of an index.")]
BatchSize = Annotated[int, opt.of(opt.RUN, "Images that the features are computed of at a time.", min=1)]


@command(index)
def build(
    source: Source,
    features: opt.Features,
    out: Annotated[Path, opt.of(opt.RUN, "Folder of the index.")],
    captions: opt.Captions = None,
    column: opt.Column = None,
    limit: opt.Limit = None,
    shard_size: Annotated[int, opt.of(opt.RUN, "Images in one file of vectors.", min=1)] = 10_000,
    batch_size: BatchSize = 32,
    runner: opt.Runner = "local",
    gpus: opt.Gpus = 0.0,
    device: opt.Device = "auto",
    overwrite: opt.Overwrite = False,
) -> None:
    """Embed every image of a source into an index; what was interrupted goes on."""
    from rich.console import Console

    from mnemoscope.report.index import print_index
    from mnemoscope.run.settings import one_of
    from mnemoscope.search.build import build_index

    meta = build_index(
        source,
        out,
        lambda: features.descriptor(device),
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


@command(index)
def add(
    index: Indexed,
    source: Source,
    own: opt.OwnFeatures,
    captions: opt.Captions = None,
    column: opt.Column = None,
    limit: opt.Limit = None,
    batch_size: BatchSize = 32,
    runner: opt.Runner = "local",
    gpus: opt.Gpus = 0.0,
    device: opt.Device = "auto",
) -> None:
    """Embed every image of a further source into an index, behind those that it has."""
    from rich.console import Console

    from mnemoscope.report.index import print_index
    from mnemoscope.run.settings import one_of
    from mnemoscope.search.adding import add_source
    from mnemoscope.search.shards import Index

    before = Index.open(index)
    meta = add_source(
        index,
        source,
        lambda: own.like(before.identity).descriptor(device),
        captions=captions,
        column=column,
        limit=limit,
        batch=batch_size,
        runner=one_of("--runner", runner, ("local", "ray")),  # type: ignore[arg-type]
        gpus=gpus,
    )
    print_index(index, Console())
    if meta["statuses"].get("unreadable", 0) > before.meta.get("statuses", {}).get("unreadable", 0):
        raise typer.Exit(1)


@command(index)
def remove(
    index: Indexed,
    keys: Annotated[
        list[str] | None, typer.Argument(help="Names of images, as search and duplicates list them.")
    ] = None,
    file: Annotated[Path | None, opt.of(opt.INPUT, "Text file with a name in each line.", "--keys")] = None,
) -> None:
    """Take images out of an index: their vectors, captions and addresses."""
    from rich.console import Console

    from mnemoscope.report.index import print_index
    from mnemoscope.search.removing import read_keys, remove_pictures

    remove_pictures(index, read_keys(keys or [], file))
    print_index(index, Console())


@command(index)
def merge(
    indexes: Annotated[list[Path], typer.Argument(metavar="INDEX INDEX ...", help="Folders of indexes.")],
    out: Annotated[Path, opt.of(opt.RUN, "Folder of the new index.")],
) -> None:
    """Make one index of several with the same features; nothing is embedded again."""
    from rich.console import Console

    from mnemoscope.report.index import print_index
    from mnemoscope.search.merging import merge_indexes

    merge_indexes(indexes, out)
    print_index(out, Console())


@command(index)
def search(
    index: Indexed,
    queries: Annotated[str, typer.Argument(help="Images to look for: an image file, or what an index is built of.")],
    own: opt.OwnFeatures,
    out: opt.Out,
    top_k: Annotated[int, opt.of(opt.METHOD, "Nearest images of each query.", min=1)] = 5,
    captions: opt.Captions = None,
    column: opt.Column = None,
    limit: opt.Limit = None,
    batch_size: BatchSize = 32,
    runner: opt.Runner = "local",
    ann: Annotated[str | None, opt.of(opt.METHOD, "Approximate search: faiss or lance; exact if none.")] = None,
    ann_uri: Annotated[str | None, opt.of(opt.METHOD, "Where the Lance table is: s3://bucket/name.lance.")] = None,
    probes: Annotated[int | None, opt.of(opt.METHOD, "Lists of an approximate search to look at.", min=1)] = None,
    device: opt.Device = "auto",
    overwrite: opt.Overwrite = False,
) -> None:
    """Find the images of an index nearest to each query, and write a report."""
    from mnemoscope.run.settings import one_of
    from mnemoscope.search.querying import run_search
    from mnemoscope.search.shards import Index

    identity = Index.open(index).identity
    summary = run_search(
        index,
        queries,
        out,
        own.like(identity).descriptor(device),
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
    )
    opt.show(out, summary["failed"] or len(summary["gaps"]))


@command(index)
def info(index: Indexed) -> None:
    """Print what an index holds: counts, features, why images are missing, size."""
    from rich.console import Console

    from mnemoscope.report.index import print_index

    if print_index(index, Console()):
        raise typer.Exit(1)


@command(index)
def duplicates(
    index: Indexed,
    out: Annotated[Path, opt.of(opt.RUN, "Folder of the lists.")],
    threshold: Annotated[float, opt.of(opt.METHOD, "Similarity from which two images are duplicates.")] = 0.95,
    linkage: Annotated[str, opt.of(opt.METHOD, "single: any pair links; star: all are alike to the first.")] = "single",
) -> None:
    """List groups of near-duplicates in an index: how often each training image is there."""
    from rich.console import Console

    from mnemoscope.report.index import print_duplicates
    from mnemoscope.run.settings import one_of
    from mnemoscope.search.duplicates import run_duplicates

    known: Linkage = one_of("--linkage", linkage, ("single", "star"))  # type: ignore[assignment]
    print_duplicates(run_duplicates(index, out, threshold=threshold, linkage=known), out, Console())
