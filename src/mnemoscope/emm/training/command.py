"""What `emm train` is given as text, as the options of a set, a network and a training."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mnemoscope.emm.data.images import Images
from mnemoscope.emm.data.options import SetOptions, SubsetOptions
from mnemoscope.emm.networks import NetworkOptions
from mnemoscope.emm.training.loop import train
from mnemoscope.emm.training.options import EmmTrainOptions
from mnemoscope.emm.training.planning import plan
from mnemoscope.errors import UsageError
from mnemoscope.run.options import check_given
from mnemoscope.run.reading import Json
from mnemoscope.run.settings import Settings, one_of
from mnemoscope.training.options import chosen

SMALL = {
    **{"width": 32, "multipliers": (1, 1), "blocks": 1, "attention": (), "dropout": 0, "preconditioning": "edm"},
    "learning_rate": 2e-3,
}
PAPER = {
    **{"epochs": 40_000, "batch_size": 512, "learning_rate": 2e-4, "ramp_up_epochs": 200, "ema": ("mode2",)},
    **{"order": "fixed", "snapshots": 16, "samples": 10_000},
}
PRESETS: dict[str, Settings] = {"small": SMALL, "paper": PAPER}
REPLACED = {"steps": "epochs", "ramp_up": "ramp_up_epochs"}  # an option, and what of a preset it takes the place of


@dataclass(frozen=True)
class AskedTraining:
    """Everything that a training is given."""

    data: SetOptions
    subset_size: int | None
    subset_seed: int
    network: NetworkOptions
    options: EmmTrainOptions

    @classmethod
    def of(cls, preset: str, given: Mapping[str, Any]) -> "AskedTraining":
        """What was given (not None) over a preset, over the defaults. Raises `UsageError` for what cannot be."""
        options = parsed(SubsetOptions, parsed(NetworkOptions, given))
        base = dict(PRESETS[one_of("--preset", preset, tuple(PRESETS))])
        for name, other in REPLACED.items():
            if name in options:
                base.pop(other, None)
        made = {**base, **options, "source": options["data"], "augmentation": bool(options.get("augment"))}
        for kind in (SetOptions, NetworkOptions):
            check_given(kind, made)
        size, seed = options.get("subset_size"), options.get("subset_seed", 0)
        return cls(chosen(SetOptions, made), size, seed, chosen(NetworkOptions, made), chosen(EmmTrainOptions, made))

    def images(self) -> Images:
        """The training set."""
        return self.data.images(self.subset_size, self.subset_seed)

    def plan(self) -> Iterator[str]:
        """What it would do, in lines."""
        return plan(self.images(), self.network, self.options)

    def told(self) -> Settings:
        """Where the images come from, by the names of the options."""
        settings = {field.name: getattr(self.data, field.name) for field in fields(self.data) if field.name != "source"}
        return {"data": self.data.source, "subset_size": self.subset_size, "subset_seed": self.subset_seed, **settings}

    def run(self, out: Path, overwrite: bool) -> Json:
        """Train; the summary, empty on all processes but the first."""
        return train(self.images(), out, self.network, self.options, source=self.told(), overwrite=overwrite)


def parsed(kind: type, given: Mapping[str, Any]) -> Settings:
    """What was given (not None), the lists of options that are written with commas read."""
    options = {name: value for name, value in given.items() if value is not None}
    for option in (each for each in fields(kind) if each.metadata.get("commas") and each.name in options):
        listed = numbers(f"--{option.name}", options[option.name])
        options[option.name] = listed[0] if option.name == "classes" and len(listed) == 1 else listed
    check_given(kind, options)
    return options


def numbers(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers with commas between, or `none`; raises `UsageError` for anything else."""
    try:
        return () if text == "none" else tuple(int(word) for word in str(text).split(","))
    except ValueError:
        raise UsageError(f"{option} {text} is no list; write whole numbers with commas between, or none.") from None
