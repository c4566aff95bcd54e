"""Seals of runs: what was changed, taken away or added is told, by the command and by the gate."""

import hashlib
import json
import os
from pathlib import Path

import pytest

import gate_runs as made
from mnemoscope.errors import UsageError
from mnemoscope.gate.policy import read_policy
from mnemoscope.gate.run import run_gate
from mnemoscope.gate.sealing import seal, verify


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = made.detection(tmp_path / "run", [0.5] * 100)
    (folder / "images").mkdir()
    (folder / "images" / "a.png").write_bytes(b"picture")
    (folder / ".lock").touch()
    return folder


def test_a_seal_holds_the_sha256_of_every_file_and_no_lock(run: Path) -> None:
    files = seal(run)["files"]
    assert set(files) == {"run.json", "rows.jsonl", "summary.json", "images/a.png"}
    assert files["images/a.png"] == hashlib.sha256(b"picture").hexdigest()
    assert json.loads((run / "seal.json").read_text())["files"] == files
    changes = verify(run)
    assert not changes.any and changes.files == 4
    assert changes.seal == hashlib.sha256((run / "seal.json").read_bytes()).hexdigest()
    assert seal(run)["files"] == files  # once more is as good
    (run / "new.txt").write_text("")
    assert verify(run).any and verify(run).added == ("new.txt",)


def test_verify_tells_what_was_changed_missing_and_added_and_leaves_with_3(run: Path, mnemoscope) -> None:
    code, out, _ = mnemoscope("seal", run)
    digest = hashlib.sha256((run / "seal.json").read_bytes()).hexdigest()
    assert code == 0 and "4 files sealed" in out and digest in out
    assert mnemoscope("verify", run)[0] == 0
    (run / "rows.jsonl").write_text("{}\n")
    (run / "images" / "a.png").unlink()
    (run / "images" / "\x1b[31mb.png").write_bytes(b"")
    code, out, err = mnemoscope("verify", run)
    assert code == 3 and err == "" and "\x1b" not in out
    assert [line for line in out.splitlines() if ": " in line][:3] == [
        "changed: rows.jsonl",
        "missing: images/a.png",
        "added: images/[31mb.png",
    ]
    code, out, _ = mnemoscope("verify", run, "--json")
    assert code == 3 and json.loads(out)["missing"] == ["images/a.png"]
    with pytest.raises(UsageError, match="changed since"):
        seal(run)


def test_links_are_sealed_by_where_they_point_and_pipes_are_not_read(run: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "big").write_bytes(b"x")
    (run / "away").symlink_to(tmp_path / "other")
    os.mkfifo(run / "pipe")
    files = seal(run)["files"]
    assert files["pipe"] == "no file" and "away/big" not in files
    (tmp_path / "other" / "big").write_bytes(b"y")
    assert not verify(run).any
    (run / "away").unlink()
    (run / "away").symlink_to(tmp_path)
    assert verify(run).changed == ("away",)


@pytest.mark.parametrize("held", ["[]", "{", "{}", '{"algorithm": "sha256", "schema": 1, "files": []}'])
def test_a_seal_that_is_none_is_refused_in_one_sentence(run: Path, mnemoscope, held: str) -> None:
    code, _, err = mnemoscope("verify", run)
    assert code == 2 and "has no seal" in err
    (run / "seal.json").write_text(held)
    code, _, err = mnemoscope("verify", run)
    assert code == 2 and err.count("\n") == 1 and "seal" in err


def test_only_runs_are_sealed(tmp_path: Path, mnemoscope) -> None:
    code, _, err = mnemoscope("seal", tmp_path)
    assert code == 2 and "holds no run" in err


def test_a_gate_checks_the_seal_names_it_and_does_not_break_it(run: Path, tmp_path: Path) -> None:
    policy = read_policy(made.policy(tmp_path / "policy.yaml", {"measure": "flagged_share", "max": 0.5}))
    seal(run)
    with pytest.raises(UsageError, match="is sealed"):
        run_gate([run], policy)
    verdict = run_gate([run], policy, out=tmp_path / "verdict")
    assert verdict["runs"][0]["seal"] == verify(run).seal and not verify(run).any
    (run / "rows.jsonl").write_text((run / "rows.jsonl").read_text().replace("true", "false"))
    with pytest.raises(UsageError, match="was changed since it was sealed"):
        run_gate([run], policy, out=tmp_path / "verdict")


def test_a_run_that_is_made_anew_has_no_seal_and_no_verdict(run: Path) -> None:
    from mnemoscope.run.run import clear

    (run / "gate").mkdir()
    seal(run)
    clear(run)
    assert not (run / "seal.json").exists() and not (run / "gate").exists()
