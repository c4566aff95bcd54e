"""The search for memorization neurons against a plain sequential one, exact counts, statistics, thresholds, files."""

import math
from itertools import combinations
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as ms_ssim

import mnemoscope as mn
import tiny
from mnemoscope import demo, registry
from mnemoscope.errors import UsageError
from mnemoscope.localization import statistics, statistics_files, thresholds
from mnemoscope.localization.differences import Differences, Setting
from mnemoscope.localization.refining import Current, halving, one_by_one, refine
from mnemoscope.localization.selection import candidates, selections
from mnemoscope.localization.statistics import Statistics
from mnemoscope.model import ablation, hooks
from mnemoscope.model.likeness import Likeness, stretched
from small_neurons import small

neurons = registry.get("localize", "neurons").function
Sets = dict[str, list[int]]


@pytest.fixture
def model() -> mn.Denoiser:
    return small()


def usual(model: mn.Denoiser, which: str = "seven") -> Statistics:
    return statistics.measure(model, [f"a thing {k}" for k in range(12)], which)


# A plain search, written from the description alone: one test after the other, all seeds every time


def plain_differences(model: mn.Denoiser, prompt: str, seeds: int, blocked: Sets) -> torch.Tensor:
    scheduler = model.pipe.scheduler
    scheduler.set_timesteps(50)
    t, x = scheduler.timesteps[0], model.initial_noise(range(seeds))
    changes = {n: lambda v, own=tuple(own): v.index_fill(2, torch.tensor(own), 0) for n, own in blocked.items() if own}
    hidden = model.encode([prompt] * seeds)["encoder_hidden_states"]
    with torch.no_grad(), hooks.edit_output(model.network, changes):
        native = model.network(x, t, hidden).sample
    alpha_bar = scheduler.alphas_cumprod[t]
    as_v = (1 - alpha_bar).sqrt() * native - alpha_bar.sqrt() * x
    d = native - x if model.prediction_type == "epsilon" else as_v
    low, high = d.amin((2, 3), keepdim=True), d.amax((2, 3), keepdim=True)
    return (d - low) / (high - low)


def plain_likeness(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    kernel = 11 if a.shape[-1] > 10 else 5
    options = {"sigma": 1.5 * kernel / 11, "kernel_size": kernel, "betas": (0.33,), "data_range": 1.0}
    return ms_ssim(a, b, reduction="none", **options).reshape(-1)


class Plain:
    """Initial and refined neurons of one prompt, and how many sets were evaluated on the way."""

    def __init__(self, model: mn.Denoiser, prompt: str, known: Statistics, alike: float, limit: float, seeds: int):
        self.model, self.prompt, self.seeds, self.taken = model, prompt, seeds, 0
        base = self.differences({}, list(range(seeds)))
        pairs = {frozenset(p): float(plain_likeness(base[[p[0]]], base[[p[1]]])) for p in combinations(range(seeds), 2)}
        self.kept = [i for i in range(seeds) if max(v for p, v in pairs.items() if i in p) > alike]
        self.base, self.names = base[self.kept], hooks.value_layers(model.network)
        self.initial, reached = self.select(known, limit)
        self.refined = self.refine(limit if reached <= limit else reached)

    def differences(self, blocked: Sets, kept: list[int]) -> torch.Tensor:
        self.taken += 1
        return plain_differences(self.model, self.prompt, self.seeds, blocked)[kept]

    def score(self, blocked: Sets) -> float:
        return float(plain_likeness(self.base, self.differences(blocked, self.kept)).max())

    def select(self, known: Statistics, limit: float) -> tuple[Sets, float]:
        hidden = self.model.encode([self.prompt])["encoder_hidden_states"]
        for step in range(17):
            theta, found = 5 - 0.25 * step, {}
            for n in self.names:
                value = self.model.network.get_submodule(n)(hidden).abs().mean(1)[0]
                outside = ((value - known.mean[n]).abs() / known.sd[n] > theta).nonzero()[:, 0].tolist()
                found[n] = sorted({*outside, *value.topk(min(step, len(value))).indices.tolist()})
            if (reached := self.score(found)) <= limit:
                break
        return found, reached

    def refine(self, limit: float) -> Sets:
        current = {n: list(own) for n, own in self.initial.items()}
        for n in reversed(self.names):
            if current[n] and self.score({**current, n: []}) < limit:
                current[n] = []
        for n in reversed(self.names):
            for i in list(current[n]):
                without = {**current, n: [j for j in current[n] if j != i]}
                current = without if self.score(without) < limit else current
        return ablation.lists(current)


CASES = [
    ("v_prediction", 0.985, 1),
    ("epsilon", 0.9997, 16),
    pytest.param("v_prediction", 0.5, 16, marks=pytest.mark.slow),  # never reached
]


@pytest.mark.parametrize(("kind", "limit", "batch"), CASES)
def test_exact_search_is_the_plain_sequential_one(kind: str, limit: float, batch: int) -> None:
    model = small(kind)
    known = usual(model)
    plain = Plain(model, "a red bicycle", known, 0.1, limit, 3)
    asked = {"statistics": known, "threshold": limit, "pairwise_threshold": 0.1, "seeds": 3, "batch": batch}
    before = model.network_evaluations
    (found,) = neurons(model, ["a red bicycle"], **asked)
    assert found.initial_neurons == ablation.lists(plain.initial)
    assert found.neurons == plain.refined and 0 < found.count < sum(map(len, plain.initial.values()))
    assert found.evaluations == model.network_evaluations - before < 3 * plain.taken
    assert found.details["seeds_kept"] == plain.kept and found.details["is_enough"] == (limit > 0.9)
    assert found.after == pytest.approx(plain.score(plain.refined), rel=1e-4)
    assert found.after < (limit if limit > 0.9 else found.details["initial_ssim"])


@pytest.mark.slow
@pytest.mark.parametrize("place", [0, 2])
def test_exact_search_is_the_plain_one_on_the_bundled_model(bundled: mn.Denoiser, place: int) -> None:
    known = statistics.measure(bundled, demo.prompts("ordinary")[:64])
    prompt = demo.prompts("verbatim")[place]
    plain = Plain(bundled, prompt, known, 0.5, 0.985, 2)
    (found,) = neurons(bundled, [prompt], statistics=known, threshold=0.985, pairwise_threshold=0.5, seeds=2)
    assert found.neurons == plain.refined and found.initial_neurons == ablation.lists(plain.initial)
    assert found.evaluations < 4 * plain.taken / 1.5  # the released code evaluates both seeds twice for each set


def test_grouped_search_keeps_a_set_that_is_enough_at_fewer_evaluations(model: mn.Denoiser) -> None:
    asked = {"statistics": usual(model), "threshold": 0.5, "pairwise_threshold": 0.1, "seeds": 3}
    (exact,) = neurons(model, ["a red bicycle"], **asked)
    (grouped,) = neurons(model, ["a red bicycle"], search="grouped", **asked)
    assert grouped.evaluations < exact.evaluations
    assert grouped.initial_neurons == exact.initial_neurons and grouped.count
    assert grouped.after < grouped.details["initial_ssim"] == exact.details["initial_ssim"]  # no selection was enough
    kept = grouped.details["seeds_kept"]
    plain, blocked = (plain_differences(model, "a red bicycle", 3, own)[kept] for own in ({}, grouped.neurons))
    assert float(plain_likeness(plain, blocked).max()) == pytest.approx(grouped.after, rel=1e-4)


class Known:
    """A judge of sets whose answer is known: a set is good if it holds every needed neuron. Counts like a network."""

    def __init__(self, needed: set[int], room: int = 8, seeds: int = 4) -> None:
        self.needed, self.room, self.seeds, self.spent = needed, room, seeds, 0
        self.seen: dict[frozenset[int], int] = {}

    def pay(self, blocked: frozenset[int], wanted: int) -> bool:
        is_good = self.needed <= blocked
        wanted = wanted if is_good else 1
        self.spent += max(0, wanted - self.seen.get(blocked, 0))
        self.seen[blocked] = max(wanted, self.seen.get(blocked, 0))
        return is_good

    def good(self, blocked: frozenset[int]) -> bool:
        return self.pay(blocked, self.seeds)

    def glance(self, sets: list[frozenset[int]]) -> list[bool]:
        return [self.pay(blocked, 1) for blocked in sets]

    def prepare(self, sets: list[frozenset[int]]) -> None:
        for blocked in sets:
            self.pay(blocked, self.seeds)


@settings(max_examples=60, deadline=None)
@given(st.sets(st.integers(0, 39)), st.integers(1, 40), st.integers(1, 9))
def test_searches_keep_exactly_what_is_needed(needed: set[int], room: int, seeds: int) -> None:
    layers = [list(range(first, first + 10)) for first in (30, 20, 10, 0)]
    for search in ("exact", "grouped"):
        judge = Known(needed, room, seeds)
        found, corrected = refine(judge, layers, search, lambda rest: rest)
        assert found.blocked == needed and corrected == 0


def test_counts_of_the_two_searches() -> None:
    """Kept neurons cost one look, unblocked ones all seeds; halving asks for whole groups."""
    items = [(i,) for i in range(32)]
    judge = Known(set(range(32)))
    one_by_one(judge, Current.of(range(32)), items)
    assert judge.spent == 32
    judge = Known(set())
    one_by_one(judge, Current.of(range(32)), items)
    assert judge.spent == 32 * 4
    judge = Known(set(), room=1)
    halving(judge, Current.of(range(32)), range(32))
    assert judge.spent == 4
    judge = Known({0}, room=1)
    halving(judge, Current.of(range(32)), range(32))
    assert judge.spent == 6 + 5 * 4  # six groups that hold the needed one, five that do not


def test_a_wrong_guess_costs_no_more_than_the_tests_made_ahead() -> None:
    needed = set(range(0, 200, 7))
    ahead, alone = Known(needed, room=32), Known(needed, room=1)
    for judge in (ahead, alone):
        one_by_one(judge, Current.of(range(200)), [(i,) for i in range(200)])
    assert alone.spent == 29 + 171 * 4 and alone.spent <= ahead.spent < 1.3 * alone.spent


def test_neurons_that_are_listed_twice_stay_until_both_are_gone() -> None:
    twice = Current.of([1, 1, 2])
    assert twice.without((1,)).blocked == {1, 2} and twice.without((1, 1)).blocked == {2}


@pytest.mark.parametrize("step", [0.25, 0.3, 1.0, 7.0])
def test_selections_end_at_the_least_theta_whatever_the_step(step: float) -> None:
    pairs = list(selections(5, step, 1, 0, 1280))
    thetas = [theta for theta, _ in pairs]
    assert thetas[0] == 5 and thetas[-1] == 1 and sorted(set(thetas), reverse=True) == thetas
    assert [k for _, k in pairs] == list(range(len(pairs)))


def test_selections_of_the_released_code_are_sixteen() -> None:
    pairs = list(selections(5, 0.25, 1, 0, 1280, "nemo"))
    assert len(pairs) == 16 and pairs[0] == (5, 0) and pairs[-1] == (1.25, 15)
    assert [k for _, k in selections(None, 0.25, 1, 3, 6)] == [3, 4, 5, 6]
    assert [k for _, k in selections(2, 0.5, 1, None, 6)] == [None] * 3
    with pytest.raises(UsageError, match="Neither theta nor k"):
        next(selections(None, 0.25, 1, None, 6))
    with pytest.raises(UsageError, match="cannot fall from 5 to 1 in steps of 0"):
        next(selections(5, 0, 1, 0, 6))


def test_candidates_are_listed_once_or_as_the_released_code_does() -> None:
    values = {"a": torch.tensor([0.1, 0.9, 0.5, 0.8])}
    unusual = {"a": torch.tensor([6.0, 7.0, 0.0, 1.0])}
    assert candidates(values, unusual, (5.0, 2)) == {"a": [0, 1, 3]}
    assert candidates(values, unusual, (5.0, 2), twice=True) == {"a": [0, 1, 1, 3]}
    assert candidates(values, None, (None, 1)) == {"a": [1]}


def test_released_selection_counts_neurons_twice(model: mn.Denoiser) -> None:
    (found,) = neurons(
        model, ["a cat"], statistics=usual(model), threshold=0.5, pairwise_threshold=0.0, seeds=3, compat="nemo"
    )
    once = sum(map(len, found.initial_neurons.values()))
    assert found.details["initial_listed"] >= once and found.details["listed"] >= found.count
    assert found.details["theta"] >= 1.25


OPTIONS = [
    {"order": "forward"},
    {"order": "gradient"},
    {"guidance_scale": 3.0},
    {"relative": 0.05},
    {"layers": "all", "theta_step": 1},
    {"initial_theta": None, "initial_k": 4},
    {"initial_k": None},
    {"scales": 1, "factor": 0.5},
]
TOGETHER = [
    {"order": "forward", "relative": 0.05, "initial_theta": None, "initial_k": 4},
    {"order": "gradient", "layers": "all", "theta_step": 1, "initial_k": None},
    {"scales": 1, "factor": 0.5, "guidance_scale": 3.0},
    {"compat": "nemo", "guidance_scale": 3.0},
]


@pytest.mark.parametrize("options", [*TOGETHER, *(pytest.param(o, marks=pytest.mark.slow) for o in OPTIONS)], ids=str)
def test_results_are_the_same_twice_and_whatever_the_other_prompts(model: mn.Denoiser, options: dict) -> None:
    known = usual(model, options.get("layers", "seven"))
    asked = {"statistics": known, "threshold": 0.99, "pairwise_threshold": 0.0, "seeds": 2, "search": "grouped"}
    both = neurons(model, ["a red bicycle", "a cat"], **{**asked, **options})
    alone = neurons(model, ["a cat"], **{**asked, **options})
    assert both[1] == alone[0] and both[1].after is not None and math.isfinite(both[1].after)


def test_a_prompt_whose_seeds_differ_has_no_neurons(model: mn.Denoiser) -> None:
    before = model.network_evaluations
    (found,) = neurons(model, ["a cat"], statistics=usual(model), threshold=0.999, seeds=4)
    assert found.neurons == {} and found.initial_neurons == {} and found.after is None
    assert found.evaluations == 4 == model.network_evaluations - before


def test_guidance_is_swapped_as_in_the_released_code() -> None:
    model = small("epsilon")
    right = Differences(model, ["a cat"], Setting(seeds=2, guidance_scale=3.0))
    swapped = Differences(model, ["a cat"], Setting(seeds=2, guidance_scale=3.0, compat="nemo"), latents=right.x_t)
    with torch.no_grad():
        at = {t: [model.predict(right.x_t, t, c) for c in (right.cond, model.null(2))] for t in (right.t, swapped.t)}
    (c, n), (later_c, later_n) = at[right.t], at[swapped.t]
    torch.testing.assert_close(right.plain, stretched(n + 3 * (c - n) - right.x_t))
    torch.testing.assert_close(swapped.plain, stretched(later_c + 3 * (later_n - later_c) - right.x_t))
    assert float(right.t) == 981 and float(swapped.t) == 961


def test_seeds_of_the_released_code_come_from_one_generator(model: mn.Denoiser) -> None:
    expected = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(Setting(seeds=3, seed=1, compat="nemo").noise(model), expected)
    assert torch.equal(Setting(seeds=3, seed=1).noise(model), model.initial_noise([1, 2, 3]))


@pytest.mark.parametrize("side", [4, 5, 7, 8, 10, 11, 16, 20, 21, 22, 40, 41, 43, 44, 64])
def test_likeness_fits_small_latents_and_is_one_for_equal_ones(side: int) -> None:
    likeness = Likeness.fitting((side, side + 3))
    a, b = torch.rand(2, 2, 4, side, side + 3, generator=torch.Generator().manual_seed(side))
    torch.testing.assert_close(likeness(a, a), torch.ones(2))
    assert ((likeness(a, b) >= 0) & (likeness(a, b) < 0.9)).all()
    assert likeness.scales == (1 if side < 22 else 2 if side < 44 else 3)
    assert likeness.kernel == (11 if side > 10 else 3 if side < 8 else 5)
    assert ("reduced" in str(likeness)) == (side < 44)


def test_likeness_refuses_what_does_not_fit() -> None:
    with pytest.raises(UsageError, match="4 pixels a side or more; these have 2"):
        Likeness.fitting((2, 9))
    with pytest.raises(UsageError, match="asked for 3 scales, and these latents allow 1"):
        Likeness.fitting((16, 16), 3)
    assert torch.equal(stretched(torch.ones(1, 1, 4, 4)), torch.zeros(1, 1, 4, 4))


# Statistics


def test_activations_need_no_network_and_are_what_it_sees(model: mn.Denoiser) -> None:
    texts = ["a cat", "a red bicycle"]
    found = statistics.activations(model, texts)
    assert model.network_evaluations == 0
    for t, x in ((981, torch.zeros(2, 4, 8, 8)), (1, tiny.latents(2))):
        with torch.no_grad(), hooks.capture(model.network, "*attn2.to_v") as seen:
            model.predict(x, torch.tensor(t), model.encode(texts))
        for name, values in found.items():
            torch.testing.assert_close(values, seen[name][0].abs().mean(1))


def test_statistics_are_mean_and_unbiased_deviation_in_any_order(model: mn.Denoiser, monkeypatch) -> None:
    texts = [f"thing {k}" for k in range(11)]
    whole = {n: v.double() for n, v in statistics.activations(model, texts).items()}
    monkeypatch.setattr(statistics, "TEXTS", 3)
    for order in (texts, texts[::-1]):
        found = statistics.measure(model, order)
        for name, values in whole.items():
            torch.testing.assert_close(found.mean[name], values.mean(0), rtol=1e-6, atol=1e-9)
            torch.testing.assert_close(found.sd[name], values.std(0), rtol=1e-5, atol=1e-9)
    with pytest.raises(UsageError, match="2 prompts or more"):
        statistics.measure(model, ["a cat"])


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_prompt_without_finite_activations_makes_no_statistics(model: mn.Denoiser, monkeypatch, broken) -> None:
    own = statistics.activations

    def spoilt(model, prompts, which="seven"):
        bad = torch.tensor([broken if "2" in prompt else 0.0 for prompt in prompts])[:, None]
        return {name: values + bad for name, values in own(model, prompts, which).items()}

    monkeypatch.setattr(statistics, "activations", spoilt)
    for make in (statistics.measure, statistics.raw):
        with pytest.raises(UsageError, match="The activations of 'thing 2' are no finite numbers"):
            make(model, ["thing 1", "thing 2", "thing 3"])
        make(model, ["thing 1", "thing 3"])


def test_statistics_go_on_where_they_were(model: mn.Denoiser, tmp_path: Path, monkeypatch) -> None:
    texts, file = [f"thing {k}" for k in range(10)], tmp_path / "s.safetensors"
    monkeypatch.setattr(statistics, "TEXTS", 4)
    parts: list[Statistics] = []
    whole = statistics.measure(model, texts, keep=parts.append)
    assert [part.count for part in parts] == [4, 8, 10]
    statistics.save(parts[0], file)
    with pytest.raises(UsageError, match="unfinished .4 of 10 prompts"):
        statistics.load(model, file)
    about = statistics.described(model, texts, "seven")
    done = statistics.measure(model, texts, begun=statistics.begun(file, about))
    assert all(torch.equal(done.mean[n], whole.mean[n]) and torch.equal(done.sd[n], whole.sd[n]) for n in whole.mean)
    with pytest.raises(UsageError, match="holds other statistics .*prompts"):
        statistics.begun(file, statistics.described(model, texts[1:], "seven"))


def test_statistics_of_another_model_or_other_layers_are_refused(model: mn.Denoiser, tmp_path: Path) -> None:
    file = tmp_path / "s.safetensors"
    statistics.save(usual(model), file)
    assert statistics.load(model, file).count == 12
    with pytest.raises(UsageError, match="lacks the layer up_blocks.*--layers all"):
        statistics.load(model, file, "all")
    with pytest.raises(UsageError, match="of other weights"):
        statistics.load(small(times=1.0), file)
    wide = mn.Denoiser(tiny.stable_diffusion(network=tiny.unet_of_stable_diffusion_1()))
    with pytest.raises(UsageError, match="8 neurons in down_blocks.0.*this model has 4"):
        statistics.load(wide, file)


def test_statistics_of_the_released_code_are_read_without_unpickling(model: mn.Denoiser, tmp_path: Path) -> None:
    known = usual(model)
    pair = ([v.float() for v in known.mean.values()], [v.float() for v in known.sd.values()])
    torch.save(pair, tmp_path / "s.pt")
    found = statistics.load(model, tmp_path / "s.pt")
    assert found.count is None and list(found.mean) == hooks.value_layers(model.network)
    for name, values in known.mean.items():
        torch.testing.assert_close(found.mean[name], values, rtol=1e-6, atol=1e-8)
    torch.save((pair[0][:3], pair[1][:3]), tmp_path / "few.pt")
    with pytest.raises(UsageError, match="has 3 layers, and 7 are looked at"):
        statistics.load(model, tmp_path / "few.pt")
    torch.save({"model": Path("x")}, tmp_path / "code.pt")
    with pytest.raises(UsageError, match="not a pair of lists of tensors"):
        statistics.load(model, tmp_path / "code.pt")
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(UsageError, match="holds no neuron statistics"):
        statistics_files.read(tmp_path / "bad.safetensors", [])
    with pytest.raises(UsageError, match="There is no file"):
        statistics.load(model, tmp_path / "none.pt")


def test_half_precision_layers_are_applied_in_float32(model: mn.Denoiser) -> None:
    before = statistics.activations(model, ["a cat"])
    model.network.half()
    after = statistics.activations(model, ["a cat"])
    for name, values in before.items():
        assert after[name].dtype == torch.float32
        torch.testing.assert_close(after[name], values, rtol=2e-3, atol=2e-3)


# Thresholds


def test_threshold_is_mean_and_one_deviation_of_all_pairs(model: mn.Denoiser) -> None:
    setting, texts = Setting(seeds=3), ["a cat", "a dog", "a red bicycle"]
    found = thresholds.pairwise(model, texts, setting)
    assert model.network_evaluations == 9
    for text, own in zip(texts, found, strict=True):
        d = plain_differences(model, text, 3, {})
        expected = [float(plain_likeness(d[[i]], d[[j]])) for i, j in combinations(range(3), 2)]
        assert own == pytest.approx(expected, rel=1e-4, abs=1e-4)
    made = thresholds.calibrated(found, setting.conditions(model))
    pairs, maxima = torch.tensor(found).double(), torch.tensor(found).double().amax(1)
    assert made["threshold"] == pytest.approx(float(pairs.mean() + pairs.std()))
    assert made["threshold_of_maxima"] == pytest.approx(float(maxima.mean() + maxima.std()))
    assert made["standard_error"] == pytest.approx(float(pairs.mean(1).std() / math.sqrt(3)))
    with pytest.raises(UsageError, match="needs 2 similarities"):
        thresholds.calibrated([[0.1]], {})


def test_thresholds_hold_only_where_they_were_made(model: mn.Denoiser, tmp_path: Path) -> None:
    setting = Setting(seeds=3)
    made = thresholds.calibrated([[0.1, 0.2, 0.3], [0.2, 0.2, 0.2]], setting.conditions(model))
    file = tmp_path / "summary.json"
    mn.run.write_json(file, made)
    assert thresholds.resolved(file, model, setting) == pytest.approx(made["threshold"])
    assert thresholds.resolved(tmp_path, model, setting) == pytest.approx(made["threshold"])
    for other, said in (
        (Setting(seeds=4), "seeds 3 there, 4 here"),
        (Setting(seeds=3, num_inference_steps=20), "num_inference_steps 50 there, 20 here"),
        (Setting(seeds=3, compat="nemo"), "step 1 there, 2 here"),
        (Setting(seeds=3, guidance_scale=7.0), "guidance_scale 1 there, 7.0 here"),
    ):
        with pytest.raises(UsageError, match=f"holds for other conditions .*{said}"):
            thresholds.resolved(file, model, other)
    with pytest.raises(UsageError, match="No threshold is known for"):
        thresholds.resolved(None, model, setting)
    with pytest.raises(UsageError, match="threshold is nan"):
        thresholds.resolved(float("nan"), model, setting)


def test_the_published_threshold_is_only_for_its_own_model_and_conditions() -> None:
    network = tiny.unet(sample_size=64)
    model = mn.Denoiser(tiny.stable_diffusion(network=network), source="CompVis/stable-diffusion-v1-4")
    assert thresholds.resolved(None, model, Setting(compat="nemo")) == 0.428
    others = ({"seeds": 4}, {"num_inference_steps": 20}, {"guidance_scale": 7.0}, {"scales": 1}, {"compat": None})
    for other in others:  # without compat it is another step and another likeness
        with pytest.raises(UsageError, match=r"No threshold is known .*published 0\.428 is of .*compat=nemo"):
            thresholds.resolved(None, model, Setting(**{"compat": "nemo", **other}))
    model.source = "me/stable-diffusion-v1-4-finetuned"
    with pytest.raises(UsageError, match="No threshold is known"):
        thresholds.resolved(None, model, Setting(compat="nemo"))


# Refusals


def test_what_cannot_be_searched_is_refused(model: mn.Denoiser) -> None:
    known = usual(model)
    with pytest.raises(UsageError, match="need statistics"):
        neurons(model, ["a cat"], threshold=0.5)
    with pytest.raises(UsageError, match="1 was asked for; give 2 or more"):
        neurons(model, ["a cat"], statistics=known, threshold=0.5, seeds=1)
    for other in (tiny.unconditional(), tiny.class_conditional()):
        with pytest.raises(UsageError, match="no cross-attention"):
            mn.localize(mn.Denoiser(other), "", threshold=0.5, statistics=known)
    with pytest.raises(UsageError, match="There is no localize method 'nothing'; available:.*neurons"):
        mn.localize(model, "a cat", "nothing")


def test_sdxl_is_searched_by_all_its_layers() -> None:
    model = mn.Denoiser(tiny.stable_diffusion_xl())
    known = usual(model)
    assert len(known.mean) == len(hooks.value_layers(model.network)) > 2
    (found,) = mn.localize(model, "a cat", statistics=known, threshold=0.9999, pairwise_threshold=-1, seeds=2)
    assert found.count > 0 and set(found.neurons) <= set(known.mean)


def test_random_neurons_are_as_many_as_asked_and_the_same_twice(model: mn.Denoiser) -> None:
    first, second = mn.localize(model, ["a cat", "a dog"], "random", count=9)
    assert first.count == second.count == 9 and first.neurons != second.neurons
    assert mn.localize(model, "a dog", "random", count=9) == [second] and model.network_evaluations == 0
    assert ablation.checked(model, first.neurons) == first.neurons
