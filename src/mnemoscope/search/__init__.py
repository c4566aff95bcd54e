"""Exact and approximate search of images by their vectors, in indexes of any size."""

from mnemoscope.search.adding import add_source
from mnemoscope.search.build import build_index
from mnemoscope.search.duplicates import duplicate_groups, run_duplicates
from mnemoscope.search.merging import merge_indexes
from mnemoscope.search.querying import run_search
from mnemoscope.search.removing import remove_pictures
from mnemoscope.search.searching import Found, rows_at, search_index
from mnemoscope.search.shards import Index, Shard
from mnemoscope.search.topk import TopK, merge, top_k

__all__ = [
    "Found",
    "Index",
    "Shard",
    "TopK",
    "add_source",
    "build_index",
    "duplicate_groups",
    "merge",
    "merge_indexes",
    "remove_pictures",
    "rows_at",
    "run_duplicates",
    "run_search",
    "search_index",
    "top_k",
]
