"""Top-k search against the chunked way of the original code, its memory, and planted near-copies found exactly and not.

    python benchmarks/search.py [--queries 1000] [--vectors 100000] [--chunks 100] [--rounds 3]

The original reads every shard, a pickle of float32 vectors, again for each of `--chunks` pieces of the queries and
keeps the best match alone. `--vectors` is the corpus for
everything; 100,000 take a minute or two and 0.5 GB of disk. Needs Linux for the memory, and the extra `search`.
"""

import json
import pickle
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import timing
from mnemoscope.search.ann import approximate
from mnemoscope.search.searching import search_index
from mnemoscope.search.shards import FORMAT, Index, sha256_of
from mnemoscope.search.topk import TopK

DIMENSION, SHARD, K = 512, 10_000, 10
COSINES = (0.95, 0.8, 0.6, 0.5)  # of the planted copies to their originals


def unit(random: np.random.Generator, count: int) -> np.ndarray:
    vectors = random.standard_normal((count, DIMENSION), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def written(folder: Path, vectors: int, copies: np.ndarray, places: np.ndarray, *, pickles: bool) -> Index:
    """An index of random unit vectors with the given ones at their places, and the same as pickles."""
    (folder / "shards").mkdir(parents=True)
    random, shards = np.random.default_rng(0), []
    for number, start in enumerate(range(0, vectors, SHARD)):
        block = unit(random, min(SHARD, vectors - start))
        own = (places >= start) & (places < start + len(block))
        block[places[own] - start] = copies[own]
        file = folder / "shards" / f"emb-{number:05d}.npy"
        np.save(file, block.astype("<f2"))
        shards.append({"count": len(block), "listed": len(block), "files": {file.name: sha256_of(file)}})
        if pickles:
            with (folder / f"{number:05d}.pkl").open("wb") as opened:
                pickle.dump({"features": block, "indexes": [str(start + i) for i in range(len(block))]}, opened)
    identity = {"features": "random", "preset": "random", "weights": "none", "dimension": DIMENSION}
    segment = {"source": "random", "captions": None, "column": None, "limit": None, "content": "random", "counts": {}}
    meta = {"format": FORMAT, "dtype": "float16", "identity": identity, **segment}
    meta |= {"listed": vectors, "shard_size": SHARD, "shards": shards}
    (folder / "meta.json").write_text(json.dumps(meta))
    return Index.open(folder)


def chunked(queries: np.ndarray, folder: Path, chunks: int) -> tuple[np.ndarray, np.ndarray]:
    """The original's way: for each piece of the queries all shards are read again; the best match of each query."""
    scores, keys = [], []
    for piece in torch.from_numpy(queries).chunk(chunks):
        best = torch.full((len(piece),), -torch.inf)
        names = np.full(len(piece), "", object)
        for file in sorted(folder.glob("*.pkl")):
            with file.open("rb") as opened:
                shard = pickle.load(opened)
            found = (torch.from_numpy(shard["features"]) @ piece.T).max(dim=0)
            better = (found.values > best).numpy()
            names[better] = np.array(shard["indexes"], object)[found.indices.numpy()[better]]
            best = torch.maximum(best, found.values)
        scores.append(best.numpy())
        keys.append(names)
    return np.concatenate(scores), np.concatenate(keys).astype(np.int64)


def streamed(queries: np.ndarray, index: Index, k: int) -> tuple[np.ndarray, np.ndarray]:
    running = TopK(queries, k)
    for shard in index.shards:
        running.add(shard.vectors(), shard.first)
    return running.result()


def taken(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    result = work()
    return time.process_time() - started, result


def most_memory(work: Callable[[], Any]) -> float:
    """MiB of the process's own memory that come on top while it works; mapped files are not counted."""

    def own() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

    before, most, done = own(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            most[0] = max(most[0], own())

    watcher = threading.Thread(target=watch)
    watcher.start()
    work()
    done.set()
    watcher.join()
    return (max(most[0], own()) - before) / 1024


def speed(queries: np.ndarray, index: Index, chunks: int, rounds: int, results: timing.Results) -> None:
    known = torch.from_numpy(np.concatenate([shard.vectors() for shard in index.shards]).astype(np.float32))
    first = f"original, {chunks} chunks, top 1"
    ways: dict[str, Callable[[], Any]] = {
        first: lambda: chunked(queries, index.folder, chunks),
        "original, 1 chunk, top 1": lambda: chunked(queries, index.folder, 1),
        "one pass, top 1": lambda: streamed(queries, index, 1),
        f"one pass, top {K}": lambda: streamed(queries, index, K),
        f"one pass with checksums, top {K}": lambda: search_index(index, queries, K),
        "bound: the product alone": lambda: [piece @ torch.from_numpy(queries).T for piece in known.split(SHARD)],
    }
    streamed(queries[:100], index, 1)  # warm
    found = timing.in_turn(ways, rounds, warm=False)
    what = f"search of {len(known):,} vectors of {DIMENSION} numbers"
    results.times(what, f"{len(queries):,} queries", found, bound="bound: the product alone")
    same = found[first].last[1] == found["one pass, top 1"].last[1][:, 0]
    results.say(f"Same best match: {same.mean():.4%} (float16 storage may swap near-equal ones).")


def planted(random: np.random.Generator, count: int) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """For each cosine: near-copies, as queries, and the vectors they are copies of."""
    for cosine in COSINES:
        originals, noise = unit(random, count), unit(random, count)
        noise -= (noise * originals).sum(1, keepdims=True) * originals
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        yield cosine, cosine * originals + (1 - cosine**2) ** 0.5 * noise, originals


def recall(index: Index, sets: list[tuple[float, np.ndarray]], places: np.ndarray, results: timing.Results) -> None:
    count = len(sets[0][1])
    queries = np.concatenate([copies for _, copies in sets])
    seconds, exact = taken(lambda: search_index(index, queries, K))
    ways = {"exact": (exact, f"{seconds:.2f} s")}
    for kind in ("faiss", "lance"):
        building, _ = taken(lambda kind=kind: approximate(index, queries[:1], K, kind=kind))
        seconds, (found, measured) = taken(lambda kind=kind: approximate(index, queries, K, kind=kind))
        told = f"recall@1 {measured.at_1:.3f}, recall@{K} {measured.at_k:.3f} on {measured.sampled} queries"
        ways[kind] = (found, f"{seconds:.2f} s after {building:.1f} s of building; {told}; {measured.lists} lists")
    for name, (found, told) in ways.items():
        hits = (found.places[:, 0] == places).reshape(len(sets), count).mean(axis=1)
        shares = ", ".join(f"{share:.1%} at cosine {c}" for share, (c, _) in zip(hits, sets, strict=True))
        results.say(f"{name}: found of the planted copies {shares}; {told}.")


def main() -> None:
    parser = timing.parser(__doc__, rounds=3)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--chunks", type=int, default=100)
    parser.add_argument("--planted", type=int, default=100, help="copies planted at each cosine")
    asked = timing.parsed(parser, queries=120, vectors=1000, chunks=2, planted=4)
    results = timing.Results(asked.rows)
    torch.set_num_threads(1)
    random = np.random.default_rng(1)
    queries = unit(random, asked.queries)
    sets = list(planted(random, asked.planted))
    places = np.random.default_rng(2).choice(asked.vectors, asked.planted * len(sets), replace=False)
    originals = np.concatenate([vectors for *_, vectors in sets])
    with tempfile.TemporaryDirectory() as folder:
        index = written(Path(folder) / "index", asked.vectors, originals, places, pickles=True)
        speed(queries, index, asked.chunks, asked.rounds, results)
        for count in (asked.vectors // 10, asked.vectors):
            few = index.shards[: max(1, count // SHARD)]
            memory = most_memory(lambda few=few: streamed(queries, Index(index.folder, index.meta, few), K))
            results.say(f"Memory of one pass over {sum(s.count for s in few):,} vectors: {memory:.0f} MiB.")
        recall(index, [(cosine, copies) for cosine, copies, _ in sets], places, results)


if __name__ == "__main__":
    main()
