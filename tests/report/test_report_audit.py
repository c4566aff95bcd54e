"""The page of an audit: what stands first, rates by group, what a mitigation costs, and the list of copies."""

import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest

import gate_runs
from mnemoscope.gate.policy import read_policy
from mnemoscope.gate.run import run_gate
from mnemoscope.report import write
from mnemoscope.report.alignment import alignment, is_destroyed
from mnemoscope.report.audit import findings, numbers
from mnemoscope.report.cost import cost
from mnemoscope.report.gated import write_verdict
from mnemoscope.report.groups import copies, groups
from mnemoscope.report.leaks import exhibits, link, section
from mnemoscope.report.reading import read, read_all
from mnemoscope.report.verdict import AT_ONCE, check, verdict_of
from mnemoscope.report.view import view
from pages import HOSTILE, Page, edit, make_audit, make_generate, make_measure

LIMITS = [
    {"name": "prompts that look memorized", "measure": "flagged_share", "max": 0.05},
    {"name": "copies of flagged", "measure": "replication_rate", "group": "flagged", "max": 0.1, "min_samples": 20},
    {"name": "copies of others", "measure": "replication_rate", "group": "not_flagged", "max": 0.01},
    {"name": "likeness", "measure": "own_similarity_p95", "max": 0.5},
    {"name": "brought back", "measure": "recover_success", "max": 0.2, "when_missing": "pass"},
]


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_audit(tmp_path_factory.mktemp("page") / "audit")


@pytest.fixture(scope="module")
def page(audit: Path) -> Page:
    """The page of an audit without a policy."""
    return Page(write([audit]))


@pytest.fixture(scope="module")
def gated(audit: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the audit with a verdict, which fails, and both pages."""
    run = tmp_path_factory.mktemp("gated") / "audit"
    shutil.copytree(audit, run)
    policy = read_policy(gate_runs.policy(run.parent / "policy.yaml", *LIMITS))
    write_verdict(run_gate([run], policy, before=run), [run], run / "gate")
    write([run])
    return run


# The order


def test_verdict_pairs_numbers_and_copies_stand_first_and_the_rest_is_folded(page: Page) -> None:
    said = [(tag, attributes.get("class") or "") for tag, attributes in page.elements]
    order = [("header", "top"), ("section", "exhibits"), ("dl", "cards"), ("div", "leaks"), ("details", "fold")]
    places = [said.index(each) for each in order]
    assert places == sorted(places)
    first = next(place for place, (tag, _) in enumerate(said) if tag == "img")
    assert places[1] < first < places[2]  # no picture and no plot before the pairs
    assert not [a for a in page.tags("details") if "fold" in (a.get("class") or "") and "open" in a]
    questions = re.findall(r"<summary><h2>(.*?)</h2>", page.source)
    assert questions == [
        "Which prompts look memorized?",
        "Does a mitigation help?",
        "What else was drawn?",
        "How was this measured?",
        "What do these numbers not say?",
        "How can this run be made again?",
    ]


def test_three_pairs_of_three_training_pictures_and_at_most_five_numbers(page: Page, audit: Path) -> None:
    top = page.source[: page.source.index('class="leaks"')]
    assert top.count('class="exhibit"') == 3 and top.count("<img") == 6 and top.count("<dt>") == 5
    found = exhibits([read(audit / "measure")], audit)
    assert found is not None
    assert (
        len({row["match"] for row in found.content["rows"]}) == 3 == len({r["prompt"] for r in found.content["rows"]})
    )
    assert all(row["is_copy"] and row["picture"] and row["training"] for row in found.content["rows"])


def test_the_sentence_says_rates_by_group_and_how_to_get_a_verdict(page: Page, audit: Path) -> None:
    first, second = findings(read_all(audit))
    assert first == "32 of 32 images generated for 8 prompts that look memorized are copies of training pictures."
    assert "0 of 16 images generated for 4 other prompts" in second and "of 50 prompts look memorized" in second
    assert first in page.text and "Nothing was decided, as no limits were given" in page.text
    assert f"mnemoscope gate {audit} --policy policy.yaml" in page.text
    mixture = f"{100 * 32 / 48:.1f} %"  # of images that were chosen to be drawn
    assert mixture not in page.text and f"{100 * 32 / 48:.0f} %" not in page.text
    assert [card[1] for card in numbers(read_all(audit))][1:] == ["32 of 32", "0 of 16", "0 of 10", "0 of 10"]


def test_an_audit_without_training_pictures_or_threshold_says_what_is_missing(tmp_path: Path) -> None:
    run = make_audit(tmp_path / "audit", mitigated=False)
    shutil.rmtree(run / "measure")
    summary = json.loads((run / "detect" / "summary.json").read_text()) | {"threshold": None}
    (run / "detect" / "summary.json").write_text(json.dumps(summary))
    (said,) = findings(read_all(run))
    assert "no threshold was set" in said and "none was compared with training pictures; give --references" in said
    shown = view(run, "audit", read_all(run), run)
    assert [part.template for part in shown["above"]] == ["verdict.html", "exhibits.html", "numbers.html"]
    assert shown["above"][2].content["cards"] == [("Prompts ranked", "50", "none flagged: no threshold")]


# Groups


def test_groups_follow_flags_then_labels_then_nothing(audit: Path) -> None:
    rows = read_all(audit)[2].done
    assert [(each.flag, len(each.rows), each.prompts) for each in groups(rows)] == [(True, 32, 8), (False, 16, 4)]
    assert groups(rows[:1])[0].counted == "1 prompt that looks memorized"
    by_label = groups([row | {"flagged": None} for row in rows])
    assert [each.name for each in by_label] == ["memorized prompts", "ordinary prompts"]
    (all_of_them,) = groups([row | {"flagged": None, "label": None} for row in rows])
    assert all_of_them.flag is None and len(all_of_them.rows) == 48 and groups([]) == []
    flagged, other = copies(read_all(audit)[2])
    assert (flagged.copies, flagged.prompts, flagged.said) == (32, 8, "32 of 32")
    assert flagged.interval[0] == pytest.approx(0.676, abs=1e-3) and other.interval[0] == 0  # Wilson, 8 of 8 prompts


# A mitigation and its cost


def test_a_mitigation_whose_images_show_nothing_is_destroyed_and_no_success(audit: Path, page: Page) -> None:
    found = cost(read_all(audit))
    assert found is not None and found.is_destroyed
    assert (found.before.copied, found.after.copied) == ("10 of 10", "0 of 10")
    said = "Destroyed, which is no success: under noise descent 0 of 10 images are copies (10 of 10 without it), but "
    assert found.sentence == f"{said}0 of 10 show their prompt (10 of 10 without it, 0.5 of 10 by chance)."
    assert found.sentence in page.text and "Images that still show their prompt: destroyed" in page.text


def test_a_mitigation_that_keeps_the_prompt_is_none_and_one_that_was_not_measured_is_called_so(tmp_path: Path) -> None:
    run = make_audit(tmp_path / "audit")
    edit(run / "measure-mitigated", lambda k, row: row | {"alignment": 0.8 + 0.01 * k, "alignment_chance": 0.2})
    kept = cost(read_all(run))
    assert kept is not None and not kept.is_destroyed and "alignment is 0.8" in kept.sentence
    assert kept.sentence.startswith("Under noise descent 0 of 10")
    edit(run / "measure-mitigated", lambda _, row: row | {"alignment": None})
    unknown = cost(read_all(run))
    assert unknown is not None and not unknown.is_destroyed and "was not measured; give --alignment" in unknown.sentence
    shutil.rmtree(run / "measure-mitigated")
    assert cost(read_all(run)) is None


def test_destroyed_is_what_was_above_chance_and_is_no_more() -> None:
    assert is_destroyed((0.2, 0.5), (-0.1, 0.1)) and is_destroyed((0.2, 0.5), (-0.2, -0.1))
    assert not is_destroyed((0.2, 0.5), (0.05, 0.3))  # worse, but not by chance
    assert not is_destroyed((-0.1, 0.5), (-0.1, 0.1)) and not is_destroyed(None, (-0.1, 0.1))  # nobody can tell
    rows = [{"prompt_id": str(k // 2), "alignment": float(k % 2), "alignment_chance": 0.25} for k in range(8)]
    found = alignment(rows)
    assert found is not None and (found.said, found.by_chance) == ("4 of 8", "2.0 of 8")
    assert found.above == (0.25, 0.25) and alignment([{"alignment": None}]) is None
    cosines = alignment([row | {"alignment": 0.3} for row in rows])
    assert cosines is not None and (cosines.said, cosines.by_chance, cosines.shown) == ("0.30", "0.25", None)


# The copies


def test_every_copy_is_listed_with_links_that_lead_to_files_of_the_run(audit: Path, page: Page) -> None:
    found = section([r for r in read_all(audit) if r.title == "measure"], audit)
    assert len(found.content["rows"]) == found.content["total"] == 32
    scores = [row["score"] for row in found.content["rows"]]
    assert scores == sorted(scores, reverse=True)
    links = [unquote(href) for href in page.values("href") if href.startswith("./")]
    assert len(links) == 3 + 3 * 32  # a picture of each pair; of each copy the picture, its name, the training picture
    assert all((audit / href).resolve().is_relative_to(audit.resolve()) and (audit / href).is_file() for href in links)
    [filter_] = re.findall(r'<div class="filter" data-of="(part-1-\d)"', page.source)
    assert f'class="leaks" id="{filter_}"' in page.source
    listed = [a for a in page.tags("div") if a.get("class") == "box leak"]
    assert all(a["data-flagged"] == "1" and float(a["data-score"] or 0) > 0.8 and a["data-seed"] for a in listed)


def test_a_long_list_is_cut_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_audit(tmp_path / "audit", mitigated=False)
    monkeypatch.setattr("mnemoscope.report.leaks.LISTED", 10)
    found = section([read(run / "measure")], run)
    assert len(found.content["rows"]) == 10 and found.content["left"] == 22


def test_hostile_rows_are_text_and_lead_nowhere(tmp_path: Path) -> None:
    run, secret = make_audit(tmp_path / "audit", mitigated=False), tmp_path / "secret.png"
    shutil.copy(next((run / "generate" / "images").iterdir()), secret)
    names = ["../../secret.png", str(secret), "javascript:alert(1)", "x\0y"]
    edit(
        run / "measure",
        lambda k, row: row | {"prompt": HOSTILE[k % 8], "match": HOSTILE[1], "file": names[k % 4], "score": 0.99},
    )
    made = Page(write([run]))
    assert len(made.tags("script")) == 1 and not made.values("onerror")
    assert not [href for href in made.values("href") if "secret" in href or href.startswith("javascript")]
    assert HOSTILE[0] in made.text and "secret.png" in made.text
    assert link(tmp_path / "a b#?.png", tmp_path) == "./a%20b%23%3F.png" and link(None, tmp_path) is None


def test_a_page_elsewhere_leads_back_to_the_run(audit: Path, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    shown = view(audit, "audit", read_all(audit), tmp_path / "deep")
    row = shown["above"][3].content["rows"][0]
    assert (tmp_path / "deep" / unquote(row["href"])).resolve() == (audit / "generate" / row["file"]).resolve()


def test_pictures_of_a_run_beside_an_unrelated_one_are_not_mistaken_for_its_own(tmp_path: Path) -> None:
    measured = make_measure(tmp_path / "measure", make_generate(tmp_path / "generate"))
    found = exhibits([read(measured)], measured)
    assert found is not None and {row["picture"] for row in found.content["rows"]} == {None}


# The verdict


def test_a_verdict_stands_on_top_in_plain_words_the_worst_first(gated: Path) -> None:
    made = Page(gated / "report.html")
    start = made.text.index("The policy fails: 2 of 5 checks outside the limits.")
    assert start < made.text.index("32 of 32 images generated") < made.text.index("copies, beside the training picture")
    assert "Nothing was decided" not in made.text
    assert "copies of flagged : 32 of 32 images (100 %); at most 10 % allowed." in made.text
    assert re.search(
        r"copies of others : 0 of 16 images \(0 %\); at most 1 % allowed; about \d+ more prompts", made.text
    )
    head = made.source[: made.source.index("</header>")]
    words = re.findall(r'<span class="tag \w*">([a-z ]+)</span>', head)
    assert words == ["fails", "fails", "undecided", "undecided", "not looked at"]
    assert f"<summary>{len(words) - AT_ONCE} more checks</summary>" in head


def test_the_verdicts_own_page_has_checks_pairs_changes_and_copies(gated: Path) -> None:
    made = Page(gated / "gate" / "verdict.html")
    parts = ["The policy fails", "U-Net own, LoRA none, scheduler DDIMScheduler", "beside the training picture"]
    parts += ["Newly flagged 0", "Still flagged", "What changed since the baseline", "All 32 copies"]
    parts += ["How was each check decided?", "What do these numbers not say?", "Which runs, models and policy?"]
    places = [made.text.index(part) for part in parts]
    assert places == sorted(places)
    links = [unquote(href) for href in made.values("href") if href.startswith("./")]
    assert links and all((gated / "gate" / href).is_file() for href in links)
    assert "Both runs are of the same weights" in made.text


def test_a_verdict_of_other_rows_than_the_run_holds_is_not_shown(gated: Path, tmp_path: Path) -> None:
    run = tmp_path / "audit"
    shutil.copytree(gated, run)
    held, note = verdict_of(run)
    assert held is not None and held["outcome"] == "fail" and not note
    edit(run / "measure", lambda _, row: row | {"score": 0.1})
    held, note = verdict_of(run)
    assert held is None and "is of other rows than the run has now" in note.replace("holds now", "has now")
    (run / "gate" / "verdict.json").write_text('{"verdict": "pass"}')
    assert verdict_of(run)[0] is None and "cannot be read as a verdict" in verdict_of(run)[1]
    shutil.rmtree(run / "gate")
    assert verdict_of(run) == (None, "")


def test_each_outcome_of_a_check_is_said(tmp_path: Path) -> None:
    told = {
        "name": "n",
        "measure": "similarity_mean",
        "max": 0.5,
        "min": None,
        "skipped": False,
        "run": "r",
        "why": "w",
    }
    told |= {"samples": 40, "prompts": 40, "value": 0.62, "interval": [0.6, 0.65], "outcome": "fail"}
    assert check(told)["text"] == "0.62 on average over 40 images; at most 0.5 allowed."
    told |= {"measure": "own_similarity_p95", "min": 0.1, "outcome": "undecided", "further_prompts": 1}
    said = "0.62 in the 95th percentile of 40 images; at most 0.5 allowed and at least 0.1 wanted"
    assert check(told)["text"] == f"{said}; about 1 more prompt would decide it."
    assert check(told | {"further_prompts": None})["text"].endswith("where no number of further ones decides.")
    missing = told | {"value": None, "interval": None, "why": "no run of recover says it; by the policy this is fail"}
    assert check(missing)["text"] == "no run of recover says it."
    assert check(missing | {"skipped": True})["word"] == "not looked at"


def test_several_runs_in_one_gate_are_never_pooled_and_their_copies_stand_together(audit: Path, tmp_path: Path) -> None:
    """Each check is answered by one run; another measurement, of other features, adds its copies to the lists."""
    other = tmp_path / "other"
    shutil.copytree(audit / "measure", other)
    for name in ("run.json", "summary.json"):
        (other / name).write_text((other / name).read_text().replace('"pixels"', '"sscd"'))
    limit = {"measure": "replication_rate", "group": "flagged", "max": 0.5, "preset": "pixels"}
    policy = read_policy(gate_runs.policy(tmp_path / "policy.yaml", limit))
    verdict = run_gate([audit, other], policy, out=tmp_path / "gate")
    assert (verdict["checks"][0]["samples"], verdict["leaks"]) == (32, 64)
    made = Page(write_verdict(verdict, [audit, other], tmp_path / "gate"))
    assert "All 64 copies" in made.text and made.text.count("copies among") == 0
    again = run_gate([audit, audit], policy, out=tmp_path / "twice")
    assert (again["leaks"], len(again["runs"])) == (32, len(verdict["runs"]) - 1)  # one run given twice is one
