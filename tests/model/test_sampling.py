"""Trajectories compute only what is asked, samples depend on their own prompt and seed, edits come and go."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from mnemoscope.errors import UsageError
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.edits import EDIT_POINTS
from mnemoscope.model.trajectory import Trajectory, paired
from mnemoscope.scores.noise_norm import noise_norm

PROMPTS = ["a cat", "two dogs", "the sea", "", "a cat", "red"]
SEEDS = [3, 8, 0, 5, 1, 2**40]
MODEL = Denoiser(tiny.stable_diffusion())
V_MODEL = Denoiser(tiny.stable_diffusion("v_prediction"))


@pytest.fixture
def model():
    MODEL.network_evaluations = 0
    yield MODEL
    assert MODEL._edits == []


def sample(model, prompts=("a cat", "two dogs"), seeds=(3, 8), **sampling):
    return [*model.steps(prompts, seeds, num_inference_steps=3, **sampling)][-1].x_prev


# What is computed, and when


def test_distinct_seeds_cost_two_evaluations_a_step(model):
    trajectory = Trajectory(model, PROMPTS[:3], SEEDS[:3])
    assert model.network_evaluations == 0
    for steps, evaluations in ((1, 6), (1, 6), (3, 18), (2, 18)):
        assert len(trajectory.first(steps)) == steps
        assert model.network_evaluations == evaluations


def test_prompts_that_share_a_seed_share_the_unconditional_prediction_at_first(model):
    trajectory = Trajectory(model, PROMPTS[:3], 7)
    first = trajectory.first(1)[0]
    assert model.network_evaluations == 4
    assert torch.equal(first.eps_uncond[0], first.eps_uncond[2])
    trajectory.first(2)
    assert model.network_evaluations == 4 + 6
    Trajectory(model, PROMPTS[:3], [7, 8, 7]).first(1)
    assert model.network_evaluations == 4 + 6 + 5


def test_sharing_the_unconditional_prediction_gives_each_sample_its_own(model):
    prompts, seeds = PROMPTS[:4], [9, 2, 9, 4]
    shared = Trajectory(model, prompts, seeds).first(2)
    apart = [*model.steps(prompts, seeds)][:2]
    for ours, plain in zip(shared, apart, strict=True):
        assert torch.allclose(ours.eps_uncond, plain.eps_uncond, atol=1e-5)
        assert torch.allclose(ours.x_prev, plain.x_prev, atol=1e-4)


def test_without_guidance_the_unconditional_prediction_is_computed_only_when_asked_for_and_once(model):
    steps = [*model.steps(PROMPTS[:3], SEEDS[:3], num_inference_steps=4, guidance_scale=1.0)]
    assert model.network_evaluations == 4 * 3
    late = steps[2].eps_uncond
    assert model.network_evaluations == 4 * 3 + 3
    assert torch.equal(steps[2].eps_uncond, late) and model.network_evaluations == 4 * 3 + 3
    again = model.observe(steps[2].x_t, steps[2].t, steps[2].cond).eps_uncond
    assert torch.allclose(late, again, atol=1e-6)


def test_observing_costs_one_branch_until_the_other_is_asked_for(model):
    step = next(model.steps(PROMPTS[:2], SEEDS[:2]))
    model.network_evaluations = 0
    seen = model.observe(step.x_t, step.t, step.cond)
    assert (seen.eps_cond is not None, model.network_evaluations) == (True, 2)
    assert (seen.eps is not None, model.network_evaluations) == (True, 4)


def test_first_returns_the_same_steps_again(model):
    trajectory = Trajectory(model, PROMPTS[:2], SEEDS[:2], num_inference_steps=4)
    one, three = trajectory.first(1), trajectory.first(3)
    assert one[0] is three[0] and [s.index for s in three] == [0, 1, 2]
    assert [s.progress for s in three] == [0, 0.25, 0.5]
    assert torch.equal(three[0].x_prev, three[1].x_t)


@pytest.mark.parametrize(
    "solver, options, count", [("ddim", {}, 5), ("pndm", {}, 6), ("pndm", {"skip_prk_steps": False}, 14)]
)
def test_all_ends_where_the_solver_ends(solver, options, count):
    pipe = tiny.stable_diffusion()
    pipe.scheduler = tiny.scheduler(solver, **options)
    trajectory = Trajectory(Denoiser(pipe), "a cat", 0, num_inference_steps=5)
    assert len(trajectory.all()) == count == len(trajectory.first(100))


@pytest.mark.parametrize("n", [0, -1])
def test_a_trajectory_is_not_asked_for_no_steps(model, n):
    with pytest.raises(UsageError, match=f"^{n} steps were asked of a trajectory; ask for at least 1.$"):
        Trajectory(model, "a cat", 0).first(n)


def test_a_trajectory_cut_short_by_an_error_says_so_instead_of_ending_early(model, monkeypatch):
    trajectory = Trajectory(model, "a cat", 0, num_inference_steps=4)
    trajectory.first(2)
    monkeypatch.setattr(model.family, "predict", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trajectory.first(3)
    monkeypatch.undo()
    assert len(trajectory.first(2)) == 2
    with pytest.raises(UsageError, match="^An error ended this trajectory after 2 steps; start a new one.$"):
        trajectory.all()


def test_latents_take_the_place_of_the_seeds_noise(model):
    noise = tiny.latents(2)
    first = Trajectory(model, PROMPTS[:2], latents=noise).first(1)[0]
    assert torch.equal(first.x_t, noise)
    seeded = model.initial_noise([3, 8])
    ours = Trajectory(model, PROMPTS[:2], latents=seeded).first(2)[1].x_prev
    assert torch.equal(ours, Trajectory(model, PROMPTS[:2], [3, 8]).first(2)[1].x_prev)


def test_one_prompt_serves_all_seeds_or_latents_and_one_seed_all_prompts(model):
    assert paired("a", [1, 2], None) == (["a", "a"], [1, 2])
    assert paired(["a", "b"], 4, None) == (["a", "b"], [4, 4])
    assert paired(["a", "b"], None, None) == (["a", "b"], [0, 1])
    assert paired("a", None, tiny.latents(3)) == (["a"] * 3, [0, 1, 2])
    assert paired(["a", "b"], [5], tiny.latents(2)) == (["a", "b"], [5, 5])
    assert len(Trajectory(model, "a cat", [1, 2, 3])) == 3
    each = [Trajectory(model, "a cat", s).first(1)[0].eps_cond[0] for s in (1, 2)]
    both = Trajectory(model, "a cat", [1, 2]).first(1)[0].eps_cond
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(each, both, strict=True))


@pytest.mark.parametrize(
    "prompts, seeds, count, given",
    [
        (["a", "b"], [1, 2, 3], None, "2 prompts and 3 seeds"),
        (["a", "b", "c"], [1, 2], None, "3 prompts and 2 seeds"),
        ([], None, None, "0 prompts and 0 seeds"),
        (["a"], [], None, "1 prompts and 0 seeds"),
        (["a", "b"], None, 3, "2 prompts and 3 seeds for 3 latents"),
        ("a", [1, 2], 3, "3 prompts and 2 seeds for 3 latents"),
    ],
)
def test_prompts_and_seeds_that_do_not_pair_up_are_refused(model, prompts, seeds, count, given):
    noise = None if count is None else tiny.latents(count)
    with pytest.raises(UsageError) as caught:
        Trajectory(model, prompts, seeds, latents=noise)
    assert str(caught.value) == f"{given} do not pair up; give one prompt and one seed for each sample."


@pytest.mark.parametrize("solver", ["dpm++", "pndm", "euler"])
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' solvers, under numpy 2
def test_open_trajectories_do_not_disturb_one_another(solver):
    model = Denoiser(tiny.stable_diffusion(scheduler=solver))
    alone = [Trajectory(model, p, 1, num_inference_steps=n).all()[-1].x_prev for p, n in (("a cat", 4), ("sea", 6))]
    one, other = (Trajectory(model, p, 1, num_inference_steps=n) for p, n in (("a cat", 4), ("sea", 6)))
    for n in (1, 2, 3):
        one.first(n), other.first(n)
    model.generate(["red"], [2], num_inference_steps=5)
    assert all(torch.equal(t.all()[-1].x_prev, x) for t, x in zip((one, other), alone, strict=True))
    assert model.pipe.scheduler.num_inference_steps is None


# A sample depends on its prompt and its seed


def norms(prompts, seeds):
    with torch.no_grad():
        return noise_norm(Trajectory(MODEL, prompts, seeds).first(1)[0])


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(6)), st.sampled_from([1, 2, 3, 6]))
def test_noise_norm_depends_neither_on_the_batch_size_nor_on_the_order(order, size):
    chunks = [order[i : i + size] for i in range(0, 6, size)]
    values = torch.cat([norms([PROMPTS[i] for i in c], [SEEDS[i] for i in c]) for c in chunks])
    expected = norms(PROMPTS, SEEDS)[list(order)]
    assert torch.allclose(values, expected, rtol=1e-5, atol=1e-5)  # the empty prompt's is zero
    assert expected.sort().values[1] > 0.01


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(6)))
def test_noise_norm_is_the_same_in_another_order(order):
    values = norms([PROMPTS[i] for i in order], [SEEDS[i] for i in order])
    expected = norms(PROMPTS, SEEDS)[list(order)]
    assert torch.allclose(values, expected, rtol=1e-5, atol=1e-5)  # to the bit with most kernels


def test_images_are_the_same_to_one_grey_level_in_batches_of_any_size(model):
    whole = [np.asarray(i, int) for i in model.generate(PROMPTS, SEEDS, num_inference_steps=3)]
    for size in (1, 2, 3):
        for i in range(0, 6, size):
            part = model.generate(PROMPTS[i : i + size], SEEDS[i : i + size], num_inference_steps=3)
            assert all(abs(a - np.asarray(b, int)).max() <= 1 for a, b in zip(whole[i:], part, strict=False))
    assert abs(whole[0] - whole[1]).max() > 20


@pytest.mark.parametrize("pipe", [tiny.unconditional("ddpm"), tiny.stable_diffusion(scheduler="ddpm")])
def test_a_stochastic_solver_draws_for_each_image_from_its_own_seed(pipe):
    model = Denoiser(pipe)
    prompts = ["", ""]
    pairs = [sample(model, prompts, s) for s in ([4, 1], [9, 1], [1, 7])]
    assert torch.allclose(pairs[0][1], pairs[1][1], atol=1e-4)
    assert torch.allclose(pairs[0][1], pairs[2][0], atol=1e-4)
    assert (pairs[0][0] - pairs[1][0]).abs().max() > 0.1


def test_noise_is_that_of_one_generator_an_image(model):
    noise = model.initial_noise([5, 6])
    alone = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(6))
    assert torch.equal(noise[1:], alone) and not torch.equal(noise[0], noise[1])


# Edits


def double_cond(cond):
    return {k: 2 * v for k, v in cond.items()}


def shift_eps(step):
    step.eps = step.eps + 0.5


CHANGES = {
    "prompts": lambda prompts: ["the sea"] * len(prompts),
    "cond": double_cond,
    "noise": lambda noise: noise.flip(-1),
    "start": lambda start: start.change(x_t=start.x_t.flip(-1)),
    "step": shift_eps,
}


def test_there_is_a_change_here_for_every_edit_point():
    assert set(CHANGES) == set(EDIT_POINTS)


@pytest.mark.parametrize("point", CHANGES)
def test_an_edit_changes_the_sample_inside_its_block_only(model, point):
    before = sample(model)
    with model.edit(point, CHANGES[point]):
        inside = sample(model)
    assert (inside - before).abs().max() > 0.01
    assert torch.equal(sample(model), before)


@pytest.mark.parametrize("point", CHANGES)
def test_an_edit_is_gone_after_an_exception(model, point):
    before = sample(model)
    with pytest.raises(ZeroDivisionError), model.edit(point, CHANGES[point]):
        1 / 0  # noqa: B018
    assert torch.equal(sample(model), before)


@pytest.mark.parametrize("point", CHANGES)
def test_an_error_inside_an_edit_is_not_swallowed_and_the_edit_is_gone(model, point):
    before = sample(model)
    with pytest.raises(ZeroDivisionError), model.edit(point, lambda value: 1 / 0):
        sample(model)
    assert torch.equal(sample(model), before)


@pytest.mark.parametrize("point", CHANGES)
def test_an_edit_has_the_effect_of_the_same_change_made_by_hand(model, point):
    with model.edit(point, CHANGES[point]):
        first = next(model.steps(["a cat", "two dogs"], [3, 8]))
    plain = next(model.steps(["a cat", "two dogs"], [3, 8]))
    if point == "prompts":
        assert torch.equal(first.x_prev, next(model.steps(["the sea"] * 2, [3, 8])).x_prev)
    elif point == "cond":
        assert torch.equal(first.cond["encoder_hidden_states"], 2 * plain.cond["encoder_hidden_states"])
        assert torch.equal(first.eps_uncond, plain.eps_uncond)
    elif point in ("noise", "start"):
        assert torch.equal(first.x_t, plain.x_t.flip(-1))
    else:
        assert torch.allclose(first.eps, plain.eps + 0.5) and torch.equal(first.eps_cond, plain.eps_cond)


def test_the_inner_of_two_edits_acts_last(model):
    seen = []

    def record(name):
        return lambda prompts: seen.append((name, prompts[0])) or [name]

    with model.edit("prompts", record("outer")), model.edit("prompts", record("inner")):
        sample(model, ["a cat"], [3])
    assert seen == [("outer", "a cat"), ("inner", "outer")]


def test_two_step_edits_both_act_in_order(model):
    def halve(step):
        step.eps = step.eps / 2

    plain = next(model.steps(["a cat"], [3])).eps
    with model.edit("step", shift_eps), model.edit("step", halve):
        assert torch.allclose(next(model.steps(["a cat"], [3])).eps, (plain + 0.5) / 2)
    with model.edit("step", halve), model.edit("step", shift_eps):
        assert torch.allclose(next(model.steps(["a cat"], [3])).eps, plain / 2 + 0.5)


def test_an_edit_opened_twice_is_closed_inner_first(model):
    def add(word):
        return lambda prompts: [p + word for p in prompts]

    a, b, seen = add("a"), add("b"), []
    with model.edit("prompts", a), model.edit("prompts", b):
        with model.edit("prompts", a):
            pass
        with model.edit("prompts", lambda prompts: seen.append(prompts[0]) or prompts):
            sample(model, [""], [3])
    assert seen == ["ab"]


def test_sampling_keeps_the_edits_that_were_open_when_it_began(model):
    plain = sample(model)
    with model.edit("noise", CHANGES["noise"]):
        edited = sample(model)
        begun_inside = model.steps(["a cat", "two dogs"], [3, 8], num_inference_steps=3)
    begun_outside = model.steps(["a cat", "two dogs"], [3, 8], num_inference_steps=3)
    assert torch.equal([*begun_inside][-1].x_prev, edited)
    with model.edit("noise", CHANGES["noise"]):
        assert torch.equal([*begun_outside][-1].x_prev, plain)


def test_a_trajectory_keeps_the_edits_that_were_open_when_it_began(model):
    with model.edit("prompts", CHANGES["prompts"]):
        inside = Trajectory(model, "a cat", 3)
    outside = Trajectory(model, "a cat", 3)
    with model.edit("prompts", CHANGES["prompts"]):
        assert not torch.equal(inside.first(1)[0].eps_cond, outside.first(1)[0].eps_cond)
    assert torch.equal(inside.first(1)[0].eps_cond, Trajectory(model, "the sea", 3).first(1)[0].eps_cond)


def test_an_unknown_edit_point_is_refused(model):
    expected = "^There is no edit point 'guidance'; there are prompts, cond, noise, start, step.$"
    with pytest.raises(UsageError, match=expected), model.edit("guidance", print):
        pass


@pytest.mark.parametrize("model", [MODEL, V_MODEL], ids=["epsilon", "v_prediction"])
def test_assigned_noise_is_the_noise_that_the_solver_removes(model):
    def true_noise(step):
        step.eps = (step.x_t - step.alpha * image) / step.sigma

    image = 0.3 * tiny.latents(1, seed=5)
    with model.edit("step", true_noise):
        for step in model.steps(["a cat"], [3], num_inference_steps=4):
            assert torch.allclose(step.x0_hat, image, atol=1e-4)
    last = model.pipe.scheduler.final_alpha_cumprod
    expected = last.sqrt() * image + (1 - last).sqrt() * step.eps
    assert torch.allclose(step.x_prev, expected, atol=1e-4)


@pytest.mark.parametrize("model", [MODEL, V_MODEL], ids=["epsilon", "v_prediction"])
def test_assigning_the_conditional_noise_switches_guidance_off(model):
    def unguided(step):
        step.eps = step.eps_cond

    with model.edit("step", unguided):
        edited = sample(model)
    assert torch.allclose(edited, sample(model, guidance_scale=1.0), atol=1e-4)
    assert not torch.allclose(edited, sample(model), atol=1e-2)


def test_a_step_edit_of_a_distilled_model_changes_its_sample():
    model = Denoiser(tiny.distilled())
    before = sample(model)
    with model.edit("step", shift_eps):
        assert (sample(model) - before).abs().max() > 0.01
    assert torch.equal(sample(model), before)


def test_a_step_has_the_length_of_its_batch(model):
    assert len(next(model.steps(PROMPTS, SEEDS))) == 6
