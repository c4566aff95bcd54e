"""The command that a report prints, given again, makes the same rows and the same summary: for every kind of run."""

import html
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from typer.main import get_command

import tiny
from mnemoscope import cli
from mnemoscope.cli.reference import leaves
from mnemoscope.report.command import command_lines
from mnemoscope.run.row_kinds import KINDS
from small_words import language_model_in, wordnet_in

Run = Callable[..., tuple[int, str, str]]

MODEL = ["pipe", "--device", "cpu", "--prompts", "prompts.txt"]
QUICK = ["--num-inference-steps", 3, "--guidance-scale", 2.5, "--seed", 3]
PIXELS = ["--features", "pixels"]
EMM = ["--data", "pictures", "--resolution", 8]
NETWORK = ["--width", 8, "--blocks", 1, "--batch-size", 2, "--checkpoint-every", 2]
EXPERIMENT: dict[str, Any] = {
    "name": "tiny",
    "question": "Does it run?",
    "paper": "control",
    "model": "pipe",
    "baseline": "plain",
    "expected": [{"arm": "twice", "measure": "own_similarity", "sign": "+", "group": "duplicated"}],
    "scenes": {"memorized": {"count": 4, "size": 32}, "more": {"count": 4, "size": 32}},
    "base": {
        "data": {"data": "scenes:memorized"},
        "train": {"steps": 2, "batch_size": 2, "checkpoint_every": 1},
        "generate": {"images": 1, "num_inference_steps": 2},
    },
    "arms": {"plain": {}, "twice": {"data": {"duplication": "both", "duplicated": 0.5, "factor": 4}}},
    "measure": {"groups": ["duplicated", "other"], "prompts": 2, "held_out": 3, "resamples": 50},
}
SWEEP: dict[str, Any] = {
    "name": "tiny",
    "question": "Does it run?",
    "factor": "width",
    "confounders": ["Width changes speed."],
    "resamples": 50,
    "data": {"source": "pictures", "resolution": 8},
    "network": {"width": 8, "multipliers": [1], "blocks": 1, "attention": [], "preconditioning": "edm"},
    "train": {"steps": 4, "batch_size": 2, "ema": ["0"], "snapshots": 2, "samples": 4},
    "sizes": [2, 3],
    "levels": {"plain": {"x": 8}, "wide": {"x": 16, "network": {"width": 16}}},
    "expected": [{"level": "wide", "n": 3, "sign": "+"}],
}
BENCH = ["--model", "demo", "--limit", 1, "--num-inference-steps", 2, "--device", "cpu"]
COMMANDS: dict[str, list[object]] = {
    "detect": ["detect", *MODEL, "--param", "p=1.0", "--param", "steps=[0, 2]", "--seeds", 2, *QUICK, "--fpr", 0.5]
    + ["--negatives", "ordinary.txt", "--negatives-limit", 3, "--batch-size", 2],
    "detect, several methods": ["detect", *MODEL, "--method", "noise_norm", "--method", "score.py:own", *QUICK]
    + ["--param", "own.power=2", "--param", "noise_norm.steps=2"],
    "detect, sequential": [
        "detect",
        *MODEL,
        "--budget",
        4,
        "--seeds",
        2,
        *QUICK,
        "--negatives",
        "ordinary.txt",
        "--fpr",
        0.5,
    ],
    "detect, wen": ["detect", *MODEL, "--param", "steps=all", "--format", "wen", *QUICK, "--start", 1],
    "explain": ["explain", *MODEL, "--param", "score=score_norm", "--param", "score.compat=layer6", *QUICK]
    + ["--format", "layer6", "--seeds", 2],
    "explain regions": ["explain", *MODEL, "--method", "difference_map", "--param", "units=noise", *QUICK],
    "localize": ["localize", *MODEL, "--limit", 1, "--param", "seeds=2", "--param", "search=grouped", "--seed", 2]
    + ["--negatives", "ordinary.txt", "--format", "nemo"],
    "localize by gradient": ["localize", *MODEL, "--method", "neurons_by_gradient", "--limit", 2, "--dedup"],
    "localize at random": ["localize", *MODEL, "--method", "random", "--param", "count=3", "--seed", 5],
    "localize threshold": ["localize", "threshold", *MODEL, "--param", "seeds=2", "--num-inference-steps", 4],
    "generate": ["generate", *MODEL, "--images", 2, "--references", "pictures", "--batch-size", 1, *QUICK],
    "generate --mitigate": ["generate", *MODEL, "--images", 1, "--mitigate", "pad_fix", "--mitigate", "embedding_noise"]
    + ["--param", "scale=0.3", "--baseline", "--threshold", "0.1:eps", *QUICK],
    "measure": ["measure", "made/generate", "--references", "pictures", *PIXELS, "--threshold", 0.6, "--top-k", 2]
    + ["--seed", 4, "--metrics", "replication"],
    "explain demo": ["explain", "demo", *MODEL[1:], *QUICK, "--limit", 1],
    "rewrite by neighbours": ["rewrite", "made/explain demo", "--level", 1, "--rewrites", 2, "--seed", 9, "--seeds", 2],
    "rewrite by WordNet": ["rewrite", "made/explain", "--level", 1, "--level", 2, "--rewrites", 2, "--temperature", 0.5]
    + ["--wordnet", "wordnet", "--score", "score_norm", "--param", "steps=2", "--device", "cpu"],
    "rewrite by a masked model": ["rewrite", "made/explain", "--level", 1, "--masked-lm", "bert", "--score", "none"]
    + ["--format", "layer6"],
    "sweep": ["sweep", *MODEL, "--references", "pictures", "--mitigate", "embedding_noise", "--mitigate", "pad_fix"]
    + ["--strength", "embedding_noise=0.1,0.2", "--replication-threshold", 0.5, *PIXELS, *QUICK],
    "extract": ["extract", *MODEL, "--budget", 100, "--images", 2, "--least", 2, "--chains", 2, "--tokens", 2]
    + ["--deviations", 0.5, *QUICK],
    "recover": ["recover", *MODEL, *PIXELS, "--references", "pictures", "--images", 1, "--attack-steps", 2]
    + ["--attack-batch", 1, "--lr", 0.2, "--begin", "random", "--edit", "weight_pruning", *QUICK]
    + ["--negatives", "ordinary.txt"],
    "membership": ["membership", "pipe", "--device", "cpu", "--pictures", "drawn/mine", "--held-out", "drawn/held-out"]
    + [
        "--method",
        "denoising_loss",
        "--param",
        "times=[0.2, 0.6]",
        "--seeds",
        2,
        "--seed",
        3,
        "--fpr",
        0.1,
        "--no-adjust",
    ],
    "audit": ["audit", *MODEL, "--references", "pictures", *PIXELS, "--images", 1, "--seeds", 1, "--most", 1, *QUICK]
    + ["--negatives", "ordinary.txt", "--fpr", 0.5],
    "train": ["train", "pipe", "--data", "pictures", "--resolution", 32, "--steps", 3, "--batch-size", 2, "--seed", 7]
    + ["--checkpoint-every", 2, "--transform", "random_words:count=2", "--probability", 0.5],
    "watch": [
        "watch",
        "made/train/checkpoints",
        "--data",
        "pictures",
        "--model",
        "pipe",
        "--wait",
        0,
        "--device",
        "cpu",
    ]
    + ["--probe-count", 2],
    "train LoRA": ["train", "pipe", "--data", "pictures", "--resolution", 32, "--steps", 2, "--batch-size", 2]
    + ["--train", "lora", "--lora-rank", 2, "--seed", 1],
    "repair": ["repair", "pipe", "--lora", "made/train LoRA", "--energy", 0.7, "--factor", 0.1, "--device", "cpu"],
    "audit of a fine-tune": ["audit", "pipe", "--unet", "made/train/checkpoints/step-000002", "--data", "pictures"]
    + [*PIXELS, "--images", 1, "--seeds", 1, "--most", 1, "--device", "cpu", *QUICK, "--negatives", "ordinary.txt"],
    "experiment": ["experiment", "experiment.yaml", "--seeds", 1, "--device", "cpu"],
    "index search": ["index", "search", "made/index", "pictures", "--top-k", 2, "--limit", 3, "--device", "cpu"],
    "bench detect": ["bench", "detect", *BENCH, "--method", "noise_norm", "--images", 0],
    "bench mitigate": ["bench", "mitigate", *BENCH, "--method", "embedding_noise", "--images", 1],
    "bench explain": ["bench", "explain", *BENCH, "--method", "token_gradients"],
    "bench measure": ["bench", "measure", *BENCH, "--method", "pixels-32", "--images", 0],
    "bench localize": ["bench", "localize", *BENCH, "--method", "random", "--images", 1],
    "emm train": ["emm", "train", *EMM, *NETWORK, "--steps", 4, "--snapshots", 2, "--samples", 4]
    + ["--inference-steps", 2, "--seed", 3],
    "emm generate": ["emm", "generate", "made/emm train", "--seeds", "5-7", "--device", "cpu"],
    "emm ratio": ["emm", "ratio", "pictures", "--references", "pictures"],
    "emm sweep": ["emm", "sweep", "sweep.yaml", "--seeds", 2, "--device", "cpu", "--levels", "plain,wide"],
    "emm optimum": ["emm", "optimum", *EMM, "--seeds", "2-5", "--device", "cpu"],
    "import": ["import", "made/detect, wen/wen.jsonl", "--first-step", 1, "--end-step", 3, "--fpr", 0.2],
    "import layer6": ["import", "made/explain/attributions.json", "--format", "layer6"],
    "import nemo": ["import", "made/localize/nemo.csv", "--format", "nemo"],
}
FILES: dict[str, list[object]] = {  # commands that leave files and no run
    "emm data": ["emm", "data", "pictures", "--subset-size", 3, "--resolution", 8, "--label-mode", "unique"],
    "gate": ["gate", "made/detect", "--policy", "policy.yaml"],
    "index": ["index", "build", "pictures", *PIXELS, "--shard-size", 2],
    "index of others": ["index", "build", "others", *PIXELS, "--shard-size", 2],
    "index merge": ["index", "merge", "made/index", "made/index of others"],
    "index duplicates": ["index", "duplicates", "made/index", "--threshold", 0.5],
    "localize statistics": ["localize", "statistics", *MODEL, "--layers", "all"],
}
SLOW = {
    "bench mitigate",
    "bench explain",
    "bench localize",
    "emm generate",
    "recover",
    "train",
    "watch",
    "audit",
    "audit of a fine-tune",
    "experiment",
    "emm sweep",
    "emm train",
    "localize by gradient",
    "rewrite by neighbours",
    "detect, wen",
    "explain regions",
    "explain demo",
    "localize at random",
    "rewrite by a masked model",
    "generate --mitigate",
    "import nemo",
}
WITHOUT = {
    "verify-list",
    "app",
    "index add",
    "index info",
    "index remove",
    "list",
    "report",
    "seal",
    "verify",
    "demo",
}  # they keep nothing of their own, or change what is there; demo is an audit
TIMES = {"seconds", "seconds_per_image", "elapsed", "took", "images_per_second", "samples_per_second"}


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny pipeline, prompts, pictures with captions, a score of a file, an experiment."""
    folder = tmp_path_factory.mktemp("inputs")
    tiny.stable_diffusion(network=tiny.unet_of_stable_diffusion_1(sample_size=16)).save_pretrained(folder / "pipe")
    prompts = ["a red picture", "two boats", "a fine lion"]
    (folder / "prompts.txt").write_text("\n".join(prompts))
    (folder / "ordinary.txt").write_text("\n".join(f"thing {k}" for k in range(5)))
    (folder / "pictures").mkdir()
    rows = []
    for k in range(4):
        picture = Image.effect_mandelbrot((32, 32), (-2 + 0.1 * k, -1.5, 1, 1.5), 20 + k).convert("RGB")
        picture.save(folder / "pictures" / f"{k}.png")
        rows.append({"file": f"{k}.png", "caption": (prompts + ["a fox"])[k]})
    (folder / "pictures" / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "others").mkdir()
    for k in range(3):
        Image.linear_gradient("L").resize((32, 32 + k)).save(folder / "others" / f"{k}.png")
    for name, start in (("mine", 0), ("held-out", 20)):
        (folder / "drawn" / name).mkdir(parents=True)
        for k in range(start, start + 20):
            Image.effect_mandelbrot((32, 32), (-2 + 0.05 * k, -1.5, 1, 1.5), 25).save(
                folder / "drawn" / name / f"{k}.png"
            )
    (folder / "score.py").write_text(
        "def own(step, *, power: float = 1.0):\n    return step.eps_cond.flatten(1).norm(dim=1) ** power\n"
    )
    (folder / "experiment.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    (folder / "sweep.yaml").write_text(yaml.safe_dump(SWEEP))
    (folder / "policy.yaml").write_text("checks:\n- {measure: flagged_share, max: 0.9, min_samples: 1}\n")
    for name, build in (("wordnet", wordnet_in), ("bert", language_model_in)):
        (folder / name).mkdir()
        build(folder / name)
    return folder


@pytest.fixture
def run(mnemoscope: Run, inputs: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Give a command in the folder of the inputs."""
    monkeypatch.chdir(inputs)
    return mnemoscope


def made(run: Run, name: str) -> Path:
    """The run that a command of the table makes; made once, as others read it."""
    folder = Path("made", name)
    if not (folder / "summary.json").is_file() and not (folder / "meta.json").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        words = {**COMMANDS, **FILES}[name]
        for word in words:
            if str(word).startswith("made/"):
                made(run, str(word).split("/")[1])
        code, _, err = run(*words, "--out", folder)
        assert code in (0, 1, 3, 4), err
    return folder


def timeless(value: Any) -> Any:
    """A value without what a clock said."""
    if isinstance(value, dict):
        return {k: timeless(v) for k, v in value.items() if k not in TIMES}
    return [timeless(each) for each in value] if isinstance(value, list) else value


def contents(folder: Path) -> dict[str, Any]:
    """The rows, the summaries and the records of a folder's runs, the name of the folder left out."""
    names = ("rows.jsonl", "summary.json", "run.json")
    files = sorted(p for p in folder.rglob("*.json*") if p.name in names)
    found = {}
    for file in files:
        lines = file.read_text().replace(str(folder.resolve()), "OUT").replace(str(folder), "OUT")
        values = [json.loads(line) for line in lines.splitlines()] if file.suffix == ".jsonl" else json.loads(lines)
        kept = {k: values.get(k) for k in ("command", "asked", "settings")} if file.name == "run.json" else values
        found[file.relative_to(folder).as_posix()] = timeless(kept)
    return found


def printed(folder: Path) -> str:
    """The command that a run's page prints."""
    page = (folder / "report.html").read_text()
    (line,) = re.findall(r"Command that makes this run again:</p>\s*<pre>(.*?)</pre>", page, re.DOTALL)
    return html.unescape(line)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in COMMANDS]
)
def test_the_printed_command_repeats_its_run(run: Run, tmp_path: Path, name: str) -> None:
    first = made(run, name)
    line = printed(first) if (first / "report.html").is_file() else command_lines(first, [])[0]
    assert [line] == command_lines(first, [])
    *words, out, place = shlex.split(line)
    assert (words[0], out, place) == ("mnemoscope", "--out", "DIR")
    code, _, err = run(*words[1:], "--out", tmp_path / "again")
    assert code in (0, 1) and "Traceback" not in err, err
    one, two = contents(first), contents(tmp_path / "again")
    assert list(one) == list(two)
    for file in one:
        assert one[file] == two[file], file


@pytest.mark.parametrize("name", FILES)
def test_what_leaves_files_leaves_the_same_again(run: Run, tmp_path: Path, name: str) -> None:
    for word in FILES[name]:
        if str(word).startswith("made/"):
            made(run, str(word).split("/")[1])
    for out in ("one", "two"):
        code, _, err = run(*FILES[name], "--out", tmp_path / out)
        assert code in (0, 3, 4), err
    one, two = (
        {p.relative_to(place): p.read_bytes() for p in [place, *place.rglob("*")] if p.is_file()}
        for place in (tmp_path / "one", tmp_path / "two")
    )
    assert one and {k: v for k, v in one.items() if k.name != "build.json"} == {
        k: v for k, v in two.items() if k.name != "build.json"
    }


def test_an_index_knows_the_command_that_builds_it(run: Run, tmp_path: Path) -> None:
    first = made(run, "index")
    built = json.loads((first / "build.json").read_text())
    assert run(*built["asked"]["words"], "--out", tmp_path / "again")[0] == 0
    shards = [p.relative_to(first) for p in sorted((first / "shards").iterdir())]
    assert shards and all((first / p).read_bytes() == (tmp_path / "again" / p).read_bytes() for p in shards)
    code, out, _ = run("index", "info", first)
    assert code == 0 and shlex.join(["mnemoscope", *built["asked"]["words"], "--out", "DIR"]) in out


def test_every_command_and_every_kind_of_run_is_among_them() -> None:
    known = {" ".join(words) for words in dict(leaves(get_command(cli.app)))}
    given = [" ".join(map(str, words)) for words in [*COMMANDS.values(), *FILES.values()]]
    tried = {name for name in known for line in given if f"{line} ".startswith(f"{name} ")}
    assert known - tried - {"localize prompts"} == WITHOUT


def test_every_kind_of_row_is_among_them(run: Run) -> None:
    """Of the runs that stand there when all of the others were tried."""
    there = {json.loads(file.read_text())["command"] for file in Path("made").rglob("run.json")}
    if len(list(Path("made").iterdir())) < len(COMMANDS):
        pytest.skip("not all commands were given")
    assert set(KINDS) <= there
