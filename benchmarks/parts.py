"""What measuring copies and writing reports take beside drawing the images, on the bundled model.

    python benchmarks/parts.py [--prompts 8] [--images 2] [--steps 50]

Three commands on one run, as they are called: `generate` (steps of the sampling as by default), `measure` of its
images against the bundled references by pixels, and the page of both. The images are what everything is held against:
the last column is the share of `generate`'s time. Each is done in this process, so that imports are paid once.
"""

import tempfile
from pathlib import Path

import torch

import mnemoscope as mn
import timing
from mnemoscope import demo
from mnemoscope.features import descriptor
from mnemoscope.generation.run import Generation, run_generation
from mnemoscope.measuring.generated import read_generated
from mnemoscope.measuring.measurement import Measurement, run_measurement
from mnemoscope.measuring.sides import Sources
from mnemoscope.model.loading import quiet
from mnemoscope.prompts.prompt import as_prompts
from mnemoscope.report import write


def main() -> None:
    parser = timing.parser(__doc__, rounds=3)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--steps", type=int, default=50)
    args = timing.parsed(parser, prompts=1, images=1, steps=1)
    results = timing.Results(args.rows)
    torch.set_num_threads(1)
    quiet()
    model = mn.Denoiser.from_pretrained("demo", device="cpu")
    prompts = as_prompts(demo.prompts("verbatim")[: args.prompts])
    how = Generation(args.images, num_inference_steps=args.steps)
    sources = Sources(references=str(demo.HERE / "references"))
    with tempfile.TemporaryDirectory() as folder:
        drawn, measured = Path(folder) / "drawn", Path(folder) / "measured"
        ways = {
            "generate": lambda: run_generation(model, prompts, drawn, how, overwrite=True),
            "measure": lambda: run_measurement(
                read_generated(str(drawn)), measured, descriptor("pixels"), Measurement(), sources, overwrite=True
            ),
            "report of the images": lambda: write([drawn]),
            "report of the measures": lambda: write([measured]),
        }
        taken = timing.in_turn(ways, args.rounds)
    count = args.prompts * args.images
    results.times(f"a run of {count} images, {args.steps} steps", "a run", taken, bound="generate")


if __name__ == "__main__":
    main()
