"""Every kind of input: a good one, and the command that reads it."""

import gzip
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hostile.verbs import EMM_SWEEP, LINES, NEMO, POLICY, PROMPTS, READ, WEN, Inputs, filled, lora

Maker = Callable[[Path], Path]


@dataclass(frozen=True)
class Reader:
    """A kind of input: makes a good one in a folder and says which file is spoilt, and the command that reads it."""

    name: str
    make: Maker
    line: str
    inputs: Inputs

    def words(self, file: Path, place: Path) -> Sequence[str]:
        at = self.inputs
        known = {
            "model": at.model,
            "prompts": at.prompts,
            "ordinary": at.ordinary,
            "refs": at.pictures,
            "made": at.made,
        }
        near = {
            "file": file,
            "folder": file.parent,
            "above": file.parents[1],
            "run": place / "run",
            "out": place / "out",
        }
        return filled(self.line, **known, **near, inputs=at.folder)


ONE_STEP = "--prompts {prompts} --num-inference-steps 1 --out {out}"
DETECT = "detect {model} --prompts {file} --num-inference-steps 1 --out {out}"
MEASURE = "measure {refs} --references {folder} --features pixels --metrics replication --out {out}"
INDEXED = "index build {file} --features pixels --out {out}"
RATIO = "emm ratio {file} --references {file} --out {out}"
TEXTS = {
    "prompts .txt": ("p.txt", "a red fox\na boat\n", DETECT),
    "prompts .csv": ("p.csv", 'prompt,label,url\na red fox,1,x\n"a, boat",0,y\n', DETECT),
    "prompts .tsv": ("p.tsv", "prompt\tlabel\na red fox\t1\na boat\t0\n", DETECT),
    "prompts .jsonl": ("p.jsonl", '{"prompt": "a red fox", "label": true}\n{"prompt": "a boat"}\n', DETECT),
    "prompts .json": ("p.json", json.dumps([{"caption": "a red fox", "kind": "verbatim"}, "a boat"]), DETECT),
    "prompts of DCR": ("p.json", json.dumps({"a.png": ["a red fox"], "b.png": ["a boat"]}), DETECT),
    "negatives": ("n.csv", "prompt\na\nb\n", "detect {model} --negatives {file} " + ONE_STEP),
    "settings": ("s.yaml", "seeds: 1\nparam:\n  steps: 1\nlimit: 2\n", "detect {model} --config {file} " + ONE_STEP),
    "wen": ("i.jsonl", json.dumps(WEN | {"prompt": "a"}) + "\n", "import {file} --out {out}"),
    "layer6": (
        "i.json",
        '[{"prompt": "a fox", "attributions": [["a", 0.1], ["fox", 0.9]]}]',
        "import {file} --format layer6 --out {out}",
    ),
    "perturbations": (
        "i.json",
        '{"a fox": {"1": [{"perturbed_prompt": "a cat", "selected_tokens": ["fox</w>"]}]}}',
        "import {file} --format layer6 --out {out}",
    ),
    "nemo": ("i.csv", NEMO, "import {file} --format nemo --out {out}"),
    "emm sweep": ("e.yaml", EMM_SWEEP, "emm sweep {file} --dry-run --out {out}"),
    "experiment": ("x.yaml", "", "experiment {file} --dry-run --out {out}"),
    "policy": ("p.yaml", POLICY, "gate {made}/detect --policy {file} --out {out}"),
    "network": (
        "c.json",
        json.dumps({"sample_size": 8}),
        "train {model} --data {refs} --train scratch --unet-config {file} --steps 1 --out {out}",
    ),
}
BESIDE = {
    "captions.jsonl": json.dumps({"file": "a.png", "caption": PROMPTS[0]}) + "\n",
    "captions.json": json.dumps({"a.png": PROMPTS[0]}),
    "metadata.csv": f'file_name,text\na.png,"{PROMPTS[0]}"\n',
    "metadata.jsonl": json.dumps({"file_name": "a.png", "text": PROMPTS[0]}) + "\n",
    "a.txt": PROMPTS[0],
}
OF_RUNS = {  # a finished run, a file of it, and the commands that read it
    ("detect", "run.json"): ("report {folder}", "gate {folder} --policy {inputs}/policy.yaml --out {out}"),
    ("detect", "rows.jsonl"): (
        "report {folder}",
        "gate {folder} --policy {inputs}/policy.yaml --out {out}",
        "generate {model} --prompts {folder} --images 1 --num-inference-steps 1 --out {out}",
        "gate {made}/detect --baseline {folder} --policy {inputs}/policy.yaml --out {out}",
        LINES["detect"].replace("{out}", "{folder}"),
    ),
    ("detect", "summary.json"): (
        "report {folder}",
        "generate {model} --images 1 --mitigate embedding_noise --threshold {file} " + ONE_STEP,
        "gate {folder} --policy {inputs}/policy.yaml --out {out}",
    ),
    ("detect", "work.jsonl"): ("report {folder}", LINES["detect"].replace("{out}", "{folder}")),
    ("seal", "seal.json"): ("verify {folder}", "gate {folder} --policy {inputs}/policy.yaml --out {out}"),
    ("explain", "run.json"): ("report {folder}", "rewrite {folder} --rewrites 1 --score none --out {out}"),
    ("explain", "rows.jsonl"): ("report {folder}", "rewrite {folder} --rewrites 1 --score none --out {out}"),
    ("explain", "summary.json"): ("report {folder}",),
    ("generate", "run.json"): (
        "report {folder}",
        MEASURE.replace("measure {refs} --references {folder}", "measure {folder} --references {refs}"),
    ),
    ("generate", "rows.jsonl"): (
        "report {folder}",
        MEASURE.replace("measure {refs} --references {folder}", "measure {folder} --references {refs}"),
        "index search {made}/index {folder} --out {out}",
        LINES["generate"].replace("{out}", "{folder}"),
    ),
    ("generate", "summary.json"): ("report {folder}",),
    ("measure", "run.json"): ("report {folder}", LINES["measure"].replace("{out}", "{folder}")),
    ("measure", "rows.jsonl"): ("report {folder}", LINES["measure"].replace("{out}", "{folder}")),
    ("measure", "summary.json"): ("report {folder}",),
    ("index", "meta.json"): (
        "index search {folder} {refs} --out {out}",
        "index info {folder}",
        "index duplicates {folder} --out {out}",
    ),
    ("index", "build.json"): ("index search {folder} {refs} --out {out}", LINES["index"].replace("{out}", "{folder}")),
    ("index", "shards/emb-00000.json"): (
        LINES["index"].replace("{out}", "{above}"),
        "index search {above} {refs} --out {out}",
    ),
    ("index", "shards/emb-00000.parquet"): (
        LINES["index"].replace("{out}", "{above}"),
        "index search {above} {refs} --out {out}",
        "index duplicates {above} --out {out}",
    ),
    ("index", "shards/emb-00000.npy"): (
        LINES["index"].replace("{out}", "{above}"),
        "index search {above} {refs} --out {out}",
    ),
    ("rewrite", "rows.jsonl"): ("generate {model} --prompts {folder} --images 1 --num-inference-steps 1 --out {out}",),
    ("sweep", "curves.csv"): ("report {folder}",),
    ("train", "manifest.parquet"): ("report {folder}", DETECT.replace("{file}", "{folder}")),
    ("train", "checkpoints/step-000002/state.json"): (
        "train {model} --data {refs} --steps 3 --batch-size 1 --resume {folder} --out {out}",
    ),
    ("train", "pipeline/unet/config.json"): (
        "detect {above} " + ONE_STEP,
        "detect {model} --unet {folder} " + ONE_STEP,
    ),
    ("emm-train", "run.json"): (
        "report {folder}",
        "emm generate {folder} --seeds 0-1 --num-inference-steps 2 --out {out}",
    ),
    ("emm-train", "rows.jsonl"): ("report {folder}", LINES["emm train"].replace("{out}", "{folder}")),
    ("emm-train", "losses.jsonl"): ("report {folder}", LINES["emm train"].replace("{out}", "{folder}")),
    ("emm-train", "data.zip"): ("emm ratio {file} --references {file} --out {out}",),
}


def readers(inputs: Inputs) -> list[Reader]:
    """All kinds of input with the command that reads each."""
    found = [Reader(name, text(file, held), line, inputs) for name, (file, held, line) in TEXTS.items() if held]
    experiment = (inputs.folder / "experiment.yaml").read_text()
    found.append(Reader("experiment", text("x.yaml", experiment), TEXTS["experiment"][2], inputs))
    for name, held in BESIDE.items():
        found.append(Reader(f"beside {name}", among(inputs.pictures, name, held.encode()), MEASURE, inputs))
    picture = next(inputs.pictures.glob("*.png")).read_bytes()
    found.append(Reader("picture", among(inputs.pictures, "b.png", picture), MEASURE, inputs))
    for name, held, line in _archives(inputs.pictures):
        found.append(Reader(name, text(name, held), line, inputs))
    for (run, file), lines in OF_RUNS.items():
        if (inputs.made / run / file).exists():
            found += [Reader(f"{run} {file}", of_run(inputs.made / run, file), line, inputs) for line in lines]
    for run in (name.replace(" ", "-") for name in READ):
        for file in ("run.json", "rows.jsonl", "summary.json"):
            found.append(Reader(f"{run} {file}", of_run(inputs.made / run, file), "report {folder}", inputs))
    for name in ("model_index.json", "unet/config.json", "scheduler/scheduler_config.json", "tokenizer/tokenizer.json"):
        line = DETECT.replace("{model}", "{run}").replace("{file}", "{prompts}")
        found.append(Reader(f"model {name}", of_run(inputs.model, name), line, inputs))
    return found


def text(name: str, content: str | bytes) -> Maker:
    """A file."""

    def make(place: Path) -> Path:
        (place / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return place / name

    return make


def of_run(run: Path, name: str) -> Maker:
    """A file of a copy of a run, or of a model."""
    return lambda place: shutil.copytree(run, place / "run") / name


def among(pictures: Path, name: str, content: bytes) -> Maker:
    """A file beside a picture."""

    def make(place: Path) -> Path:
        (place / "pictures").mkdir()
        shutil.copy(sorted(pictures.glob("*.png"))[0], place / "pictures" / "a.png")
        return text(f"pictures/{name}", content)(place)

    return make


def _archives(pictures: Path) -> list[tuple[str, bytes, str]]:
    files = sorted(pictures.iterdir())
    tar, packed, table, arrays = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        for file in files:
            archive.add(file, file.name)
    with zipfile.ZipFile(packed, "w") as zipped:
        for file in files:
            zipped.write(file, file.name)
    images = [{"image": {"bytes": f.read_bytes(), "path": f.name}, "text": f.stem} for f in files if f.suffix == ".png"]
    pq.write_table(pa.Table.from_pylist(images), table)
    np.savez(arrays, images=np.zeros((4, 8, 8, 3), np.uint8), labels=np.zeros(4, np.int64))
    idx = bytes([0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 8, 0, 0, 0, 8]) + bytes(4 * 64)
    return [
        ("a.tar", tar.getvalue(), INDEXED),
        ("a.zip", packed.getvalue(), INDEXED),
        ("a.parquet", table.getvalue(), INDEXED),
        ("captions.parquet", table.getvalue(), DETECT),
        ("b.npz", arrays.getvalue(), RATIO),
        ("b.zip", packed.getvalue(), RATIO),
        ("t-images-idx3-ubyte.gz", gzip.compress(idx), RATIO),
        ("lora.safetensors", lora(0.0), "detect {model} --lora {file} " + ONE_STEP),
    ]
