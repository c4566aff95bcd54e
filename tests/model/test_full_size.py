"""The benchmark of full models, at the smallest size: its jobs run, and what has a line is not run again."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import mnemoscope as mn

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' Euler


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    file = next(f for p in Path(__file__).parents if (f := p / "benchmarks/full_size.py").exists())
    spec = importlib.util.spec_from_file_location("full_size", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules["full_size"] = module
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(file.parent)  # as where it is started
        spec.loader.exec_module(module)
    return module


ALONE = [(name, False) for name in ("sd1", "sd2", "sdxl", "sd3")]
LOW = [("sdxl", True), *(pytest.param(name, True, marks=pytest.mark.slow) for name in ("sd1", "sd2", "sd3"))]


@pytest.mark.parametrize(("name", "low"), [*ALONE, *LOW])
def test_every_job_runs_and_is_metered(bench: ModuleType, name: str, low: bool) -> None:
    pipe = bench.pipeline(bench.tiny(bench.SHAPES[name]))
    pipe.set_progress_bar_config(disable=True)
    if low:
        bench.save_memory(pipe, torch.device("cpu"))
    model = mn.Denoiser(pipe)
    assert model.dtype == bench.SHAPES[name].dtype and model.size == (128, 128)
    counts = {}
    for job in ("detect", "explain", "descent", "generate", "guard"):
        meter = bench.Meter(model)
        bench.JOBS[job](model, 2)
        read = meter.read()
        counts[job] = read["evaluations"]
        assert read["seconds"] > 0 and read["peak_gib"] >= read["weights_gib"] > 0
    assert counts.pop("guard") >= 6  # the pipeline's two pairs, the gradient, the test of what it moved to
    assert counts == {"detect": 2, "explain": 2, "descent": 3, "generate": 4}


SIZES = {"sd1": 859_520_964, "sd2": 865_910_724, "sdxl": 2_567_463_684, "sd3": 2_028_328_000}


@pytest.mark.parametrize("name", SIZES)
def test_networks_have_the_number_of_parameters_of_the_published_ones(bench: ModuleType, name: str) -> None:
    shape = bench.SHAPES[name]
    kind = bench.SD3Transformer2DModel if name == "sd3" else bench.UNet2DConditionModel
    with torch.device("meta"):
        network = kind(**shape.network)
    assert abs(sum(p.numel() for p in network.parameters()) / SIZES[name] - 1) < 0.03


def test_results_are_taken_up_and_told_in_a_table(bench: ModuleType, tmp_path: Path, monkeypatch, capsys) -> None:
    ran: list[str] = []

    def run(which: dict, args: object) -> dict:
        ran.append(f"{which['model']} {which['job']}")
        return {**which, "error": "out of room"} if which["job"] == "guard" else {**which, **about}

    about = {"evaluations": 2, "seconds": 1.5, "seconds_an_evaluation": 0.75, "weights_gib": 4.0, "peak_gib": 5.0}
    about |= {"dtype": "float32", "size": "512x512", "device": "cpu"}
    monkeypatch.setattr(bench, "run", run)
    results = tmp_path / "results.jsonl"
    words = ["full_size.py", "--models", "sd1", "--results", str(results), "--jobs"]
    for jobs in (["detect"], ["detect", "guard"]):
        monkeypatch.setattr(sys, "argv", [*words, *jobs])
        bench.main()
    assert ran == ["sd1 detect", "sd1 guard"] and len(results.read_text().splitlines()) == 2
    told = capsys.readouterr().out
    assert "| sd1, float32, 512x512 | detect | no | 2 | 0.75 | 1.5 | 4.0 | 5.0 |" in told
    assert "| sd1 | guard | no | out of room |" in told
    results.write_text(results.read_text() + '{"model": "sd1", "job": "exp')  # torn by a kill
    assert bench.measured(results, {"model": "sd1", "job": "detect"})["seconds"] == 1.5
    assert json.loads(results.read_text().splitlines()[0])["job"] == "detect"
