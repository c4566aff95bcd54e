"""Cross-attention is changed exactly as asked, for exactly the samples asked for, and left as it was."""

import math

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from torch.nn.functional import scaled_dot_product_attention

import tiny
from mnemoscope.errors import UsageError
from mnemoscope.model import attention
from mnemoscope.model.attention import edited, layers, spikes, steer
from mnemoscope.model.cond import BIAS, GAIN, SPIKES, concatenate, rows
from mnemoscope.model.denoiser import Denoiser

T = torch.tensor(601)
PIPES = {
    "sd": tiny.stable_diffusion,
    "sd1-blocks": lambda: tiny.stable_diffusion(network=tiny.unet_of_stable_diffusion_1()),
    "sdxl": tiny.stable_diffusion_xl,
}
KEY = "encoder_hidden_states"


@pytest.fixture(params=PIPES)
def model(request):
    found = Denoiser(PIPES[request.param]())
    before = [found.network.get_submodule(name).processor for name in layers(found.network)]
    yield found
    assert [found.network.get_submodule(name).processor for name in layers(found.network)] == before


@pytest.fixture
def sd():
    return Denoiser(tiny.stable_diffusion())


def prompted(model, count=3):
    return model.encode(["a cat", "two dogs", "the sea"][:count]), tiny.latents(count)


def bias_of(count=3, seed=0):
    return torch.randn(count, tiny.CONTEXT, generator=torch.Generator().manual_seed(seed))


def same(logits, name):
    return logits


@torch.no_grad()
def predict(model, cond, x):
    return model.predict(x, T, cond)


def test_an_edit_that_changes_nothing_is_the_untouched_network(model):
    cond, x = prompted(model)
    before = predict(model, cond, x)
    with edited(model.network, same):
        inside = predict(model, cond, x)
    torch.testing.assert_close(inside, before, atol=1e-5, rtol=1e-5)
    assert torch.equal(predict(model, cond, x), before)


def test_every_cross_attention_layer_shows_its_logits_by_name(model):
    seen = {}
    cond, x = prompted(model, 2)

    def look(logits, name):
        seen[name] = logits
        return logits

    with edited(model.network, look):
        predict(model, cond, x)
    assert list(seen) and set(seen) == set(layers(model.network))
    for name, logits in seen.items():
        heads = model.network.get_submodule(name).heads
        assert logits.shape[:2] == (2, heads) and logits.shape[3] == tiny.CONTEXT and logits.dtype == torch.float32
    early = layers(model.network, up=False)
    assert set(early) == {n for n in seen if not n.startswith("up_blocks")}
    seen.clear()
    with edited(model.network, look, layers=early[:1]):
        predict(model, cond, x)
    assert list(seen) == early[:1]


def test_masked_keys_are_as_if_they_were_not_there(model):
    cond, x = prompted(model)
    bias = torch.zeros(3, tiny.CONTEXT)
    bias[:, 5:] = -math.inf
    ours = predict(model, steer(cond, bias=bias), x)
    expected = predict(model, {**cond, KEY: cond[KEY][:, :5]}, x)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(ours, predict(model, cond, x), atol=1e-3)


def independent(module, inputs, gain, bias):
    """Cross-attention in five lines, from the layer's weights."""
    split = lambda v: v.reshape(*v.shape[:2], module.heads, -1).transpose(1, 2)  # noqa: E731
    hidden, text = inputs
    q, k, v = split(module.to_q(hidden)), split(module.to_k(text)), split(module.to_v(text))
    logits = (
        torch.einsum("bhqd,bhkd->bhqk", q, k) / q.shape[-1] ** 0.5 * (1 + gain)[:, None, None] + bias[:, None, None]
    )
    return module.to_out[0]((logits.exp() / logits.exp().sum(-1, keepdim=True) @ v).transpose(1, 2).flatten(2))


def test_a_steered_layer_is_attention_with_the_logits_scaled_and_shifted(model):
    cond, x = prompted(model)
    gain, bias, seen = bias_of(seed=1), bias_of(seed=2), {}
    bias[1, 4:] = -math.inf

    def keep(module, args, kwargs, output):
        seen[module] = (args[0], kwargs[KEY]), output

    modules = [model.network.get_submodule(name) for name in layers(model.network)]
    handles = [module.register_forward_hook(keep, with_kwargs=True) for module in modules]
    predict(model, steer(cond, bias=bias, gain=gain), x)
    for handle in handles:
        handle.remove()
    assert len(seen) == len(modules)
    for module, (inputs, output) in seen.items():
        torch.testing.assert_close(output, independent(module, inputs, gain, bias), atol=1e-5, rtol=1e-4)


def test_what_is_not_steered_is_computed_as_before_to_the_last_bit(model, monkeypatch):
    cond, x = prompted(model)
    before = predict(model, cond, x)
    gain = bias_of()
    gain[[0, 2]] = 0
    mixed = predict(model, steer(cond, gain=gain), x)
    assert torch.equal(mixed[[0, 2]], before[[0, 2]]) and not torch.allclose(mixed[1], before[1], atol=1e-3)
    monkeypatch.setattr(attention, "_installed", None)  # what costs time is not even begun
    assert torch.equal(predict(model, steer(cond, gain=0 * gain, bias=0 * gain), x), before)
    assert torch.equal(predict(model, cond, x), before)


def test_a_steered_sample_is_the_same_in_any_batch(model):
    cond, x = prompted(model)
    steering = steer(cond, gain=bias_of(seed=3))
    whole = predict(model, steering, x)
    for i in range(3):
        alone = predict(model, rows(steering, [i]), x[[i]])
        torch.testing.assert_close(alone[0], whole[i], atol=1e-5, rtol=1e-5)


def test_steering_adds_up_and_goes_on_top_of_edits(sd):
    cond, x = prompted(sd)
    gain, bias = bias_of(seed=4), bias_of(seed=5)
    twice = steer(steer(cond, bias=bias, gain=gain), bias=bias, gain=gain)
    expected = predict(sd, steer(cond, bias=2 * bias, gain=(1 + gain) ** 2 - 1), x)
    torch.testing.assert_close(predict(sd, twice, x), expected, atol=1e-5, rtol=1e-4)
    with edited(sd.network, lambda logits, name: logits + bias[:, None, None]):
        nested = predict(sd, steer(cond, gain=gain), x)
        partly = predict(sd, steer(cond, gain=gain * torch.tensor([[1.0], [0], [0]])), x)
    expected = predict(sd, steer(cond, gain=gain, bias=bias * (1 + gain)), x)
    torch.testing.assert_close(nested, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(partly[1:], predict(sd, steer(cond, bias=bias), x)[1:], atol=1e-5, rtol=1e-4)


def test_edits_nest_and_the_inner_one_acts_last(sd):
    cond, x = prompted(sd)
    with edited(sd.network, lambda logits, name: logits + 1e9), edited(sd.network, lambda logits, name: 0 * logits):
        flat = predict(sd, cond, x)
    expected = predict(sd, steer(cond, gain=-torch.ones(3, tiny.CONTEXT)), x)
    torch.testing.assert_close(flat, expected, atol=1e-5, rtol=1e-5)


def test_processors_are_put_back_after_an_exception(model):
    cond, x = prompted(model)
    before = predict(model, cond, x)
    with pytest.raises(ZeroDivisionError), edited(model.network, lambda logits, name: 1 / 0):
        predict(model, cond, x)
    with pytest.raises(RuntimeError):
        predict(model, {**cond, BIAS: torch.ones(3, tiny.CONTEXT + 1)}, x)
    assert torch.equal(predict(model, cond, x), before)


def test_a_steered_prediction_has_a_gradient_to_the_embedding_and_the_bias(sd):
    cond, x = prompted(sd)
    hidden, bias = cond[KEY].clone().requires_grad_(), bias_of().requires_grad_()
    found = torch.autograd.grad(sd.predict(x, T, {KEY: hidden, BIAS: bias}).square().sum(), [hidden, bias])
    assert all(g.abs().sum() > 0 and g.isfinite().all() for g in found)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_as_near_as_the_network_itself(dtype):
    pipe = tiny.stable_diffusion().to(dtype=dtype)
    model = Denoiser(pipe)
    cond, x = prompted(model)
    plain = predict(model, cond, x.to(dtype))
    with edited(model.network, same):
        ours = predict(model, cond, x.to(dtype))
    assert ours.dtype == dtype
    torch.testing.assert_close(ours.float(), plain.float(), atol=3e-2, rtol=3e-2)


SHAPES = {
    "plain": {},
    "groups, residual, scale": {"norm_num_groups": 2, "residual_connection": True, "rescale_output_factor": 2.0},
    "normed text": {"cross_attention_norm": "layer_norm"},
    "normed queries and keys": {"qk_norm": "layer_norm"},
    "upcast": {"upcast_attention": True, "upcast_softmax": True},
    "unscaled": {"scale_qk": False, "bias": True},
}


@pytest.mark.parametrize("options", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("masked", [False, True])
def test_every_kind_of_attention_layer_is_computed_as_diffusers_does(options, masked):
    layer = Attention(query_dim=8, cross_attention_dim=6, heads=2, dim_head=4, **options)
    network = torch.nn.ModuleDict({"mid_block": torch.nn.ModuleDict({"attn2": tiny.seeded(lambda: layer)})})
    assert isinstance(layer.processor, AttnProcessor if "scale_qk" in options else AttnProcessor2_0)
    hidden, text = torch.randn(3, 10, 8), torch.randn(3, 5, 6)
    mask = torch.zeros(3, 1, 5).masked_fill(torch.rand(3, 1, 5) < 0.3, -1e4) if masked else None
    expected = layer(hidden, encoder_hidden_states=text, attention_mask=mask)
    with edited(network, same, layers=["mid_block.attn2"]):
        ours = layer(hidden, encoder_hidden_states=text, attention_mask=mask)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)


def test_a_network_without_cross_attention_is_refused(planted):
    for model in (planted, Denoiser(tiny.unconditional()), Denoiser(tiny.class_conditional())):
        message = f"^{type(model.network).__name__} has no cross-attention to look at or change; use another method.$"
        with pytest.raises(UsageError, match=message), edited(model.network, same):
            pass


def test_a_processor_of_another_kind_is_refused_and_stays(sd):
    class Odd(AttnProcessor2_0):
        pass

    last = sd.network.get_submodule(layers(sd.network)[-1])
    last.processor = Odd()
    with pytest.raises(UsageError, match="has a Odd, which no logits can be changed in"), edited(sd.network, same):
        pass
    assert {type(sd.network.get_submodule(n).processor) for n in layers(sd.network)} == {AttnProcessor2_0, Odd}


# Branches


def test_branches_concatenate_where_only_one_is_steered():
    plain, bias = {KEY: torch.ones(2, 3, 4)}, torch.full((1, 3), 5.0)
    steering = {KEY: torch.zeros(1, 3, 4), BIAS: bias}
    both = concatenate(plain, steering)
    assert both[BIAS].tolist() == [[0, 0, 0], [0, 0, 0], [5, 5, 5]] and both[KEY].shape == (3, 3, 4)
    assert concatenate(steering, plain)[BIAS].tolist() == [[5, 5, 5], [0, 0, 0], [0, 0, 0]]
    assert concatenate(plain, plain).keys() == {KEY}
    with pytest.raises(KeyError, match="text_embeds"):
        concatenate({**plain, "text_embeds": bias}, steering)


# Spikes


def test_spikes_stand_out_of_all_tokens_but_the_first():
    logits = torch.zeros(1, 1, 2, 5)
    logits[0, 0, 1] = torch.tensor([9.0, 1.0, 2.0, 3.0, 6.0])  # the greatest over both queries
    logits[0, 0, 0] = torch.tensor([0.0, -8, -8, -8, -8])
    mean, deviation = 3.0, (14 / 3) ** 0.5
    for most, expected in (6.0, [4]), (3.0, [3, 4]), (2.0, [2, 3, 4]), (1.0, [1, 2, 3, 4]):
        tau = torch.tensor([(most - mean) / deviation])
        assert spikes(logits, tau - 1e-3)[0, 0].nonzero()[:, 0].tolist() == expected
        assert spikes(logits, tau + 1e-3)[0, 0].nonzero()[:, 0].tolist() == expected[1:]
    assert not spikes(torch.ones(1, 2, 3, 4), torch.tensor([-9.0])).any()  # no deviation, no spike


def test_spikes_are_those_of_each_sample_head_and_threshold():
    logits = torch.randn(3, 2, 7, 11, generator=torch.Generator().manual_seed(0))
    taus = torch.tensor([0.1, 0.5, 1.0])
    found = spikes(logits, taus)
    for b in range(3):
        for h in range(2):
            most = logits[b, h].amax(0)[1:]
            z = (most - most.mean()) / most.std()
            assert found[b, h].tolist() == [False, *(z > taus[b]).tolist()]


@pytest.mark.parametrize("scope", ["early", "all"])
def test_attenuated_spikes_are_those_of_an_edit(model, scope):
    cond, x = prompted(model)

    def change(logits, name):
        found = spikes(logits, torch.full((3,), 0.2))
        return torch.where(found[:, :, None], 0.4 * logits, logits)

    with edited(model.network, change, layers=layers(model.network, up=scope == "all")):
        expected = predict(model, cond, x)
    ours = predict(model, attention.attenuate(cond, 0.4, 0.2, scope), x)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(ours, predict(model, cond, x), atol=1e-4)


def test_attenuation_by_one_changes_nothing(sd):
    cond, x = prompted(sd)
    assert torch.equal(predict(sd, attention.attenuate(cond, 1, 0.1, "all"), x), predict(sd, cond, x))


def test_masked_keys_neither_spike_nor_hide_what_does(sd):
    cond, x = prompted(sd)
    bias = torch.zeros(3, tiny.CONTEXT)
    bias[:, 9:] = -math.inf
    ours = predict(sd, attention.attenuate(steer(cond, bias=bias), 0.2, 0.1, "all"), x)
    assert ours.isfinite().all()
    assert not torch.allclose(ours, predict(sd, steer(cond, bias=bias), x), atol=1e-4)
    assert {GAIN, SPIKES}.isdisjoint(steer(cond, bias=bias))


def test_the_plain_processor_is_scaled_dot_product_attention():
    """What the parity above rests on: diffusers' default is torch's own attention."""
    layer = tiny.seeded(lambda: Attention(query_dim=4, cross_attention_dim=4, heads=1, dim_head=4))
    hidden, text = torch.randn(1, 3, 4), torch.randn(1, 2, 4)
    expected = scaled_dot_product_attention(layer.to_q(hidden), layer.to_k(text), layer.to_v(text))
    torch.testing.assert_close(layer(hidden, encoder_hidden_states=text), layer.to_out[0](expected))
