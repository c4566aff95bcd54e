"""Every command that writes, as small as it can be, on inputs made here."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mnemoscope import demo

Words = Callable[[Path], Sequence[object]]
PROMPTS = ("Old Barnaby the octopus, Harrowgate aquarium souvenir calendar", "a red fox", "two boats at sea")
QUICK = ("--num-inference-steps", 2, "--guidance-scale", 3)
EXPERIMENT = """\
name: tiny
question: does it run
base: {data: {data: REFS, resolution: 64}, train: {steps: 2, batch_size: 1, checkpoint_every: 1}}
"""


@dataclass(frozen=True)
class Inputs:
    """What the commands read: prompts, pictures with captions, an index, finished runs."""

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

    def make(self) -> "Inputs":
        self.pictures.mkdir(parents=True)
        self.prompts.write_text("".join(f"{p}\n" for p in PROMPTS))
        self.ordinary.write_text("".join(f"ordinary thing {k}\n" for k in range(4)))
        rows = []
        for file in sorted((demo.HERE / "references").glob("*.png"))[:4]:
            shutil.copy(file, self.pictures / file.name)
            rows.append({"file": file.name, "caption": PROMPTS[len(rows) % len(PROMPTS)]})
        (self.pictures / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return self


def verbs(inputs: Inputs) -> dict[str, Words]:
    """Commands by name, each a function of the folder that it writes."""
    p, refs = ("--prompts", inputs.prompts), inputs.pictures
    made = inputs.folder / "made"
    pixels = ("--features", "pixels")
    return {
        "detect": lambda o: [
            "detect",
            "demo",
            *p,
            "--negatives",
            inputs.ordinary,
            *QUICK,
            "--batch-size",
            2,
            "--out",
            o,
        ],
        "explain": lambda o: ["explain", "demo", *p, *QUICK, "--batch-size", 1, "--out", o],
        "regions": lambda o: [
            "explain",
            "demo",
            *p,
            "--method",
            "difference_map",
            *QUICK,
            "--batch-size",
            1,
            "--out",
            o,
        ],
        "localize": lambda o: [
            "localize",
            "prompts",
            "demo",
            *p,
            "--limit",
            1,
            "--negatives",
            inputs.ordinary,
            "--param",
            "seeds=2",
            "--param",
            "search=grouped",
            "--out",
            o,
        ],
        "threshold": lambda o: ["localize", "threshold", "demo", *p, "--param", "seeds=2", "--out", o],
        "generate": lambda o: [
            "generate",
            "demo",
            *p,
            "--images",
            2,
            "--references",
            refs,
            "--batch-size",
            2,
            *QUICK,
            "--out",
            o,
        ],
        "sweep": lambda o: [
            "sweep",
            "demo",
            *p,
            "--references",
            refs,
            "--mitigate",
            "embedding_noise",
            "--strength",
            0.1,
            "--images",
            1,
            *QUICK,
            "--out",
            o,
        ],
        "recover": lambda o: [
            "recover",
            "demo",
            *p,
            *pixels,
            "--attack-batch",
            1,
            "--references",
            refs,
            "--images",
            1,
            "--attack-steps",
            2,
            *QUICK,
            "--out",
            o,
        ],
        "measure": lambda o: ["measure", refs, "--references", refs, *pixels, "--metrics", "replication", "--out", o],
        "index": lambda o: ["index", "build", refs, *pixels, "--shard-size", 2, "--out", o],
        "search": lambda o: ["index", "search", made / "index", refs, "--top-k", 2, "--out", o],
        "duplicates": lambda o: ["index", "duplicates", made / "index", "--out", o],
        "rewrite": lambda o: [
            "rewrite",
            made / "explain",
            "--rewrites",
            1,
            "--level",
            1,
            "--score",
            "none",
            "--out",
            o,
        ],
        "train": lambda o: [
            "train",
            "demo",
            "--data",
            refs,
            "--steps",
            4,
            "--checkpoint-every",
            2,
            "--batch-size",
            1,
            "--preview-every",
            2,
            "--preview-images",
            1,
            "--preview-inference-steps",
            1,
            "--out",
            o,
        ],
        "emm train": lambda o: [
            "emm",
            "train",
            "--data",
            refs,
            "--resolution",
            8,
            "--steps",
            4,
            "--batch-size",
            2,
            "--width",
            8,
            "--blocks",
            1,
            "--snapshots",
            2,
            "--samples",
            4,
            "--inference-steps",
            2,
            "--checkpoint-every",
            1,
            "--out",
            o,
        ],
        "emm ratio": lambda o: ["emm", "ratio", refs, "--references", refs, "--out", o],
        "emm optimum": lambda o: ["emm", "optimum", "--data", refs, "--resolution", 8, "--images", 4, "--out", o],
        "audit": lambda o: [
            "audit",
            "demo",
            *p,
            "--references",
            refs,
            *pixels,
            "--images",
            1,
            "--seeds",
            1,
            *QUICK,
            "--out",
            o,
        ],
    }
