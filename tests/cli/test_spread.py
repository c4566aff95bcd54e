"""The same command here and over workers: trees that are alike byte for byte, whatever dies on the way."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
import typer

import dying
from hostile.kills import tree
from hostile.verbs import LINES, Inputs, filled, make_runs
from mnemoscope import cli
from mnemoscope.cli.reference import leaves
from mnemoscope.errors import UsageError
from mnemoscope.job.batching import Pass, run_batches
from mnemoscope.prompts.prompt import as_prompts
from mnemoscope.run import workers as dispatching
from mnemoscope.run.run import Run, read_rows
from mnemoscope.run.runner import spread
from places import HELPERS, ROOT
from spreading import Here, both_ways, over

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'mnemoscope[ray]'")

NAMES = "detect detections explain regions localize threshold generate mitigated measure rewrite sweep recover".split()
NAMES += ["experiment", "pretrained", "audit", "extract"]
DETECT = "detect {model} --prompts {prompts} --num-inference-steps 2 --batch-size 1 --out {out}"
OTHERS = {
    "detections": DETECT + " --method noise_norm --method random",
    "mitigated": (
        "generate {model} --prompts {prompts} --images 2 --mitigate embedding_noise --baseline "
        "--negative-prompt blurred --batch-size 2 --num-inference-steps 2 --out {out}"
    ),
    "rewrite": LINES["rewrite scored"],
    "pretrained": LINES["experiment"].replace("experiment.yaml", "pretrained.yaml").replace("--seeds 1", "--seeds 2"),
}
PRETRAIN = "pretrain: {data: {data: 'scenes:more'}, train: {steps: 1, batch_size: 1}}\n"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    made = Inputs(tmp_path_factory.mktemp("inputs") / "in").make()
    plain = (made.folder / "experiment.yaml").read_text()
    more = plain.replace("arms: {plain: {},", "arms: {plain: {}, other: {train: {steps: 1}},")
    assert more != plain
    (made.folder / "pretrained.yaml").write_text(more + PRETRAIN)
    return made


@pytest.fixture(scope="module")
def two_workers() -> Iterator[dispatching.Workers]:
    paths = os.pathsep.join([str(HELPERS), *filter(None, [os.environ.get("PYTHONPATH")])])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", paths)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=80 * 2**20, log_to_driver=False)
        workers = dispatching.Workers(2, threads=1)
        yield workers
        workers.close()
        ray.shutdown()


def words(line: str, inputs: Inputs, out: Path) -> list[str]:
    known = {"model": inputs.model, "prompts": inputs.prompts, "ordinary": inputs.ordinary, "refs": inputs.pictures}
    return filled(line, **known, made=inputs.made, inputs=inputs.folder, out=out)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_two_workers_make_what_one_process_makes(
    name: str, mnemoscope, inputs: Inputs, two_workers: dispatching.Workers, tmp_path: Path
) -> None:
    if name == "rewrite":
        make_runs(inputs, lambda given: mnemoscope(*given), ["explain"])
    given = partial(words, OTHERS.get(name) or LINES[name], inputs)
    serial, made_there = both_ways(mnemoscope, given, tmp_path, two_workers)
    assert tree(made_there) == tree(serial)


@pytest.mark.slow
def test_the_cells_of_a_bench_are_those_of_one_process(mnemoscope, inputs: Inputs, tmp_path: Path) -> None:
    line = "bench detect --model demo --method noise_norm --limit 1 --images 0 --num-inference-steps 1 --out {out}"
    worker = Here()
    serial, made_there = both_ways(mnemoscope, partial(words, line, inputs), tmp_path, worker)
    kept, there = ({k: v for k, v in tree(made).items() if k.endswith("rows.jsonl")} for made in (serial, made_there))
    assert there == kept and len(kept) == 2 and worker.tasks > 0


def test_a_worker_is_sent_the_model_by_name_and_makes_the_same(mnemoscope, inputs: Inputs, tmp_path: Path) -> None:
    worker = Here()
    serial, made_there = both_ways(mnemoscope, partial(words, LINES["detect"], inputs), tmp_path, worker)
    assert tree(made_there) == tree(serial)
    assert worker.functions == 1 and worker.tasks == 4  # batches of 2 of 3 prompts and 4 ordinary ones
    assert json.loads((made_there / "summary.json").read_text())["network_evaluations"] > 0
    assert max(worker.sizes) < 20_000  # no weights


def test_a_run_goes_on_with_workers_where_it_was_begun_here(mnemoscope, inputs: Inputs, tmp_path: Path) -> None:
    out, worker = tmp_path / "run", Here()
    mnemoscope(*words(DETECT, inputs, out))
    whole = tree(out)
    rows = (out / "rows.jsonl").read_text().splitlines(keepends=True)
    (out / "rows.jsonl").write_text(rows[0] + rows[1][:9])
    with over(worker):
        code, _, said = mnemoscope(*words(DETECT, inputs, out))
    assert code == 0, said
    assert worker.tasks == len(rows) - 1 and tree(out) == whole


@pytest.mark.slow
def test_workers_that_die_or_lack_memory_lose_nothing(
    two_workers: dispatching.Workers, planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One dies once, one always, one is short of memory: all rows in order, and the evaluations of those that ended."""
    monkeypatch.setattr(dispatching, "ATTEMPTS", 2)
    prompts = as_prompts(["a", "dies once", "b", "c", "dies always", "d", "large 1", "large 2"])
    (tmp_path / "marks").mkdir()
    work = partial(dying.rows, planted, tmp_path / "marks")
    with Run(tmp_path / "run", "test", {}) as run, over(two_workers):
        run_batches(run, planted, prompts, 2, Pass("test", work))
    rows = read_rows(tmp_path / "run")
    assert [row["prompt"] for row in rows] == [p.text for p in prompts]
    assert [row["prompt"] for row in rows if row["status"] == "failed"] == ["dies always"]
    assert rows[4]["error"].startswith("2 workers died at it: ")
    assert [row["together"] for row in rows if row["status"] == "ok"] == [2, 2, 2, 2, 1, 1, 1]
    assert planted.network_evaluations == len(prompts) - 1


@pytest.mark.slow
def test_a_killed_command_leaves_no_process_and_goes_on_without_workers(
    mnemoscope, inputs: Inputs, tmp_path: Path
) -> None:
    many = tmp_path / "many.txt"
    many.write_text("".join(f"a thing of number {k}\n" for k in range(60)))
    line = DETECT.replace("{prompts}", str(many))
    mnemoscope(*words(line, inputs, tmp_path / "whole" / "run"))
    out = tmp_path / "killed" / "run"
    code = "import sys; from mnemoscope.cli import main; main()"
    there = [sys.executable, "-c", code, *words(line, inputs, out), "--runner", "ray", "--workers", "2"]
    began = subprocess.Popen(there, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    rows = out / "rows.jsonl"
    while not rows.exists() or rows.read_bytes().count(b"\n") < 5:
        assert began.poll() is None, "it ended before it was killed"
        time.sleep(0.01)
    children = [c for c in psutil.Process(began.pid).children(recursive=True) if not c.name().endswith("Agent")]
    began.send_signal(signal.SIGKILL)
    began.wait()
    done = rows.read_bytes().count(b"\n")
    assert 5 <= done < 60
    assert len(children) > 2 and not psutil.wait_procs(children, timeout=60)[1]  # Ray's own agents take their time
    assert mnemoscope(*words(line, inputs, out))[0] == 0
    before, after = tree(tmp_path / "whole" / "run"), tree(out)
    del before["run.json"], after["run.json"]  # they say how they were run
    assert {k: v for k, v in after.items() if k != "report.html"} == {
        k: v for k, v in before.items() if k != "report.html"
    }
    shutil.rmtree(tmp_path / "killed")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--runner", "cloud"], "--runner cloud is not known; give local or ray"),
        (["--workers", "2"], "--workers and --gpus-per-worker are of --runner ray"),
    ],
)
def test_what_cannot_be_spread_is_one_sentence(
    mnemoscope, inputs: Inputs, tmp_path: Path, options: list[str], said: str
) -> None:
    code, _, error = mnemoscope(*words(DETECT, inputs, tmp_path / "run"), *options)
    assert code == 2 and said in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_without_ray_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnemoscope.run.runner.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'mnemoscope\[ray\]'"), spread("ray"):
        pass


def test_the_page_names_the_commands_that_can_be_spread() -> None:
    page = (ROOT / "docs" / "scale.md").read_text()
    section = page.partition("## Which commands")[2].partition("\n## ")[0]
    said = re.findall(r"^\| `([\w ]+)` \|", section, re.MULTILINE)
    able = [
        " ".join(command)
        for command, found in leaves(typer.main.get_command(cli.app))
        if {"runner", "workers", "gpus_per_worker"} <= {p.name for p in found.params}
    ]
    assert sorted(said) == sorted(able)
