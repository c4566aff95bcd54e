"""The command that damps what in a LoRA leaves its base."""

from pathlib import Path
from typing import Annotated

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import app
from mnemoscope.cli.command import command


@command(app)
def repair(
    model: opt.Model,
    out: opt.Out,
    energy: Annotated[
        float, opt.of(opt.METHOD, "Share of a base weight's squared norm that its subspace holds.", min=0.0, max=1.0)
    ] = 0.9,
    least_alignment: Annotated[
        float, opt.of(opt.METHOD, "Channels that are aligned with it by less are damped.", min=0.0, max=1.0)
    ] = 0.5,
    factor: Annotated[float, opt.of(opt.METHOD, "What these are multiplied by.", min=0.0, max=1.0)] = 0.0,
    overwrite: opt.Overwrite = False,
) -> None:
    """Damp the channels of a LoRA that leave its base's principal subspace, into OUT/lora."""
    from mnemoscope.errors import UsageError
    from mnemoscope.repair.run import Repair, run_repair

    lora = model.lora or []
    if len(lora) != 1:
        raise UsageError(f"A repair is of one LoRA, and {len(lora)} were given; give --lora FILE once.")
    rule = Repair(energy, least_alignment, factor)
    run_repair(model.load(lora=None), Path(lora[0]), out, rule, overwrite=overwrite)
    opt.show(out, 0)
