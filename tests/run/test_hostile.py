"""A sample of the campaign, and the unlucky situations that it was made of; `make hostile` runs all of it."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from matplotlib.figure import Figure
from PIL import Image

from hostile.children import Ended, child, command, opened_before, save_as_data
from hostile.inputs import BYTES, PLACES, ZOO, attacks, judged, spoil
from hostile.kills import Writes, killed, tree
from hostile.verbs import LINES, MADE, READ, Inputs, make_runs, verbs
from mnemoscope import planted as truth
from mnemoscope.cli.application import app
from mnemoscope.detection.run import Detection
from mnemoscope.errors import UsageError
from mnemoscope.features import descriptor
from mnemoscope.features.references import read_references
from mnemoscope.generation.run import Generation
from mnemoscope.mitigation.chosen import Mitigation
from mnemoscope.model import loading
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.kept import Kept
from mnemoscope.prompts.prompt import as_prompts, read_prompts
from mnemoscope.report import write
from mnemoscope.rewriting.endpoint import Connection, Endpoint
from mnemoscope.run.run import read_rows
from mnemoscope.search.build import build_index
from mnemoscope.search.shards import Index
from mnemoscope.sweep.curves import points
from mnemoscope.sweep.run import run_sweep
from places import HELPERS

ASKED = {"num_inference_steps": 2, "guidance_scale": 3.0}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inputs]:
    """Inputs of the campaign's commands, whose model is opened once and whose drawings are cheap."""
    made = Inputs(tmp_path_factory.mktemp("hostile") / "inputs").make()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "open_model", opened_before(["demo", made.model]))
        patch.setattr(Figure, "savefig", save_as_data)
        yield made


# The campaign


SLOW = ("measure", "generate", "bench", "bench mitigate", "import wen", "emm optimum")
MORE = [pytest.param(verb, marks=pytest.mark.slow) for verb in SLOW]


@pytest.mark.parametrize("verb", ["index", "detect", *MORE])
def test_a_command_killed_at_a_write_goes_on_to_the_same_tree(inputs: Inputs, tmp_path: Path, verb: str) -> None:
    found = list(killed(verb, verbs(inputs)[verb], tmp_path / "kills", 2, random.Random(verb)))
    assert len(found) == 2 and not [each for each in found if each.wrong]


def test_the_campaign_notices_what_a_kill_leaves_and_changes(tmp_path: Path) -> None:
    def whole(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / ".a.partial").write_text("half")
        (folder / "a.txt").write_text("a" if not (folder / "b.txt").exists() else "other")
        (folder / ".a.partial").unlink()
        (folder / "b.txt").write_text("b")

    writes = Writes(tmp_path / "run", at=5)
    ended = child(lambda: (writes.install(), whole(tmp_path / "run")))
    assert ended.code == -9 and tree(tmp_path / "run") == {}.fromkeys(["a.txt"], tree(tmp_path / "run")["a.txt"])


def test_every_command_that_writes_is_in_the_campaign() -> None:
    def names(group: Any, before: str = "") -> Iterator[str]:
        for name, each in group.commands.items():
            yield from names(each, f"{name} ") if hasattr(each, "commands") else [before + name]

    said = {" ".join(words[:2]) for words in (line.split() for line in LINES.values())}
    missing = {n for n in names(typer.main.get_command(app)) if not any((s + " ").startswith(n + " ") for s in said)}
    assert missing == {
        "demo",
        "app",
        "list",
        "verify",
        "verify-list",
        "membership",  # of sets larger than the campaign's; tests/membership kills it
        "index info",
    }  # an audit, a page for a browser; the others only read


@pytest.mark.slow
def test_spoilt_inputs_are_read_or_refused_in_one_sentence(inputs: Inputs, mnemoscope) -> None:
    make_runs(inputs, lambda words: mnemoscope(*words), (*MADE, *READ))
    wrong = []
    for attack in attacks(inputs, random.Random(0), 45):
        said = judged(child(command(attack.words), patience=60))
        wrong += [f"{attack.reader}, {attack.how}: {said}"] if said else []
    assert not wrong


def test_what_is_judged_as_wrong() -> None:
    assert (
        judged(Ended(70, "Traceback (most recent call last)")) and judged(Ended(2, "")) and judged(Ended(0, "", True))
    )
    assert judged(Ended(2, "mnemoscope: \x1b]0;x")) and judged(Ended(1, "Traceback (most recent call last): x"))
    assert not judged(Ended(2, "mnemoscope: one sentence.\n")) and not judged(Ended(0, "done"))


def test_every_way_to_spoil_a_file_spoils_it(tmp_path: Path) -> None:
    rng, good = random.Random(0), b'{"a": [1, 2], "b": "text"}\n{"a": 3}\n'
    for how in BYTES:
        assert any(how(good, rng) != good for _ in range(20)), how.__name__
    seen = set()
    for k in range(200):
        (file := tmp_path / str(k)).write_bytes(good)
        seen.add(spoil(file, rng))
    assert seen == {how.__name__ for how in (*BYTES, *PLACES)} and len(ZOO) > 20


# One bad row


@pytest.mark.parametrize("verb", ["detect", "explain", "localize", "threshold", "generate", "sweep", "recover"])
def test_rows_without_a_caption_are_counted_by_what_reads_prompts(inputs: Inputs, mnemoscope, tmp_path, verb) -> None:
    lists = {str(inputs.prompts): ["", None], str(inputs.ordinary): [" "]}
    words = [str(word) for word in verbs(inputs)[verb](tmp_path / "run")]
    words = [word for k, word in enumerate(words) if "--limit" not in words[k - 1 : k + 1]]
    expected = sum(len(empty) for name, empty in lists.items() if name in words)
    for k, (name, empty) in enumerate(lists.items()):
        texts = [*Path(name).read_text().splitlines(), *empty]
        (tmp_path / f"{k}.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
        words = [str(tmp_path / f"{k}.jsonl") if word == name else word for word in words]
    assert mnemoscope(*words)[0] == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["empty_prompts"]["count"] == expected >= 2


def nan_for(model: Denoiser, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """NaN in the embedding of the prompts that say a word."""
    encode = model.family.encode

    def encoded(prompts: list[str], shape: object) -> dict:
        cond = encode(prompts, shape)
        bad = torch.tensor([word in p.split() for p in prompts])
        return {k: v.masked_fill(bad.view(-1, *[1] * (v.ndim - 1)), float("nan")) for k, v in cond.items()}

    monkeypatch.setattr(model.family, "kept", Kept())  # else encodings of before are found
    monkeypatch.setattr(model.family, "encode", encoded)


def references(folder: Path) -> Path:
    folder.mkdir()
    rows = []
    for i, pixels in enumerate(truth.images()):
        Image.fromarray((pixels.permute(1, 2, 0) * 127.5 + 127.5).byte().numpy()).save(folder / f"{i}.png")
        rows.append(json.dumps({"file": f"{i}.png", "caption": f"memorized {i}"}))
    (folder / "captions.jsonl").write_text("\n".join(rows))
    return folder


def test_a_sweep_with_a_prompt_that_gives_nan_has_its_curves(planted, tmp_path, monkeypatch) -> None:
    nan_for(planted, "2", monkeypatch)
    tried = points([Mitigation("embedding_noise")], {"embedding_noise": [0.1]})
    prompts = as_prompts(["memorized 0", "ordinary 2"])
    found = read_references(references(tmp_path / "refs"))
    summary = run_sweep(planted, prompts, tmp_path / "s", Generation(1, **ASKED), tried, found)
    assert summary["failed"] == 2 and len(summary["curves"]) == 2 and (tmp_path / "s" / "curves.csv").is_file()
    bad = [r for r in read_rows(tmp_path / "s") if r["status"] != "ok"]
    assert {r["prompt"] for r in bad} == {"ordinary 2"} and ": NaN" not in (tmp_path / "s" / "rows.jsonl").read_text()
    assert "2 rows failed" in write([tmp_path / "s"]).read_text()


def test_an_audit_whose_decoder_gives_nan_ends_with_its_report(planted, tmp_path, monkeypatch) -> None:
    from mnemoscope.audit.run import Copying, run_audit

    monkeypatch.setattr(planted.family, "decode", lambda latents: latents * float("nan"))
    refs = references(tmp_path / "refs")
    copying = Copying(str(refs), descriptor("pixels"))
    failed = run_audit(
        planted,
        as_prompts(["memorized 0"]),
        tmp_path / "a",
        Detection(**ASKED),
        Generation(1, **ASKED),
        copying=copying,
    )
    assert failed == 1 and not (tmp_path / "a" / "measure").exists()
    assert "1 row failed" in write([tmp_path / "a"]).read_text()


def test_a_localization_of_nan_is_a_failed_row(bundled, tmp_path, monkeypatch) -> None:
    from mnemoscope.localization.run import Localization, run_localization

    nan_for(bundled, "fox", monkeypatch)
    asked = Localization("neurons", {"seeds": 2, "search": "grouped", "threshold": 0.5, "initial_theta": None})
    summary = run_localization(bundled, as_prompts(["a red fox"]), tmp_path, asked)
    (row,) = read_rows(tmp_path)
    assert summary["failed"] == 1 and row["status"] == "failed" and "NaN" not in (tmp_path / "rows.jsonl").read_text()


# Indexes


def indexed(folder: Path, **options: object) -> Path:
    source = folder / "source"
    if not source.exists():
        source.mkdir()
        for k in range(3):
            Image.fromarray(np.random.default_rng(k).integers(0, 255, (8, 8, 3), np.uint8)).save(source / f"{k}.png")
    build_index(source, folder / "index", descriptor("pixels"), shard_size=1, **options)
    return folder / "index"


def test_a_record_that_is_lost_or_damaged_is_mended_by_the_same_build(tmp_path: Path) -> None:
    index = indexed(tmp_path)
    before = tree(index)
    for spoilt in (None, "{", '{"count": "x"}', "[" * 30_000):
        record = index / "shards" / "emb-00001.json"
        record.unlink() if spoilt is None else record.write_text(spoilt)
        indexed(tmp_path)
        assert tree(index) == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("listed", 10**9),
        ("listed", "3"),
        ("dtype", 3),
        ("shard_size", 0),
        ("shards", [{"count": 10**9, "listed": 1, "files": {}}] * 3),
        ("shards", [3]),
        ("identity", {"dimension": 3}),
        ("identity", {"features": "pixels", "preset": "x", "weights": "none", "dimension": -1}),
    ],
)
def test_metadata_that_claim_what_is_not_there_are_refused_at_once(tmp_path: Path, key: str, value: object) -> None:
    index = indexed(tmp_path)
    meta = json.loads((index / "meta.json").read_text())
    (index / "meta.json").write_text(json.dumps({**meta, key: value}))
    with pytest.raises(UsageError, match=r"meta\.json is no index's"):
        Index.open(index)
    del meta[key]
    (index / "meta.json").write_text(json.dumps(meta))
    if key != "shards":
        with pytest.raises(UsageError, match=f"it lacks {key}"):
            Index.open(index)


# Sizes, keys, terminals, read-only runs


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--limit", 10**30], ""),
        (["--seeds", 999_999_999_999], "more than any memory holds"),
        (["--threshold", "nan", "--fpr", "nan"], ""),
        (["--guidance-scale", "nan"], "give a finite number"),
        (["--batch-size", "²"], "neither auto nor a number"),
    ],
)
def test_absurd_sizes_are_one_sentence(inputs, mnemoscope: Callable[..., tuple], words: list, said: str) -> None:
    asked = ["detect", "demo", "--prompts", inputs.prompts, "--num-inference-steps", 1, *words]
    code, _, err = mnemoscope(*asked, "--out", inputs.folder / "o")
    assert (code == 2 and said in " ".join(err.split())) if said else code in (0, 2)


@pytest.mark.parametrize("value", ["inf", "nan", "1e300"])
def test_a_training_without_end_is_refused(inputs, mnemoscope: Callable[..., tuple], value: str) -> None:
    code, _, err = mnemoscope(
        "emm", "train", "--data", inputs.pictures, "--epochs", value, "--out", inputs.folder / "o"
    )
    assert code == 2 and "--epochs" in err


def test_a_closed_standard_input_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UsageError, match="standard input is closed"):
        read_prompts("-")


@pytest.mark.parametrize("name", ["prompts.txt", "settings.yaml"])
def test_a_pipe_is_no_input(inputs, mnemoscope: Callable[..., tuple], name: str) -> None:
    os.mkfifo(inputs.folder / name.replace("prompts", "pipe"))
    place = inputs.folder / name.replace("prompts", "pipe")
    words = ["--prompts", place] if name.startswith("p") else ["--prompts", inputs.prompts, "--config", place]
    code, _, err = mnemoscope("detect", "demo", *words, "--out", inputs.folder / "o")
    assert code == 2 and "no plain file" in " ".join(err.split())


@pytest.mark.parametrize("kind", ["wen", "layer6", "nemo"])
def test_a_pipe_or_a_depth_is_no_result_of_another_code(tmp_path: Path, mnemoscope, kind: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "deep").write_text("[" * 100_000)
    for name in ("pipe", "deep"):
        code, _, err = mnemoscope("import", tmp_path / name, "--format", kind, "--out", tmp_path / "o")
        assert code == 2 and "Traceback" not in err


@pytest.mark.parametrize(
    "url", ["ftp://u:sk-SECRET@h/v1", "http://[::1", "sk-SECRET", "http://h:99999999/v1", "http://"]
)
def test_an_address_that_is_none_is_not_repeated(url: str) -> None:
    with pytest.raises(UsageError, match="no http or https address") as caught:
        Endpoint("m", url)
    assert "SECRET" not in str(caught.value)


def test_a_key_that_the_server_spells_otherwise_is_taken_out() -> None:
    pytest.importorskip("openai")
    connection = Connection(Endpoint("m", "http://127.0.0.1:9/v1"), "sk-SECRET")
    spelt = "".join(f"\\u{ord(c):04x}" for c in "sk-SECRET")
    said = json.loads(f'{{"{spelt}": ["say {spelt}", {{"n": 1}}]}}')
    assert connection.cleaned(said) == {"***": ["say ***", {"n": 1}]}


def test_a_run_that_may_only_be_read_is_reported_elsewhere(planted, tmp_path, monkeypatch) -> None:
    from mnemoscope.detection.run import run_detection
    from mnemoscope.plots import canvas

    run_detection(planted, as_prompts(["memorized 0", "ordinary 1"]), tmp_path / "run", Detection(**ASKED))
    before, real = tree(tmp_path / "run"), canvas.write_whole

    def refused(file: Path, content: object) -> None:
        if (tmp_path / "run") in file.parents:
            raise PermissionError(13, "Permission denied", str(file))
        real(file, content)

    monkeypatch.setattr(canvas, "write_whole", refused)
    page = write([tmp_path / "run"], tmp_path / "mine" / "r.html").read_text()
    assert tree(tmp_path / "run") == before and "data:image/png" in page


def test_a_terminal_that_knows_few_characters_ends_no_command(tmp_path: Path) -> None:
    code = "import sys; sys.argv = ['mnemoscope', 'list']; from mnemoscope.cli import main\n"
    code += "import mnemoscope.cli as c; c.whole = lambda: lambda: print('日本語'); main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONIOENCODING": "cp1252"}, capture_output=True
    )
    assert done.returncode == 0 and b"\\u65e5" in done.stdout


@pytest.mark.slow
def test_no_command_opens_a_connection_or_writes_outside_its_run(inputs: Inputs) -> None:
    pytest.importorskip("onnxruntime")
    code = f"""
import sys, os, pathlib, re
home = pathlib.Path({str(inputs.folder / "home")!r}); home.mkdir()
seen = []
def hook(event, values):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
        seen.append((event, repr(values)[:200]))
    if event == "open" and isinstance(values[0], (str, bytes)):
        mode, flags = values[1], values[2]
        if set(mode or "") & set("wax+") or isinstance(flags, int) and flags & 3:
            name = os.fsdecode(values[0])
            if not name.startswith(({str(inputs.folder / "out")!r}, "/dev/null", "/tmp/torchinductor")):
                seen.append((event, name))
sys.addaudithook(hook)
from mnemoscope import cli
sys.path.insert(0, {str(HELPERS)!r})
from hostile.verbs import LINES, MADE, READ, Inputs, make_runs, verbs
known = verbs(Inputs(pathlib.Path({str(inputs.folder)!r})))
for name, verb in known.items():
    if verb.begins_with or "{{made}}" in verb.line:
        continue
    words = [str(w) for w in known[name](pathlib.Path({str(inputs.folder / "out")!r}) / name)]
    words = ["sscd" if w == "pixels" else w for w in words]
    sys.argv = ["mnemoscope", *words]
    try:
        cli.main()
    except SystemExit as e:
        assert not e.code, (name, e.code)
left = [str(p) for p in home.rglob("*") if p.is_file()]
trial = re.compile(r"/tmp/[a-z0-9_]{{8}}")  # by which tempfile finds out whether its folder can be written
print("SEEN", [s for s in seen if "__pycache__" not in s[1] and not trial.fullmatch(s[1])], left)
"""
    home = {"HOME": str(inputs.folder / "home"), "MPLCONFIGDIR": str(inputs.folder / "out" / "mpl")}
    (inputs.folder / "out" / "mpl").mkdir(parents=True)
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **home}, capture_output=True, text=True)
    assert "SEEN [] []" in done.stdout, done.stdout[-1500:] + done.stderr[-1500:]
