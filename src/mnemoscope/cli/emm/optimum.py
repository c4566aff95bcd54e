"""The command that draws images from the best possible denoiser of a training set."""

from mnemoscope.cli import options as opt
from mnemoscope.cli.command import command
from mnemoscope.cli.emm.group import emm
from mnemoscope.emm.optimum.options import Running, Subset
from mnemoscope.emm.sampling.options import Sampling


@command(emm)
def optimum(
    subset: Subset,
    running: Running,
    sampling: Sampling,
    out: opt.Out,
    device: opt.Device = "auto",
    overwrite: opt.Overwrite = False,
) -> None:
    """Draw images from the optimal denoiser of a training set, in closed form, and measure how many are copies."""
    from mnemoscope.emm.optimum.command import draw_optimum

    opt.prepare()
    draw_optimum(subset, running, sampling, out, device=device, overwrite=overwrite)
    opt.show(out, 0)
