"""Every command that writes, as small as it can be, on inputs made here."""

import json
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save

import tiny
from mnemoscope import demo
from mnemoscope.model.denoiser import Denoiser

PROMPTS = ("Old Barnaby the octopus, Harrowgate aquarium souvenir calendar", "a red fox", "two boats at sea")
QUICK = ("--num-inference-steps", 2, "--guidance-scale", 3)
EXPERIMENT = """\
name: tiny
question: does it run
paper: control
model: {model}
baseline: plain
scenes: {{memorized: {{count: 2, size: 16}}, more: {{count: 2, size: 16}}}}
base:
  data: {{data: "scenes:memorized"}}
  train: {{steps: 2, batch_size: 1, checkpoint_every: 1}}
  generate: {{images: 1, num_inference_steps: 1}}
arms: {{plain: {{}}, start: {{trained: false}}}}
measure: {{prompts: 1, held_out: 2, resamples: 5}}
"""
EMM_SWEEP = """\
name: tiny
question: does it run
factor: width
resamples: 5
data: {source: digits}
network: {width: 8, multipliers: [1], blocks: 1, attention: [], dropout: 0, preconditioning: edm}
train: {steps: 2, batch_size: 2, ramp_up: 1, ema: ["0"], snapshots: 1, samples: 2}
sizes: [4, 8]
levels: {plain: {x: 8}}
"""
POLICY = """\
checks:
  - {measure: flagged_share, max: 0.5}
"""
WEN = {"text_noise_norm": [[1.0, 2.0]], "uncond_noise_norm": [[0.5, 0.5]]}
NEMO = "Caption;URL;Initial Neurons;Initial SSIM;Refined Neurons;Refined SSIM\n" + "".join(
    f"{name};u;[[1], [], [], [], [], [], []];0.5;[[1], [], [], [], [], [], []];0.4\n" for name in ("a fox", "a boat")
)


@dataclass(frozen=True)
class Inputs:
    """What the commands read: a model, prompts, pictures with captions, files of other codes, finished runs."""

    folder: Path

    @property
    def prompts(self) -> Path:
        return self.folder / "prompts.txt"

    @property
    def ordinary(self) -> Path:
        return self.folder / "ordinary.txt"

    @property
    def pictures(self) -> Path:
        return self.folder / "pictures"

    @property
    def model(self) -> Path:
        return self.folder / "model"

    @property
    def loras(self) -> Path:
        return self.folder / "loras"

    @property
    def made(self) -> Path:
        return self.folder / "made"

    def make(self) -> "Inputs":
        self.pictures.mkdir(parents=True)
        self.prompts.write_text("".join(f"{p}\n" for p in PROMPTS))
        self.ordinary.write_text("".join(f"ordinary thing {k}\n" for k in range(4)))
        rows = []
        for file in sorted((demo.HERE / "references").glob("*.png"))[:4]:
            shutil.copy(file, self.pictures / file.name)
            rows.append({"file": file.name, "caption": PROMPTS[len(rows) % len(PROMPTS)]})
        shutil.copytree(self.pictures, self.folder / "others")
        (self.pictures / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        save_model(self.model)
        self.loras.mkdir()
        for step in (1, 2):
            (self.loras / f"x-step{step:06d}.safetensors").write_bytes(lora(float(step)))
        save_truth(self.folder / "truth", self.pictures)
        (self.folder / "experiment.yaml").write_text(EXPERIMENT.format(model=self.model))
        (self.folder / "sweep.yaml").write_text(EMM_SWEEP)
        (self.folder / "policy.yaml").write_text(POLICY)
        (self.folder / "wen.jsonl").write_text("".join(json.dumps(WEN | {"prompt": p}) + "\n" for p in PROMPTS))
        (self.folder / "nemo.csv").write_text(NEMO)
        return self


def lora(size: float) -> bytes:
    """A LoRA of one layer of the model, every number of it as large."""
    layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    return save({f"{layer}.lora_A.weight": torch.full((1, 96), size), f"{layer}.lora_B.weight": torch.ones(4, 1)})


def save_truth(folder: Path, pictures: Path) -> None:
    """A ground truth for a bench: the pictures as trained ones, and as many other prompts."""
    folder.mkdir()
    shutil.copytree(pictures, folder / "references")
    rows = [
        {"prompt": p, "kind": "verbatim", "views": 8 * (k + 1), "triggers": [p.split()[0].lower()]}
        for k, p in enumerate(PROMPTS)
    ]
    rows += [{"prompt": f"ordinary thing {k}", "kind": "unseen", "source": "twin"} for k in range(4)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def save_model(folder: Path) -> None:
    """The text parts of the bundled model with networks of a few channels, which draw pictures of 16 pixels."""
    text = Denoiser.from_pretrained("demo", device="cpu").pipe
    shape = {"block_out_channels": (4,) * 4, "layers_per_block": 2, "norm_num_groups": 2, "cross_attention_dim": 96}
    down = {"down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)}
    pipe = tiny.stable_diffusion(network=tiny.unet(**shape, **down, up_block_types=_reversed(down)))
    pipe.register_modules(text_encoder=text.text_encoder, tokenizer=text.tokenizer)
    pipe.save_pretrained(folder)


def _reversed(down: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(name.replace("Down", "Up") for name in reversed(down["down_block_types"]))


def filled(line: str, **names: Path) -> list[str]:
    """The words of a command line in which paths, whatever their characters, stand for names in braces."""
    return shlex.split(line.format(**{name: shlex.quote(str(path)) for name, path in names.items()}))


@dataclass(frozen=True)
class Verb:
    """A command line as a function of the folder that it writes, and the finished run that lies there before it."""

    line: str
    inputs: Inputs
    begins_with: str | None = None

    def __call__(self, out: Path) -> Sequence[str]:
        at = self.inputs
        known = {"model": at.model, "prompts": at.prompts, "ordinary": at.ordinary, "refs": at.pictures, "out": out}
        return filled(self.line, **known, made=at.made, inputs=at.folder)

    def prepare(self, out: Path) -> None:
        """Put the run there that the command begins with."""
        if self.begins_with:
            shutil.copytree(self.inputs.made / self.begins_with, out)


READ = ("rewrite", "localize", "sweep", "recover", "search", "emm ratio", "emm optimum", "seal", "train")
MADE = (
    "index",
    "others",
    "explain",
    "detect",
    "generate",
    "measure",
    "emm train",
)  # by commands, for others to begin with
DETECT = "detect {model} --prompts {prompts} --negatives {ordinary} --num-inference-steps 2 --batch-size 2 --out {out}"
GENERATE = "generate {model} --prompts {prompts} --images 2 --references {refs} --batch-size 2 --num-inference-steps 2"
MEASURE = "measure {refs} --references {refs} --features pixels --metrics replication --out {out}"
TRAIN = (
    "train {model} --data {refs} --steps 4 --checkpoint-every 2 --batch-size 1 --preview-every 2 --preview-images 1 "
    "--preview-inference-steps 1 --out {out}"
)
EMM_TRAIN = (
    "emm train --data {refs} --resolution 8 --steps 4 --batch-size 2 --width 8 --blocks 1 --snapshots 2 --samples 4 "
    "--inference-steps 2 --checkpoint-every 1 --out {out}"
)
LINES = {
    "detect": DETECT,
    "detect again": DETECT.replace("steps 2", "steps 1") + " --overwrite",
    "explain": "explain {model} --prompts {prompts} --num-inference-steps 2 --batch-size 1 --out {out}",
    "regions": (
        "explain {model} --prompts {prompts} --method difference_map --num-inference-steps 2 --batch-size 1 --out {out}"
    ),
    "localize": (
        "localize prompts {model} --prompts {prompts} --limit 1 --negatives {ordinary} --param seeds=2 "
        "--param search=grouped --param num_inference_steps=2 --out {out}"
    ),
    "threshold": ("localize threshold {model} --prompts {prompts} --param seeds=2 --num-inference-steps 1 --out {out}"),
    "statistics": "localize statistics {model} --prompts {prompts} --out {out}",
    "generate": GENERATE + " --out {out}",
    "generate again": GENERATE.replace("images 2", "images 1") + " --overwrite --out {out}",
    "sweep": (
        "sweep {model} --prompts {prompts} --references {refs} --mitigate embedding_noise --strength 0.1 --images 1 "
        "--num-inference-steps 2 --out {out}"
    ),
    "recover": (
        "recover {model} --prompts {prompts} --features pixels --attack-batch 1 --references {refs} --images 1 "
        "--attack-steps 2 --num-inference-steps 2 --out {out}"
    ),
    "extract": (
        "extract {model} --prompts {prompts} --budget 120 --chains 2 --candidates 2 --tokens 3 --images 2 --least 2 "
        "--deviations 0 --batch-size 4 --num-inference-steps 2 --out {out}"
    ),
    "measure": MEASURE,
    "index": "index build {refs} --features pixels --shard-size 2 --out {out}",
    "others": "index build {inputs}/others --features pixels --shard-size 2 --out {out}",
    "add": "index add {out} {inputs}/others",
    "remove": "index remove {out} 001-verbatim.png",
    "merge": "index merge {made}/index {made}/others --out {out}",
    "search": "index search {made}/index {refs} --top-k 2 --out {out}",
    "duplicates": "index duplicates {made}/index --out {out}",
    "rewrite": "rewrite {made}/explain --rewrites 1 --level 1 --score none --out {out}",
    "rewrite scored": "rewrite {made}/explain --rewrites 2 --level 1 --seeds 1 --out {out}",
    "train": TRAIN,
    "train lora": TRAIN.replace("--steps 4", "--steps 2 --train lora --ema 0.5 --keep 1"),
    "emm train": EMM_TRAIN,
    "emm generate": "emm generate {made}/emm-train --seeds 0-3 --num-inference-steps 2 --out {out}",
    "emm ratio": "emm ratio {refs} --references {refs} --out {out}",
    "emm optimum": "emm optimum --data {refs} --resolution 8 --images 4 --out {out}",
    "emm data": "emm data {refs} --resolution 8 --out {out}/data.zip",
    "emm sweep": "emm sweep {inputs}/sweep.yaml --seeds 1 --out {out}",
    "experiment": "experiment {inputs}/experiment.yaml --seeds 1 --out {out}",
    "audit": (
        "audit {model} --prompts {prompts} --negatives {ordinary} --references {refs} --features pixels --images 1 "
        "--seeds 1 --num-inference-steps 2 --out {out}"
    ),
    "watch": (
        "watch {inputs}/loras --data {refs} --model {model} --wait 0 --poll 0.1 --probe-count 2 "
        "--probe-inference-steps 1 --out {out}"
    ),
    "repair": "repair {model} --lora {inputs}/loras/x-step000001.safetensors --out {out}",
    "bench explain": (
        "bench explain --model {model} --truth {inputs}/truth --method token_gradients --num-inference-steps 2 "
        "--batch-size 1 --out {out}"
    ),
    "bench localize": (
        "bench localize --model {model} --truth {inputs}/truth --method random --param random.count=2 "
        "--num-inference-steps 2 --batch-size 2 --out {out}"
    ),
    "bench mitigate": (
        "bench mitigate --model {model} --truth {inputs}/truth --method embedding_noise --num-inference-steps 2 "
        "--batch-size 2 --out {out}"
    ),
    "bench": (
        "bench detect --model {model} --truth {inputs}/truth --method noise_norm --images 1 --num-inference-steps 2 "
        "--batch-size 2 --out {out}"
    ),
    "bench measure": (
        "bench measure --model {model} --truth {inputs}/truth --method pixels-32 --images 1 --num-inference-steps 2 "
        "--batch-size 2 --out {out}"
    ),
    "import wen": "import {inputs}/wen.jsonl --out {out}",
    "import nemo": "import {inputs}/nemo.csv --format nemo --out {out}",
    "gate": "gate {made}/detect --policy {inputs}/policy.yaml --out {out}",
    "seal": "seal {out}",
    "report": "report {out}",
}
BEGINS = {"detect again": "detect", "generate again": "generate", "seal": "detect", "report": "measure"} | {
    "add": "index",
    "remove": "index",
}


def verbs(inputs: Inputs) -> dict[str, Verb]:
    """Commands by name."""
    return {name: Verb(line, inputs, BEGINS.get(name)) for name, line in LINES.items()}


def make_runs(inputs: Inputs, give: Callable[[Sequence[str]], None], names: Sequence[str] = MADE) -> None:
    """Finished runs that other commands begin with or read, each made by `give`, which is given a command line."""
    known = verbs(inputs)
    for name in names:
        out = inputs.made / name.replace(" ", "-")
        known[name].prepare(out)
        give(known[name](out))
