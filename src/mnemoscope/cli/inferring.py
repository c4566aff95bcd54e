"""The command that asks whether a set of pictures was trained on."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app
from mnemoscope.cli.command import command
from mnemoscope.cli.settings_file import NAMES

if TYPE_CHECKING:
    from mnemoscope.membership.run import Membership
    from mnemoscope.membership.sets import Sets

KINDS = "a folder, zip, tars, parquet, an index, hub:owner/name."


@dataclass(frozen=True, kw_only=True)
class PictureSets:
    """The sets of pictures of a test."""

    PANEL: ClassVar = opt.INPUT
    pictures: Annotated[str, opt.of(opt.INPUT, f"The set under question: {KINDS}")]
    held_out: Annotated[str, opt.of(opt.INPUT, "Pictures drawn as those were, and never trained on.")]
    public: Annotated[
        str | None, opt.of(opt.INPUT, "Pictures that surely were trained on: the score is fitted on them.")
    ] = None
    captions: opt.Captions = None
    held_out_captions: Annotated[Path | None, opt.of(opt.INPUT, "The same of --held-out.")] = None
    public_captions: Annotated[Path | None, opt.of(opt.INPUT, "The same of --public.")] = None
    limit: Annotated[int | None, opt.of(opt.INPUT, "Read only the first N of each set.", min=1)] = None

    def read(self) -> "Sets":
        """The pictures of all sets."""
        from mnemoscope.membership.sets import Role, read_sets

        given: dict[Role, tuple[str | None, Path | None]] = {
            "picture": (self.pictures, self.captions),
            "held-out": (self.held_out, self.held_out_captions),
            "public": (self.public, self.public_captions),
        }
        sources = {role: source for role, (source, _) in given.items() if source is not None}
        captions = {role: file for role, (_, file) in given.items() if file is not None}
        return read_sets(sources, captions, self.limit)


@dataclass(frozen=True, kw_only=True)
class SetTest:
    """What is computed of a picture, and what is asked of the set."""

    PANEL: ClassVar = opt.METHOD
    method: Annotated[
        list[str] | None,
        opt.of(
            opt.METHOD,
            "A signal, all that the pictures allow if none; see mnemoscope list signal. Repeat it.",
            autocompletion=opt.methods("signal"),
            metavar=NAMES,
        ),
    ] = None
    param: opt.Param = None
    seed: opt.Seed = 0
    seeds: opt.Seeds = 1
    alpha: Annotated[float, opt.of(opt.METHOD, "Rate of false alarms of the test.", min=0.0, max=1.0)] = 0.05
    fpr: Annotated[float, opt.of(opt.METHOD, "That at which a single picture is named.", min=0.0, max=1.0)] = 0.01
    adjust: Annotated[
        bool, opt.of(opt.METHOD, "Take from signals what a picture's plain looks explain.", "--adjust/--no-adjust")
    ] = True

    def asked(self) -> "Membership":
        """They as a test takes them."""
        from mnemoscope.membership.run import Membership
        from mnemoscope.run.settings import parameters

        given = {k: v for k, v in vars(self).items() if k not in ("method", "param")}
        return Membership(tuple(self.method or ()), parameters(self.param), **given)


@command(app, spreads=True)
def membership(
    model: opt.Model,
    sets: PictureSets,
    test: SetTest,
    out: opt.Out,
    batch_size: opt.Batch = "auto",
    overwrite: opt.Overwrite = False,
) -> None:
    """Test whether a set of pictures was trained on, against pictures that were held out."""
    from mnemoscope.membership.run import run_membership

    asked, read = test.asked(), sets.read()
    summary = run_membership(model.load(), read, out, asked, batch=batch_size, overwrite=overwrite)
    opt.show(out, summary["failed"])
