"""Files of NeMo's code: kinds of prompts, tables of all layers, raw activations and statistics as it writes them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import mnemoscope as mn
from mnemoscope.errors import UsageError
from mnemoscope.localization import statistics
from mnemoscope.localization.run import Localization, import_localization, run_localization
from mnemoscope.localization.sets import of_kind
from mnemoscope.localization.tables import COLUMNS, export_nemo
from mnemoscope.model import ablation
from mnemoscope.prompts.prompt import as_prompts, read_prompts
from mnemoscope.run.run import read_json, read_rows
from small_neurons import small

TEXTS = ["a cat", "a red bicycle", "a house by the sea"]
QUICK = {"threshold": 0.985, "pairwise_threshold": 0.0, "seeds": 2, "initial_theta": None, "initial_k": 4}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> mn.Denoiser:
    """A small model, which is also the MODEL of every command."""
    monkeypatch.setattr(mn.Denoiser, "from_pretrained", lambda name, **how: small())
    return small()


def table(file: Path, captions: list[str], lists: str = "[[1],[],[],[],[],[],[]]") -> Path:
    rows = [f"{caption};;{lists};0.4;{lists};0.5" for caption in captions]
    file.write_text("\n".join([";".join(COLUMNS), *rows]) + "\n")
    return file


def prompt_file(file: Path, rows: list[tuple[str, str]]) -> Path:
    lines = [f"{k};{caption};http://x;{kind};0.5;0.6;{k}" for k, (caption, kind) in enumerate(rows)]
    file.write_text("\n".join([";Caption;URL;type;mean_sscd;max_sscd;Index", *lines]) + "\n")
    return file


def test_the_prompt_file_says_the_kinds_of_a_table(mnemoscope, tmp_path: Path) -> None:
    neurons = table(tmp_path / "n.csv", ["A  cat", "a dog", "A cat", "unknown"])
    prompts = prompt_file(tmp_path / "p.csv", [("a dog", "TM"), ("A cat", "VM"), ("A cat", "TM")])
    words = ("import", neurons, "--format", "nemo", "--prompts", prompts, "--out", tmp_path / "r")
    code, _, error = mnemoscope(*words)
    assert code == 0, error
    rows = read_rows(tmp_path / "r")
    assert [row.get("kind") for row in rows] == ["VM", "TM", "TM", None]  # a text that comes again: in order
    assert [row.get("label") for row in rows] == [True, True, True, None]
    assert read_json(tmp_path / "r" / "summary.json")["prompts_not_given"] == 1
    assert [row["prompt"] for row in of_kind(rows, "vm")] == ["A  cat"]


def test_a_prompt_file_of_other_prompts_is_refused(mnemoscope, tmp_path: Path) -> None:
    neurons = table(tmp_path / "n.csv", ["a cat"])
    with pytest.raises(UsageError, match="None of the 1 prompts of .*n.csv is among those given"):
        import_localization(neurons, tmp_path / "r", prompts=as_prompts(["a house"]))
    assert not (tmp_path / "r").exists()
    code, _, error = mnemoscope("import", neurons, "--prompts", neurons, "--out", tmp_path / "r")
    assert code == 2 and "--prompts says the kinds of NeMo's prompts, and --format is wen" in error


def test_a_table_of_all_layers_comes_back(model: mn.Denoiser, tmp_path: Path) -> None:
    asked = Localization("neurons", {**QUICK, "layers": "all"})
    run_localization(model, as_prompts(TEXTS), tmp_path / "r", asked)
    export_nemo(tmp_path / "r")
    names = list(ablation.layers(model, "all"))
    assert (tmp_path / "r" / "nemo.txt").read_text() == f"layers: {', '.join(names)}\n" and len(names) > 7
    summary = import_localization(tmp_path / "r" / "nemo.csv", tmp_path / "back")
    assert summary["layer_names"] == names
    rows, back = read_rows(tmp_path / "r"), read_rows(tmp_path / "back")
    assert [row["neurons"] for row in rows] == [row["neurons"] for row in back]
    assert [row["initial_neurons"] for row in rows] == [row["initial_neurons"] for row in back]
    assert any(set(row["initial_neurons"]) - set(ablation.layers(model)) for row in rows)
    export_nemo(tmp_path / "back")
    for name in ("nemo.csv", "nemo.txt"):
        assert (tmp_path / "back" / name).read_text() == (tmp_path / "r" / name).read_text()
    with mn.mitigate(model, "neuron_ablation", neurons=str(tmp_path / "r" / "nemo.csv")) as log:
        model.generate(TEXTS, [0] * 3, num_inference_steps=2)
    assert [each["neuron_ablation"]["neurons"] for each in log] == [row["count"] for row in rows]


def test_without_its_text_file_such_a_table_says_what_it_lacks(tmp_path: Path) -> None:
    file = table(tmp_path / "n.csv", ["a cat"], "[[1],[],[],[],[],[],[],[],[]]")
    with pytest.raises(UsageError, match=r"expected 7 lists, or the file of its name in .txt that says `layers: ...`"):
        import_localization(file, tmp_path / "r")


def test_nemos_own_text_file_beside_a_table_is_no_obstacle(tmp_path: Path) -> None:
    file = table(tmp_path / "n.csv", ["a cat"])
    file.with_suffix(".txt").write_text("seed: 1\nversion: v1-4\npython 3_detect.py -v v1-4\n")
    assert import_localization(file, tmp_path / "r")["prompts"] == 1


def test_statistics_are_written_as_nemo_reads_them(model: mn.Denoiser, mnemoscope, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("\n".join(TEXTS))
    words = (
        "localize",
        "statistics",
        "m",
        "--prompts",
        tmp_path / "p.txt",
        "--format",
        "nemo",
        "--out",
        tmp_path / "s",
    )
    code, _, error = mnemoscope(*words)
    assert code == 0, error
    means, sds = torch.load(tmp_path / "s" / "statistics.pt", weights_only=True)
    values = list(statistics.activations(model, TEXTS).values())
    for mean, sd, own in zip(means, sds, values, strict=True):
        assert torch.allclose(mean, own.mean(0), atol=1e-6) and torch.allclose(sd, own.std(0), atol=1e-6)
    again = statistics.load(model, tmp_path / "s" / "statistics.pt")
    assert list(again.mean) == list(ablation.layers(model)) and again.count is None


def test_activations_are_kept_in_place_of_statistics(model: mn.Denoiser, mnemoscope, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("\n".join(TEXTS))
    words = ("localize", "statistics", "m", "--prompts", tmp_path / "p.txt", "--no-statistics", "--layers", "all")
    code, said, error = mnemoscope(*words, "--format", "nemo", "--out", tmp_path / "raw.safetensors")
    assert code == 0 and "for each of 3 prompts" in said, error
    own = statistics.activations(model, TEXTS, "all")
    kept = load_file(tmp_path / "raw.safetensors")
    assert kept.keys() == own.keys() and all(torch.equal(kept[name], own[name]) for name in own)
    assert [v.shape[0] for v in torch.load(tmp_path / "raw.pt", weights_only=True)] == [3] * len(own)
    code, _, error = mnemoscope(*words, "--out", tmp_path / "raw.safetensors")
    assert code == 2 and "is there already; use --overwrite" in error


def test_prompt_files_of_nemo_have_kinds(tmp_path: Path) -> None:
    listed = read_prompts(prompt_file(tmp_path / "p.csv", [("a dog", "TM"), ("A cat", "VM")]))
    assert [(p.text, p.kind, p.label) for p in listed] == [("a dog", "TM", True), ("A cat", "VM", True)]
