"""Images drawn from trained networks: from files and trainings, by seed, in any batch, on several processes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mnemoscope.emm.generation.options import Drawing
from mnemoscope.emm.generation.run import draw_images
from mnemoscope.emm.networks import NetworkOptions, build
from mnemoscope.emm.sampling.crew import DrawnShare, whole
from mnemoscope.emm.sampling.options import Sampling, asked_seeds, read_seeds
from mnemoscope.emm.training.snapshots import Snapshots, description
from mnemoscope.emm.training.sources import Weights, network_of
from mnemoscope.errors import UsageError
from mnemoscope.run.run import read_json, read_rows, write_json
from places import FIXTURES

NETWORKS = FIXTURES / "edm_networks"
FILE, LABELLED = str(NETWORKS / "ddpmpp.safetensors"), str(NETWORKS / "adm_labels.safetensors")
EDM = Weights(preconditioning="edm")
OPTIONS = NetworkOptions(width=8, multipliers=(1,), blocks=1, attention=(), preconditioning="edm")


def drawn(out: Path, source: str = FILE, *, sampling: dict[str, Any] | None = None, **how: Any) -> dict[str, Any]:
    """A run of a few images in two steps."""
    weights = how.pop("weights", EDM if source.endswith(".safetensors") else None)
    drawing = Drawing(**{"seeds": "3,5-7", "batch_size": 2, **how})
    return draw_images(
        source, out, drawing, Sampling(**{"num_inference_steps": 2, **(sampling or {})}), weights, device="cpu"
    )


def pictures(out: Path) -> dict[int, np.ndarray]:
    found = {}
    for row in read_rows(out):
        with Image.open(out / row["file"]) as image:
            found[row["seed"]] = np.asarray(image).astype(int)
    return found


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of two snapshots, the first of which is the best, by its files."""
    run = tmp_path_factory.mktemp("training")
    record = {"command": "emm-train", "settings": {"ema": ["0.9", "mode1"]}, "network": description(OPTIONS, 1, 8, 0)}
    write_json(run / "run.json", record)
    write_json(run / "summary.json", {"averages": {"0.9": {"step_max": 4}}})
    for step in (4, 8):
        Snapshots(run).write(step, {"0.9": lively(step), "mode1": lively(step + 1)})
    return run


def lively(seed: int) -> dict[str, torch.Tensor]:
    """Weights none of which are near zero, as after a long training."""
    state, generator = build(OPTIONS, channels=1, resolution=8).state_dict(), torch.Generator().manual_seed(seed)
    return {name: 0.2 * torch.randn(value.shape, generator=generator) for name, value in state.items()}


def test_a_file_of_published_weights_is_drawn_from(tmp_path: Path) -> None:
    summary = drawn(tmp_path / "run")
    rows = read_rows(tmp_path / "run")
    assert [row["seed"] for row in rows] == [3, 5, 6, 7] and {row["label"] for row in rows} == {None}
    assert summary["images"] == 4 and summary["network_evaluations"] == 4 * 3
    images = pictures(tmp_path / "run")
    assert images[3].shape == (16, 16, 3) and np.abs(images[3] - images[5]).mean() > 5
    drawn(tmp_path / "other", seeds=None, images=7, batch_size=7)
    others = pictures(tmp_path / "other")
    assert sorted(others) == list(range(7))
    assert all(np.abs(others[seed] - images[seed]).max() <= 1 for seed in (3, 5, 6))


@pytest.mark.parametrize(
    "changed",
    [{"s_churn": 20}, {"sigma_max": 5}, {"sigma_min": 0.5}, {"solver": "euler"}, {"schedule": "vp"}, {"rho": 2}],
    ids=str,
)
def test_every_way_of_sampling_arrives(changed: dict[str, Any], tmp_path: Path) -> None:
    how = {"num_inference_steps": 4, "seeds": "1"}
    steps = {"num_inference_steps": how.pop("num_inference_steps")}
    drawn(tmp_path / "usual", sampling=steps, **how)
    summary = drawn(tmp_path / "changed", sampling=steps | changed, **how)
    assert np.abs(pictures(tmp_path / "usual")[1] - pictures(tmp_path / "changed")[1]).max() > 2
    assert summary["network_evaluations"] == (4 if "solver" in changed else 7)


def test_labels_are_drawn_or_given(tmp_path: Path) -> None:
    drawn(tmp_path / "drawn", LABELLED, seeds="0-15", batch_size=16)
    assert {row["label"] for row in read_rows(tmp_path / "drawn")} == {0, 1, 2, 3}
    drawn(tmp_path / "given", LABELLED, seeds="0-3", label=2)
    assert {row["label"] for row in read_rows(tmp_path / "given")} == {2}
    with pytest.raises(UsageError, match="labels 0 to 3"):
        drawn(tmp_path / "wrong", LABELLED, label=4)
    with pytest.raises(UsageError, match="has no labels"):
        drawn(tmp_path / "none", label=1)


def test_snapshots_and_averages_of_a_training(training: Path, tmp_path: Path) -> None:
    made = {}
    for name, how in {
        "last": {},
        "step": {"snapshot": "8"},
        "best": {"snapshot": "best"},
        "other": {"weights": Weights(ema="mode1")},
    }.items():
        drawn(tmp_path / name, str(training), sampling={"num_inference_steps": 8}, seeds="1", **how)
        made[name] = pictures(tmp_path / name)[1]
    assert np.array_equal(made["last"], made["step"]) and made["last"].shape == (8, 8)
    assert not np.array_equal(made["last"], made["best"]) and not np.array_equal(made["last"], made["other"])


def test_a_run_that_was_cut_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn(tmp_path / "whole")
    calls = []

    def failing(*given: Any) -> list[dict[str, Any]]:
        if calls:
            raise KeyboardInterrupt
        calls.append(given)
        return save(*given)

    from mnemoscope.emm.generation.run import save

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("mnemoscope.emm.generation.run.save", failing)
        drawn(tmp_path / "run")
    assert len(read_rows(tmp_path / "run")) == 2
    assert drawn(tmp_path / "run")["network_evaluations"] == 12
    files = [sorted(p.relative_to(tmp_path / name) for p in (tmp_path / name).rglob("*")) for name in ("run", "whole")]
    assert files[0] == files[1]
    assert read_rows(tmp_path / "run") == read_rows(tmp_path / "whole")
    with pytest.raises(UsageError, match="other settings .*label"):
        drawn(tmp_path / "run", seeds="3,5-7", label=1)


@pytest.mark.parametrize(
    ("source", "how", "said"),
    [
        ("digits", {}, "neither a run of emm train nor a .safetensors file"),
        (FILE, {"weights": Weights()}, "--preconditioning"),
        (FILE, {"weights": Weights(ema="0.9", preconditioning="edm")}, "no snapshots and averages"),
        (FILE, {"snapshot": "best"}, "no snapshots and averages"),
        (FILE, {"images": 3}, "Both --images and --seeds"),
        (FILE, {"seeds": "1,1"}, "a seed twice"),
        (FILE, {"seeds": "0-99999999999"}, "more than 10,000,000"),
        (FILE, {"batch_size": 0}, "at least 1"),
        (FILE, {"sampling": {"solver": "rk4"}}, "--solver rk4 is not known; give euler or heun"),
        (FILE, {"sampling": {"sigma_min": 9, "sigma_max": 1}}, "noise levels would go"),
    ],
)
def test_what_cannot_be_drawn(source: str, how: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        drawn(tmp_path / "run", source, **how)


def test_a_training_refuses_what_a_file_needs(training: Path) -> None:
    with pytest.raises(UsageError, match="knows its network"):
        network_of(str(training), EDM)
    with pytest.raises(UsageError, match="--snapshot newest is none"):
        network_of(str(training), Weights(), "newest")


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_shares_are_put_back_into_order(processes: int) -> None:
    seeds = list(range(10, 15))
    shares = [
        DrawnShare(np.array(own, np.uint8).reshape(-1, 1, 1, 1), np.array(own), 2 * len(own)) if own else None
        for own in (seeds[process::processes] for process in range(processes))
    ]
    found = whole(shares, len(seeds))
    assert found.pixels.ravel().tolist() == found.labels.tolist() == seeds and found.evaluations == 10


def test_seeds_are_read() -> None:
    assert (
        read_seeds("0-2,9") == [0, 1, 2, 9] and asked_seeds(3, None) == [0, 1, 2] and len(asked_seeds(None, None)) == 64
    )


def test_commands_draw_and_score_published_weights(mnemoscope, tmp_path: Path) -> None:
    """`emm generate` and `emm ratio` of a file under EDM's own names, with the same way of sampling."""
    how = ["--preconditioning", "edm", "--num-inference-steps", 2, "--s-churn", 3, "--device", "cpu", "--label", 1]
    words = ["emm", "generate", LABELLED, *how, "--seeds", "0-3", "--out", tmp_path / "images"]
    code, out, err = mnemoscope(*words)
    assert (code, err) == (0, "") and "4 images drawn from" in out
    page = (tmp_path / "images" / "report.html").read_text()
    assert page.count("image of seed") == 4 and "class 1" in page and "3.0 an image" in page
    words = ["emm", "ratio", LABELLED, *how, "--samples", 4, "--references", tmp_path / "images" / "images"]
    code, out, err = mnemoscope(*words, "--out", tmp_path / "ratio", "--gallery", 0)
    assert (code, err) == (0, ""), err
    rows, summary = read_rows(tmp_path / "ratio"), read_json(tmp_path / "ratio" / "summary.json")
    assert [row["match"].split("/")[-1] for row in rows] == [f"00000{k}.png" for k in range(4)]
    assert summary["memorization_ratio"] == 1 and summary["network_evaluations"] == 12
    for wrong in (["--threshold", "nan"], ["--s-noise", "inf"], ["--samples", 0], ["--limit", 0], ["--solver", "x"]):
        code, _, err = mnemoscope(*words, *wrong, "--out", tmp_path / "wrong")
        assert code == 2 and err.count("\n") == 1, err


TORCHRUN = """
import sys
from mnemoscope.emm.generation.options import Drawing
from mnemoscope.emm.generation.run import draw_images
from mnemoscope.emm.ratio.command import measure_ratio
from mnemoscope.emm.ratio.options import Asked, RatioOptions
from mnemoscope.emm.ratio.options import Drawing as Ratio
from mnemoscope.emm.sampling.options import Sampling
from pathlib import Path
training, train, out = sys.argv[1:]
draw_images(training, out + "/images", Drawing(images=7, batch_size=2), Sampling(2), device="cpu")
drawing = Ratio(5, sampling=Sampling(2), device="cpu")
measure_ratio(Asked(training, train), Path(out) / "ratio", RatioOptions(gallery=2), drawing)
"""


@pytest.mark.slow
def test_two_processes_draw_what_one_draws(training: Path, tmp_path: Path) -> None:
    from mnemoscope.emm.data.readers import read_images
    from mnemoscope.emm.data.writers import write_images

    (tmp_path / "script.py").write_text(TORCHRUN)
    train = write_images(read_images("digits", limit=20), tmp_path / "train.npz")
    for processes in (1, 2):
        out = tmp_path / str(processes)
        words = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        words += [str(tmp_path / "script.py"), str(training), str(train), str(out)]
        subprocess.run([sys.executable, *words], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300)
    for name in ("images", "ratio"):
        one, two = (read_rows(tmp_path / str(k) / name) for k in (1, 2))
        assert [row["id"] for row in one] == [row["id"] for row in two] and len(one) == (7 if name == "images" else 15)
    one, two = (pictures(tmp_path / str(k) / "images") for k in (1, 2))
    assert all(np.abs(one[seed] - two[seed]).max() <= 1 for seed in range(7))
