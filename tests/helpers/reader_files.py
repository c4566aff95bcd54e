"""What a reader of the documentation has at hand, made under the names that its commands use."""

import io
import json
import pickle
import re
import shlex
import shutil
import tarfile
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from documented import DOCS, blocks
from mnemoscope import demo
from mnemoscope.localization.tables import COLUMNS
from places import FIXTURES, ROOT
from small_words import wordnet_in

LORA_RANK = 4
Make = Callable[[Path], object]


def model(place: Path) -> None:
    """A pipeline of the reader's own: the bundled one."""
    place.symlink_to(demo.MODEL, target_is_directory=True)


def truth(place: Path) -> None:
    """What the bundled model was trained on, as a folder of its own."""
    place.mkdir()
    shutil.copy(demo.HERE / "prompts.jsonl", place)
    (place / "references").symlink_to(demo.HERE / "references", target_is_directory=True)


def network(place: Path) -> None:
    """A fine-tuned U-Net."""
    place.symlink_to(demo.MODEL / "unet", target_is_directory=True)


def prompts(*kinds: str, most: int = 4) -> Make:
    """A prompt file of some kinds in the format that its ending says."""
    chosen = [text for kind in kinds for text in demo.prompts(kind)[:most]]

    def write(place: Path) -> None:
        if place.suffix == ".txt":
            place.write_text("".join(f"{text}\n" for text in chosen))
        elif place.suffix == ".jsonl":
            place.write_text("".join(json.dumps({"caption": text}) + "\n" for text in chosen))
        else:
            quoted = [f'"{text}"' for text in chosen]
            place.write_text("caption,description\n" + "".join(f"{text},{text}\n" for text in quoted))

    return write


def pictures(kind: str, count: int = 8, first: int = 0) -> Make:
    """A folder of the demo's training pictures, `10.png` and on, with their captions."""

    def write(place: Path) -> None:
        place.mkdir(parents=True)
        lines = (demo.HERE / "references" / "captions.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [row for row in map(json.loads, lines) if row["kind"] == kind][first : first + count]
        for k, row in enumerate(rows, 10):
            shutil.copy(demo.HERE / "references" / row["file"], place / f"{k}.png")
            row["file"] = f"{k}.png"
        (place / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    return write


def noise(place: Path, count: int = 1000) -> None:
    """As many pictures as an approximate search needs."""
    place.mkdir()
    random = np.random.default_rng(0)
    for k in range(count):
        Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(place / f"{k}.png")


def snapshots(place: Path) -> None:
    """Two sets of generated pictures."""
    for k, kind in enumerate(("verbatim", "ordinary")):
        pictures(kind)(place / f"snapshot-{k}")


def lora(place: Path) -> None:
    """A LoRA of random numbers, of the attention layers of the bundled U-Net."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    from mnemoscope.model.denoiser import Denoiser

    torch.manual_seed(0)
    unet = Denoiser.from_pretrained("demo", device="cpu").pipe.unet
    unet.add_adapter(LoraConfig(r=LORA_RANK, target_modules=["to_q", "to_v"], init_lora_weights=False))
    weights = {f"unet.{name}": value.contiguous() for name, value in get_peft_model_state_dict(unet).items()}
    file = place if place.suffix else place / "pytorch_lora_weights.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, file, {"format": "pt"})


def checkpoints(place: Path) -> None:
    """What a trainer has written up to now: a LoRA."""
    lora(place / "checkpoint-500")


class Averages(nn.Module):
    """Mean and mean square of each channel, in the place of a network that is trained to find copies."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean((2, 3)), (x * x).mean((2, 3))], 1)


def torchscript(place: Path) -> None:
    """A network of features in TorchScript."""
    with warnings.catch_warnings(action="ignore"):  # torch calls its own format outdated
        torch.jit.trace(Averages(), torch.rand(1, 3, 8, 8)).save(place)


def clip(place: Path) -> None:
    """A tiny CLIP of random weights."""
    from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessorPil, CLIPModel

    tokenizer = AutoTokenizer.from_pretrained(demo.MODEL / "tokenizer")
    layers = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    words = {"vocab_size": len(tokenizer), "max_position_embeddings": 16, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    vision = {**layers, "image_size": 32, "patch_size": 8}
    CLIPModel(CLIPConfig(projection_dim=16, text_config={**layers, **words}, vision_config=vision)).save_pretrained(
        place
    )
    tokenizer.save_pretrained(place)
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessorPil(**sizes).save_pretrained(place)


def own_score(place: Path) -> None:
    """A score of the reader's own, called as its page calls it."""
    name = "push" if place.stem == "my_methods" else "my_score"
    body = "    return (step.eps_cond - step.eps_uncond).flatten(1).norm(dim=1) ** power\n"
    place.write_text(f"def {name}(step, *, power: float = 1.0):\n{body}")


def wen(kind: str) -> Make:
    """Results as Wen et al.'s program writes them."""

    def write(place: Path) -> None:
        norms = {"text_noise_norm": [[2.0, 1.0]], "uncond_noise_norm": [[1.0, 1.0]]}
        rows = [{**norms, "prompt": text} for text in demo.prompts(kind)[:100]]
        place.write_text("".join(json.dumps(row) + "\n" for row in rows))

    return write


def nemo(place: Path) -> None:
    """A table as NeMo's program writes it, of one caption."""
    neurons = "[[1],[],[],[],[],[],[]]"
    place.write_text(f"{';'.join(COLUMNS)}\n{demo.prompts('verbatim')[0]};;{neurons};0.4;{neurons};0.5\n")


def nemo_prompts(place: Path) -> None:
    """The prompt file that such a table is made from."""
    heading = ";Caption;URL;type;mean_sscd;max_sscd;Index"
    place.write_text(f"{heading}\n0;{demo.prompts('verbatim')[0]};http://x;VM;0.5;0.6;0\n")


def edm_network(place: Path) -> None:
    """Weights under EDM's own names."""
    shutil.copy(FIXTURES / "edm_networks" / "ddpmpp.safetensors", place)


def cifar(place: Path) -> None:
    """An archive in the layout of CIFAR-10's, of noise."""
    random = np.random.default_rng(0)
    batch = {b"data": random.integers(0, 255, (1000, 3072), dtype=np.uint8), b"labels": [k % 10 for k in range(1000)]}
    data = pickle.dumps(batch)
    member = tarfile.TarInfo("cifar-10-batches-py/data_batch_1")
    member.size = len(data)
    with tarfile.open(place, "w:gz") as archive:
        archive.addfile(member, io.BytesIO(data))


def wordnet(place: Path) -> None:
    """A WordNet of a few words."""
    place.mkdir()
    wordnet_in(place)


def policy(place: Path) -> None:
    place.write_text("checks:\n- {measure: flagged_share, max: 0.9, min_samples: 1}\n")


def policy_of_finetune(place: Path) -> None:
    """The policy that the page on fine-tunes shows."""
    ((_, text),) = blocks(DOCS / "finetune.md", "yaml")
    place.write_text(text)


def examples(place: Path) -> None:
    """Those of a clone; designs are of a few steps each, as their size is in the file and not in an option."""
    shutil.copytree(ROOT / "examples", place, ignore=shutil.ignore_patterns("*.ipynb"))
    for file in place.rglob("*.yaml"):
        design = yaml.safe_load(file.read_text())
        shrink(design)
        file.write_text(yaml.safe_dump(design))


FEW = {"steps": 4, "samples": 8, "count": 12, "prompts": 2, "held_out": 4, "num_inference_steps": 2, "images": 1}
FEW |= {"checkpoint_every": 2, "batch_size": 2, "ramp_up": 0}


def shrink(design: dict) -> None:
    """Put few in the place of many, wherever a design says how many."""
    for key, value in design.items():
        if isinstance(value, dict):
            shrink(value)
        elif key in FEW:
            design[key] = FEW[key]


HAD: dict[str, Make] = {
    **dict.fromkeys(
        ("MODEL", "path/to/pipeline", "path/to/base", "my-pipeline", "my-model", "hub-owner/model", "models/release"),
        model,
    ),
    "my-truth": truth,
    **dict.fromkeys(("path/to/unet", "edited/unet"), network),
    **dict.fromkeys(("captions.txt", "captions.csv", "captions.jsonl"), prompts("verbatim", "ordinary", most=2)),
    **dict.fromkeys(("ordinary.txt", "unseen.txt"), prompts("ordinary", most=100)),
    "new.txt": prompts("template"),
    **dict.fromkeys(
        ("train", "training-images", "pictures", "laion", "path/to/pairs", "path/to/images"), pictures("verbatim")
    ),
    **dict.fromkeys(("generated", "drawn", "run/images"), pictures("verbatim", 4)),
    **dict.fromkeys(("unseen", "new", "more"), pictures("ordinary", 4)),
    "mine": pictures("ordinary", 20),
    "held-out": pictures("ordinary", 20, 20),
    "published": pictures("verbatim", 20),
    "withdrawn.txt": lambda place: place.write_text("16.png\n"),
    "many": noise,
    "samples": snapshots,
    "checkpoints": checkpoints,
    **dict.fromkeys(("path/to/lora", "style.safetensors"), lora),
    "sscd_disc_mixup.torchscript.pt": torchscript,
    "clip-vit-base": clip,
    **dict.fromkeys(("my_methods.py", "my_score.py"), own_score),
    "memorized.jsonl": wen("verbatim"),
    "ordinary.jsonl": wen("ordinary"),
    "policy.yaml": policy,
    "path/to/wordnet": wordnet,
    "finetune.yaml": policy_of_finetune,
    "examples": examples,
    "neurons.csv": nemo,
    "memorized_laion_prompts.csv": nemo_prompts,
    "cifar-10-python.tar.gz": cifar,
    "network.safetensors": edm_network,
}
SMALL = "--num-inference-steps 5"
MADE = {
    "runs/first": "detect demo --prompts captions.txt --negatives ordinary.txt --out runs/first " + SMALL,
    "first": "detect demo --prompts captions.txt --out first",
    "second": "detect demo --prompts captions.txt --seeds 2 --out second",
    "runs/base": "detect demo --prompts captions.txt --negatives ordinary.txt --out runs/base",
    "runs/tuned": "detect demo --prompts captions.txt --negatives ordinary.txt --lora path/to/lora --out runs/tuned",
    "audit": "audit demo --lora path/to/lora --data pictures --negatives ordinary.txt --images 1 --most 2 --out audit "
    "--explain none --mitigate none " + SMALL,
    "path/to/index": "index build pictures --features pixels --out path/to/index",
    "indexes/laion": "index build pictures --out indexes/laion",
    "runs/detect": "detect demo --prompts captions.txt --negatives ordinary.txt --out runs/detect",
    "runs/neurons": "localize demo --prompts captions.txt --limit 1 --method neurons_by_gradient --param most=0.05"
    " --out runs/neurons",
    "train.index": "index build many --features pixels --out train.index",
    "train.zip": "emm data pictures --out train.zip",
    "runs/digits": "emm train --data digits --subset-size 100 --label-mode true --ema mode1 --steps 20 --batch-size 8"
    " --snapshots 2 --samples 8 --out runs/digits",
}


def give(folder: Path, lines: list[str]) -> list[str]:
    """Make the files that command lines name, and return the commands that make the runs that they name.

    What the lines write themselves is left to them.
    """
    before: list[str] = []
    for name, made in MADE.items():
        if is_named(name, lines):
            before += [*give(folder, [made]), f"mnemoscope {made}"]
    for name, make in HAD.items():
        place = folder / name
        if is_named(name, lines) and not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            make(place)
    return before


def is_named(name: str, lines: list[str]) -> bool:
    """Whether lines read a file, or something in a folder, of this name, and do not write it."""
    own = [re.sub(r".*\bmnemoscope(\.cli)? [\w-]+ ", "", line) for line in lines]  # a command's name is no file's
    words = [word for line in own for word in shlex.split(line, comments=True)]
    written = [word for option, word in pairwise(words) if option in ("--out", "--export")]
    values = {value for word in words for value in (word, word.partition("=")[2], word.partition(":")[0])}
    read = {value.removeprefix("./").rstrip("/") for value in values}
    return name not in written and any(each == name or each.startswith(f"{name}/") for each in read)
