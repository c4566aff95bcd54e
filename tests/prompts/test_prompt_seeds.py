"""Seeds of a prompt's own: what a column may hold, and that every job draws from them, alone or in any company."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tiny
from mnemoscope import planted as planted_model
from mnemoscope.detection.run import run_detection
from mnemoscope.detection.scoring import Detection
from mnemoscope.errors import UsageError
from mnemoscope.explanation.asked import Explanation
from mnemoscope.explanation.run import explain_rows
from mnemoscope.generation.run import Generation, run_generation
from mnemoscope.job.seeds import MOST_SEEDS, content_of, own_seeds, seeds_of
from mnemoscope.localization.run import Localization, locate_rows, run_localization
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import Prompt, Prompts, read_prompts
from mnemoscope.prompts.seeds import seeded
from mnemoscope.run.run import read_rows

ONE, OTHER = planted_model.prompts(True)[:2]
QUICK: dict[str, Any] = {"num_inference_steps": 3, "guidance_scale": 3.0}


def listed(tmp_path: Path, *seeds: Any, texts: tuple[str, ...] = (ONE, OTHER, ONE)) -> Prompts:
    file = tmp_path / "prompts.jsonl"
    rows = [{"prompt": text, "seed": seed} for text, seed in zip(texts, seeds, strict=False)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return seeded(read_prompts(file), "seed")


def test_a_column_holds_the_first_seed_or_all_of_them(tmp_path: Path) -> None:
    prompts = listed(tmp_path, 7, "12", [3, 1])
    assert [p.seeds for p in prompts] == [(7,), (12,), (3, 1)]
    assert [own_seeds(p, 0, 2) for p in prompts] == [[7, 8], [12, 13], [3, 1]]
    assert own_seeds(Prompt("", "a"), 5, 2) == [5, 6]
    assert [p.seeds for p in listed(tmp_path, 4.0, "[5, 6]")] == [(4,), (5, 6)]


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, True, "abc", "", None, [], [1, 1], [1, "x"], {"a": 1}])
def test_anything_else_is_refused_with_its_prompt(tmp_path: Path, seed: Any) -> None:
    with pytest.raises(UsageError, match="Prompt 2, .* column 'seed'"):
        listed(tmp_path, 1, seed)


def test_a_list_of_another_length_is_refused_before_any_work(tmp_path: Path, planted: Denoiser) -> None:
    prompts = listed(tmp_path, [1, 2, 3])
    with pytest.raises(UsageError, match="3 seeds of its own, and 2 are drawn"):
        run_detection(planted, prompts, tmp_path / "out", Detection(seeds=2, **QUICK))
    model = Denoiser(tiny.stable_diffusion())
    for method, problem in (("random", "give one, the first"), ("neurons_by_gradient", "give one, the first")):
        with pytest.raises(UsageError, match=problem):
            run_localization(model, prompts, tmp_path / "out", Localization(method))
    assert not (tmp_path / "out").exists() and planted.network_evaluations == 0


def test_a_prompt_scores_alike_in_any_company_as_the_run_whose_seed_it_has(tmp_path: Path, planted: Denoiser) -> None:
    prompts, how = listed(tmp_path, 7, 9, 8), {"seeds": 2, **QUICK}
    run_detection(planted, prompts, tmp_path / "all", Detection(**how))
    run_detection(planted, [prompts[2], prompts[1]], tmp_path / "few", Detection(**how), batch=1)
    run_detection(planted, prompts[:1], tmp_path / "whole", Detection(seed=7, **how))
    rows, few = ({row["id"]: row for row in read_rows(tmp_path / run)} for run in ("all", "few"))
    assert [row["seeds"] for row in rows.values()] == [[7, 8], [9, 10], [8, 9]]
    assert [rows[i]["per_seed"] for i in few] == [row["per_seed"] for row in few.values()]
    assert read_rows(tmp_path / "whole")[0]["per_seed"] == rows[prompts[0].id]["per_seed"]
    assert rows[prompts[0].id]["per_seed"][1] == rows[prompts[2].id]["per_seed"][0]
    assert content_of(prompts) != content_of(read_prompts(tmp_path / "prompts.jsonl"))


def test_images_are_drawn_from_them_and_a_run_passes_them_on(tmp_path: Path, planted: Denoiser) -> None:
    prompts = listed(tmp_path, 7, [4, 2])
    run_generation(planted, prompts, tmp_path / "own", Generation(images=2, **QUICK))
    run_generation(planted, prompts[:1], tmp_path / "plain", Generation(images=2, seed=7, **QUICK))
    assert [row["seed"] for row in read_rows(tmp_path / "own")] == [7, 8, 4, 2]
    for row in read_rows(tmp_path / "plain"):
        assert (tmp_path / "plain" / row["file"]).read_bytes() == (tmp_path / "own" / row["file"]).read_bytes()
    assert [p.seeds for p in seeded(read_prompts(tmp_path / "own"), "seed")] == [(7,), (4,)]


def test_equal_texts_of_different_seeds_are_explained_apart(tmp_path: Path, planted: Denoiser) -> None:
    rows = explain_rows(planted, listed(tmp_path, 7, 9, 8), Explanation("token_occlusion", seeds=2, **QUICK))
    assert [row["seeds"] for row in rows] == [[7, 8], [9, 10], [8, 9]]
    alone = explain_rows(planted, [Prompt("a", ONE)], Explanation("token_occlusion", seed=8, seeds=2, **QUICK))
    assert rows[2]["scores"] == alone[0]["scores"] != rows[0]["scores"]


def test_neurons_are_located_from_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: Denoiser) -> None:
    calls: list[tuple[list[str], int]] = []

    class Found:
        def row(self) -> dict[str, Any]:
            return {"value": "ssim", "before": None, "after": None}

    def localize(model: Denoiser, texts: list[str], method: str, *, seed: int) -> list[Found]:
        calls.append((texts, seed))
        return [Found() for _ in texts]

    monkeypatch.setattr("mnemoscope.methods.by_name.localize", localize)
    rows = locate_rows(planted, listed(tmp_path, 7, 7, 9), "neurons", {"seed": 0})
    assert calls == [([ONE, OTHER], 7), ([ONE], 9)] and [row["seed"] for row in rows] == [7, 7, 9]


def test_the_option_of_the_command_line(tmp_path: Path, mnemoscope: Callable[..., tuple]) -> None:
    file = tmp_path / "p.csv"
    file.write_text("prompt,noise\na fox,5\na cat,\n")
    words = ("detect", "demo", "--prompts", file, "--num-inference-steps", "2", "--out", tmp_path / "out")
    code, _, said = mnemoscope(*words, "--seed-column", "noise")
    assert code == 2 and "Prompt 2, “a cat”" in said
    code, _, said = mnemoscope(*words, "--seed-column", "noises")
    assert code == 2 and "further columns are noise" in said
    code, out, said = mnemoscope(*words, "--seed-column", "noise", "--limit", "1")
    assert code == 0, said
    assert [row["seeds"] for row in read_rows(tmp_path / "out")] == [[5]]


def test_more_seeds_than_any_memory_holds_are_refused() -> None:
    assert len(seeds_of(3, MOST_SEEDS)) == MOST_SEEDS
    with pytest.raises(UsageError, match=f"give {MOST_SEEDS} at most"):
        seeds_of(3, MOST_SEEDS + 1)
