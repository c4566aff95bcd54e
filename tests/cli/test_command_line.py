"""The command line as one mechanism: what every command records, prints again, takes from a file and tries in turn."""

import json
import re
import shutil
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pytest
import typer
import yaml

import mnemoscope as mn
from mnemoscope import cli, planted
from mnemoscope.cli import running
from mnemoscope.cli.asking import RUNNING, Asked
from mnemoscope.cli.command import COMMON
from mnemoscope.cli.helping import SUBJECTS
from mnemoscope.cli.reference import leaves, reference
from mnemoscope.cli.sweeping import strengths_of
from mnemoscope.errors import UsageError
from mnemoscope.mitigation.chosen import Mitigation
from mnemoscope.model.bundled import FOLDERS
from mnemoscope.run.run import read_rows
from mnemoscope.run.settings import read_settings
from mnemoscope.sweep.curves import points

ROOT = typer.main.get_command(cli.app)


PROMPTS = ["memorized 0", "memorized 1", "ordinary 0"]
LEAVES = dict(leaves(ROOT))
NAMES = [" ".join(words) for words in LEAVES]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch):
    """What a command line is understood to ask for; nothing is done."""

    def parse(*words: object) -> Asked:
        caught: list[Asked] = []
        with monkeypatch.context() as patch:
            patch.setattr(running, "carry_out", lambda asked, *_, **__: caught.append(asked))
            ROOT(args=list(map(str, words)), prog_name="mnemoscope", standalone_mode=False)
        return caught[0]

    return parse


def given(parameter: Any, kind: int) -> list[str]:
    """Words that give a parameter a value that is not its default; none for what says how a command runs."""
    if parameter.name in (*RUNNING, "help"):
        return []
    value = example(parameter, kind)
    if parameter.param_type_name == "argument":
        return [value]
    name = max(parameter.opts, key=len)
    if parameter.is_flag:
        return [max(parameter.secondary_opts, key=len) if parameter.default else name]
    return [name, value] + ([name, example(parameter, kind + 1)] if parameter.multiple else [])


def example(parameter: Any, kind: int) -> str:
    """A value of a parameter's type, among them texts that a shell or YAML would read otherwise."""
    if getattr(parameter, "metavar", None) == "NAME=VALUE":
        return ["a.b=[1, 2]", "score=noise norm", "x=y=z"][kind % 3]
    hint = parameter.type_descriptor.annotation
    if isinstance(hint, UnionType) or get_origin(hint) in (Union, list):
        hint = get_args(hint)[0]
    if get_origin(hint) is Literal:
        return get_args(hint)[kind % len(get_args(hint))]
    texts = {
        int: [str((parameter.min or 0) + kind + 3)],
        float: ["1.5", "2", "1e3"] if getattr(parameter, "min", None) else ["0.5", "1e-05", "0.25"],
        Path: ["a b/c", "-", "./x/../y.json"],
    }
    listed = texts.get(hint, ["a b/c'd", "-x", 'é "\\'])
    return listed[kind % len(listed)]


@pytest.mark.parametrize("kind", range(3))
@pytest.mark.parametrize("name", NAMES)
def test_the_words_of_a_record_parse_to_the_same_parameters(asked, name: str, kind: int) -> None:
    command = LEAVES[tuple(name.split())]
    words = [word for p in command.params if p.param_type_name == "option" for word in given(p, kind)]
    arguments = [word for p in command.params if p.param_type_name == "argument" for word in given(p, kind)]
    first = asked(*name.split(), *words, "--", *arguments)
    assert first.command == name
    assert first.given == {p.name for p in command.params if given(p, kind)}  # nothing is forgotten
    second = asked(*first.record()["words"])
    assert second.values == first.values and second.record() == first.record()


# Settings files


def test_parameters_of_a_file_and_of_the_command_line_are_merged_name_by_name(asked, tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("param: {score: noise_norm, steps: 2}\nseeds: 3\n")
    merged = asked(
        "explain", "m", "--prompts", "p", "--config", file, "--param", "steps=[0, 1]", "--param", "score.p=1"
    )
    assert merged.values["param"] == ["score=noise_norm", "steps=[0, 1]", "score.p=1"] and merged.values["seeds"] == 3
    assert "--config" not in merged.words() and merged.record()["parameters"]["seeds"] == 3
    assert asked(*merged.record()["words"]).values["param"] == merged.values["param"]


@pytest.mark.parametrize("place", ["line", "file"])
@pytest.mark.parametrize("command", ["generate", "sweep"])
def test_a_parameter_that_one_place_gives_twice_is_refused(asked, tmp_path: Path, command: str, place: str) -> None:
    twice = ["steps=1", "p=1", " steps =2"]
    file = tmp_path / "s.yaml"
    file.write_text(f"param: {json.dumps(twice if place == 'file' else ['p=1'])}\n")
    words = [word for each in (twice if place == "line" else ["p=1"]) for word in ("--param", each)]
    said = re.escape("--param gives 'steps' more than once (steps=1 and  steps =2); give it once.")
    with pytest.raises(UsageError, match=said):
        asked(
            command,
            "m",
            "--prompts",
            "p",
            "--config",
            file,
            *words,
            *(["--references", "r"] if command == "sweep" else []),
        )


def test_what_the_file_says_otherwise_stands_beside_what_holds(mnemoscope, asked, tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("model: demo-flow\nseed: 3\nseeds: 2\n")
    words = ["detect", "demo", "--prompts", "p", "--seed", "5", "--config", file]
    code, out, _ = mnemoscope(*words, "--dry-run")
    assert code == 0 and 'model: "demo"  # in place of the file\'s "demo-flow"\n' in out
    assert 'seed: 5  # in place of the file\'s "3"\n' in out and "seeds: 2\n" in out
    assert asked(*words).record()["parameters"]["model"] == "demo"
    assert yaml.safe_load(out)["model"] == "demo"


@pytest.mark.parametrize("name", NAMES)
def test_every_command_takes_a_settings_file_and_a_dry_run_prints_one(mnemoscope, asked, tmp_path, name: str) -> None:
    command = LEAVES[tuple(name.split())]
    words = [word for p in command.params if p.param_type_name == "option" for word in given(p, 0)]
    words += [example(p, 0) for p in command.params if p.param_type_name == "argument"]
    first = asked(*name.split(), *words)
    file = tmp_path / "settings.yaml"
    file.write_text(first.settings())
    assert set(yaml.safe_load(first.settings())) <= {p.name for p in command.params}
    again = asked(*name.split(), "--config", file)
    same = {k: v for k, v in again.values.items() if k != "config"}
    assert same == {k: v for k, v in first.values.items() if k != "config"}


def test_a_dry_run_prints_the_settings_that_hold_and_makes_nothing(mnemoscope, tmp_path: Path) -> None:
    words = ["detect", "no-such-model", "--prompts", "p.txt", "--param", "steps=[0, 1]", "--out", tmp_path / "run"]
    code, out, _ = mnemoscope(*words, "--dry-run")
    assert code == 0 and not (tmp_path / "run").exists()
    settings = yaml.safe_load(out)
    assert settings["param"] == {"steps": [0, 1]} and settings["num_inference_steps"] == 50
    assert "seeds: 1  # default" in out and 'prompts: "p.txt"\n' in out
    code, out, _ = mnemoscope(*words, "--dry-run", "--json")
    assert json.loads(out)["parameters"]["seeds"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["demo-flow", "--scheduler", "ddim"], "DDIMScheduler does not know the times of FlowMatchEuler"),
        (["demo", "--scheduler", "heun"], "There is no scheduler 'heun'"),
        (["demo", "--num-inference-steps", "1001"], "1001 sampling steps were asked for; this solver takes 1 to 1000"),
        (["broken"], "DDIMScheduler cannot take 50 steps as it is configured (middle is not supported"),
    ],
)
def test_a_dry_run_refuses_the_solver_that_the_run_would_refuse(
    mnemoscope, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(FOLDERS["demo"], "broken")
    config = Path("broken/scheduler/scheduler_config.json")
    config.chmod(0o644)
    config.write_text(json.dumps({**json.loads(config.read_text()), "timestep_spacing": "middle"}))
    Path("p.txt").write_text("a\n")
    for more in (["--dry-run"], ["--out", "run"]):
        code, _, err = mnemoscope("detect", *words, "--prompts", "p.txt", *more)
        assert code == 2 and said in err


# Runs


@pytest.fixture
def run(mnemoscope, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A command in a folder with `prompts.txt`, where every model is the planted one."""
    monkeypatch.setattr(mn.Denoiser, "from_pretrained", lambda *_, **__: planted.model())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    return mnemoscope


PLANTED = ["planted", "--prompts", "prompts.txt"]


def test_a_run_goes_on_with_other_ways_but_not_with_another_source(run) -> None:
    assert run("detect", *PLANTED, "--out", "a")[0] == 0
    assert run("detect", *PLANTED, "--batch-size", 2, "--out", "a")[0] == 0
    Path("other.txt").write_text("\n".join(PROMPTS))
    code, _, err = run("detect", "planted", "--prompts", "other.txt", "--out", "a")
    assert code == 2 and 'asked: prompts "prompts.txt" there, "other.txt" here' in err


def test_without_out_a_run_has_a_folder_of_its_own(run, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = run("detect", *PLANTED)
    (folder,) = Path("runs").iterdir()
    assert code == 0 and re.fullmatch(r"detect-planted-\d{8}-\d{6}", folder.name)
    assert f"Folder of the run: {folder}" in out and (folder / "report.html").is_file()
    monkeypatch.setenv("WORLD_SIZE", "2")
    code, _, err = run("detect", *PLANTED)
    assert code == 2 and err.startswith("mnemoscope: No --out was given to several processes")


def test_json_is_all_that_is_printed_and_quiet_prints_nothing(run) -> None:
    code, out, _ = run("detect", *PLANTED, "--out", "a", "--json")
    summary = json.loads(out)
    assert code == 0 and summary["run"] == "a" and summary["rows"] == 3
    assert run("detect", *PLANTED, "--out", "a", "--quiet")[:2] == (0, "")


def test_values_of_any_option_or_parameter_are_runs_of_their_own(run) -> None:
    code, out, err = run("detect", *PLANTED, "--sweep", "p=1,2", "--sweep", "seeds=1,2", "--out", "a", "--json")
    assert code == 0, err
    names = ["p=1,seeds=1", "p=1,seeds=2", "p=2,seeds=1", "p=2,seeds=2"]
    assert sorted(p.name for p in Path("a").iterdir() if p.is_dir()) == names
    assert json.loads(out)[2] == {"run": "a/p=2,seeds=1", "p": 2, "seeds": 1}
    found = {name: read_rows(Path("a", name)) for name in names}
    assert [len(row["seeds"]) for row in found["p=1,seeds=2"]] == [2, 2, 2]
    assert found["p=1,seeds=1"][0]["params"]["p"] == 1 and found["p=2,seeds=1"][0]["params"]["p"] == 2
    assert "p=1,seeds=2" in Path("a/report.html").read_text()
    Path("s.yaml").write_text("seeds: [1, 2]\n")
    assert run("detect", *PLANTED, "--config", "s.yaml", "--out", "b")[0] == 0
    assert {p.name for p in Path("b").iterdir() if p.is_dir()} == {"seeds=1", "seeds=2"}
    refused = [(["p"], "names no values"), (["nosuch=1"], "has no parameter 'nosuch'")]
    refused += [(["seeds=1,1"], "a value twice"), (["seeds=1", "--sweep", "seeds=2"], "more than once")]
    refused += [(["out=x,y"], "changes no run"), (["seeds=[1,2]"], "takes one value")]
    for words, said in refused:
        code, _, err = run("detect", *PLANTED, "--sweep", *words, "--out", "c")
        assert code == 2 and said in err
    code, _, err = run("list", "--sweep", "name=a,b")
    assert code == 2 and "list makes none" in err


def test_the_command_line_wins_over_a_list_of_the_settings_file(asked, tmp_path: Path) -> None:
    file = tmp_path / "s.yaml"
    file.write_text("seeds: [1, 2]\nnum-inference-steps: [3, 4]\n")
    words = ("detect", "m", "--prompts", "p", "--config", file)
    both, seeds = ["seeds=1,2", "num_inference_steps=3,4"], ["seeds=1,2"]

    def unquoted(*more: str) -> list[str]:
        return [text.replace('"', "") for text in asked(*words, *more).values["sweep"]]

    assert unquoted() == both
    assert unquoted("--sweep", "p=1,2") == [*both, "p=1,2"]
    assert unquoted("--num-inference-steps", "5") == seeds
    assert unquoted("--sweep", "num-inference-steps=5,6") == [*seeds, "num-inference-steps=5,6"]


@pytest.mark.parametrize("text", ["seeds: 1\nseeds: 2\n", '{"seeds": 1, "seeds": 2}', "top-k: 1\ntop_k: 2\n"])
def test_a_setting_that_is_given_twice_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "s.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match="twice"):
        read_settings(file, ["seeds", "top_k"])


def test_strengths_belong_to_their_mitigation() -> None:
    names = ["embedding_descent", "pad_fix", "embedding_noise"]
    own = strengths_of(["embedding_descent=2,1", "embedding_noise=0.1", "embedding_descent=0.5"], names)
    assert own == {"embedding_descent": [2, 1, 0.5], "embedding_noise": [0.1]}
    assert strengths_of(["1,2"], ["pad_fix", "embedding_noise"]) == {"embedding_noise": [1, 2]}
    for texts, tried, said in (
        (["1"], names, "does not say whose it is"),
        (["pad_fix=1"], names, "pad_fix is not tried, or has no strength"),
        (["[1"], names[:1], "has no readable values"),
    ):
        with pytest.raises(UsageError, match=said):
            strengths_of(texts, tried)
    tried = points([Mitigation("embedding_descent"), Mitigation("embedding_noise")], own)
    assert [(p.method, p.strength) for p in tried[1:]] == [
        ("embedding_descent", 2),
        ("embedding_descent", 1),
        ("embedding_descent", 0.5),
        ("embedding_noise", 0.1),
    ]


# Manners


def test_the_page_of_commands_has_every_option_of_every_command() -> None:
    pages = dict(part.split("\n", 1) for part in reference().split("\n## ")[1:])
    assert set(pages) == {*NAMES, "All commands"}
    for words, command in LEAVES.items():
        text = pages[" ".join(words)]
        for parameter in command.params:
            there = pages["All commands"] if parameter.name in COMMON else text
            assert all(re.search(f"[` ]{name}[` ,]", there) for name in parameter.opts if "--" in name)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_help_cuts_no_name_whatever_the_width(mnemoscope, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for words, command in LEAVES.items():
        text = command.get_help(command.make_context(words[-1], [], resilient_parsing=True))
        assert all(name in text for p in command.params for name in p.opts if name.startswith("--"))
    text = mnemoscope("localize", "--help")[1]
    assert "--statistics" in text and "threshold" in text and "--negatives-limit" in text
    text = " ".join(mnemoscope("--help")[1].split())
    assert all(command.get_short_help_str(200) in text for command in ROOT.commands.values()) and "..." not in text[80:]
    assert set(ROOT.commands) <= {name for names in SUBJECTS.values() for name in names.split()}


def test_options_of_one_subject_are_the_same_in_all_commands() -> None:
    models = [own for own in LEAVES.values() if {"unet", "scheduler"} <= {p.name for p in own.params}]
    assert len(models) >= 8
    for own in models:
        by_name = {p.name: p for p in own.params}
        shared = {"model", "unet", "lora", "scheduler", "device", "dtype"}
        for name in shared | (
            {"prompts", "column", "start", "limit"} & set(by_name) if "prompts" in by_name else set()
        ):
            first = {p.name: p for p in models[0].params}[name]
            if by_name[name].param_type_name != first.param_type_name:
                continue  # the page takes its model by an option
            assert (by_name[name].help, getattr(by_name[name], "rich_help_panel", None)) == (
                first.help,
                getattr(first, "rich_help_panel", None),
            )


def test_what_is_nearly_right_is_named(run) -> None:
    for words, said in (
        (["detect", "planted", "--prompts", "promps.txt"], "Did you mean prompts.txt?"),
        (["detect", *PLANTED, "--method", "nosie_norm"], "Did you mean noise_norm?"),
    ):
        code, _, err = run(*words, "--out", "a")
        assert code == 2 and err.rstrip().endswith(said) and err.count("\n") == 1 and err.count("id you mean") == 1
    code, _, err = run("detect", *PLANTED, "--sedes", "3")
    assert code == 2 and "--seed" in err
    code, out, _ = run("--version")
    assert code == 0 and re.fullmatch(r"mnemoscope \d+\.\d+\.\d+\S*\n", out)
