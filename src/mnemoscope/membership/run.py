"""Was this set used: signals of every picture into a run, and what they say together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.job.batching import Batch, Pass, prompt_run
from mnemoscope.job.seeds import content_of, seeds_of
from mnemoscope.membership.plain import plain_features
from mnemoscope.membership.sets import OPTIONS, SetPicture, Sets, of_role, refuse_mixed
from mnemoscope.membership.verdict import concluded
from mnemoscope.methods.pictured import SeenPictures, known
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.run.image_rows import MembershipRow
from mnemoscope.run.reading import Json
from mnemoscope.run.run import Run
from mnemoscope.stats import FEWEST
from mnemoscope.stats.checks import require_share


@dataclass(frozen=True)
class Membership:
    """What is computed of each picture, and what is asked of the set.

    `methods` are signals, all that the pictures allow if none; `params` are theirs, as `registry.parted` takes them.
    `alpha` is the rate of false alarms of the test of the set, `fpr` that at which a single picture is named. With
    `adjust` signals count as far as plain features of a picture do not explain them.
    """

    methods: Sequence[str] = ()
    params: Mapping[str, Any] | None = None
    seed: int = 0
    seeds: int = 1
    alpha: float = 0.05
    fpr: float = 0.01
    adjust: bool = True

    def signals(self, model: Denoiser, captioned: bool) -> dict[str, partial[Any]]:
        """The functions by name, their parameters given; raises `UsageError` for one that lacks what it needs."""
        has = known(model, captioned)
        usual = [name for name in registry.names("signal") if has >= set(registry.get("signal", name).needs)]
        found = [registry.get("signal", name) for name in self.methods or usual]
        for each in found:
            if lacking := set(each.needs) - has:
                why = model.family.unguided or "none of the pictures has one"
                raise UsageError(f"{each.name} needs {' and '.join(sorted(lacking))}, and there are none: {why}.")
        own = registry.parted(found, self.params or {}, "--param ")
        return {m.name: partial(m.function, **registry.checked(m, given)) for m, given in zip(found, own, strict=True)}


def run_membership(
    model: Denoiser,
    sets: Sets,
    out: Path | str,
    membership: Membership | None = None,
    *,
    batch: int | str = "auto",
    overwrite: bool = False,
) -> Json:
    """Compute the signals of every picture of the sets into a run, test the set, and return the summary.

    Raises `UsageError` for sets of fewer than 20 pictures, before the work.
    """
    asked = membership or Membership()
    sets = sets.without_captions() if model.family.name == "unconditional" else sets
    require_enough(sets)
    refuse_mixed(sets.entries)
    require_share("alpha", asked.alpha)
    require_share("fpr", asked.fpr)
    signals, seeds = asked.signals(model, sets.captioned), seeds_of(asked.seed, asked.seeds)
    chosen = replace(asked, methods=tuple(signals), params=dict(asked.params or {}))
    settings = {**vars(chosen), "content": content_of(sets.prompts)}
    entries = {each.prompt.id: each for each in sets.entries}
    work = partial(membership_rows, model, entries, signals, seeds)

    def finish(run: Run, rows: list[MembershipRow]) -> tuple[list[MembershipRow], Json]:
        rows, said = concluded(rows, alpha=asked.alpha, fpr=asked.fpr, adjust=asked.adjust, seed=asked.seed)
        return rows, {**said, "copies": sets.copies, "captioned": sets.captioned}

    about = {name: registry.get("signal", name).about for name in asked.methods or signals}
    return prompt_run(
        out,
        "membership",
        MembershipRow,
        settings,
        [model],
        sets.prompts,
        Batch.of(model, batch, 1, graph="noise_optimization" in signals),
        lambda run: [Pass("membership", work)],
        finish,
        overwrite=overwrite,
        methods=about,
    )


def require_enough(sets: Sets) -> None:
    """Raise `UsageError` for sets of fewer pictures than a p is said of."""
    for role in dict.fromkeys(each.role for each in sets.entries):
        if (count := len(list(of_role(sets.entries, role)))) < FEWEST:
            raise UsageError(f"{OPTIONS[role]} has {count} different pictures; a test of a set needs {FEWEST} or more.")
    for role in ("picture", "held-out"):
        if not any(each.role == role for each in sets.entries):
            raise UsageError(f"There is no picture in {OPTIONS[role]}; give both --pictures and --held-out.")


@torch.no_grad()
def membership_rows(
    model: Denoiser,
    entries: Mapping[str, SetPicture],
    signals: Mapping[str, partial[Any]],
    seeds: Sequence[int],
    prompts: list[Prompt],
) -> list[MembershipRow]:
    """One row for each picture of a batch, known by its prompt's id."""
    listed = [entries[p.id] for p in prompts]
    images = [each.picture.image() for each in listed]
    captions = [each.prompt.text for each in listed] if listed[0].captioned else None
    pictured = SeenPictures.of(model, images, captions, seeds)
    values = {name: signal(pictured).double().cpu().tolist() for name, signal in signals.items()}
    return [
        {
            "id": each.prompt.id,
            "prompt": each.prompt.text,
            "file": each.picture.key,
            "role": each.role,
            "signals": {name: own[k] for name, own in values.items()},
            "plain": plain_features(images[k], each.prompt.text, len(each.picture.data())),
            "status": "ok",
        }
        for k, each in enumerate(listed)
    ]
