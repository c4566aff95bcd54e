"""Synthetic runs for the tests of the report, and what a browser and a terminal make of them."""

import io
import json
import shutil
from collections.abc import Callable, Sequence
from functools import cache, partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from PIL import Image, ImageDraw
from rich.console import Console

from mnemoscope import stats
from mnemoscope.report.terminal import print_run

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(2)>',
    "[red]not red[/red] [link=file:///etc/passwd]x[/link] :warning:",
    "long " * 1000,
    "emoji 🦊👩‍🚀 and \x1b[31mescape\x07 \x00 \ud800",
    "صورة قط أحمر \u202e gnp.exe",
    "$x^{2$ {{ 7 * 7 }} {% raw %}",
    "",
]
SUBJECTS = ("fox", "lighthouse", "locomotive", "sunflower", "owl", "regatta", "castle", "violin", "cactus", "dragon")
COLOURS = ("#c4513d", "#2f6f9f", "#d9a441", "#4f8a5b", "#7a5195", "#31393f")
TIMES = list(range(981, 0, -20))


def make_detect(
    folder: Path, memorized: int = 30, ordinary: int = 100, tested: int = 20, shift: float = 1.2, **changes: Any
) -> Path:
    """A detect run: `memorized` prompts score higher than the `tested` ordinary ones and the `ordinary` negatives."""
    rng = np.random.default_rng(3)
    groups = [("m", memorized, "prompt", True), ("u", tested, "prompt", False), ("n", ordinary, "negative", None)]
    rows: list[dict[str, Any]] = []
    for letter, count, role, label in groups:
        for k in range(count):
            per_seed = np.exp(rng.normal(0.9 + shift * (letter == "m"), 0.35) + rng.normal(0, 0.08, 4))
            fall = 1 if letter == "m" else np.linspace(1.2, 0.4, len(TIMES))
            series = per_seed[:, None] * fall * np.exp(rng.normal(0, 0.04, (4, len(TIMES))))
            score = float(per_seed.mean())
            rows.append(
                {
                    "id": f"{letter}{k:03d}",
                    "prompt": caption(letter, k),
                    "role": role,
                    "seeds": [0, 1, 2, 3],
                    "label": label,
                }
                | {"kind": "verbatim" if label else None, "score": score, "per_seed": per_seed.tolist(), "status": "ok"}
                | {
                    "series": series.round(4).tolist(),
                    "timesteps": TIMES,
                    "method": "noise_norm",
                    "params": {"steps": 50},
                }
            )
    summary = summarize(rows)
    for row in rows:
        threshold = summary["threshold"]
        row |= {"threshold": threshold, "flagged": None if threshold is None else row["score"] >= threshold}
    flagged = sum(row["flagged"] is True for row in rows if row["role"] == "prompt")
    summary |= {
        "prompts": memorized + tested,
        "failed": 0,
        "flagged": flagged,
        "network_evaluations": 30000,
        "seconds": 412.3,
    }
    return save(folder, {**info("detect"), **changes}, rows, summary)


def make_generate(folder: Path, prompts: int = 12, seeds: int = 4) -> Path:
    """A generate run over the first memorized and ordinary prompts of the detect run, with toy images of 64 pixels."""
    rng, rows = np.random.default_rng(5), []
    for sub in ("images", "references"):
        (folder / sub).mkdir(parents=True)
    for k in range(prompts):
        letter = "m" if k < prompts * 2 // 3 else "u"
        drawing(k, 0).save(folder / "references" / f"{k}.png")
        for seed in range(seeds):
            copied = letter == "m"
            name = f"images/{letter}{k:03d}-{seed}.png"
            drawing(k if copied else 40 + k * seeds + seed, 2 if copied else 30).save(folder / name)
            match = k if copied else (k + seed) % prompts
            similarity = float(rng.uniform(0.93, 0.99) if copied else rng.uniform(0.1, 0.5))
            rows.append(
                {"id": f"{letter}{k:03d}-{seed}", "prompt_id": f"{letter}{k:03d}", "seed": seed, "file": name}
                | {"prompt": caption(letter, k), "mitigation": []}
                | {"kind": "verbatim" if copied else None, "label": copied, "match": f"references/{match}.png"}
                | {
                    "match_caption": caption("m", match),
                    "similarity": similarity,
                    "own_similarity": None,
                    "status": "ok",
                }
            )
    summary = {"images": len(rows), "failed": 0, "network_evaluations": 4800, "seconds": 61.0}
    return save(folder, info("generate"), rows, summary)


def info(command: str) -> dict[str, Any]:
    """A run.json as detect and generate write it."""
    settings = {"seeds": 4, "num_inference_steps": 50, "guidance_scale": 7.5, "prompts": "captions of mine.txt"}
    method = {
        "name": "noise_norm",
        "summary": "Size of the push that the text gives to the predicted noise, in latent units.",
    }
    method |= {"paper": "arXiv:2407.21720, section 3.3", "cost": "1 pair of evaluations"}
    model: dict[str, Any] = {
        "source": "demo",
        "family": "stable-diffusion",
        "weights": "ab12cd34ef56",
        "scheduler": "DDIMScheduler",
    }
    model |= {"prediction_type": "v_prediction", "dtype": "float32", "latent_shape": [4, 16, 16]}
    found: dict[str, Any] = {"command": command, "settings": settings, "model": model, "device": "cpu"}
    found |= {"versions": {"mnemoscope": "0.1.0", "torch": "2.13.0"}}
    if command == "detect":
        found |= {"method": method, "settings": {"method": "noise_norm", "params": {"steps": 50}, **settings}}
    return found


def summarize(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What stats says of the labelled rows, as JSON would hold it."""
    memorized = tuple(row["score"] for row in rows if row["label"])
    ordinary = tuple(row["score"] for row in rows if row["role"] == "negative" or row["label"] is False)
    return json.loads(_calibrated(memorized, ordinary)) | {"conditions": {"steps": 50, "dtype": "float32"}}


@cache
def _calibrated(memorized: tuple[float, ...], ordinary: tuple[float, ...]) -> str:
    return json.dumps(stats.calibration(np.array(memorized, float), np.array(ordinary, float)))


def save(folder: Path, record: dict[str, Any], rows: list[dict[str, Any]], summary: dict[str, Any] | None) -> Path:
    """Write a run folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def caption(letter: str, k: int) -> str:
    """A made-up caption; ordinary ones are plainer."""
    subject = SUBJECTS[k % len(SUBJECTS)]
    if letter == "m":
        return f"The {subject} of Harrowgate, tinted lithograph number {k + 1} from the Orsini catalogue"
    place = ("Oslo", "Lima", "the rain", "Kenya")[k % 4]
    return f"{'a photo' if letter == 'u' else 'drawing'} of a {subject} in {place}, {k}"


def drawing(seed: int, noise: int) -> Image.Image:
    """A toy picture of 64 pixels: shapes on a ground, all drawn from the seed."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (64, 64), COLOURS[rng.integers(6)])
    pen = ImageDraw.Draw(image)
    for _ in range(4):
        x, y, r = rng.integers(5, 55), rng.integers(5, 55), rng.integers(6, 22)
        draw = pen.ellipse if rng.random() < 0.6 else pen.rectangle
        draw((int(x - r), int(y - r), int(x + r), int(y + r)), fill=COLOURS[rng.integers(6)])
    grain = np.random.default_rng(seed + 1000 * noise).normal(0, noise / 2, (64, 64, 3))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


def points(line: Line2D) -> tuple[np.ndarray, np.ndarray]:
    """Where a line goes: x and y."""
    return np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)


class Page(HTMLParser):
    """What a browser makes of a page: elements, what they would load or run, visible words."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.inside = ""
        self.source = path.read_text("utf-8")
        self.feed(self.source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag

    def handle_data(self, data: str) -> None:
        if self.inside not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        """The visible words, single-spaced."""
        return " ".join(" ".join(self.words).split())

    def values(self, name: str) -> list[str]:
        """Every value of an attribute."""
        return [attributes[name] or "" for _, attributes in self.elements if name in attributes]

    def tags(self, name: str) -> list[dict[str, str | None]]:
        """The attributes of every element of a name."""
        return [attributes for tag, attributes in self.elements if tag == name]


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run folder."""
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def edit(folder: Path, change: Callable[[int, dict[str, Any]], dict[str, Any]]) -> Path:
    """Change the rows of a run folder."""
    rows = [change(index, row) for index, row in enumerate(rows_of(folder))]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def printed(run: Path, **settings: Any) -> str:
    """What the terminal shows of a run."""
    console = Console(file=io.StringIO(), width=100, color_system=None, **settings)
    print_run(run, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def make_explain(folder: Path, method: str = "token_gradients", prompts: int = 6, signed: bool = False) -> Path:
    """An explain run whose prompts repeat a word; in memorized ones the subject's two places carry most of it."""
    rng = np.random.default_rng(len(method))
    rows = []
    for k in range(prompts):
        letter = "m" if k % 2 == 0 else "u"
        words = f"{caption(letter, k)} , {SUBJECTS[k % len(SUBJECTS)]}".split()
        scores = rng.gamma(2, 0.1, len(words) + 2) - (0.15 if signed else 0)
        places = [i for i, word in enumerate(words) if word == SUBJECTS[k % len(SUBJECTS)]]
        scores[places] += 1.5 * (letter == "m")
        rows.append(
            {"id": f"{letter}{k:03d}", "prompt": " ".join(words), "method": method, "params": {"score": "noise_norm"}}
            | {"tokens": [*words, "cata", "logue"], "scores": scores.tolist(), "seeds": [0]}
            | {"words": [word_row(word, [scores[i]], i) for i, word in enumerate(words)]}
            | {"special": {"bos": 0.2, "eos": 1.2, "padding": 0.4}, "kind": None, "label": letter == "m"}
            | {"status": "ok"}
        )
    record = info("explain")
    record["method"] = {
        "name": method,
        "summary": "Length of a score's gradient with respect to each token's embedding.",
    }
    record["method"] |= {"paper": "arXiv:2407.21720, section 4.1", "cost": "1 evaluation with gradient"}
    record["settings"] |= {"method": method, "params": {"score": "noise_norm"}}
    return save(folder, record, rows, {"prompts": prompts, "failed": 0, "network_evaluations": 60, "seconds": 3.2})


def word_row(word: str, values: Sequence[float], first: int) -> dict[str, Any]:
    """A word of an explain row, from the values of its tokens."""
    last = first + len(values) - 1
    return {"word": word, "sum": float(sum(values)), "max": float(max(values)), "first": first, "last": last}


def make_rewrite(folder: Path, prompts: int = 4, scored: bool = True) -> Path:
    """A rewrite run at two levels: odd prompts stay above the threshold, and the last row has failed."""
    rows = []
    for k in range(prompts):
        for level in (1, 3):
            prompt, subject = caption("m", k), SUBJECTS[k % len(SUBJECTS)]
            row: dict[str, Any] = {
                "id": f"m{k:03d}-{level}-0",
                "prompt_id": f"m{k:03d}",
                "prompt": prompt,
                "level": level,
            }
            chosen = [{"word": subject, "first": 1, "last": 2}, {"word": "Orsini", "first": 12, "last": 13}]
            row |= {"k": 0, "chosen": chosen[: 1 + level // 3], "rewriter": "neighbours", "status": "ok"}
            row |= {"rewrite": prompt.replace(subject, "animal").replace("Orsini", "old" if level > 1 else "Orsini")}
            after = 3.4 if k % 2 else 1.9 - 0.2 * level
            rows.append(row | ({"score_before": 4.2 + 0.1 * k, "score_after": after} if scored else {}))
    rows[-1] |= {"status": "failed", "rewrite": None, "error": "the answer was empty"}
    summary = {"failed": 1, "threshold": 2.5, "seconds": 3.0, "network_evaluations": 64}
    return save(folder, info("rewrite"), rows, summary if scored else {"failed": 1})


def make_mitigated(folder: Path, prompts: int = 6, seeds: int = 2) -> Path:
    """A generate run with a threshold, a mitigation and unmitigated twins: only flagged prompts are changed."""
    edit(make_generate(folder, prompts, seeds), partial(_mitigated, folder))
    record = json.loads((folder / "run.json").read_text())
    named = {"name": "embedding_descent", "params": {"target": 2.5}}
    record["settings"] |= {"mitigations": [named], "threshold": 2.5, "baseline": True}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def _mitigated(folder: Path, index: int, row: dict[str, Any]) -> dict[str, Any]:
    flagged, name = bool(row["label"]), row["file"].replace(".png", "-baseline.png")
    shutil.copy(folder / row["file"], folder / name)
    seen: dict[str, Any] = {"score": 4.1 + 0.01 * index if flagged else 1.2, "threshold": 2.5, "flagged": flagged}
    if flagged:
        drawing(300 + index, 4).save(folder / row["file"])
        seen |= {"mitigation": ["embedding_descent"], "embedding_descent": {"score": [4.1, 3.3, 2.6, 2.4]}}
        row |= {"similarity": 0.41, "own_similarity": 0.38}
    row |= {"mitigation": seen.get("mitigation", []), "seen": seen, "score": seen["score"], "flagged": flagged}
    return row | {"baseline": name, "baseline_similarity": 0.44 if flagged else 1.0}


STRENGTHS = {"embedding_descent": ("target", (2.5, 1.5, 1.0, 0.5)), "random_words": ("count", (1, 4, 8))}


def make_sweep(folder: Path, reach: float = 0.02, methods: Sequence[str] = tuple(STRENGTHS)) -> Path:
    """A sweep of 3 prompts and 8 images a point; the strongest embedding descent replicates `reach` of them."""
    (folder / "images").mkdir(parents=True)
    points = [point("none", None, None, 0.95, 0.93, 0.7)]
    for place, name in enumerate(methods):
        parameter, strengths = STRENGTHS.get(name, ("strength", (1, 2, 3)))
        for k, strength in enumerate(strengths, 1):
            share = k / len(strengths)
            rate = 0.95 - (0.95 - reach - 0.3 * min(place, 1)) * share
            align = 0.7 - (0.06 + 0.05 * place) * share
            points.append(point(name, parameter, strength, rate, 0.93 - 0.6 * share + 0.1 * place, align))
    rows = []
    for at in points:
        for k in range(3):
            name = f"images/{at['mitigation']}-{at['strength']}-{k}.png"
            drawing(k if at["mitigation"] == "none" else 50 + k, 3).save(folder / name)
            rows.append(
                {"id": f"{at['mitigation']}-{at['strength']}-{k}", "prompt_id": f"m{k}", "prompt": caption("m", k)}
                | {key: at[key] for key in ("mitigation", "parameter", "strength")}
                | {"kind": "verbatim", "label": True, "seed": 0, "file": name, "own_similarity": at["similarity_mean"]}
                | {"similarity": 0.9, "baseline_similarity": 0.5, "alignment": 0.6, "seconds": 0.5, "evaluations": 60}
                | {"unchanged": at["mitigation"] == "none", "status": "ok"}
            )
    summary = {"curves": points, "alignment": "Nearest concept among 20, by pixels", "replication_threshold": 0.7}
    summary |= {"similarity": "Cosine of mean-removed pixels with the own training image.", "network_evaluations": 900}
    return save(folder, info("sweep"), rows, summary)


def point(
    name: str, parameter: str | None, strength: float | None, rate: float, similarity: float, alignment: float
) -> dict[str, Any]:
    """A point of a sweep's curves as its summary holds it."""
    found = {"mitigation": name, "parameter": parameter, "strength": strength, "images": 48, "replication_rate": rate}
    found |= {"replication_interval": [max(rate - 0.05, 0), min(rate + 0.06, 1)], "similarity_mean": similarity}
    found |= {"similarity_interval": [similarity - 0.04, similarity + 0.03], "alignment_mean": alignment}
    found |= {"alignment_interval": [alignment - 0.03, alignment + 0.03], "unchanged": 0.9 if strength else 1.0}
    return found | {"evaluations_per_image": 50.0 + 10 * bool(strength), "seconds_per_image": 0.8}


def make_measure(folder: Path, drawn: Path, threshold: float = 0.8, kept: Path | None = None) -> Path:
    """A measurement of the images of a generate run, by their similarities, with the training pictures kept in it.

    In images of the run `kept`, where it is given, the similarity is halved and no image shows its prompt.
    """
    rows = []
    for row in rows_of(drawn):
        score = row["similarity"] * (0.5 if kept else 1)
        name = f"references/{Path(row['match']).name}"
        (folder / "references").mkdir(parents=True, exist_ok=True)
        shutil.copy(drawn / row["match"], folder / name)
        near = {"match": Path(row["match"]).name, "score": score, "caption": row["match_caption"], "is_own": True}
        rows.append(
            {"id": row["file"], "file": row["file"], "mitigation": row["mitigation"], "status": "ok", "score": score}
            | {key: row[key] for key in ("prompt", "prompt_id", "seed", "kind", "label", "match_caption")}
            | {"match": near["match"], "own_score": score, "neighbours": [near | {"picture": name}]}
            | {"alignment": 0.0 if kept else 1.0, "alignment_chance": 0.05}
        )
    record = info("measure") | {"features": {"features": "pixels", "preset": "rgb16", "weights": "none"}}
    found = [row["score"] > threshold for row in rows]
    summary = {
        "images": len(rows),
        "threshold": threshold,
        "references": 12,
        "replication_rate": sum(found) / len(rows),
    }
    return save(folder, record, rows, summary | {"measures": {}, "failed": 0})


def make_audit(folder: Path, mitigated: bool = True) -> Path:
    """A whole audit: detection, images of flagged and other prompts, both measured, and again under a mitigation."""
    make_detect(folder / "detect")
    make_measure(folder / "measure", make_generate(folder / "generate"))
    if mitigated:
        drawn = edit(
            make_mitigated(folder / "mitigate", prompts=8), lambda _, row: row | {"mitigation": ["noise_descent"]}
        )
        make_measure(folder / "measure-mitigated", drawn, kept=drawn)
    (folder / "run.json").write_text('{"command": "audit"}')
    return folder
