"""Methods from outside: a file, a function, an installed package; each does what a method inside does."""

import json
import sys
from pathlib import Path

import pytest
import torch

import mnemoscope as mn
from mnemoscope import planted, registry
from mnemoscope.methods import contract
from mnemoscope.registry import outside

PLAIN = '''
def push(step, *, power: float = 1.0):
    """The size of the push, as a stranger would write it."""
    return (step.eps_cond - step.eps_uncond).flatten(1).norm(dim=1) ** power
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    written = tmp_path / "push.py"
    written.write_text(PLAIN)
    return written


@pytest.fixture
def trajectory(planted: mn.Denoiser) -> mn.Trajectory:
    return mn.Trajectory(planted, ["memorized 0", "ordinary 1"], 0, num_inference_steps=5)


def test_a_file_scores_as_the_method_inside_does(file: Path, trajectory: mn.Trajectory) -> None:
    inside = mn.detect(trajectory, "noise_norm")
    assert torch.equal(mn.detect(trajectory, str(file)), inside)
    assert torch.equal(mn.detect(trajectory, f"{file}:push", power=2.0), inside**2)


def test_a_function_is_taken_wherever_a_name_is(trajectory: mn.Trajectory, planted: mn.Denoiser) -> None:
    def louder(start, *, factor: float = 2.0) -> None:
        """Twice the noise to begin from."""
        start.change(x_t=factor * start.x_t)

    def push(step):
        """The size of the push."""
        return (step.eps_cond - step.eps_uncond).flatten(1).norm(dim=1)

    assert torch.equal(mn.detect(trajectory, push), mn.detect(trajectory, "noise_norm"))
    by_name = mn.explain(trajectory, "token_gradients", score="noise_norm")
    assert torch.equal(mn.explain(trajectory, mn.explainers.token_gradients, score=push), by_name)
    plain = list(planted.steps(["ordinary 1"], [0], num_inference_steps=3))[0].x_t
    with mn.mitigate(planted, louder, factor=3.0):
        changed = list(planted.steps(["ordinary 1"], [0], num_inference_steps=3))[0].x_t
    torch.testing.assert_close(changed, plain * 3)


def test_a_file_remembers_its_content_and_a_changed_one_is_another(file: Path) -> None:
    first = registry.detection(str(file))
    assert first.origin["file"] == "push.py" and len(first.origin["sha256"]) == 64
    file.write_text(PLAIN + "# changed\n")
    assert registry.detection(str(file)).origin != first.origin
    assert registry.detection("noise_norm").origin == {}


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        (None, "gone.py", "There is no method file at"),
        ("def f(x): return x", "m.py", r"a function \(step, ...\) or \(trajectory, ...\), and .* holds none"),
        ("def a(step): 1\ndef b(step): 1", "m.py", "holds 2 of them"),
        ("def a(step): 1", "m.py:b", "has no function 'b'; it has a"),
        ("def a(start): 1", "m.py:a", "no method of the kind asked for"),
        ("def a(step: 1", "m.py", "cannot be loaded as a method .SyntaxError"),
        ("import no_such_package", "m.py", "cannot be loaded as a method .ModuleNotFoundError"),
    ],
)
def test_what_is_no_method_is_refused_in_one_sentence(tmp_path: Path, text: str | None, name: str, said: str) -> None:
    if text is not None:
        (tmp_path / "m.py").write_text(text)
    with pytest.raises(mn.UsageError, match=said):
        registry.detection(str(tmp_path / name))


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A package that a stranger installed: a module and the metadata that pip writes beside it."""
    (tmp_path / "strangers.py").write_text(PLAIN.replace("def push", "def stranger_push"))
    info = tmp_path / "strangers-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strangers\nVersion: 1.2\n")
    entries = "stranger_push = strangers:stranger_push\nbroken = strangers:nothing\n"
    (info / "entry_points.txt").write_text(f"[{outside.GROUP}]\n{entries}")
    monkeypatch.syspath_prepend(str(tmp_path))
    outside.installed.cache_clear()
    with pytest.warns(UserWarning, match="The method broken of strangers is left out"):
        outside.installed()
    yield
    outside.installed.cache_clear()
    sys.modules.pop("strangers", None)


@pytest.mark.usefixtures("plugin")
def test_an_installed_method_is_listed_and_taken_by_name(trajectory: mn.Trajectory) -> None:
    assert "stranger_push" in registry.names("score") and "broken" not in registry.names("score")
    found = registry.detection("stranger_push")
    assert found.origin == {"distribution": "strangers", "version": "1.2"}
    assert torch.equal(mn.detect(trajectory, "stranger_push"), mn.detect(trajectory, "noise_norm"))


def test_the_contract_passes_a_good_score_and_says_what_a_bad_one_lacks(file: Path) -> None:
    contract.check(str(file), "detect")

    def constant(step):
        """One for everybody."""
        return torch.ones(len(step.x_t))

    def of_the_batch(step):
        """A value that neighbours change."""
        push = (step.eps_cond - step.eps_uncond).flatten(1).norm(dim=1)
        return push / push.sum()

    for wrong, said in ((constant, "memorized"), (of_the_batch, "batch")):
        with pytest.raises(AssertionError, match=said):
            contract.check(wrong, "detect")


def test_a_mitigation_that_leaves_something_behind_fails_the_contract() -> None:
    def forgets(start) -> None:
        """Changes a weight and leaves it."""
        next(start.model.network.parameters()).data.mul_(1.01)

    with pytest.raises(AssertionError, match="weights"):
        contract.check(forgets, "mitigate")


def test_a_run_records_where_its_method_came_from(file: Path, tmp_path: Path, planted: mn.Denoiser) -> None:
    from mnemoscope.detection.run import Detection, run_detection
    from mnemoscope.prompts.prompt import as_prompts

    texts = as_prompts(["memorized 0", "ordinary 1"])
    run_detection(planted, texts, tmp_path / "run", Detection(str(file), num_inference_steps=5))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["method"]["origin"] == dict(registry.detection(str(file)).origin)
    file.write_text(PLAIN + "# changed\n")
    with pytest.raises(mn.UsageError, match="other settings"):
        run_detection(planted, texts, tmp_path / "run", Detection(str(file), num_inference_steps=5))


def test_a_measure_of_ones_own_is_a_column(tmp_path: Path) -> None:
    from mnemoscope.measuring.comparison import Measured
    from mnemoscope.measuring.measurement import Measurement, methods, parameters

    def brightness(comparison, *, top: int = 1) -> Measured:
        """How bright."""
        return Measured({}, {})

    asked = Measurement(metrics=("replication", brightness), params={"brightness.top": 2})
    assert list(methods(asked)) == ["replication", "brightness"] and parameters(asked)["brightness"] == {"top": 2}


def test_planted_prompts_are_what_the_contract_looks_at() -> None:
    assert planted.prompts(True) and planted.prompts(False)
