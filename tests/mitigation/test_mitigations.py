"""Every mitigation against its contract, and each against what its paper says it does."""

import copy
import math
from dataclasses import replace

import pytest
import torch

import mnemoscope as mn
import tiny
from mnemoscope import demo, registry
from mnemoscope.errors import UsageError
from mnemoscope.mitigations.guidance_schedule import past_minimum
from mnemoscope.mitigations.padding_mask import first_padding
from mnemoscope.model import attention
from mnemoscope.model.cond import BIAS, GAIN, SPIKES
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.identity import weights_hash
from mnemoscope.model.start import Start
from mnemoscope.registry import stopping

KEY = "encoder_hidden_states"
NAMES = registry.names("mitigate") + registry.names("caption")
SOME = {
    f"{part}.attentions.0.transformer_blocks.0.attn2.to_v": list(range(16)) for part in ("down_blocks.0", "mid_block")
}
LIGHT = {
    "noise_descent": {"iterations": 2},
    "embedding_descent": {"iterations": 2},
    "neuron_ablation": {"neurons": SOME},
}
STEPS = 3
every = pytest.mark.parametrize("name", NAMES)


def sample(model, prompts, seeds=None, steps=STEPS, guidance_scale=3.0, **sampling):
    """The last latents, the number of evaluations, and the steps."""
    before = model.network_evaluations
    seeds = list(range(5, 5 + len(prompts))) if seeds is None else seeds
    sampling = {"num_inference_steps": steps, "guidance_scale": guidance_scale, **sampling}
    found = list(model.steps(prompts, seeds, **sampling))
    return found[-1].x_prev, model.network_evaluations - before, found


def mitigated(model, name, **parameters):
    return mn.mitigate(model, name, **{**LIGHT.get(name, {}), **parameters})


@pytest.fixture(scope="module")
def prompts():
    return [demo.prompts("verbatim")[0], demo.prompts("ordinary")[3]]


@pytest.fixture(scope="module")
def sd():
    return Denoiser(tiny.stable_diffusion())


PAIR = ["a cat", "two dogs"]


@pytest.fixture(scope="module")
def plain_pair(sd):
    """What no mitigation makes of two prompts."""
    return sample(sd, PAIR)[0]


@pytest.fixture(scope="module")
def plainly(bundled, prompts):
    """What the bundled model makes of the prompts without a mitigation: latents, evaluations, steps."""
    return sample(bundled, prompts)


# The contract of all


@every
def test_the_bundled_model_is_changed_inside_the_block_and_itself_again_after_it(bundled, prompts, plainly, name):
    plain, evaluations, (first, *_) = plainly
    with mitigated(bundled, name) as log:
        inside, cost, _ = sample(bundled, prompts)
    again = next(bundled.steps(prompts, [5, 6], num_inference_steps=STEPS, guidance_scale=3.0))
    assert torch.equal(again.x_prev, first.x_prev)
    for before, after in zip(plain, inside, strict=True):
        assert after.isfinite().all() and not torch.allclose(before, after, atol=1e-3)
    assert [seen["mitigation"] for seen in log] == [[name]] * 2
    with pytest.raises(ZeroDivisionError), mitigated(bundled, name):
        next(bundled.steps(prompts, [5, 6], num_inference_steps=STEPS))
        1 / 0  # noqa: B018
    assert torch.equal(sample(bundled, prompts)[0], plain)
    assert weights_hash(bundled.modules) == bundled.weights_hash and not bundled._edits
    if stopping(name).cost.startswith("no evaluation"):
        assert cost == evaluations
    else:
        assert cost > evaluations


@every
def test_a_mitigated_sample_is_the_same_in_any_batch(sd, plain_pair, name):
    with mitigated(sd, name):
        whole = sample(sd, PAIR)[0]
        assert torch.equal(sample(sd, PAIR)[0], whole)
        for i in range(2):
            alone = sample(sd, PAIR[i : i + 1], [5 + i])[0]
            torch.testing.assert_close(alone[0], whole[i], atol=2e-4, rtol=1e-4)
    assert not torch.allclose(plain_pair, whole, atol=2e-4)


@every
def test_behind_a_threshold_the_others_stay_to_the_last_bit(bundled, prompts, plainly, name):
    plain, _, steps = plainly
    memorized, ordinary = mn.scores.noise_norm(steps[0]).tolist()
    with mitigated(bundled, name, threshold=(memorized + ordinary) / 2) as log:
        inside = sample(bundled, prompts)[0]
    assert [seen["flagged"] for seen in log] == [True, False] and "mitigation" not in log[1]
    assert torch.equal(inside[1], plain[1]) and not torch.allclose(inside[0], plain[0], atol=1e-3)
    with mitigated(bundled, name, threshold=memorized + 1):
        untouched, cost, _ = sample(bundled, prompts)
    assert torch.equal(untouched, plain) and cost == 2 * 2 * STEPS


PLANTED_UNMOVED = {"eot_mask", "padding_mask", "pad_fix"}  # its padding and its end token carry nothing


@every
def test_the_planted_model_is_itself_again(planted, name):
    prompts = ["memorized 1", "ordinary 2"]
    plain = sample(planted, prompts)[0]
    if name.startswith("attention_") or name == "neuron_ablation":
        with pytest.raises(UsageError, match="PlantedUNet has no cross-attention"), mitigated(planted, name):
            sample(planted, prompts)
    else:
        with mitigated(planted, name, **({"scale": 3} if name == "embedding_noise" else {})):
            inside = sample(planted, prompts)[0]
        if stopping(name).kind == "mitigate":
            assert torch.equal(inside, plain) == (name in PLANTED_UNMOVED)
    assert torch.equal(sample(planted, prompts)[0], plain)


@every
@pytest.mark.parametrize("inner", ["attention_rescaling", "guidance_schedule"])
def test_mitigations_nest(sd, plain_pair, name, inner):
    with mitigated(sd, name):
        one = sample(sd, PAIR)[0]
        with mitigated(sd, inner) as log:
            both = sample(sd, PAIR)[0]
        assert torch.equal(sample(sd, PAIR)[0], one)
    assert torch.equal(sample(sd, PAIR)[0], plain_pair)
    assert log[0]["mitigation"] == [name, inner]
    if name != inner:
        assert not torch.allclose(both, one, atol=1e-4)


OTHERS = {
    "sdxl": (tiny.stable_diffusion_xl, "a cat"),
    "distilled": (tiny.distilled, "a cat"),
    "unconditional": (tiny.unconditional, ""),
    "class-conditional": (tiny.class_conditional, "1"),
}


@pytest.fixture(scope="module", params=OTHERS)
def other(request):
    """A model of another family, a prompt for it, and what it makes of that without a mitigation."""
    build, prompt = OTHERS[request.param]
    model = Denoiser(build())
    return model, prompt, sample(model, [prompt])[0]


@every
def test_other_families_work_or_are_refused_in_one_sentence(other, name):
    model, prompt, plain = other
    try:
        with mitigated(model, name):
            assert sample(model, [prompt])[0].isfinite().all()
    except UsageError as e:
        assert len(str(e)) < 250 and str(e).endswith(".") and "\n" not in str(e)
    assert torch.equal(sample(model, [prompt])[0], plain)


@pytest.mark.parametrize("name", ["attention_rescaling", "guidance_schedule", "embedding_noise"])
def test_sdxl_can_be_mitigated_too(name):
    model = Denoiser(tiny.stable_diffusion_xl())
    plain = sample(model, ["a cat"])[0]
    with mitigated(model, name):
        assert not torch.allclose(sample(model, ["a cat"])[0], plain, atol=1e-3)


def test_two_thresholds_leave_each_others_changes_of_a_step(sd):
    texts = ["a cat", "two dogs"]
    parameters = {"guidance_schedule": {"tau": 500}, "attention_attenuation": {"repulsion": 1.0}}
    found = {}
    for threshold in (None, 0):
        first, second = (mn.mitigate(sd, n, threshold=threshold, **p) for n, p in parameters.items())
        with first, second:
            found[threshold] = sample(sd, texts)[0]
    torch.testing.assert_close(found[0], found[None], atol=1e-4, rtol=1e-4)


def test_a_part_that_is_encoded_anew_leaves_the_others_steered(bundled, prompts):
    with mitigated(bundled, "attention_rescaling"):
        steered, _, steps = sample(bundled, prompts)
        scores = mn.scores.noise_norm(steps[0])
        with mitigated(bundled, "random_numbers", threshold=float(scores.mean())) as log:
            inside, _, found = sample(bundled, prompts)
    flagged = [seen["flagged"] for seen in log]
    assert sorted(flagged) == [False, True] and not found[0].cond[GAIN][flagged.index(True)].any()
    kept = flagged.index(False)
    assert torch.equal(found[0].cond[BIAS][kept], steps[0].cond[BIAS][kept])
    torch.testing.assert_close(inside[kept], steered[kept], atol=1e-4, rtol=1e-4)


# guidance_schedule


def schedule_of(model, count=1, **parameters):
    """The change of a step that a guidance schedule makes, and the log that it writes."""
    texts, seeds = ["a"] * count, [0] * count
    start = Start(model.sampler(4, 3.0), texts, seeds, model.initial_noise(seeds), model.encode(texts))
    mn.mitigations.guidance_schedule(start, **parameters)
    return start.step_changes[0], start.seen


def test_a_static_schedule_guides_from_the_transition_point_on(sd, prompts):
    plain_cost = sample(sd, prompts, steps=4)[1]
    for before in (0.0, 1.0, -2.0):
        with mitigated(sd, "guidance_schedule", tau=499, before=before) as log:
            _, cost, steps = sample(sd, prompts, steps=4)
        assert cost == plain_cost and len({float(s.t) for s in steps}) == 4
        for step in steps:
            scale = before if float(step.t) > 499 else 3.0
            expected = step.native_uncond + scale * (step.native_cond - step.native_uncond)
            torch.testing.assert_close(step.native, expected)
        first = next(float(s.t) for s in steps if float(s.t) <= 499)
        assert [seen["guidance_schedule"] for seen in log] == [{"guided_from": first}] * 2


def test_no_guidance_at_first_is_the_sampling_without_a_prompt(sd):
    with mitigated(sd, "guidance_schedule", tau=-1):
        never = sample(sd, ["a cat"])[0]
    torch.testing.assert_close(never, sample(sd, [""])[0], atol=1e-4, rtol=1e-4)
    with mitigated(sd, "guidance_schedule", tau=1000):
        assert torch.equal(sample(sd, ["a cat"])[0], sample(sd, ["a cat"])[0])


PUSHES = {  # ||eps_cond - eps_uncond|| along the steps, and the first guided one
    "falls and rises": ([5, 4, 3, 4, 5, 6], 3),
    "never falls": ([5, 6, 7, 8, 9, 10], 5),
    "rises, falls, rises": ([3, 4, 3, 2, 5, 4], 4),
    "never rises again": ([9, 8, 7, 6, 5, 4], 5),
    "has a plateau": ([5, 4, 4, 5, 6, 7], 5),
    "stays on once it is on": ([5, 1, 5, 1, 0.5, 0.2], 2),
}


def test_a_dynamic_schedule_guides_each_image_from_its_own_first_minimum(planted):
    values = torch.tensor([row for row, _ in PUSHES.values()])
    change, seen = schedule_of(planted, len(values), mode="dynamic", tau=450, before=-1)
    x = planted.initial_noise([0] * len(values))
    unit = torch.ones_like(x) / x[0].numel() ** 0.5
    template = planted.observe(x, torch.tensor(999), planted.encode(["a"] * len(values)), guidance_scale=3.0)
    guided = []
    for k, t in enumerate((900, 800, 700, 600, 500, 400)):  # the last one is past the fallback
        push = values[:, k, None, None, None] * unit
        step = replace(template, t=torch.tensor(t), native_cond=push, null_branch=lambda: torch.zeros_like(unit))
        change(step)
        guided.append((step.native / push).mean((1, 2, 3)))
    for i, (_, first) in enumerate(PUSHES.values()):
        expected = [-1.0 if k < first else 3.0 for k in range(6)]
        assert torch.stack(guided)[:, i].tolist() == pytest.approx(expected, rel=1e-5)
        assert seen[i]["guidance_schedule"] == {"guided_from": (900, 800, 700, 600, 500, 400)[first]}


def test_a_minimum_takes_three_values():
    assert not past_minimum([torch.ones(2)]).any() and not past_minimum([torch.ones(2), torch.zeros(2)]).any()


def test_a_dynamic_schedule_begins_anew_with_every_sampling(sd, prompts):
    with mitigated(sd, "guidance_schedule", mode="dynamic", tau=100):
        first, cost, _ = sample(sd, prompts, steps=6)
        assert torch.equal(sample(sd, prompts, steps=6)[0], first)
    assert cost == 6 * 2 * 2


def test_there_must_be_guidance_to_schedule(sd):
    with (
        mitigated(sd, "guidance_schedule"),
        pytest.raises(UsageError, match="there is none .the guidance scale is 1.0"),
    ):
        sample(sd, ["a cat"], guidance_scale=1.0)
    distilled = Denoiser(tiny.distilled())
    with mitigated(distilled, "guidance_schedule"), pytest.raises(UsageError, match="distilled into the network"):
        sample(distilled, ["a cat"])


# Padding


def first_cond(model, texts, *mitigations):
    opened = [mitigated(model, name, **parameters) for name, parameters in mitigations]
    for block in opened:
        block.__enter__()
    found = next(model.steps(texts, [0] * len(texts), num_inference_steps=1)).cond
    for block in reversed(opened):
        block.__exit__(None, None, None)
    return found[KEY]


TEXTS = ["a cat", "", "two dogs by the sea and far more letters than fit"]


def test_padding_is_that_of_a_tokenizer_with_another_pad_token(sd):
    plain = first_cond(sd, TEXTS)
    ours = first_cond(sd, TEXTS, ("pad_fix", {"token": "q"}))
    other = copy.deepcopy(sd.pipe.tokenizer)
    other.pad_token = "q"
    options = {"padding": "max_length", "truncation": True, "max_length": tiny.CONTEXT, "return_tensors": "pt"}
    expected = sd.pipe.text_encoder(other(TEXTS, **options).input_ids)[0]
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    for i, end in enumerate(sd.family.ends(TEXTS)):
        assert torch.equal(ours[i, : end + 1], plain[i, : end + 1])
    assert not torch.allclose(ours[0, -1], plain[0, -1], atol=1e-2) and torch.equal(ours[2], plain[2])


def test_the_shared_tokenizer_stays_as_it_is(sd):
    before = sd.pipe.tokenizer("a cat", padding="max_length", max_length=tiny.CONTEXT).input_ids
    first_cond(sd, TEXTS, ("pad_fix", {}), ("eot_mask", {}))
    assert sd.pipe.tokenizer("a cat", padding="max_length", max_length=tiny.CONTEXT).input_ids == before


def test_the_other_branch_is_padded_only_when_asked(sd):
    for also in (False, True):
        with mitigated(sd, "pad_fix", also_negative=also):
            step = sample(sd, ["a cat", "red"])[2][0]
        with mitigated(sd, "pad_fix"):
            own = sample(sd, ["", ""])[2][0]
        expected = own.native_cond if also else sample(sd, ["a cat", "red"])[2][0].native_uncond
        torch.testing.assert_close(step.native_uncond, expected, atol=1e-5, rtol=1e-5)


def test_the_end_token_is_zero_and_nothing_else_after_eot_mask(sd):
    plain = first_cond(sd, TEXTS)
    ours = first_cond(sd, TEXTS, ("eot_mask", {}))
    ends = sd.family.ends(TEXTS)
    for i, end in enumerate(ends):
        assert not ours[i, end].any()
        kept = [k for k in range(tiny.CONTEXT) if k != end]
        assert torch.equal(ours[i, kept], plain[i, kept])
    assert ends[2] == tiny.CONTEXT - 1


def test_pad_fix_and_eot_mask_add_up_in_either_order(sd):
    both = first_cond(sd, TEXTS, ("pad_fix", {}), ("eot_mask", {}))
    assert torch.equal(both, first_cond(sd, TEXTS, ("eot_mask", {}), ("pad_fix", {})))
    padded = first_cond(sd, TEXTS, ("pad_fix", {}))
    for i, end in enumerate(sd.family.ends(TEXTS)):
        assert not both[i, end].any() and torch.equal(both[i, end + 1 :], padded[i, end + 1 :])


@pytest.mark.parametrize(
    "end, share, masked",
    [
        (6, 0.7, range(7, 13)),
        (6, 0, []),
        (6, 1, range(7, 16)),
        (15, 1, []),
        (14, 0.7, []),
        (14, 1, [15]),
        (5, 0.3, [6, 7, 8]),
    ],
)
def test_a_share_of_the_padding_right_behind_the_end_token_is_masked(end, share, masked):
    found = first_padding(torch.tensor([end]), 16, share)
    assert found[0].nonzero()[:, 0].tolist() == list(masked)


def test_shares_are_those_of_decimal_numbers():
    for hundredths in range(101):
        assert int(first_padding(torch.tensor([0]), 101, hundredths / 100).sum()) == hundredths


def test_masked_padding_is_zero_and_the_end_token_stays(sd):
    plain, ours = first_cond(sd, TEXTS), first_cond(sd, TEXTS, ("padding_mask", {"share": 0.5}))
    masked = first_padding(torch.tensor(sd.family.ends(TEXTS)), tiny.CONTEXT, 0.5)
    assert not ours[masked].any() and torch.equal(ours[~masked], plain[~masked]) and masked[1].sum() == 7


@pytest.mark.parametrize("name", ["pad_fix", "eot_mask", "padding_mask"])
def test_padding_with_another_token_is_refused(name):
    pipe = tiny.stable_diffusion()
    pipe.tokenizer = copy.deepcopy(pipe.tokenizer)
    pipe.tokenizer.pad_token = "!"
    message = f"^{name} needs one tokenizer that pads with its end token, .* this model pads with '!'; use another"
    with mitigated(Denoiser(pipe), name) as _, pytest.raises(UsageError, match=message):
        model = Denoiser(pipe)
        with mitigated(model, name):
            sample(model, ["a cat"])
    xl = Denoiser(tiny.stable_diffusion_xl())
    with mitigated(xl, name), pytest.raises(UsageError, match="this model has 2 tokenizers"):
        sample(xl, ["a cat"])


def test_odd_values_are_refused_in_one_sentence(sd):
    for name, parameters, message in (
        ("pad_fix", {"token": "nonsense"}, "'nonsense' is no token of this model's tokenizer"),
        ("padding_mask", {"share": 1.1}, "share=1.1; give a number from 0 to 1"),
        ("attention_attenuation", {"layers": "late"}, "takes Literal"),
        ("embedding_noise", {"scope": "uncond"}, "takes Literal"),
    ):
        with pytest.raises(UsageError, match=message), mitigated(sd, name, **parameters):
            sample(sd, ["a cat"])


# attention_rescaling


def test_the_rescaled_first_token_and_the_masked_padding_are_where_they_belong(sd):
    with mitigated(sd, "attention_rescaling", scale=1.5):
        step = sample(sd, TEXTS)[2][0]
    for i, end in enumerate(sd.family.ends(TEXTS)):
        assert step.cond[BIAS][i].tolist() == [0.0] * (end + 1) + [-math.inf] * (tiny.CONTEXT - 1 - end)
        assert step.cond[GAIN][i].tolist() == [0.5] + [0.0] * (tiny.CONTEXT - 1)
    with mitigated(sd, "attention_rescaling", mask_eos=True):
        masked = sample(sd, TEXTS)[2][0].cond[BIAS]
    assert masked.isinf().sum(1).tolist() == [tiny.CONTEXT - end for end in sd.family.ends(TEXTS)]


@pytest.mark.parametrize("eos", [False, True])
def test_both_branches_see_the_prompts_length_and_one_the_scale(sd, eos):
    """Against the network without the masked keys, and with the first logit scaled by an edit."""

    def scaled(logits, name):
        return torch.cat([1.25 * logits[..., :1], logits[..., 1:]], dim=-1)

    with mitigated(sd, "attention_rescaling", mask_eos=eos):
        _, cost, steps = sample(sd, TEXTS[:1])
    assert cost == 2 * STEPS
    kept = sd.family.ends(TEXTS)[0] + 1 - eos
    for step in steps:
        with torch.no_grad(), attention.edited(sd.network, scaled):
            cond = sd.network(step.x_t, step.t, step.cond[KEY][:, :kept]).sample
        with torch.no_grad():
            uncond = sd.network(step.x_t, step.t, sd.null(1)[KEY][:, :kept]).sample
        torch.testing.assert_close(step.native_cond, cond, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(step.native_uncond, uncond, atol=1e-5, rtol=1e-5)


def test_a_scale_of_one_masks_only_and_a_distilled_model_has_one_branch():
    model = Denoiser(tiny.distilled())
    with mitigated(model, "attention_rescaling", scale=1.0):
        step = sample(model, TEXTS[:1])[2][0]
    end = model.family.ends(TEXTS)[0]
    rest = {**{k: v for k, v in step.cond.items() if k not in (BIAS, GAIN)}, KEY: step.cond[KEY][:, : end + 1]}
    with torch.no_grad():
        torch.testing.assert_close(step.native_cond, model.predict(step.x_t, step.t, rest), atol=1e-5, rtol=1e-5)


# attention_attenuation


def test_guard_without_attenuation_or_repulsion_is_plain_guidance(sd):
    plain, evaluations, _ = sample(sd, TEXTS)
    with mitigated(sd, "attention_attenuation", alpha=1.0, repulsion=0):
        ours, cost, _ = sample(sd, TEXTS)
    assert torch.equal(ours, plain) and cost == evaluations
    with mitigated(sd, "attention_attenuation", alpha=1.0, repulsion=1e-12):
        ours, cost, _ = sample(sd, TEXTS)
    torch.testing.assert_close(ours, plain, atol=1e-4, rtol=1e-4)
    assert cost == 3 * 3 * STEPS


@pytest.mark.parametrize("scope", ["early", "all"])
def test_the_prediction_is_that_of_guard(sd, scope):
    """eps_u + s (eps_plus - eps_u) - r_t (eps_c - eps_u), with spikes found and attenuated by an independent edit."""

    def change(logits, name):
        most = logits.amax(2)
        z = (most - most[..., 1:].mean(-1, keepdim=True)) / most[..., 1:].std(-1, keepdim=True)
        z[..., 0] = -math.inf
        return torch.where((z > 0.3)[:, :, None], 0.2 * logits, logits)

    with mitigated(sd, "attention_attenuation", alpha=0.2, tau=0.3, repulsion=1.5, layers=scope):
        steps = sample(sd, TEXTS, steps=4)[2]
    for i, step in enumerate(steps):
        with (
            torch.no_grad(),
            attention.edited(sd.network, change, layers=attention.layers(sd.network, up=scope == "all")),
        ):
            plus = sd.network(step.x_t, step.t, step.cond[KEY]).sample
        cond, uncond = step.native_cond, step.native_uncond
        expected = uncond + 3.0 * (plus - uncond) - 1.5 * math.cos(math.pi / 2 * i / 4) * (cond - uncond)
        torch.testing.assert_close(step.native, expected, atol=1e-4, rtol=1e-4)


def test_attenuation_alone_costs_nothing_more(sd):
    with mitigated(sd, "attention_attenuation", alpha=0.2, repulsion=0):
        _, cost, steps = sample(sd, TEXTS)
    assert cost == 2 * 3 * STEPS and steps[0].cond[SPIKES].tolist() == [[pytest.approx(0.8), pytest.approx(0.1), 0]] * 3
    plain = sample(sd, TEXTS)[2][0]
    assert not torch.allclose(steps[0].native_cond, plain.native_cond, atol=1e-3)
    assert torch.equal(steps[0].native_uncond, plain.native_uncond)


def test_repulsion_costs_one_evaluation_more_for_flagged_images_only(bundled, prompts):
    scores = mn.scores.noise_norm(sample(bundled, prompts)[2][0])
    with mitigated(bundled, "attention_attenuation", threshold=float(scores.mean())):
        assert sample(bundled, prompts)[1] == 2 * 2 * STEPS + STEPS


def test_repulsion_needs_an_unconditional_branch_and_attenuation_does_not():
    model = Denoiser(tiny.distilled())
    with mitigated(model, "attention_attenuation"), pytest.raises(UsageError, match="give repulsion=0"):
        sample(model, ["a cat"])
    plain = sample(model, ["a cat"])[0]
    with mitigated(model, "attention_attenuation", repulsion=0):
        assert not torch.allclose(sample(model, ["a cat"])[0], plain, atol=1e-3)


# embedding_noise


def noise_of(model, texts, seeds, **parameters):
    with mitigated(model, "embedding_noise", **parameters):
        noisy = next(model.steps(texts, seeds, num_inference_steps=1))
    plain = next(model.steps(texts, seeds, num_inference_steps=1))
    return noisy.cond[KEY] - plain.cond[KEY], noisy, plain


def test_the_noise_is_gaussian_of_the_asked_size(sd):
    noise = noise_of(sd, ["a cat"] * 16, list(range(16)), scale=0.3)[0] / 0.3
    count = noise.numel()
    assert abs(float(noise.mean())) < 4 / count**0.5 and abs(float(noise.std()) - 1) < 4 / (2 * count) ** 0.5
    assert abs(float((noise**4).mean()) - 3) < 4 * (96 / count) ** 0.5
    flat = noise.flatten(1)
    correlation = torch.corrcoef(flat) - torch.eye(16)
    assert correlation.abs().max() < 5 / flat.shape[1] ** 0.5


def test_the_noise_is_that_of_the_seed_and_not_the_images_own(sd):
    whole = noise_of(sd, ["a cat", "red", "a cat"], [4, 9, 9], scale=1.0)[0]
    alone = noise_of(sd, ["red"], [9], scale=1.0)[0]
    torch.testing.assert_close(whole[1], alone[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(whole[2], alone[0], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(whole[0], whole[2], atol=0.1)
    latents = sd.initial_noise([9])[0].flatten()
    assert not torch.allclose(alone[0].flatten()[: len(latents)], latents, atol=0.1)


def test_the_other_branch_gets_noise_of_its_own_when_asked(sd):
    one, noisy, plain = noise_of(sd, ["a cat"], [3], scale=0.5)
    both, twice, _ = noise_of(sd, ["a cat"], [3], scale=0.5, scope="both")
    assert torch.equal(one, both) and torch.equal(noisy.native_uncond, plain.native_uncond)
    assert not torch.allclose(twice.native_uncond, plain.native_uncond, atol=1e-3)
    torch.testing.assert_close(twice.native_cond, noisy.native_cond, atol=1e-5, rtol=1e-5)


def test_noise_can_spare_the_first_token_and_the_padding(sd):
    noise = noise_of(sd, TEXTS, [1, 2, 3], scale=0.5, tokens="content+eos")[0]
    whole = noise_of(sd, TEXTS, [1, 2, 3], scale=0.5)[0]
    for i, end in enumerate(sd.family.ends(TEXTS)):
        assert not noise[i, 0].any() and not noise[i, end + 1 :].any()
        assert torch.equal(noise[i, 1 : end + 1], whole[i, 1 : end + 1]) and noise[i, 1 : end + 1].all()


def test_no_noise_is_no_change(sd):
    plain = sample(sd, TEXTS)[0]
    with mitigated(sd, "embedding_noise", scale=0):
        assert torch.equal(sample(sd, TEXTS)[0], plain)
