"""A training set: rows that can be trained on, how often each is shown, and what a view of a row is."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.tokens import over_limit
from mnemoscope.pictures.counting import caption_counts
from mnemoscope.run.reading import Json
from mnemoscope.training.data.conditioning import Captions
from mnemoscope.training.data.duplication import Shares, shares
from mnemoscope.training.data.framing import Framing
from mnemoscope.training.data.options import DataOptions
from mnemoscope.training.data.rows import DataRow, ManifestRow, base_rows, image_of, memorized_rows, memorized_source
from mnemoscope.training.data.spool import Spool

TOKENIZED = 1000  # captions at once


@dataclass(frozen=True)
class Example:
    """One view of a row: what the network is shown, and under which caption.

    `caption` is the text of the row's style and `used` what the transforms made of it, of which `cut_off` tokens lie
    beyond the tokenizer's limit.
    """

    index: int
    pixels: Float[Tensor, "3 H W"]
    caption: str
    used: str
    group: str
    weight: float
    cut_off: int


class TrainingSet:
    """Rows of the data, "memorized" before "base"; every view of one is a function of (seed, epoch, index).

    Pictures that cannot be used are in `left_out`, each with its reason. `shares` says how often rows are shown, `told`
    what a summary says of captions.
    """

    def __init__(
        self,
        options: DataOptions,
        rows: Sequence[DataRow],
        left_out: Sequence[DataRow],
        tokenizer: Any,
        resolution: int,
        told: Mapping[str, Any] | None = None,
    ) -> None:
        self.options, self.rows, self.left_out = options, list(rows), list(left_out)
        self.tokenizer, self.resolution, self.told = tokenizer, resolution, dict(told or {})
        self.captions = Captions(options, tokenizer)
        self.framing = Framing(resolution, options.center_crop, options.random_flip, options.seed)
        memorized = sum(row.group == "memorized" for row in self.rows)
        self.shares: Shares = shares(options, memorized, len(self.rows) - memorized)
        if options.duplication == "image" and all(len(self.possible(k)) < 2 for k in range(memorized)):
            needs = "--duplication image needs duplicated pictures with several captions"
            raise UsageError(f"{needs}, and {options.data} has none; give --captions, or --duplication both.")

    @classmethod
    def from_options(
        cls, options: DataOptions, tokenizer: Any = None, *, resolution: int | None = None, folder: Path | None = None
    ) -> "TrainingSet":
        """Look at every picture once, and keep those that can be trained on.

        `tokenizer` is the model's, if it has one, and `resolution` the model's own, for options that leave it open.
        Pictures that cannot be read again in any order are copied to a temporary file in `folder`. Raises `UsageError`
        for sources that are none, without any usable picture, or a base set that is too small.
        """
        side = options.resolution or resolution
        if side is None:
            raise UsageError("No resolution is known; give --resolution.")
        spool, captions = Spool(folder), Captions(options, tokenizer)
        source = memorized_source(options)
        rows, left_out = _usable(memorized_rows(options, spool, source), captions.lacking, None)
        if not rows:
            first = f"{left_out[0].file}: {left_out[0].status}"
            raise UsageError(f"None of the {len(left_out)} pictures of {options.data} can be trained on ({first}).")
        told = caption_counts([bool(row.captions) for row in (*rows, *left_out)], source)
        if options.base is not None:
            wanted = round(options.repeats * len(rows) * options.base_ratio)
            more, unusable = _usable(base_rows(options, spool), captions.lacking, wanted)
            if len(more) < wanted:
                most = f"at most {len(more) / options.repeats / len(rows):.4g}"
                has = f"{options.base} has {len(more)} usable pictures, and --base-ratio {options.base_ratio:g} asks"
                raise UsageError(f"{has} for {wanted}; give more pictures, or a ratio of {most}.")
            rows, left_out = [*rows, *more], [*left_out, *unusable]
        return cls(options, rows, left_out, tokenizer, side, {"picture_captions": told})

    def __len__(self) -> int:
        return len(self.rows)

    def possible(self, index: int) -> tuple[str, ...]:
        """All captions that a row can be shown under, before the transforms."""
        return self.captions.possible(self.rows[index], bool(self.shares.duplicated[index]))

    def texts(self, index: int, epoch: int) -> tuple[str, str]:
        """The caption of a view before and after the transforms; no picture is opened."""
        asked = self.captions.asked(self.rows[index], bool(self.shares.duplicated[index]), epoch, index)
        return asked, self.captions.used(asked, epoch, index)

    def pixels(self, index: int, epoch: int) -> Float[Tensor, "3 H W"]:
        """Pixels of a view in [-1, 1]."""
        return self.framing.view(image_of(self.rows[index]), epoch, index)

    def example(self, index: int, epoch: int) -> Example:
        """One view of a row; where a row comes twice in an epoch, each view counts as an epoch (see `Order.batch`)."""
        asked, used = self.texts(index, epoch)
        (cut,) = over_limit(self.tokenizer, [used])
        weight, group = float(self.shares.weights[index]), self.rows[index].group
        return Example(index, self.pixels(index, epoch), asked, used, group, weight, cut)

    def expected_views(self, samples: int | float) -> Float[np.ndarray, " N"]:
        """How often each row is expected to be shown among so many samples."""
        return self.shares.expected_views(samples)

    def manifest(self) -> list[ManifestRow]:
        """A row for each row of the set, in order: file, captions, class, weight, copies, groups, hash.

        `dup_group` is the first row whose file has the same bytes. Pictures that were left out are not among them.
        """
        first: dict[str | None, int] = {}
        groups = [first.setdefault(row.sha256, k) for k, row in enumerate(self.rows)]
        weights, copies = self.shares.weights.tolist(), self.shares.copies.tolist()
        columns = zip(self.rows, weights, copies, groups, strict=True)
        return [{**row.entry(), "weight": w, "copies": c, "dup_group": g} for row, w, c, g in columns]

    @cached_property
    def content(self) -> str:
        """16 hex digits of a hash of the manifest, by which a run knows its data again."""
        return hashlib.sha256(json.dumps(self.manifest(), ensure_ascii=True).encode()).hexdigest()[:16]

    def report(self) -> Json:
        """What the data came to: rows, what was left out and why, views of an epoch, captions that are cut off."""
        cut = [n for k in range(0, len(self.rows), TOKENIZED) for n in self._cut_off(range(k, k + TOKENIZED))]
        short = [row for row in self.rows if row.size and min(row.size) < self.resolution]
        return {
            "memorized": sum(row.group == "memorized" for row in self.rows),
            "base": sum(row.group == "base" for row in self.rows),
            "left_out": len(self.left_out),
            "left_out_reasons": {row.file: row.status for row in self.left_out[:20]},
            "exact_duplicates": sum(row["dup_group"] != k for k, row in enumerate(self.manifest())),
            "enlarged": len(short),
            "captions": len(cut),
            "captions_cut_off": sum(n > 0 for n in cut),
            "most_tokens_cut_off": max(cut),
            **self.shares.report(),
            **self.told,
            "data_hash": self.content,
        }

    def _cut_off(self, places: range) -> list[int]:
        texts = [text for k in places if k < len(self.rows) for text in self.possible(k)]
        return over_limit(self.tokenizer, texts)


def _usable(
    rows: Iterable[DataRow], lacking: Callable[[DataRow], str | None], wanted: int | None
) -> tuple[list[DataRow], list[DataRow]]:
    """The first `wanted` rows that can be trained on, and those before the last of them that cannot, with reasons."""
    left_out: list[DataRow] = []

    def usable() -> Iterable[DataRow]:
        for row in rows:
            reason = row.status if row.status != "ok" else lacking(row)
            if reason is None:
                yield row
            else:
                left_out.append(row.because(reason))

    return list(islice(usable(), wanted)), left_out
