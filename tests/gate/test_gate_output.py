"""What a gate writes: JUnit, SARIF, the model card and the list of leaks, valid and complete, whatever prompts hold."""

import csv
import json
import re
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

import gate_runs as made
from mnemoscope.gate.policy import read_policy
from mnemoscope.gate.run import run_gate
from places import FIXTURES, ROOT

HOSTILE = '=1+1, "a" <b> | `c`\n\x00\x1b[31m\u202e]]> \ud83d'
CHECKS = [
    {"name": "copies", "measure": "replication_rate", "max": 0.1, "group": "flagged"},
    {"name": "<flags> & \x07 | more", "measure": "flagged_share", "max": 0.05},
    {"name": "calm", "measure": "replication_rate", "max": 0.5, "group": "not_flagged"},
    {"name": "later", "measure": "recover_success", "max": 0.1, "when_missing": "pass"},
]


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a verdict: a check that fails, one undecided, one passed, one passed over; a hostile prompt."""
    root = tmp_path_factory.mktemp("gated")
    run = made.write_run(root / "run", "audit", [], {})
    made.detection(run / "detect", [2.0] * 3 + [0.5] * 57)
    made.measurement(run / "measure", [[0.9, 0.8]] * 3 + [[0.1, 0.2]] * 57)
    rows = (run / "measure" / "rows.jsonl").read_text().replace('"prompt 0"', json.dumps(HOSTILE))
    (run / "measure" / "rows.jsonl").write_text(rows)
    (run / "generate" / "images").mkdir(parents=True)
    (run / "generate" / "images" / "p0-0.png").write_bytes(b"")
    verdict = run_gate([run], read_policy(made.policy(root / "policy.yaml", *CHECKS)), before=run)
    assert [c["outcome"] for c in verdict["checks"]] == ["fail", "undecided", "pass", "pass"]
    return run / "gate"


def test_the_junit_file_has_the_structure_that_runners_read(gated: Path) -> None:
    """Elements, attributes and their order as JUnit's schema has them, written down here: no XSD is at hand."""
    allowed = {
        "testsuites": ({"name", "tests", "failures", "errors", "skipped"}, {"testsuite"}),
        "testsuite": ({"name", "tests", "failures", "errors", "skipped"}, {"testcase"}),
        "testcase": ({"name", "classname", "time"}, {"failure", "error", "skipped", "system-out"}),
        "failure": ({"message", "type"}, set()),
        "error": ({"message", "type"}, set()),
        "skipped": ({"message"}, set()),
        "system-out": (set(), set()),
    }
    root = ElementTree.parse(gated / "junit.xml").getroot()
    for element in root.iter():
        attributes, children = allowed[element.tag]
        assert set(element.attrib) == attributes and {child.tag for child in element} <= children
        assert len({child.tag for child in element}) == len(element) or element.tag in ("testsuites", "testsuite")
    (suite,) = root
    marks = Counter(child.tag for case in suite for child in case)
    assert marks == {"failure": 1, "error": 1, "skipped": 1, "system-out": 4}
    for each in (root, suite):
        counts = {name: int(each.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
        assert counts == {"tests": 4, "failures": 1, "errors": 1, "skipped": 1}
    assert [case.attrib["name"] for case in suite][:2] == ["copies", "<flags> &  | more"]
    failure = suite[0].find("failure")
    assert failure is not None and "the policy wants at most 0.1" in failure.attrib["message"]


def test_the_sarif_log_is_valid_and_names_each_leak(gated: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    log = json.loads((gated / "sarif.json").read_text())
    schema = json.loads((FIXTURES / "sarif-2.1.0-compact.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(log)
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert all(rules[result["ruleIndex"]] == result["ruleId"] for result in run["results"])
    leaks = [result for result in run["results"] if result["ruleId"] == "copied-image"]
    others = [(r["properties"]["name"], r["level"]) for r in run["results"] if r["ruleId"] == "policy-check"]
    assert others == [("copies", "error"), (CHECKS[1]["name"], "warning")]
    assert len(leaks) == 6 and {result["level"] for result in leaks} == {"error"}
    first = leaks[0]["properties"]
    assert set(first) == {"prompt", "seed", "trainingFile", "similarity", "preset"}
    assert {r["properties"]["prompt"] for r in leaks} == {HOSTILE, "prompt 1", "prompt 2"}
    assert (first["similarity"], first["preset"], first["seed"]) == (0.9, "pixels/rgb16", 0)
    assert len({result["partialFingerprints"]["mnemoscope/v1"] for result in run["results"]}) == len(run["results"])
    assert not any(re.search("[\x00-\x1f\u202e]", result["message"]["text"]) for result in run["results"])


def test_a_log_that_lacks_what_the_standard_requires_is_not_valid() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((FIXTURES / "sarif-2.1.0-compact.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    result = {"level": "error", "message": {"text": "a"}}
    run = {"tool": {"driver": {"name": "a"}}, "results": [result]}
    assert validator.is_valid({"version": "2.1.0", "runs": [run]})
    for broken in (
        {"version": "2.0.0", "runs": [run]},
        {"version": "2.1.0"},
        {"version": "2.1.0", "runs": [{"results": []}]},
        {"version": "2.1.0", "runs": [{**run, "results": [{"level": "error"}]}]},
        {"version": "2.1.0", "runs": [{**run, "results": [{**result, "level": "fatal"}]}]},
    ):
        assert not validator.is_valid(broken)


def test_the_leaks_are_a_table_most_similar_first_with_paths_where_there_are_files(gated: Path) -> None:
    with (gated / "leaks.csv").open(newline="", encoding="utf-8") as opened:
        rows = list(csv.DictReader(opened))
    assert list(rows[0]) == ["image", "prompt", "seed", "training_file", "similarity", "preset"]
    assert [float(row["similarity"]) for row in rows] == [0.9] * 3 + [0.8] * 3
    by_image = {Path(row["image"]).name: row for row in rows}
    assert set(by_image) == {f"p{k}-{seed}.png" for k in range(3) for seed in range(2)}
    assert Path(by_image["p0-0.png"]["image"]).is_file() and by_image["p1-0.png"]["image"] == "images/p1-0.png"
    assert by_image["p2-1.png"] | {"image": ""} == {
        "image": "",
        "prompt": "prompt 2",
        "seed": "1",
        "training_file": "train/2.png",
        "similarity": "0.8",
        "preset": "pixels/rgb16",
    }


def test_the_hub_reads_the_results_of_the_model_card(gated: Path) -> None:
    huggingface_hub = pytest.importorskip("huggingface_hub")
    text = (gated / "model-card.md").read_text(encoding="utf-8")
    card = huggingface_hub.ModelCard(text, ignore_metadata_errors=False)
    results = {result.metric_name: result for result in card.data.eval_results}
    assert set(results) == {"copies", "<flags> &  | more", "calm"}  # the one that was passed over has no value
    copies = results["copies"]
    assert (copies.metric_type, copies.metric_value, copies.task_type) == ("replication_rate", 1.0, "text-to-image")
    assert copies.metric_args["run_preset"] == "pixels/rgb16" and copies.metric_args["samples"] == 6
    assert "**fail**, 6 copied images" in text and "Compared: demo" in text
    assert "| copies | fail |" in text and "&lt;flags> &amp;  \\| more" in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 6 and all(len(re.findall(r"(?<!\\)\|", line)) == 4 for line in table)


def test_the_verdict_says_what_it_rests_on(gated: Path) -> None:
    verdict = json.loads((gated / "verdict.json").read_text())
    assert (verdict["verdict"], verdict["leaks"]) == ("fail", 6)
    assert len(verdict["policy"]["sha256"]) == 64 and verdict["policy"]["level"] == 0.95
    assert [run["command"] for run in verdict["runs"]] == ["detect", "measure"] * 2
    assert verdict["checks"][0]["run_preset"] == "pixels/rgb16" and verdict["checks"][0]["run_threshold"] == 0.5


def test_the_pages_policy_and_workflow_hold(tmp_path: Path, mnemoscope) -> None:
    """The example of a policy is one, and GitHub's workflow parses and runs commands that there are."""
    page = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
    policy, workflow = re.findall(r"```yaml[^\n]*\n(.*?)```", page, re.DOTALL)
    (tmp_path / "policy.yaml").write_text(policy)
    assert len({check.measure for check in read_policy(tmp_path / "policy.yaml").checks}) >= 5
    parsed = yaml.safe_load(workflow)
    (job,) = parsed["jobs"].values()
    assert parsed[True]["pull_request"] is None or "paths" in parsed[True]["pull_request"]  # YAML's `on` is true
    assert all(("uses" in step) != ("run" in step) for step in job["steps"])
    commands = [c for step in job["steps"] for c in step.get("run", "").splitlines() if c.startswith("mnemoscope")]
    assert {command.split()[1] for command in commands} >= {"audit", "seal"}
    for command in commands:
        _, out, _ = mnemoscope(command.split()[1], "--help")
        assert all(option in out for option in re.findall(r"--[a-z-]+", command)), command
    assert any(step.get("with", {}).get("sarif_file", "").endswith("sarif.json") for step in job["steps"])
