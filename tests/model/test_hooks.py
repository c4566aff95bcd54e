"""Named submodules are captured and edited inside a block, and left as they were."""

import pytest
import torch

import tiny
from mnemoscope.errors import UsageError
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.hooks import capture, edit_output, matching, value_layers

T = torch.tensor(601)


@pytest.fixture(scope="module")
def network():
    return tiny.unet_of_stable_diffusion_1().requires_grad_(False)


@pytest.fixture(autouse=True)
def no_hook_is_left(request):
    yield
    if "network" in request.fixturenames:
        found = request.getfixturevalue("network")
        assert not any(m._forward_hooks for m in found.modules())


def text(count=2, seed=0):
    return torch.randn(count, tiny.CONTEXT, tiny.WIDTH, generator=torch.Generator().manual_seed(seed))


def predict(network, x=None, t=T, hidden=None):
    x = tiny.latents(2) if x is None else x
    return network(x, t, text(len(x)) if hidden is None else hidden).sample


def expected_layers(*, up):
    layers = [(f"down_blocks.{i}.attentions.{j}") for i in range(3) for j in range(2)] + ["mid_block.attentions.0"]
    layers += [f"up_blocks.{i}.attentions.{j}" for i in range(1, 4) for j in range(3)] if up else []
    return [f"{layer}.transformer_blocks.0.attn2.to_v" for layer in layers]


def test_stable_diffusion_1_has_seven_value_layers_down_to_the_middle(network):
    assert value_layers(network) == expected_layers(up=False)
    assert len(value_layers(network)) == 7


def test_stable_diffusion_1_has_sixteen_value_layers_with_those_on_the_way_up(network):
    assert value_layers(network, up=True) == expected_layers(up=True)
    assert len(value_layers(network, up=True)) == 16


def test_value_layers_of_sdxl_count_every_transformer_block():
    names = value_layers(tiny.stable_diffusion_xl().unet)
    assert len(names) == 2 * 2 and [n for n in names if n.startswith("mid")] == names[2:]


def test_captured_outputs_are_those_of_each_forward_pass_in_turn(network):
    layers = matching(network, "*attn2.to_v")
    with capture(network, "*attn2.to_v") as seen:
        predict(network, hidden=text(seed=0)), predict(network, hidden=text(seed=1))
    assert seen.keys() == layers.keys()
    for name, outputs in seen.items():
        assert len(outputs) == 2
        assert all(torch.equal(o, layers[name](text(seed=s))) for s, o in enumerate(outputs))


def test_nothing_is_captured_after_the_block(network):
    with capture(network, "*attn2.to_v") as seen:
        predict(network)
    predict(network)
    assert {len(v) for v in seen.values()} == {1}


def test_value_outputs_depend_on_the_text_but_not_on_the_latents_or_the_time(network):
    with capture(network, "*attn2.to_v") as seen:
        predict(network)
        predict(network, x=tiny.latents(2, seed=9), t=torch.tensor(11))
        predict(network, hidden=text(seed=3))
    for first, same, other in seen.values():
        assert torch.equal(first, same) and not torch.allclose(first, other)


def test_captured_outputs_keep_their_graphs(network):
    hidden = text().requires_grad_()
    with capture(network, "mid_block*attn2.to_v") as seen:
        predict(network, hidden=hidden)
    (outputs,) = seen.values()
    gradient = torch.autograd.grad(outputs[0].sum(), hidden)[0]
    assert gradient.abs().max() > 0


def test_capture_does_not_change_the_prediction(network):
    before = predict(network)
    with capture(network, "*"):
        assert torch.equal(predict(network), before)


@pytest.mark.parametrize("layer", [0, 6])
def test_an_edited_output_changes_the_prediction_inside_its_block_only(network, layer):
    before, name = predict(network), value_layers(network)[layer]
    with edit_output(network, {name: lambda output: torch.full_like(output, 9)}):
        inside = predict(network)
        with capture(network, name) as seen:
            predict(network)
    assert not torch.allclose(inside, before, atol=1e-4)
    assert (seen[name][0] == 9).all()  # hooks opened later see what earlier ones made
    assert torch.equal(predict(network), before)


def test_an_output_that_is_edited_to_itself_changes_nothing(network):
    before = predict(network)
    with edit_output(network, dict.fromkeys(value_layers(network, up=True), lambda output: output)):
        assert torch.equal(predict(network), before)


def test_editing_one_neuron_is_the_same_as_zeroing_its_weights(network):
    name, neuron = value_layers(network)[2], 1

    def ablate(output):
        output = output.clone()
        output[..., neuron] = 0
        return output

    with edit_output(network, {name: ablate}):
        ours = predict(network)
    weight = network.get_submodule(name).weight
    kept = weight.clone()
    weight[neuron] = 0
    expected = predict(network)
    weight.copy_(kept)
    assert torch.equal(ours, expected) and not torch.equal(ours, predict(network))


def test_edits_of_outputs_nest_and_the_inner_one_acts_last(network):
    name = value_layers(network)[0]
    with (
        capture(network, "conv_out"),
        edit_output(network, {name: torch.ones_like}),
        edit_output(network, {name: lambda output: 3 * output}),
        capture(network, name) as seen,
    ):
        predict(network)
    assert (seen[name][0] == 3).all()


@pytest.mark.parametrize(
    "block",
    [
        lambda network: capture(network, "*attn2.to_v"),
        lambda network: edit_output(network, dict.fromkeys(value_layers(network), torch.zeros_like)),
    ],
    ids=["capture", "edit_output"],
)
def test_hooks_are_gone_after_an_exception(network, block):
    before = predict(network)
    with pytest.raises(ZeroDivisionError), block(network):
        assert sum(len(m._forward_hooks) for m in network.modules()) >= 7
        1 / 0  # noqa: B018
    assert not any(m._forward_hooks for m in network.modules())
    assert torch.equal(predict(network), before)


def test_an_error_in_an_edit_reaches_the_caller_and_the_hooks_are_gone(network):
    name = value_layers(network)[0]
    with pytest.raises(ZeroDivisionError), edit_output(network, {name: lambda output: 1 / 0}):
        predict(network)


def test_a_pattern_that_matches_nothing_is_refused(network):
    expected = r"^No module of UNet2DConditionModel matches '\*attn9\*'.$"
    with pytest.raises(UsageError, match=expected), capture(network, "*attn9*"):
        pass
    with pytest.raises(UsageError, match="^UNet2DModel has no cross-attention, hence no neurons"):
        value_layers(tiny.unconditional().unet)


def test_a_change_for_an_unknown_module_is_refused_and_leaves_no_hook(network):
    changes = {value_layers(network)[0]: torch.zeros_like, "mid_block.attn7": torch.zeros_like}
    expected = "^UNet2DConditionModel has no module 'mid_block.attn7'.$"
    with pytest.raises(UsageError, match=expected), edit_output(network, changes):
        pass


def test_a_pattern_is_matched_whole_and_with_its_case(network):
    assert list(matching(network, "conv_in")) == ["conv_in"]
    for pattern in ("conv_i", "CONV_IN"):
        with pytest.raises(UsageError, match="matches"):
            matching(network, pattern)


def test_an_edited_output_reaches_the_samples_of_a_denoiser():
    model = Denoiser(tiny.stable_diffusion())
    before = next(model.steps(["a cat"], [0])).eps_cond
    with edit_output(model.network, dict.fromkeys(value_layers(model.network), torch.zeros_like)):
        assert not torch.allclose(next(model.steps(["a cat"], [0])).eps_cond, before, atol=1e-4)
    assert torch.equal(next(model.steps(["a cat"], [0])).eps_cond, before)
