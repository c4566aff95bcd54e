"""A prompt looked at: the page says what the jobs say, in the order of what a person wants to know."""

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import planted_desk
from mnemoscope import UsageError, planted
from mnemoscope.app import choices
from mnemoscope.app.desk import NOT_SET, Desk, facts
from mnemoscope.app.fragments import intro, looked, status
from mnemoscope.app.handlers import STOPPED, Handlers
from mnemoscope.app.looking import LONGEST, PromptLook, Question, look
from mnemoscope.app.runs import Runs
from mnemoscope.app.subject import PageSubject, bundled
from mnemoscope.app.working import followed
from mnemoscope.detection.run import run_detection
from mnemoscope.detection.scoring import Detection
from mnemoscope.features.alignment import NearestConcept
from mnemoscope.prompts.prompt import as_prompts
from mnemoscope.run.run import read_rows


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return planted_desk.desk(tmp_path_factory.mktemp("desk"))


@pytest.fixture(scope="module")
def looks(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> list[PromptLook]:
    question = Question("memorized 2", seed=3, mitigation="embedding_descent")
    return list(look(desk, question, tmp_path_factory.mktemp("look")))


def test_what_is_known_grows_in_the_order_of_what_a_person_asks(looks: list[PromptLook]) -> None:
    doing = ["scoring", "weighing the words", "drawing", "mapping what the text changes"]
    assert [each.doing for each in looks] == [*doing, "drawing again with embedding_descent", ""]
    assert [each.at for each in looks] == [0, 1, 2, 3, 4, 4] and {each.of for each in looks} == {5}
    assert looks[0].score is None and looks[1].score and not looks[1].words and looks[2].words
    assert not looks[-1].problems


def test_the_score_is_that_of_a_detection_with_the_same_threshold(
    desk: Desk, looks: list[PromptLook], tmp_path: Path
) -> None:
    detection = Detection("noise_norm", {"steps": 1}, **planted_desk.SAMPLING)
    negatives = as_prompts(planted_desk.ORDINARY)
    summary = run_detection(
        planted.model(), as_prompts(["memorized 2"]), tmp_path / "run", detection, negatives=negatives, fpr=0.05
    )
    score = looks[-1].score
    assert score and score["score"] == pytest.approx(read_rows(tmp_path / "run")[0]["score"])
    assert desk.limit == score["limit"] == pytest.approx(summary["threshold"]) and score["flagged"] is True
    assert score["units"] == "eps" and desk.origin == "set at 5 % false alarms on 24 ordinary prompts of a list"


def test_the_memorized_words_carry_the_score(looks: list[PromptLook]) -> None:
    assert [word["word"] for word in looks[-1].words] == ["memorized", "2"]
    assert sum(abs(word["share"]) for word in looks[-1].words) == pytest.approx(1)


def test_images_are_copies_and_mitigated_ones_are_not(looks: list[PromptLook]) -> None:
    plain, mitigated = looks[-1].images, looks[-1].mitigated
    assert [image["seed"] for image in plain] == [image["seed"] for image in mitigated] == [3, 4]
    for image, other in zip(plain, mitigated, strict=True):
        assert image["near"]["copied"] and image["near"]["matches"][0]["file"] == "2.png"
        assert image["near"]["matches"][0]["caption"] == "memorized 2"
        assert other["near"]["matches"][0]["similarity"] < image["near"]["matches"][0]["similarity"]
        assert other["baseline_similarity"] < 0.99 and other["flagged"] is True
        assert image["uri"].startswith("data:image/png") and other["uri"] != image["uri"]
    assert plain[0]["map"].startswith("data:image/") and "map" not in plain[1]


def test_an_ordinary_prompt_is_left_as_it_is_behind_the_threshold_and_changed_without_it(
    tmp_path: Path,
) -> None:
    between = Desk(planted_desk.about(threshold="0.5"), tmp_path / "desk")
    question = Question("ordinary 1", mitigation="embedding_noise", strength="3.0")
    kept = list(look(between, question, tmp_path / "a"))[-1]
    assert kept.score and kept.score["flagged"] is False
    assert all(row["flagged"] is False and row["baseline_similarity"] > 0.9999 for row in kept.mitigated)
    changed = list(look(between, Question(**{**vars(question), "only_flagged": False}), tmp_path / "b"))[-1]
    assert all("flagged" not in row and row["baseline_similarity"] < 0.9999 for row in changed.mitigated)


def test_what_does_not_fit_the_model_is_told_and_the_rest_stays(desk: Desk, tmp_path: Path) -> None:
    found = list(look(desk, Question("memorized 1", mitigation="embedding_descent", strength="none"), tmp_path))[-1]
    assert len(found.problems) == 1 and "target" in found.problems[0] and found.images and not found.mitigated


@pytest.mark.parametrize(("given", "said"), [
    ({"prompt": " "}, "No prompt was given"),
    ({"prompt": "x" * (LONGEST + 1)}, "2,001 characters"),
    ({"prompt": "x", "seed": -1}, "out of range"),
])  # fmt: skip
def test_a_prompt_that_cannot_be_drawn_is_refused(desk: Desk, tmp_path: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        list(look(desk, Question(**given), tmp_path))


def test_strengths_are_those_of_the_method_or_shares_of_a_threshold_in_another_unit(desk: Desk) -> None:
    assert choices.strengths("none", desk) == ("", ["as usual"])
    assert choices.strengths("eot_mask", desk) == ("", ["as usual"])
    assert choices.strengths("padding_mask", desk)[1][:2] == ["as usual", "0.1"]
    assert "neuron_ablation" not in choices.mitigations() and "random_words" in choices.mitigations()
    flow = Desk(planted_desk.about(model=planted.model("flow"), images=1), desk.folder / "flow")
    parameter, values = choices.strengths("embedding_descent", flow)
    assert parameter == "target" and values[1] == f"{flow.limit:.3g}:x0" and values[3] == f"{flow.limit / 2:.3g}:x0"
    aimed = choices.asked("embedding_descent", "as usual", flow, gated=False)
    assert aimed and aimed.params["target"] == f"{flow.limit}:x0"
    assert choices.asked("embedding_descent", "as usual", flow, gated=True).params == {}  # type: ignore[union-attr]
    assert choices.asked("padding_mask", "0.5", desk, gated=True).params == {"share": 0.5}  # type: ignore[union-attr]
    assert choices.asked("none", "0.5", desk, gated=True) is None


def test_a_threshold_may_be_a_number_a_run_or_none(desk: Desk, tmp_path: Path) -> None:
    number = Desk(planted_desk.about(threshold="0.5"), tmp_path / "a")
    assert number.limit == 0.5 and "given as a number" in number.origin
    run = Desk(planted_desk.about(threshold=desk.threshold, sampling={}), tmp_path / "b")
    assert run.limit == desk.limit and run.detection == desk.detection  # sampled as the run was
    assert run.origin == "set at 5 % false alarms on 24 ordinary prompts of calibration"
    none = Desk(planted_desk.about(negatives=()), tmp_path / "c")
    assert (none.threshold, none.limit, none.origin, none.lookout, none.compared_by) == (
        None,
        None,
        NOT_SET,
        None,
        None,
    )
    few = Desk(planted_desk.about(negatives=as_prompts(["ordinary 1"])), tmp_path / "d")
    assert few.limit is None and "1 ordinary prompt cannot set one at 5 % false alarms" in few.origin
    with pytest.raises(UsageError, match="other conditions"):
        Desk(planted_desk.about(threshold=desk.threshold, sampling={"num_inference_steps": 4}), tmp_path / "e")


def test_as_many_images_are_drawn_as_the_threshold_averages_over(tmp_path: Path) -> None:
    detection = Detection("noise_norm", {"steps": 1}, seeds=3, **planted_desk.SAMPLING)
    negatives = as_prompts(planted_desk.ORDINARY)
    run_detection(planted.model(), [], tmp_path / "run", detection, negatives=negatives, fpr=0.05)
    found = Desk(planted_desk.about(threshold=str(tmp_path / "run")), tmp_path / "desk")
    assert found.images == 3
    known = list(look(found, Question("memorized 1", mitigation="embedding_noise"), tmp_path / "look"))[-1]
    assert len(known.mitigated) == 3 and not known.problems


def test_work_ends_at_the_next_evaluation_once_it_is_asked_to(desk: Desk) -> None:
    stop, evaluated = threading.Event(), []

    def work() -> Iterator[int]:
        yield 1
        stop.wait(10)
        for image in desk.model.generate(["memorized 1"], [0], num_inference_steps=2):
            evaluated.append(image)
        yield 2

    found = []
    for news in followed(desk.model, desk.lock, work, stop):
        found.append(news.found)
        stop.set()
    assert found == [1] and not evaluated and not desk.lock.locked()
    assert not desk.model.network._forward_pre_hooks


def test_an_error_of_the_work_is_raised_and_nobody_who_leaves_keeps_the_model(desk: Desk) -> None:
    def fail() -> Iterator[int]:
        raise UsageError("no")
        yield

    with pytest.raises(UsageError, match="no"):
        list(followed(desk.model, desk.lock, fail, threading.Event()))

    def endless() -> Iterator[int]:
        while True:
            desk.model.generate(["memorized 1"], [0], num_inference_steps=2)
            yield 1

    left = followed(desk.model, desk.lock, endless, threading.Event())
    next(left)
    left.close()
    assert not desk.lock.locked()


@pytest.fixture
def handlers(desk: Desk, tmp_path: Path) -> Handlers:
    return Handlers(desk, Runs(tmp_path))


def test_a_page_is_told_how_far_a_look_is_and_nothing_of_it_is_left(handlers: Handlers) -> None:
    before = set(handlers.desk.folder.iterdir())
    shown = list(handlers.look(Question("memorized 2"), "me"))
    assert "Step 1 of 4: scoring" in "".join(said for said, _ in shown)
    assert "Done in" in shown[-1][0] and "evaluations of the network" in shown[-1][0]
    assert "Looks memorized" in next(text for _, text in reversed(shown) if text)
    assert set(handlers.desk.folder.iterdir()) == before and not handlers.sessions


def test_a_look_that_is_stopped_keeps_what_was_found(handlers: Handlers) -> None:
    shown = []
    for said, text in handlers.look(Question("memorized 2"), "me"):
        shown.append((said, text))
        if "Looks memorized" in (text or ""):
            handlers.stop("somebody else")
            handlers.stop("me")
    assert STOPPED in shown[-1][0] and not any("What does it draw" in (text or "") for _, text in shown)
    assert not handlers.desk.lock.locked()


def test_a_look_that_is_refused_says_why(handlers: Handlers) -> None:
    said, text = list(handlers.look(Question(""), "me"))[-1]
    assert 'role="alert"' in said and "No prompt was given" in said and text is None


def test_captions_and_names_are_text_whatever_they_hold(desk: Desk, tmp_path: Path) -> None:
    question = Question("memorized 3 <b>x</b> {{ 7 * 7 }} ${alert(1)}", mitigation="repeat_words", only_flagged=False)
    page = re.sub(r'"data:[^"]+"', '""', looked(desk, list(look(desk, question, tmp_path))[-1]))
    assert "<b>x</b>" not in page and "<script>" not in page and "<img src=x" not in page and "49" not in page
    assert "&lt;script&gt;alert(2)&lt;/script&gt;" in page
    assert "&lt;b&gt;" in status(problem="<b>")


def test_the_head_of_the_page_says_what_it_is_about(desk: Desk) -> None:
    assert facts(desk)["sampling"] == "8 steps, guidance 3, 16 × 16 pixels"
    assert "4 training pictures" in intro(desk) and "pixels-32" in intro(desk)


def test_bundled_models_bring_what_the_page_needs() -> None:
    found = bundled("demo-flow")
    assert (
        len(found["negatives"]) == 120 and isinstance(found["aligner"], NearestConcept) and len(found["examples"]) == 4
    )
    assert bundled("elsewhere") == {} and PageSubject(model=planted.model(), **found).usual["guidance_scale"] == 3.0


def test_alignment_is_told_where_something_tells(desk: Desk, tmp_path: Path) -> None:
    class Bright:
        name, range = "brightness", (0.0, 1.0)

        def align(self, images: Any, prompts: Any) -> np.ndarray:
            return np.array([np.asarray(image).mean() / 255 for image in images])

    judged = Desk(planted_desk.about(aligner=Bright(), images=1, threshold="0.5"), tmp_path)
    (image,) = list(look(judged, Question("memorized 1"), tmp_path / "look"))[-1].images
    assert 0 < image["alignment"] < 1 and image["near"] is None
