"""Descending scores on embeddings and on noise, against plain loops and known functions."""

import numpy as np
import pytest
import torch

import mnemoscope as mn
import tiny
from mnemoscope.methods.descent import descend

ASKED = {"num_inference_steps": 4, "guidance_scale": 3.0}
PROMPTS = ["a cat", "two dogs in the sea", "red"]
KEY = "encoder_hidden_states"


@pytest.fixture(scope="module")
def model() -> mn.Denoiser:
    return mn.Denoiser(tiny.stable_diffusion())


def begun(model: mn.Denoiser, prompts=PROMPTS, noise=None, **options):
    """The first step of a sampling."""
    noise = tiny.latents(3)[: len(prompts)] if noise is None else noise
    return next(model.steps(list(prompts), [0] * len(prompts), latents=noise, **{**ASKED, **options}))


def size(x: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    return x.square().sum(1)


def test_rows_stop_at_their_targets_one_by_one_and_are_tested_after_the_last_update() -> None:
    rows, history = descend(torch.tensor([[3.0, 4.0], [0.1, 0.1], [6.0, 8.0]]), size, target=9.0, lr=1.0, iterations=4)
    assert [len(h) for h in history] == [3, 1, 5]
    assert torch.equal(rows[1], torch.tensor([0.1, 0.1])) and rows[0].square().sum() == pytest.approx(history[0][-1])
    assert history[0][-1] <= 9 < history[0][-2] and history[2][-1] == pytest.approx(float(rows[2].square().sum()))


def test_a_row_moves_as_it_would_alone_and_as_adamw_moves_it() -> None:
    start = torch.tensor([[3.0, 4.0], [6.0, -8.0]])
    rows, _ = descend(start, size, target=None, lr=0.1, iterations=7, weight_decay=0.01)
    for k in range(2):
        leaf = start[k].clone().requires_grad_()
        optimizer = torch.optim.AdamW([leaf], lr=0.1, weight_decay=0.01)
        for _ in range(7):
            optimizer.zero_grad()
            leaf.square().sum().backward()
            optimizer.step()
        torch.testing.assert_close(rows[k], leaf.detach())


def test_what_is_not_movable_stays_bit_for_bit_but_for_the_decay_of_all() -> None:
    start, movable = torch.tensor([[3.0, 4.0]]), torch.tensor([[False, True]])
    still, _ = descend(start, size, target=None, lr=0.1, iterations=3, weight_decay=0.5, movable=movable)
    assert still[0, 0] == 3.0 and still[0, 1] < 4.0
    decayed, _ = descend(
        start, size, target=None, lr=0.1, iterations=3, weight_decay=0.5, movable=movable, decay_all=True
    )
    assert float(decayed[0, 0]) == pytest.approx(3 * 0.95**3)


def test_a_score_that_is_no_number_ends_the_descent() -> None:
    with pytest.raises(ValueError, match="^the score became nan on its way down"):
        descend(torch.ones(1, 2), lambda x, _: x.sum(1) * float("nan"), target=None, lr=1, iterations=1)


@pytest.mark.parametrize("name", ["embedding_descent", "noise_descent"])
def test_the_last_score_is_that_of_the_first_step_taken(model: mn.Denoiser, name: str) -> None:
    before = mn.scores.noise_norm(begun(model))
    with mn.mitigate(model, name, iterations=5) as log:
        step = begun(model)
    history = [next(iter(seen[name].values())) for seen in log]
    assert [len(h) for h in history] == [6, 6, 6]
    assert [h[0] for h in history] == pytest.approx(before.tolist(), rel=1e-5)
    assert [h[-1] for h in history] == pytest.approx(mn.scores.noise_norm(step).tolist(), rel=1e-5)
    assert all(h[-1] < h[0] for h in history)


def test_reused_predictions_are_those_of_the_final_noise_and_embedding(model: mn.Denoiser) -> None:
    for name in ("embedding_descent", "noise_descent"):
        with mn.mitigate(model, name, iterations=3):
            step = begun(model)
        again = model.observe(step.x_t, step.t, step.cond, guidance_scale=3.0)
        torch.testing.assert_close(step.eps_cond, again.eps_cond, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(step.eps_uncond, again.eps_uncond, rtol=1e-4, atol=1e-5)


COSTS = {  # of three images, of one and the same noise
    ("embedding_descent", ()): 1 + 3 * (2 + 1),
    ("embedding_descent", (("target_step", 1),)): (3 + 1) + 1 * 3 + 3 * 3 + (3 + 1),
    ("embedding_descent", (("compat", "wen"),)): 1 + 3 * 2 + (3 + 1),
    ("noise_descent", ()): 2 * 3 * (2 + 1),
    ("noise_descent", (("variant", "sail"),)): 4 * 3 * (2 + 1),
    ("noise_descent", (("variant", "batch_wise"),)): 2 * 3 * 2 * 2 + 2 * 3,
}


@pytest.mark.parametrize(("name", "given"), COSTS)
def test_evaluations_are_counted(model: mn.Denoiser, name: str, given: tuple) -> None:
    noise = tiny.latents(1).expand(3, -1, -1, -1)
    before = model.network_evaluations
    with mn.mitigate(model, name, iterations=2, **dict(given)):
        trajectory = mn.Trajectory(model, PROMPTS, latents=noise.clone(), **ASKED)
        trajectory.first(1)
    assert model.network_evaluations - before == COSTS[name, given]


def test_the_first_token_never_moves_and_tokens_says_which_others_do(model: mn.Denoiser) -> None:
    plain = begun(model).cond[KEY]
    ends = model.family.ends(PROMPTS)
    for tokens, first_still in (("content", lambda e: e), ("content+eos", lambda e: e + 1)):
        with mn.mitigate(model, "embedding_descent", iterations=2, tokens=tokens):
            moved = (begun(model).cond[KEY] != plain).any(2)
        for row, end in zip(moved, ends, strict=True):
            assert row.nonzero()[:, 0].tolist() == list(range(1, first_still(end)))
    with mn.mitigate(model, "embedding_descent", iterations=2, weight_decay=0.1):
        after = begun(model).cond[KEY]
    assert torch.equal(after[:, 0], plain[:, 0]) and (after[:, 1:] != plain[:, 1:]).any(2).all()


def test_the_joint_norm_descends_one_embedding_for_all_images_of_a_prompt(model: mn.Denoiser) -> None:
    prompts = ["a cat", "red", "a cat"]
    with mn.mitigate(model, "embedding_descent", iterations=2, compat="wen") as log:
        after = begun(model, prompts).cond[KEY]
    assert torch.equal(after[0], after[2]) and not torch.equal(after[0], after[1])
    norms = mn.scores.noise_norm(begun(model, prompts))
    assert log[0]["embedding_descent"]["score"][0] == pytest.approx(float((norms[0] ** 2 + norms[2] ** 2).sqrt()))
    assert len(log[0]["embedding_descent"]["score"]) == 2  # the last update is not tested
    with mn.mitigate(model, "embedding_descent", iterations=2):
        own = begun(model, prompts).cond[KEY]
    assert not torch.equal(own[0], own[2])


def test_a_penalised_shift_stays_smaller(model: mn.Denoiser) -> None:
    plain = begun(model).cond[KEY]

    def shift(**options) -> float:
        with mn.mitigate(model, "embedding_descent", iterations=15, **options):
            return float((begun(model).cond[KEY] - plain)[:, 1:].norm(dim=2).mean())

    assert shift(epsilon=0.1) < 0.8 * shift()


def test_the_score_may_be_taken_at_a_later_step(model: mn.Denoiser) -> None:
    with mn.mitigate(model, "embedding_descent", iterations=3, target_step=2) as log:
        begun(model)
    *_, third = (s for s in model.steps(PROMPTS, [0] * 3, latents=tiny.latents(3), **ASKED) if s.index < 3)
    scores = [seen["embedding_descent"]["score"][0] for seen in log]
    assert scores == pytest.approx(mn.scores.noise_norm(third).tolist(), rel=1e-4)
    with (
        pytest.raises(mn.UsageError, match="Step 4 was asked for, and the solver takes 4"),
        mn.mitigate(model, "embedding_descent", target_step=4),
    ):
        begun(model)


def test_any_score_and_its_parameters_can_be_descended(model: mn.Denoiser) -> None:
    with mn.mitigate(model, "embedding_descent", score="noise_norm", **{"score.p": 1}, iterations=2) as log:
        begun(model)
    assert log[0]["embedding_descent"]["score"][0] == pytest.approx(
        float(mn.scores.noise_norm(begun(model), p=1)[0]), rel=1e-5
    )
    with mn.mitigate(
        model, "embedding_descent", score=lambda step: step.eps.flatten(1).norm(dim=1), iterations=4
    ) as log:
        begun(model)
    assert all(seen["embedding_descent"]["score"][-1] < seen["embedding_descent"]["score"][0] for seen in log)


def push(model: mn.Denoiser, x: torch.Tensor, step: mn.Step) -> torch.Tensor:
    seen = model.observe(x, step.t, step.cond)
    return seen.eps_cond - seen.eps_uncond


def norm(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(1).norm(dim=1)[:, None, None, None]


def test_the_batch_wise_update_is_the_published_one(model: mn.Denoiser) -> None:
    plain = begun(model)
    x = plain.x_t
    rho = 10 * (x[0].numel() / 16384) ** 0.5
    for _ in range(2):
        here = push(model, x, plain)
        x = x - 0.5 * (push(model, x + rho * here / norm(here), plain) - here)
    with mn.mitigate(model, "noise_descent", variant="batch_wise", gamma=0.5, rho=10, updates=2):
        torch.testing.assert_close(begun(model).x_t, x, rtol=1e-4, atol=1e-5)


def test_sails_objectives_are_the_written_and_the_released_one(model: mn.Denoiser) -> None:
    plain = begun(model)
    here = -push(model, plain.x_t, plain) / plain.sigma
    there = -push(model, plain.x_t + here / norm(here), plain) / plain.sigma
    written = (there - here).flatten(1).square().sum(1) + 0.2 * plain.x_t.flatten(1).square().sum(1)
    d = push(model, plain.x_t, plain)
    released = norm(push(model, plain.x_t + d / norm(d), plain)).flatten() + 0.2 * norm(plain.x_t).flatten()
    for variant, expected in (("sail", written), ("sail_released", released)):
        with mn.mitigate(model, "noise_descent", variant=variant, alpha=0.2, iterations=1) as log:
            begun(model)
        found = [seen["noise_descent"]["objective"][0] for seen in log]
        assert found == pytest.approx(expected.tolist(), rel=1e-4)


def test_guidance_can_wait_for_the_transition(model: mn.Denoiser) -> None:
    with mn.mitigate(model, "noise_descent", variant="batch_wise", tau=400):
        steps = [*model.steps(PROMPTS, [0] * 3, latents=tiny.latents(3), **ASKED)]
    for step in steps:
        unguided = torch.allclose(step.eps, step.eps_uncond, atol=1e-5)
        assert unguided == (float(step.t) > 400)
    assert {float(s.t) > 400 for s in steps} == {True, False}


BAD = {
    "no such variant": ({"variant": "hope"}, "noise_descent takes Literal"),
    "no iterations": ({"iterations": 0}, "noise_descent got iterations=0"),
    "target": ({"target": "low"}, "target was 'low'; give a number, with a unit where it needs one"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_parameters_are_one_sentence(model: mn.Denoiser, case: str) -> None:
    given, said = BAD[case]
    with pytest.raises(mn.UsageError) as error, mn.mitigate(model, "noise_descent", **given):
        begun(model)
    assert said in str(error.value)


def test_a_class_has_no_embedding_to_descend() -> None:
    model = mn.Denoiser(tiny.class_conditional())
    with (
        pytest.raises(mn.UsageError, match="^embedding_descent moves a text embedding, and this model has none"),
        mn.mitigate(model, "embedding_descent"),
    ):
        next(model.steps(["1"], [0], num_inference_steps=2))


def test_mitigations_nest_and_everything_is_restored(model: mn.Denoiser) -> None:
    weights, before = mn.Denoiser(model.pipe).weights_hash, begun(model)
    with (
        mn.mitigate(model, "noise_descent", iterations=2),
        mn.mitigate(model, "embedding_descent", iterations=2) as log,
    ):
        both = begun(model)
    assert log[0]["mitigation"] == ["noise_descent", "embedding_descent"]
    assert not torch.equal(both.x_t, before.x_t) and not torch.equal(both.cond[KEY], before.cond[KEY])
    after = begun(model)
    assert torch.equal(after.x_t, before.x_t) and torch.equal(after.eps, before.eps)
    assert mn.Denoiser(model.pipe).weights_hash == weights


def test_images_behind_a_threshold_are_the_same_in_any_batch(model: mn.Denoiser) -> None:
    scores = mn.scores.noise_norm(begun(model))
    limit = float(scores.sort().values[:2].mean())
    with mn.mitigate(model, "embedding_descent", threshold=limit, iterations=2) as log:
        whole = begun(model)
        alone = [begun(model, [p], tiny.latents(3)[k : k + 1]) for k, p in enumerate(PROMPTS)]
    assert [seen["flagged"] for seen in log[:3]] == [s >= limit for s in scores.tolist()]
    for k, one in enumerate(alone):
        np.testing.assert_allclose(one.x_prev[0], whole.x_prev[k], rtol=1e-3, atol=1e-4)


def test_a_model_whose_guidance_is_distilled_can_be_mitigated_by_a_score_that_needs_no_other_branch() -> None:
    model, noise = mn.Denoiser(tiny.distilled()), tiny.latents(2)
    asked = {"num_inference_steps": 3, "guidance_scale": 3.0}

    def size(step: mn.Step) -> torch.Tensor:
        return step.eps_cond.flatten(1).norm(dim=1)

    with mn.mitigate(model, "embedding_descent", score=size, iterations=3) as log:
        *_, last = model.steps(PROMPTS[:2], [0, 1], latents=noise, **asked)
    assert all(s["embedding_descent"]["score"][-1] < s["embedding_descent"]["score"][0] for s in log)
    assert last.x_prev.isfinite().all()
