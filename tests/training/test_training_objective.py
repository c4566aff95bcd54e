"""The training objective: targets, weights, noises and filter against closed forms and short own implementations."""

import dataclasses
import math

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from torch.nn import functional as F

import tiny
from mnemoscope.errors import UsageError
from mnemoscope.model import schedule
from mnemoscope.training.embedding_noise import mixed, noisy, own_share
from mnemoscope.training.filter import Tally, below, text_push
from mnemoscope.training.noise import Draws, levels, noised, timesteps, trained_prediction
from mnemoscope.training.objective import Objective, ObjectiveOptions, loss
from mnemoscope.training.weights import min_snr

KINDS = ("epsilon", "v_prediction", "sample")
NOISES = tiny.NOISES
DRAWS = Draws.of(0, 5, 0, 4)
MANY = Draws.of(3, 0, 0, 4000)


def ddpm(kind: str = "epsilon", **options) -> DDPMScheduler:
    return DDPMScheduler(**NOISES, prediction_type=kind, **options)


class Network:
    """A tiny U-Net as the objective calls it; counts samples evaluated, with and without a graph."""

    def __init__(self) -> None:
        self.unet, self.with_graph, self.without = tiny.unet(), 0, 0

    def __call__(self, x_t, t, cond):
        if torch.is_grad_enabled():
            self.with_graph += len(x_t)
        else:
            self.without += len(x_t)
        return self.unet(x_t, t, **cond).sample

    @property
    def parameters(self) -> list[torch.Tensor]:
        return list(self.unet.parameters())

    def gradient(self) -> torch.Tensor:
        return torch.cat([p.grad.flatten() for p in self.parameters])


def text(count: int = 4, seed: int = 9) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {"encoder_hidden_states": 3 * torch.randn(count, tiny.CONTEXT, tiny.WIDTH, generator=generator)}


def rows(cond, index):
    return {k: v[index] for k, v in cond.items()}


NULL = {"encoder_hidden_states": torch.zeros(4, tiny.CONTEXT, tiny.WIDTH)}


# What is drawn


def test_a_sample_draws_the_same_however_the_batch_is_divided():
    whole, parts = Draws.of(1, 7, 0, 6), [Draws.of(1, 7, k, 2) for k in range(3)]
    assert torch.equal(whole.normal("noise", (2, 3)), torch.cat([p.normal("noise", (2, 3)) for p in parts]))
    assert torch.equal(whole.integers("t", 0, 999), torch.cat([p.integers("t", 0, 999) for p in parts]))
    others = (Draws.of(2, 7, 0, 6), Draws.of(1, 8, 0, 6), Draws.of(1, 7, 1, 6))
    assert not any(torch.isin(d.normal("noise", (3,)), whole.normal("noise", (3,))).any() for d in others)
    assert not torch.isin(whole.normal("other", (3,)), whole.normal("noise", (3,))).any()


def test_an_option_leaves_everything_else_that_is_drawn_as_it_was():
    x_0 = tiny.latents(4)
    plain = noised(x_0, ddpm(), DRAWS)
    offset = noised(x_0, ddpm(), DRAWS, noise_offset=0.1, input_perturbation=0.2)
    assert torch.equal(plain.t, offset.t)
    moved = offset.noise - plain.noise
    assert moved.std(dim=(2, 3)).max() < 1e-6 < moved.abs().min()


@pytest.mark.parametrize("flow", [False, True])
def test_timesteps_are_uniform_over_the_schedule(flow):
    scheduler = FlowMatchEulerDiscreteScheduler() if flow else ddpm()
    t = timesteps(scheduler, MANY)
    assert t.min() >= int(flow) and t.max() <= 999 + flow
    counts = torch.histc(t.float(), 10, int(flow), 1000 + flow)
    assert ((counts - 400).square() / 400).sum() < 28  # chi-squared, 9 degrees of freedom, p = 0.001


def test_noise_offset_and_input_perturbation_have_their_size_and_place():
    x_0 = torch.zeros(4000, 2, 2, 2)
    plain, moved = noised(x_0, ddpm(), MANY), noised(x_0, ddpm(), MANY, noise_offset=0.5, input_perturbation=0.3)
    shift = (moved.noise - plain.noise)[:, :, 0, 0]
    assert abs(shift.std() - 0.5) < 0.02 and abs(torch.corrcoef(shift.T)[0, 1]) < 0.05
    extra = moved.x_t / moved.sigma[:, None, None, None] - moved.noise
    assert abs(extra.std() - 0.3) < 0.01
    assert torch.equal(moved.target("epsilon"), moved.noise)


# What the network sees and has to predict


@pytest.mark.parametrize("scheduler", ["ddim", "ddpm", "dpm++", "euler", "pndm"])
def test_levels_are_those_of_every_scheduler(scheduler):
    own = tiny.scheduler(scheduler)
    alpha, sigma = levels(own, torch.tensor([0, 250, 999]))
    expected = torch.tensor([schedule.alpha_sigma(own, t) for t in (0.0, 250.0, 999.0)])
    assert torch.allclose(torch.stack([alpha, sigma], 1), expected, rtol=1e-5)


def test_inputs_and_targets_are_those_of_diffusers():
    x_0, scheduler = tiny.latents(4), ddpm("v_prediction")
    pair = noised(x_0, scheduler, DRAWS)
    assert torch.equal(pair.x_t, scheduler.add_noise(x_0, pair.noise, pair.t))
    assert torch.equal(pair.target("v_prediction"), scheduler.get_velocity(x_0, pair.noise, pair.t))


@pytest.mark.parametrize("kind", [*KINDS, "flow_prediction"])
def test_the_target_is_what_a_perfect_network_predicts(kind):
    scheduler = FlowMatchEulerDiscreteScheduler() if kind == "flow_prediction" else ddpm(kind)
    pair = noised(tiny.latents(4), scheduler, DRAWS)
    for k in range(4):
        level = (float(pair.alpha[k]), float(pair.sigma[k]), kind)
        eps = schedule.to_eps(pair.target(kind)[k], pair.x_t[k], *level)
        assert torch.allclose(eps, pair.noise[k], atol=1e-4 / level[1])


def test_the_prediction_type_is_the_scheduler_s_unless_another_that_fits_is_asked_for():
    assert trained_prediction(ddpm("v_prediction"), None) == "v_prediction"
    assert trained_prediction(ddpm("v_prediction"), "epsilon") == "epsilon"
    assert trained_prediction(FlowMatchEulerDiscreteScheduler(), None) == "flow_prediction"
    with pytest.raises(UsageError, match="--prediction-type flow_prediction does not go with this scheduler"):
        trained_prediction(ddpm(), "flow_prediction")


# Weights


def of_snr(*snr: float) -> tuple[torch.Tensor, torch.Tensor]:
    ratio = torch.tensor(snr, dtype=torch.float64)
    return (ratio / (1 + ratio)).sqrt(), (1 / (1 + ratio)).sqrt()


def test_min_snr_weights_at_known_ratios():
    level = of_snr(0.25, 1, 4, 20)
    expected = {
        "epsilon": [1, 1, 1, 5 / 20],
        "sample": [0.25, 1, 4, 5],
        "v_prediction": [0.25 / 1.25, 1 / 2, 4 / 5, 5 / 21],
    }
    for kind, values in expected.items():
        assert min_snr(*level, 5, kind).tolist() == pytest.approx(values)


def test_min_snr_weighs_the_same_error_of_the_clean_image_whatever_is_predicted():
    """w |error of the prediction|^2 = min(SNR, gamma) |error of x_0|^2, for the flow as for the others."""
    q = torch.tensor([0.1, 0.3, 0.5, 0.9], dtype=torch.float64)
    given = {kind: of_snr(0.1, 1, 5, 30) for kind in KINDS} | {"flow_prediction": (1 - q, q)}
    for kind, (alpha, sigma) in given.items():
        for k in range(4):
            a, s = float(alpha[k]), float(sigma[k])
            x, out, wrong = (torch.tensor([v], dtype=torch.float64) for v in (0.3, 0.8, 1.0))
            error = schedule.to_x0(wrong, x, a, s, kind) - schedule.to_x0(out, x, a, s, kind)
            weighted = float(min_snr(alpha, sigma, 5, kind)[k] * (wrong - out).square())
            assert weighted == pytest.approx(min((a / s) ** 2, 5) * float(error.square()))


@pytest.mark.parametrize(("kind", "expected"), [("epsilon", 1.0), ("v_prediction", 0.0), ("sample", 0.0)])
def test_min_snr_is_a_number_where_no_signal_is_left(kind, expected):
    assert min_snr(torch.zeros(1), torch.ones(1), 5, kind).item() == expected


# The loss


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradient_are_those_of_the_plain_loop(kind):
    network, x_0, cond, scheduler = Network(), tiny.latents(4), text(), ddpm(kind)
    found = loss(network, x_0, cond, scheduler, DRAWS)
    found.loss.backward()
    own = network.gradient()
    assert (network.with_graph, network.without) == (4, 0)
    noise, t = DRAWS.normal("noise", x_0.shape[1:]), DRAWS.integers("timestep", 0, 1000)
    target = {"epsilon": noise, "sample": x_0, "v_prediction": scheduler.get_velocity(x_0, noise, t)}[kind]
    network.unet.zero_grad()
    expected = F.mse_loss(network.unet(scheduler.add_noise(x_0, noise, t), t, **cond).sample, target)
    expected.backward()
    assert torch.allclose(found.loss, expected) and torch.allclose(own, network.gradient(), atol=1e-7)
    assert found.per_sample.shape == (4,) and found.kept.all() and found.norms is None


def test_min_snr_weights_each_sample_of_the_loss():
    network, scheduler = Network(), ddpm("v_prediction")
    plain = loss(network, tiny.latents(4), text(), scheduler, DRAWS)
    weighted = loss(network, tiny.latents(4), text(), scheduler, DRAWS, ObjectiveOptions(snr_gamma=5))
    alpha_bar = scheduler.alphas_cumprod[DRAWS.integers("timestep", 0, 1000)]
    snr = alpha_bar / (1 - alpha_bar)
    assert torch.allclose(weighted.per_sample, plain.per_sample * snr.clamp(max=5) / (snr + 1))


def test_the_loss_is_summed_in_float32_whatever_the_network_computes_in():
    network = Network()
    network.unet.to(torch.bfloat16)
    cond = {k: v.bfloat16() for k, v in text().items()}
    found = loss(network, tiny.latents(4).bfloat16(), cond, ddpm(), DRAWS)
    assert found.loss.dtype == torch.float32 and found.loss.isfinite()


# The memorization filter


def filtered(network, options, *, kind="epsilon", draws=DRAWS, index=slice(None)) -> Objective:
    x_0, cond, null = tiny.latents(4)[index], rows(text(), index), rows(NULL, index)
    return loss(network, x_0, cond, ddpm(kind), draws, options, null=null)


def middle(network, **options) -> float:
    """A threshold that keeps two of the four samples."""
    norms = filtered(network, ObjectiveOptions(hard_threshold=1e9, **options)).norms.sort().values
    return float((norms[1] + norms[2]) / 2)


@pytest.mark.parametrize("gamma", [None, 5])
def test_gradient_is_that_of_the_masked_loss(gamma):
    network = Network()
    options = ObjectiveOptions(hard_threshold=middle(network), snr_gamma=gamma)
    network.with_graph = network.without = 0
    found = filtered(network, options)
    found.loss.backward()
    assert found.tally().correct(network.parameters)
    own = network.gradient()
    assert (network.with_graph, network.without) == (4, 4)  # one evaluation more a sample, without a graph
    assert found.kept.sum() == 2

    network.unet.zero_grad()
    x_0, scheduler = tiny.latents(4), ddpm()
    noise, t = DRAWS.normal("noise", x_0.shape[1:]), DRAWS.integers("timestep", 0, 1000)
    eps, null = (network.unet(scheduler.add_noise(x_0, noise, t), t, **c).sample for c in (text(), NULL))
    kept = (eps - null).flatten(1).norm(dim=1) < options.hard_threshold
    snr = scheduler.alphas_cumprod[t] / (1 - scheduler.alphas_cumprod[t])
    weights = torch.ones(4) if gamma is None else snr.clamp(max=gamma) / snr
    masked = ((eps - noise).square().mean(dim=(1, 2, 3)) * weights)[kept].mean()
    masked.backward()
    assert torch.equal(kept, found.kept)
    assert torch.allclose(own, network.gradient(), rtol=1e-4, atol=1e-7)
    assert found.tally().loss == pytest.approx(masked.item(), rel=1e-5)


def test_the_filter_is_strict_and_its_forms_differ_by_the_root_of_the_size():
    assert below(torch.tensor([1.9, 2.0, 2.1, math.nan]), 2).tolist() == [True, False, False, False]
    network = Network()
    joint = filtered(network, ObjectiveOptions(hard_threshold=2)).norms
    element = filtered(network, ObjectiveOptions(hard_threshold=2, threshold_form="element")).norms
    assert torch.allclose(joint, element * (4 * tiny.SIZE**2) ** 0.5)
    x = torch.zeros(1, 1, 2, 2)
    assert text_push(x + 3, x, torch.ones(1), torch.ones(1), "epsilon").item() == 6


@pytest.mark.parametrize("kind", [*KINDS, "flow_prediction"])
@pytest.mark.parametrize(("units", "to_units"), [("eps", schedule.to_eps), ("x0", schedule.to_x0)])
def test_the_norm_is_in_its_units_for_every_prediction_type(kind, units, to_units):
    cond, null, x_t = tiny.latents(2), tiny.latents(2, seed=1), tiny.latents(2, seed=2)
    alpha, sigma = torch.tensor([0.3, 0.8]), torch.tensor([0.7, 0.2])
    found = text_push(cond, null, alpha, sigma, kind, units=units)
    for k in range(2):
        level = (float(alpha[k]), float(sigma[k]), kind)
        difference = to_units(cond[k], x_t[k], *level) - to_units(null[k], x_t[k], *level)
        assert found[k].item() == pytest.approx(difference.norm().item(), rel=1e-4)


def test_a_batch_without_a_kept_sample_has_no_loss_and_no_gradient_but_a_graph():
    network = Network()
    found = filtered(network, ObjectiveOptions(hard_threshold=1e-9))
    assert found.loss.item() == 0 and found.loss.requires_grad and not found.kept.any()
    found.loss.backward()
    assert not network.gradient().any()
    tally = found.tally()
    assert not tally.correct(network.parameters) and tally.loss is None
    assert tally.row() == {"loss": None, "seen_memorized": 4, "excluded_memorized": 1.0, "loss_memorized": None}


@pytest.mark.parametrize("gamma", [None, 5])
@pytest.mark.parametrize("division", ["accumulation", "processes"])
def test_parts_give_the_gradient_of_the_whole_batch_with_the_filter(division, gamma):
    """Two parts, of which one may have nothing kept: accumulated, or on two processes whose gradients are averaged."""
    network = Network()
    norms = filtered(network, ObjectiveOptions(hard_threshold=1e9)).norms
    threshold = float(norms[2:].max()) * 1.0001
    options = ObjectiveOptions(hard_threshold=threshold, snr_gamma=gamma)

    network.unet.zero_grad()
    whole = filtered(network, options)
    whole.loss.backward()
    assert whole.tally().correct(network.parameters)
    expected = network.gradient()

    gradients, tallies = [], []
    for part in range(2):
        if division == "processes" or part == 0:
            network.unet.zero_grad()
        index = slice(2 * part, 2 * part + 2)
        found = filtered(network, options, draws=Draws.of(0, 5, part, 2), index=index)
        (found.loss / (2 if division == "accumulation" else 1)).backward()
        gradients.append(network.gradient())
        tallies.append(found.tally(["memorized", "base"]))
    total = Tally(tallies[0].table + tallies[1].table)
    if division == "processes":  # what DistributedDataParallel does: every process has the mean
        mean, at = sum(gradients) / 2, 0
        for p in network.parameters:
            p.grad.copy_(mean[at : at + p.numel()].view_as(p))
            at += p.numel()
    assert total.correct(network.parameters)
    assert torch.allclose(network.gradient(), expected, rtol=1e-4, atol=1e-7)
    assert total.kept == whole.tally().kept < 4
    assert total.loss == pytest.approx(whole.tally().loss, rel=1e-5)


def test_an_empty_part_of_a_step_that_has_a_kept_sample_elsewhere_is_no_step_left_out():
    empty = Tally.of(torch.ones(2), torch.tensor([False, False]))
    other = Tally.of(torch.ones(2), torch.tensor([True, False]), ["base", "base"])
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.ones(1)
    assert not empty.correct([parameter]) and parameter.grad.item() == 1
    assert (empty + other).correct([parameter]) and parameter.grad.item() == 4


def test_the_tally_tells_groups_apart():
    kept = torch.tensor([True, False, True, True])
    tally = Tally.of(torch.tensor([1.0, math.inf, 3.0, 5.0]), kept, ["memorized", "memorized", "base", "base"])
    assert tally.row() == {
        "loss": 3.0,
        **{"seen_memorized": 2, "excluded_memorized": 0.5, "loss_memorized": 1.0},
        **{"seen_base": 2, "excluded_base": 0.0, "loss_base": 4.0},
    }


def test_without_a_sample_left_out_gradients_stay_bit_for_bit():
    parameter = torch.nn.Parameter(torch.zeros(3))
    parameter.grad = torch.randn(3, generator=torch.Generator().manual_seed(0))
    before = parameter.grad.clone()
    assert Tally.of(torch.ones(3), torch.ones(3, dtype=torch.bool)).correct([parameter])
    assert torch.equal(parameter.grad, before)


# Noise on the embedding


def test_embedding_noise_reaches_every_token_with_its_size():
    cond = {"encoder_hidden_states": torch.zeros(4, tiny.CONTEXT, tiny.WIDTH), "text_embeds": torch.zeros(4, 3)}
    found = noisy(cond, 0.5, DRAWS)
    hidden = found["encoder_hidden_states"]
    assert abs(hidden.std() - 0.5) < 0.02 and hidden.std(dim=2).min() > 0.3
    assert torch.equal(found["text_embeds"], cond["text_embeds"])
    assert torch.equal(hidden[1:3], noisy(rows(cond, slice(1, 3)), 0.5, Draws(0, 5, [1, 2]))["encoder_hidden_states"])


@pytest.mark.parametrize(("alpha", "mean"), [(0.1, 0.1 / 1.1), (1, 0.5), (10, 10 / 11)])
def test_the_own_share_has_the_mean_of_beta(alpha, mean):
    lam = own_share(alpha, MANY, "sample")
    variance = alpha / ((alpha + 1) ** 2 * (alpha + 2))
    assert abs(lam.mean() - mean) < 4 * (variance / 4000) ** 0.5
    assert abs(lam.var() - variance) < 0.1 * variance
    assert own_share(alpha, DRAWS, "batch").unique().numel() == 1


@pytest.mark.parametrize("per", ["batch", "sample"])
def test_mixup_mixes_with_another_row_and_mixes_words_alone(per):
    cond = {**text(), "text_embeds": tiny.latents(4)[:, 0, 0], "time_ids": torch.arange(8.0).view(4, 2)}
    found = mixed(cond, 0.8, DRAWS, mixup=per)
    lam, partner = own_share(0.8, DRAWS, per), DRAWS.permutation("mixup_partner")
    assert sorted(partner.tolist()) == [0, 1, 2, 3]
    for name in ("encoder_hidden_states", "text_embeds"):
        for k in range(4):
            expected = lam[k] * cond[name][k] + (1 - lam[k]) * cond[name][partner[k]]
            assert torch.allclose(found[name][k], expected, atol=1e-6)
    assert torch.equal(found["time_ids"], cond["time_ids"])


def test_the_loss_of_noisy_and_mixed_embeddings_is_that_of_the_embeddings_so_made():
    network, options = Network(), ObjectiveOptions(embedding_noise=0.3, embedding_mixup=0.5)
    found = loss(network, tiny.latents(4), text(), ddpm(), DRAWS, options)
    expected = loss(network, tiny.latents(4), mixed(noisy(text(), 0.3, DRAWS), 0.5, DRAWS), ddpm(), DRAWS)
    assert torch.equal(found.loss, expected.loss)
    assert not torch.equal(found.loss, loss(network, tiny.latents(4), text(), ddpm(), DRAWS).loss)


def test_the_text_encoder_gets_a_gradient_through_the_noise():
    cond = {k: v.requires_grad_() for k, v in text().items()}
    options = ObjectiveOptions(embedding_noise=0.1, embedding_mixup=1, hard_threshold=1e9)
    loss(Network(), tiny.latents(4), cond, ddpm(), DRAWS, options, null=NULL).loss.backward()
    assert cond["encoder_hidden_states"].grad.flatten(1).norm(dim=1).min() > 0


# What is refused


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"snr_gamma": 0}, "--snr-gamma 0 was given; give a number above 0, or leave it out."),
        ({"hard_threshold": math.nan}, "--hard-threshold nan was given; give a number above 0, or leave it out."),
        ({"noise_offset": -0.1}, "--noise-offset -0.1 was given; give 0 or more."),
        ({"embedding_mixup": math.inf}, "--embedding-mixup inf was given; give 0 or more."),
        ({"threshold_form": "mean"}, "--threshold-form mean is not known; give joint or element."),
        ({"mixup": "pair"}, "--mixup pair is not known; give batch or sample."),
        (
            {"prediction_type": "score"},
            "--prediction-type score is not known; give epsilon, v_prediction, sample or flow_prediction.",
        ),
    ],
)
def test_options_out_of_range_are_refused_in_one_sentence(given, said):
    with pytest.raises(UsageError) as error:
        _unchecked(**given)
    assert str(error.value) == said


def _unchecked(**given) -> None:
    """Options as the command line gives them, past the type checks of the tests."""
    options = object.__new__(ObjectiveOptions)
    for field in dataclasses.fields(ObjectiveOptions):
        object.__setattr__(options, field.name, given.get(field.name, field.default))
    ObjectiveOptions.__post_init__(options)


def test_a_model_that_cannot_is_refused():
    with pytest.raises(UsageError, match="--hard-threshold needs the prediction for no caption"):
        loss(Network(), tiny.latents(4), text(), ddpm(), DRAWS, ObjectiveOptions(hard_threshold=2))
    for options in (ObjectiveOptions(embedding_noise=1), ObjectiveOptions(embedding_mixup=1)):
        with pytest.raises(UsageError, match="this model has none"):
            loss(Network(), tiny.latents(4), {"class_labels": torch.zeros(4)}, ddpm(), DRAWS, options)
