"""Options that several commands have, by subject, and what they all do with them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from mnemoscope import registry
from mnemoscope.cli.comparing import Features as Features
from mnemoscope.cli.comparing import OwnFeatures as OwnFeatures
from mnemoscope.cli.comparing import PixelFeatures as PixelFeatures
from mnemoscope.cli.comparing import Preset as Preset
from mnemoscope.cli.comparing import Weights as Weights
from mnemoscope.cli.panels import COMPARISON, INPUT, METHOD, MODEL, RUN, SAMPLING, of
from mnemoscope.cli.settings_file import PAIRS
from mnemoscope.prompts.only import Only

if TYPE_CHECKING:
    from mnemoscope.model.denoiser import Denoiser
    from mnemoscope.prompts.prompt import Prompt


def methods(*kinds: str) -> Any:  # what a shell offers where a method is to be named
    return lambda incomplete: [n for kind in kinds for n in registry.names(kind) if n.startswith(incomplete)]


ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="demo, demo-flow, a pipeline folder, a .safetensors file, a hub id.")
]
Unet = Annotated[Path | None, of(MODEL, "Folder of a U-Net, or of a training's checkpoint, to put in.")]
TextEncoder = Annotated[Path | None, of(MODEL, "Folder of a text encoder to put in.")]
Variant = Annotated[str | None, of(MODEL, "Which weights of the folder, as fp16.")]
Device = Annotated[str, of(RUN, "auto, cpu, cuda, cuda:1, mps.")]
Param = Annotated[
    list[str] | None,
    of(METHOD, "A parameter of the method; of one of several: METHOD.NAME=VALUE. Repeat it.", metavar=PAIRS),
]
Mitigate = Annotated[
    list[str] | None,
    of(METHOD, "A mitigation; repeat it for several.", autocompletion=methods("mitigate", "caption")),
]
Limit = Annotated[int | None, of(INPUT, "Read only the first N.", min=1)]
Column = Annotated[str | None, of(INPUT, "Column of the caption, where its name is not a usual one.")]
Captions = Annotated[Path | None, of(INPUT, "File with the captions of a folder or zip: json, jsonl or csv.")]
References = Annotated[
    str | None, of(COMPARISON, "Training images with captions: folder, zip, tars, parquet, an index, hub:owner/name.")
]
ReferenceCaptions = Annotated[
    Path | None,
    of(COMPARISON, "Captions of --references: a file that names them, or prompts in the order of their numbers."),
]
Alignment = Annotated[str | None, of(COMPARISON, "Whether images show their prompt: concepts (bundled), or CLIP.")]
Threshold = Annotated[
    str | None,
    of(METHOD, "Mitigate only what passes it: a detection's run or summary.json, or NUMBER[:eps|:x0] for noise_norm."),
]
Flagging = Annotated[
    str | None, of(METHOD, "What to flag with: an earlier run or its summary.json, or NUMBER[:eps|:x0].")
]
Seeds = Annotated[int, of(METHOD, "Seeds that a prompt's values are averaged over.", min=1)]
Images = Annotated[int, of(SAMPLING, "Images of each prompt.", min=1)]
Fpr = Annotated[float, of(METHOD, "Share of ordinary prompts that may be flagged.", min=0.0, max=1.0)]
Steps = Annotated[int, of(SAMPLING, "Sampling steps from noise to image.", min=1)]
Seed = Annotated[int, of(SAMPLING, "Seed of the first image; the next ones follow.", min=0)]
Batch = Annotated[str, of(RUN, "Samples in one forward pass, or auto.")]
Runner = Annotated[str, of(RUN, "local, or ray for the machines of a Ray cluster.")]
Gpus = Annotated[float, of(RUN, "Share of a GPU for each worker of Ray.", min=0.0)]
Gallery = Annotated[int, of(RUN, "Images shown beside their nearest references.", min=0)]
Out = Annotated[Path, of(RUN, "Folder of the run; by default runs/COMMAND-MODEL-TIME.")]
Overwrite = Annotated[bool, of(RUN, "Start anew, or go on with the run in --out.", "--overwrite/--resume")]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model, what is put into it, and where it runs."""

    PANEL: ClassVar = MODEL
    model: ModelName
    unet: Unet = None
    text_encoder: TextEncoder = None
    lora: Annotated[list[str] | None, of(MODEL, "LoRA to merge, FILE or FILE:scale; repeat it.")] = None
    embedding: Annotated[list[str] | None, of(MODEL, "Textual inversion to add; repeat it.")] = None
    variant: Variant = None
    size: Annotated[str | None, of(MODEL, "Height x width of the images in pixels, as 512x768.")] = None
    scheduler: Annotated[str, of(MODEL, "own, ddim, ddpm, dpm++, euler, pndm or unipc.")] = "own"
    device: Device = "auto"
    dtype: Annotated[str, of(MODEL, "auto, float32, float16 or bfloat16.")] = "auto"
    low_memory: Annotated[bool, of(RUN, "Take less memory and more time; same numbers.", "--low-memory")] = False
    negative_prompt: Annotated[str | None, of(SAMPLING, "Text of the unconditional branch in place of none.")] = None

    def load(self, **other: Any) -> "Denoiser":
        """The model as a denoiser; with other parts where some are given."""
        from mnemoscope.model.denoiser import Denoiser
        from mnemoscope.run.progress import waited

        prepare()
        options = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "negative_prompt"} | other
        model = Denoiser.from_pretrained(options.pop("model"), **options)
        model.family.negate(self.negative_prompt)
        waited()
        warn(model.opened.warnings if model.opened else ())
        return model


MODEL_PARTS = [field.name for field in fields(Model) if field.name not in ("model", "device")]

SOURCES = "txt, csv, jsonl, json, parquet, captioned pictures, a run, hub:owner/name, random:N, bundled:NAME, or -."


@dataclass(frozen=True, kw_only=True)
class PromptOptions:
    """The prompts that a command is about."""

    PANEL: ClassVar = INPUT
    prompts: Annotated[
        str,
        of(INPUT, SOURCES),
    ]
    column: Column = None
    only: Annotated[Only | None, of(INPUT, "Of a run: what it flagged or not; before a rewriting, or both.")] = None
    start: Annotated[int, of(INPUT, "Leave out so many prompts at the beginning.", min=0)] = 0
    limit: Annotated[int | None, of(INPUT, "Read only so many prompts.")] = None
    seed_column: Annotated[
        str | None, of(INPUT, "Column with each prompt's own first seed, or all of its seeds, in the place of --seed.")
    ] = None

    def __post_init__(self) -> None:
        refuse_absent(self.prompts)

    def read(self, model: "Denoiser", seed: int) -> "list[Prompt]":
        """The prompts in the order of their source; `seed` is of those that are drawn at random."""
        from mnemoscope.prompts.seeds import seeded

        prompts = read_prompts(model, self.prompts, self.column, self.limit, seed, self.start, self.only)
        return prompts if self.seed_column is None else seeded(prompts, self.seed_column)


@dataclass(frozen=True, kw_only=True)
class TestedPrompts(PromptOptions):
    """The prompts that a command is about, and ordinary ones that it calibrates on."""

    negatives: Annotated[str | None, of(INPUT, "Ordinary prompts, to calibrate on; read like --prompts.")] = None
    negatives_limit: Annotated[int | None, of(INPUT, "Read only so many of the ordinary prompts.")] = None

    def __post_init__(self) -> None:
        refuse_absent(self.prompts, self.negatives)

    def read_negatives(self, model: "Denoiser", seed: int) -> "list[Prompt]":
        """The ordinary prompts; none where no source was given."""
        if self.negatives is None:
            return []
        return read_prompts(model, self.negatives, self.column, self.negatives_limit, seed)


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """How images are sampled."""

    PANEL: ClassVar = SAMPLING
    num_inference_steps: Steps = 50
    guidance_scale: Annotated[float | None, of(SAMPLING, "1 is no guidance; the pipeline's own if none.")] = None
    seed: Seed = 0

    @property
    def settings(self) -> dict[str, Any]:
        """The settings by the names that a sampling takes."""
        return {"num_inference_steps": self.num_inference_steps, "guidance_scale": self.guidance_scale}


def prepare() -> None:
    """Mute what libraries say of their own, and use as many threads as there is room for."""
    from mnemoscope.model.loading import quiet, settle_threads

    quiet()
    settle_threads()


def warn(warnings: Sequence[str]) -> None:
    """What was warned about while a model was loaded, in one line."""
    from mnemoscope.model.weights.heard import in_one_line

    if line := in_one_line(list(warnings)):
        typer.echo(f"Note: {line}", err=True)


def refuse_absent(*sources: str | None) -> None:
    """Raise `UsageError` for files that are not there, before the libraries of models are loaded."""
    from mnemoscope.prompts import sources as reading

    for source in filter(None, sources):
        reading.refuse_absent(source)


def read_prompts(
    model: "Denoiser",
    source: str,
    column: str | None,
    limit: int | None,
    seed: int,
    start: int = 0,
    only: Any = None,
) -> "list[Prompt]":
    """Prompts of a source behind the first `start` ones; raises `UsageError` where none are left."""
    from mnemoscope.errors import UsageError
    from mnemoscope.prompts.prompt import Prompts, read_prompts

    tokenizer = getattr(model.pipe, "tokenizer", None)
    last = limit + start if limit is not None and limit > 0 else limit
    prompts = read_prompts(source, column=column, limit=last, tokenizer=tokenizer, seed=seed, only=only)
    if start and not prompts[start:]:
        raise UsageError(f"--start {start} leaves none of the {len(prompts)} prompts of {source}; give a lower one.")
    return Prompts.of(prompts[start:], prompts)


def show(run: Path, failed: int) -> None:
    """Write the report of a run, print its summary, and leave with 1 if anything failed."""
    from rich.console import Console

    from mnemoscope.report import write
    from mnemoscope.report.terminal import print_run
    from mnemoscope.run.progress import waiting

    with waiting("report"):
        write([run])
    print_run(run, Console())
    if failed:
        raise typer.Exit(1)
