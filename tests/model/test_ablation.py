"""Neurons are multiplied by a factor in the samples and branches that are meant, and in nothing else."""

import pytest
import torch
from torch import nn

import mnemoscope as mn
import tiny
from mnemoscope.errors import UsageError
from mnemoscope.model import ablation, hooks
from mnemoscope.model.ablation import ablated, masked
from mnemoscope.model.step import Step

T = torch.tensor(601)
PROMPTS = ["a cat", "two dogs", "a red house"]


@pytest.fixture(scope="module")
def model() -> mn.Denoiser:
    return mn.Denoiser(tiny.stable_diffusion())


@pytest.fixture(autouse=True)
def nothing_is_left(model: mn.Denoiser):
    yield
    assert not any(m._forward_hooks for m in model.network.modules()) and not model._edits


def some_sets(model: mn.Denoiser, samples: int, seed: int = 0) -> list[dict[str, list[int]]]:
    """Random sets, of other sizes and layers for each sample; the last one is empty."""
    draw = torch.Generator().manual_seed(seed)
    known = ablation.widths(model, "all")
    sets = [{n: torch.randperm(w, generator=draw)[: 1 + k].tolist() for n, w in known.items()} for k in range(samples)]
    return [*sets[:-1], {}]


def without(model: mn.Denoiser, neurons: dict[str, list[int]], factor: float) -> mn.Denoiser:
    """Another pipeline, with the neurons' weights themselves multiplied."""
    other = mn.Denoiser(tiny.stable_diffusion())
    other.network.load_state_dict(model.network.state_dict())
    for name, indices in neurons.items():
        with torch.no_grad():
            other.network.get_submodule(name).weight[indices] *= factor
    return other


def first(model: mn.Denoiser, prompts: list[str] = PROMPTS, seeds: tuple[int, ...] = (0, 1, 2), **sampling) -> Step:
    return next(model.steps(prompts, list(seeds), **sampling))


def close(one: torch.Tensor, other: torch.Tensor) -> None:
    torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("factor", [0.0, 0.5, -1])
def test_sets_of_one_batch_are_those_of_sequential_blocking(model: mn.Denoiser, factor: float) -> None:
    sets = some_sets(model, 3)
    with ablated(model, sets, factor=factor):
        ours = first(model)
    for k, neurons in enumerate(sets):
        alone = first(without(model, neurons, factor))
        close(ours.eps_cond[k], alone.eps_cond[k])
        close(ours.eps_uncond[k], alone.eps_uncond[k])
    plain = first(model)
    assert (ours.eps_cond[0] - plain.eps_cond[0]).abs().max() > 1e-3
    assert (ours.eps_uncond[0] - plain.eps_uncond[0]).abs().max() > 1e-3


def test_images_are_those_of_a_model_with_other_weights(model: mn.Denoiser) -> None:
    neurons = some_sets(model, 3)[1]
    with ablated(model, neurons):
        ours = list(model.steps(PROMPTS, [0, 1, 2], num_inference_steps=3))[-1].x_prev
    theirs = list(without(model, neurons, 0).steps(PROMPTS, [0, 1, 2], num_inference_steps=3))[-1].x_prev
    assert ours is not None and theirs is not None
    close(ours, theirs)


def test_samples_without_neurons_are_left_bit_for_bit(model: mn.Denoiser) -> None:
    before = first(model)
    with ablated(model, some_sets(model, 3)):
        inside = first(model)
    assert torch.equal(inside.eps_cond[2], before.eps_cond[2])
    assert torch.equal(inside.eps_uncond[2], before.eps_uncond[2])
    assert torch.equal(first(model).eps_cond, before.eps_cond)


def test_the_conditional_branch_alone(model: mn.Denoiser) -> None:
    before, neurons = first(model), some_sets(model, 2)[0]
    with ablated(model, neurons, branch="cond"):
        inside = first(model)
    assert torch.equal(inside.eps_uncond, before.eps_uncond)
    close(inside.eps_cond, first(without(model, neurons, 0)).eps_cond)


def test_a_shared_unconditional_branch_stays_each_sample_s_own(model: mn.Denoiser) -> None:
    sets, latents = some_sets(model, 3), tiny.latents(1).repeat(3, 1, 1, 1)
    with ablated(model, sets):
        ours = mn.Trajectory(model, PROMPTS, [0, 1, 2], latents=latents).first(1)[0]
    for k, neurons in enumerate(sets):
        other = without(model, neurons, 0)
        alone = mn.Trajectory(other, PROMPTS, [0, 1, 2], latents=latents).first(1)[0]
        close(ours.eps_uncond[k], alone.eps_uncond[k])


def test_a_step_evaluated_elsewhere_has_its_own_unconditional_branch(model: mn.Denoiser) -> None:
    sets = some_sets(model, 3)
    plain = first(model).eps_uncond
    with ablated(model, sets):
        step = first(model)
        later = list(model.steps(PROMPTS, [0, 1, 2], num_inference_steps=3))[-1]
    for each in (step, later, step.select(torch.tensor([0, 2]))):
        close(each.eps_at(each.x_t, branch="uncond"), each.eps_uncond)
        close(each.eps_at(each.x_t, branch="guided"), each.eps)
    assert (step.eps_uncond[0] - plain[0]).abs().max() > 1e-3


def test_blocks_nest_and_their_factors_multiply(model: mn.Denoiser) -> None:
    neurons = some_sets(model, 2)[0]
    with ablated(model, neurons, factor=0.5), ablated(model, neurons, factor=0.5):
        inside = first(model)
    with ablated(model, neurons, factor=0.25):
        close(inside.eps_cond, first(model).eps_cond)


def test_everything_is_as_before_after_an_exception(model: mn.Denoiser) -> None:
    before = first(model)
    with pytest.raises(ZeroDivisionError), ablated(model, some_sets(model, 2)[0]):
        first(model)
        1 / 0  # noqa: B018
    assert torch.equal(first(model).eps_cond, before.eps_cond)


def test_an_error_inside_the_network_leaves_no_hook(model: mn.Denoiser) -> None:
    cond = ablation.steer(model.encode(["a"]), ablation.gain(model, [some_sets(model, 2)[0]]))
    with pytest.raises(RuntimeError):
        model.predict(torch.zeros(1, 9, tiny.SIZE, tiny.SIZE), T, cond)
    assert not any(m._forward_hooks for m in model.network.modules())


def test_masks_are_factors_and_have_gradients(model: mn.Denoiser) -> None:
    names = list(ablation.layers(model))
    masks = {names[1]: torch.tensor([[0.5, 1.0], [1.0, 0.0]]).repeat(1, ablation.widths(model)[names[1]] // 2)}
    leaf = {k: v.requires_grad_() for k, v in masks.items()}
    x, cond = tiny.latents(2), model.encode(PROMPTS[:2])
    ours = model.predict(x, T, ablation.steer(cond, ablation.gain_of_masks(model, leaf)))
    module = ablation.layers(model)[names[1]]
    rows = module.weight[None] * masks[names[1]][..., None]
    for k in range(2):
        other = without(model, {}, 0)
        other.network.get_submodule(names[1]).weight.data.copy_(rows[k].detach())
        close(ours[k : k + 1].detach(), other.predict(x[k : k + 1], T, {n: v[k : k + 1] for n, v in cond.items()}))
    (gradient,) = torch.autograd.grad(ours.square().sum(), leaf[names[1]])
    h, moved = 1e-2, []
    for sign in (1, -1):
        changed = leaf[names[1]].detach().clone()
        changed[0, 3] += sign * h
        steered = ablation.steer(cond, ablation.gain_of_masks(model, {names[1]: changed}))
        moved.append(model.predict(x, T, steered).double().square().sum())
    torch.testing.assert_close(gradient[0, 3].double(), (moved[0] - moved[1]) / (2 * h), rtol=2e-2, atol=1e-4)


def test_masks_of_ones_keep_their_graph_and_change_nothing(model: mn.Denoiser) -> None:
    masks = {n: torch.ones(3, w, requires_grad=True) for n, w in ablation.widths(model, "all").items()}
    before = first(model)
    with masked(model, masks), torch.no_grad():
        assert torch.equal(first(model).eps_cond, before.eps_cond)
    with masked(model, masks):
        step = mn.Trajectory(model, PROMPTS, [0, 1, 2]).with_graph(0)
    gradients = torch.autograd.grad(step.eps_cond.square().sum(), list(masks.values()))
    assert all(g.abs().sum() > 0 for g in gradients)


def test_ablation_and_changed_attention_go_together(model: mn.Denoiser) -> None:
    neurons = some_sets(model, 2)[0]
    with mn.mitigate(model, "attention_rescaling", scale=1.5), ablated(model, neurons):
        ours = first(model)
    with mn.mitigate(other := without(model, neurons, 0), "attention_rescaling", scale=1.5):
        theirs = first(other)
    close(ours.eps_cond, theirs.eps_cond)
    close(ours.eps_uncond, theirs.eps_uncond)


def test_layers_come_from_the_configuration(bundled: mn.Denoiser, model: mn.Denoiser) -> None:
    assert len(ablation.layers(bundled)) == 7 and len(ablation.layers(bundled, "all")) == 16
    assert list(ablation.layers(bundled, "all"))[:7] == list(ablation.layers(bundled))
    xl = mn.Denoiser(tiny.stable_diffusion_xl())
    assert list(ablation.layers(xl)) == hooks.value_layers(xl.network)
    assert set(ablation.layers(xl, "all")) == set(hooks.matching(xl.network, "*attn2.to_v"))
    assert all(isinstance(m, nn.Linear) for m in ablation.layers(xl).values())


def test_stable_diffusion_xl_is_ablated_too() -> None:
    model = mn.Denoiser(tiny.stable_diffusion_xl())
    name, width = next(iter(ablation.widths(model).items()))
    before = first(model).eps_cond
    with ablated(model, {name: list(range(width))}):
        inside = first(model).eps_cond
    model.network.get_submodule(name).weight.data.zero_()
    close(inside, first(model).eps_cond)
    assert (inside - before).abs().max() > 1e-4


@pytest.mark.parametrize("pipe", [tiny.unconditional, tiny.class_conditional])
def test_models_without_cross_attention_are_refused(pipe) -> None:
    expected = r"^\w+ has no cross-attention, hence no neurons to locate or ablate\.$"
    with pytest.raises(UsageError, match=expected):
        ablation.layers(mn.Denoiser(pipe()))


def test_what_the_model_does_not_have_is_refused(model: mn.Denoiser) -> None:
    name, width = next(iter(ablation.widths(model).items()))
    with pytest.raises(UsageError, match=r"^The model has no layer 'down.to_v'; its value projections are .* more\.$"):
        ablation.gain(model, [{"down.to_v": [0]}])
    for wrong in (-1, width):
        with pytest.raises(UsageError, match=rf"has no neuron {wrong}; it has {width}, counted from 0\.$"):
            ablation.gain(model, [{name: [0, wrong] if wrong > 0 else [wrong, 0]}])
    with pytest.raises(UsageError, match=r"^The mask of .* is 2 x 3; give 2 x \d+, one row a sample\.$"):
        ablation.gain_of_masks(model, {name: torch.ones(2, 3)})
    with (
        ablated(model, some_sets(model, 2)),
        pytest.raises(UsageError, match=r"^2 sets of neurons were given for 3 samples; give one, or one a sample\.$"),
    ):
        first(model)


def test_fused_projections_are_refused() -> None:
    model = mn.Denoiser(tiny.stable_diffusion())
    name = next(iter(ablation.layers(model)))
    model.network.get_submodule(name.removesuffix(".to_v")).fuse_projections()
    with ablated(model, {name: [0]}), pytest.raises(UsageError, match=r"is fused .* unfuse_qkv_projections\(\) first"):
        first(model)


def test_sets_in_plain_types() -> None:
    one = {"b": torch.tensor([3, 1, 3]), "a": []}
    assert ablation.lists(one) == {"b": [1, 3]} and ablation.count(one) == 2
    assert ablation.union([one, {"c": [0], "b": [2]}]) == {"b": [1, 2, 3], "c": [0]}
    assert ablation.by_layer(one, ["a", "b"]) == [[], [1, 3]]
    with pytest.raises(UsageError, match=r"^b is none of the 1 layers; locate with layers=seven\.$"):
        ablation.by_layer(one, ["a"])
