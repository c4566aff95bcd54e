"""The commands that hold methods against a known truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from mnemoscope.cli import options as opt
from mnemoscope.cli.application import group
from mnemoscope.cli.command import command
from mnemoscope.cli.settings_file import NAMES

if TYPE_CHECKING:
    from mnemoscope.bench.cell import Contest, Trial

bench = group("bench", "Hold methods against models of which it is known what they were trained on, and how often.")


@dataclass(frozen=True, kw_only=True)
class BenchSampling(opt.SamplingOptions):
    """How images are sampled on the bench: as the bundled models are."""

    num_inference_steps: opt.Steps = 20
    guidance_scale: Annotated[float | None, opt.of(opt.SAMPLING, "1 is no guidance.")] = 3.0


@dataclass(frozen=True, kw_only=True)
class Benched:
    """Models with their truth, and the methods that are tried on them."""

    PANEL: ClassVar = opt.INPUT
    model: Annotated[
        list[str] | None,
        opt.of(opt.RUN, "A model; demo if none. Repeat it; a later one joins those of --out.", metavar="MODEL"),
    ] = None
    truth: Annotated[
        Path | None, opt.of(opt.INPUT, "Folder with prompts.jsonl and references; the bundled models have their own.")
    ] = None
    limit: Annotated[int | None, opt.of(opt.INPUT, "Only so many of each kind and number of views.", min=1)] = None
    method: Annotated[
        list[str] | None,
        opt.of(opt.RUN, "A method or FILE.py; all if none. Repeat it; a later one joins.", metavar=NAMES),
    ] = None
    param: opt.Param = None
    batch_size: opt.Batch = "auto"
    device: opt.Device = "auto"
    dtype: Annotated[str, opt.of(opt.RUN, "auto, float32, float16 or bfloat16.")] = "auto"

    def asked(self, sampling: opt.SamplingOptions, seeds: int, images: int) -> "Trial":
        """How methods are tried; parameters are under METHOD.NAME."""
        from mnemoscope.bench.cell import Trial
        from mnemoscope.errors import UsageError
        from mnemoscope.run.settings import parameters

        given = parameters(self.param)
        for key in given:
            if "." not in key:
                raise UsageError(f"--param {key} does not say whose it is; write METHOD.{key}=VALUE.")
        drawn = {"seed": sampling.seed, "seeds": seeds, "images": images, **sampling.settings}
        return Trial(**drawn, params=given)

    def run(self, contest: "Contest", asked: "Trial", out: Path, *, overwrite: bool) -> None:
        """Do it, and show what came out."""
        from functools import partial

        from mnemoscope.bench.run import run_bench
        from mnemoscope.model.denoiser import Denoiser

        opt.prepare()
        load = partial(Denoiser.from_pretrained, device=self.device, dtype=self.dtype)
        models: Sequence[str] = self.model or ["demo"]
        run_bench(
            contest,
            models,
            out,
            asked,
            load,
            methods=self.method or (),
            truth=self.truth,
            limit=self.limit,
            batch=self.batch_size,
            overwrite=overwrite,
        )
        opt.show(out, 0)


@command(bench, spreads=True)
def detect(
    benched: Benched,
    sampling: BenchSampling,
    out: opt.Out,
    seeds: opt.Seeds = 1,
    images: Annotated[int, opt.of(opt.SAMPLING, "Images of each trained prompt, to know what is copied.", min=0)] = 1,
    overwrite: opt.Overwrite = False,
) -> None:
    """Detectors: how many views a picture needs to be found, and how many to be copied."""
    from mnemoscope.bench.detecting import DETECT

    benched.run(DETECT, benched.asked(sampling, seeds, images), out, overwrite=overwrite)


@command(bench, spreads=True)
def mitigate(
    benched: Benched,
    sampling: BenchSampling,
    out: opt.Out,
    images: opt.Images = 1,
    overwrite: opt.Overwrite = False,
) -> None:
    """Mitigations: what each strength takes from copying, by number of views, and what it costs in alignment."""
    from mnemoscope.bench.mitigating import MITIGATE

    benched.run(MITIGATE, benched.asked(sampling, 1, images), out, overwrite=overwrite)


@command(bench, spreads=True)
def explain(
    benched: Benched,
    sampling: BenchSampling,
    out: opt.Out,
    seeds: opt.Seeds = 1,
    overwrite: opt.Overwrite = False,
) -> None:
    """Explanations: how many of the words that one trained picture alone has they find, and which regions."""
    from mnemoscope.bench.explaining import EXPLAIN

    benched.run(EXPLAIN, benched.asked(sampling, seeds, 1), out, overwrite=overwrite)


@command(bench)
def localize(
    benched: Benched,
    sampling: BenchSampling,
    out: opt.Out,
    images: opt.Images = 1,
    overwrite: opt.Overwrite = False,
) -> None:
    """Localizers: what switching off the neurons that they find takes from copying, beside as many at random."""
    from mnemoscope.bench.localizing import LOCALIZE

    benched.run(LOCALIZE, benched.asked(sampling, 1, images), out, overwrite=overwrite)


@command(bench)
def measure(
    benched: Benched,
    sampling: BenchSampling,
    out: opt.Out,
    images: Annotated[int, opt.of(opt.SAMPLING, "Images of each prompt; 0 plants copies alone.", min=0)] = 1,
    overwrite: opt.Overwrite = False,
) -> None:
    """Measures and presets of features: which planted copies they know, and which pictures were trained."""
    from mnemoscope.bench.measuring import MEASURE

    benched.run(MEASURE, benched.asked(sampling, 1, images), out, overwrite=overwrite)
