"""Region maps against closed forms and an independent attention; their evaluation against counts made by hand."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch

import mnemoscope as mn
import tiny
from mnemoscope import demo, registry, stats
from mnemoscope.demo import captions
from mnemoscope.detectors.masked_noise_norm import inside
from mnemoscope.errors import UsageError
from mnemoscope.explanation import regions
from mnemoscope.explanation.masks import read_masks
from mnemoscope.model import attention, jacobian
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.hooks import capture
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.scores.noise_norm import noise_norm

MAPS = registry.explainers("regions")
TEXTS = ["a fox", "two foxes", "an owl"]
SAMPLING = {"num_inference_steps": 3, "guidance_scale": 5.0}


@pytest.fixture(scope="module")
def small() -> Denoiser:
    return Denoiser(tiny.stable_diffusion())


def shifted(model: Denoiser, push: Callable[[torch.Tensor], torch.Tensor]) -> Denoiser:
    """The planted model with eps = x / 2, to which any words add a function of the latents."""
    said = model.network.said

    def predict(x_t: torch.Tensor, t: torch.Tensor, cond: dict) -> torch.Tensor:
        words = torch.relu(cond["encoder_hidden_states"] @ said).amax(1).gt(0.1).float()
        return x_t / 2 + words[:, None, None, None] * push(x_t)

    model.family.predict = predict
    return model


def trajectory(model: Denoiser, prompts: list[str] | str = "memorized 1", seeds: int | list[int] = 0, **sampling):
    return mn.Trajectory(model, prompts, seeds, **SAMPLING | sampling)


# Maps


def test_a_difference_confined_to_a_region_is_mapped_there_and_nowhere_else(planted: Denoiser) -> None:
    region = torch.zeros(16, 16)
    region[3:9, 5:14] = 0.01
    path = trajectory(shifted(planted, lambda x: region * x), ["memorized 1", "ordinary 2"])
    step = path.all()[-1]
    expected = (region * step.x_t).square().sum(1)
    for name in ("difference_map", "curvature_map"):
        assert torch.equal(mn.explain(path, name) > 0, (region > 0).expand(2, -1, -1))
    torch.testing.assert_close(mn.explain(path, "difference_map", units="noise"), expected, rtol=1e-2, atol=1e-8)
    torch.testing.assert_close(mn.explain(path, "difference_map"), expected / step.sigma**2, rtol=1e-2, atol=1e-6)
    torch.testing.assert_close(mn.explain(path, "curvature_map"), (3 * region).expand(2, -1, -1))


def test_curvature_is_exact_for_a_diagonal_jacobian_and_cuts_off_what_is_negative(planted: Denoiser) -> None:
    weights = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(1)) / 100
    path = trajectory(shifted(planted, lambda x: weights * x))
    for given in ({"probes": 1}, {"probes": 5, "seed": 3}, {"how": "exact"}):
        found = mn.explain(path, "curvature_map", **given)[0]
        torch.testing.assert_close(found, weights.sum(0).relu(), rtol=1e-4, atol=1e-6)
    assert (weights.sum(0) < 0).any()


def test_hutchinson_is_right_on_average_with_the_error_that_theory_gives() -> None:
    size, probes = 3 * 6 * 6, 64
    matrix = torch.randn(size, size, generator=torch.Generator().manual_seed(2))
    x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(3))

    def linear(z: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
        return (z.flatten(1) @ matrix.T).reshape(z.shape)

    exact = jacobian.diagonal(linear, x, how="exact").flatten(1)
    torch.testing.assert_close(exact, matrix.diagonal().expand(2, -1))
    found = jacobian.diagonal(linear, x, probes=probes).flatten(1)
    assert torch.equal(found[0], found[1])  # the same probes for every sample
    off = matrix - matrix.diagonal().diag()
    errors = (found[0] - matrix.diagonal()) / (off.square().sum(0) / probes).sqrt()
    assert abs(errors.mean()) < 3 / size**0.5 and 0.8 < errors.std() < 1.2
    other = jacobian.diagonal(linear, x, probes=probes, seed=1).flatten(1)
    assert not torch.equal(found, other)
    torch.testing.assert_close(jacobian.diagonal(linear, x[1:], probes=probes).flatten(1)[0], found[1])
    with pytest.raises(UsageError, match="0 probes"):
        jacobian.diagonal(linear, x, probes=0)


def test_curvature_of_a_network_is_that_of_plain_backward_passes(small: Denoiser) -> None:
    path = trajectory(small, TEXTS[0], latents=tiny.latents(1)[..., :4, :4])
    (step,) = path.chosen("last")
    with torch.enable_grad():
        leaf = step.x_t.clone().requires_grad_()
        text, empty = (
            small.pipe.unet(leaf, step.t, c["encoder_hidden_states"]).sample for c in (step.cond, small.null(1))
        )
        flat = (text - empty).flatten()
        rows = [torch.autograd.grad(flat[k], leaf, retain_graph=True)[0].flatten()[k] for k in range(len(flat))]
    expected = torch.stack(rows).reshape(step.x_t.shape[1:]).sum(0).relu()
    torch.testing.assert_close(mn.explain(path, "curvature_map", how="exact")[0], expected, rtol=1e-3, atol=1e-6)


def attended(model: Denoiser, step, ends: list[int], block: str) -> torch.Tensor:
    """Probability of one key, mean over heads and layers, from the outputs of the projections; [samples, queries]."""
    pattern = f"{block}.*attn2.to_"
    with (
        capture(model.network, pattern + "q") as queries,
        capture(model.network, pattern + "k") as keys,
        torch.no_grad(),
    ):
        model.family.predict(step.x_t, step.t, step.cond)
    found = []
    for (name, (q,)), (k,) in zip(queries.items(), keys.values(), strict=True):
        layer = model.network.get_submodule(name.removesuffix(".to_q"))
        width = q.shape[-1] // layer.heads
        for head in range(layer.heads):
            part = slice(head * width, (head + 1) * width)
            weights = torch.softmax(q[..., part] @ k[..., part].mT / width**0.5, dim=-1)
            found.append(torch.stack([weights[i, :, end] for i, end in enumerate(ends)]))
    return torch.stack(found).mean(0)


BLOCKS = {
    "sd": (tiny.stable_diffusion, 8),
    "sd1-blocks": (lambda: tiny.stable_diffusion(network=tiny.unet_of_stable_diffusion_1()), 8),
    "sdxl": (tiny.stable_diffusion_xl, 8),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_bright_ending_is_the_attention_to_the_end_token(name: str) -> None:
    build, side = BLOCKS[name]
    model = Denoiser(build())
    path = trajectory(model, TEXTS)
    ends = [1 + len(text.replace(" ", "")) for text in TEXTS]  # each letter is a token
    for steps, index in (("last", 2), ([1], 1)):
        expected = attended(model, path.all()[index], ends, "down_blocks.0").unflatten(1, (side, side))
        found = mn.explain(path, "bright_ending", steps=steps)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert found.std() > 1e-5 and found.shape == (3, 8, 8)


def test_bright_ending_of_a_coarser_block_is_interpolated() -> None:
    blocks = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    }
    model = Denoiser(tiny.stable_diffusion(network=tiny.unet(**blocks)))
    path = trajectory(model, TEXTS[0])
    coarse = attended(model, path.all()[-1], [5], "down_blocks.1").unflatten(1, (4, 4))
    found = mn.explain(path, "bright_ending")
    expected = torch.nn.functional.interpolate(coarse[None], (8, 8), mode="bilinear")[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_bright_ending_sees_what_steers_the_attention(small: Denoiser) -> None:
    bias = torch.zeros(1, tiny.CONTEXT)
    bias[0, 5] = -torch.inf
    with small.edit("cond", lambda cond: attention.steer(cond, bias=bias)):
        masked = mn.explain(trajectory(small, TEXTS[0]), "bright_ending")
    assert not masked.any() and mn.explain(trajectory(small, TEXTS[0]), "bright_ending").all()


def test_the_mean_of_the_difference_is_the_score_of_the_last_step(small: Denoiser) -> None:
    path = trajectory(small, TEXTS)
    means = mn.explain(path, "difference_map").mean((1, 2))
    torch.testing.assert_close(means, mn.detect(path, "last_step_difference"))


@pytest.mark.parametrize("name", MAPS)
def test_maps_cost_what_they_say(small: Denoiser, name: str) -> None:
    path = trajectory(small, TEXTS)
    path.all()
    each = {"difference_map": 0, "curvature_map": 2, "bright_ending": 1}[name]
    processors = [small.network.get_submodule(layer).processor for layer in attention.layers(small.network)]
    for steps, count in (("last", 1), ([0, 2], 2)):
        before = small.network_evaluations
        mn.explain(path, name, steps=steps)
        assert small.network_evaluations - before == each * count * len(TEXTS)
    assert [small.network.get_submodule(layer).processor for layer in attention.layers(small.network)] == processors


@pytest.mark.parametrize("name", MAPS)
def test_several_steps_are_averaged(name: str) -> None:
    model = Denoiser(tiny.stable_diffusion_xl())
    path = trajectory(model, TEXTS[:2])
    given = {"probes": 2} if name == "curvature_map" else {}
    parts = [mn.explain(path, name, steps=[k], **given) for k in (0, 2)]
    torch.testing.assert_close(mn.explain(path, name, steps=[0, 2], **given), (parts[0] + parts[1]) / 2)
    torch.testing.assert_close(mn.explain(path, name, **given), parts[1])


@pytest.mark.parametrize("name", ["difference_map", "curvature_map"])
def test_a_reference_takes_the_place_of_no_prompt(small: Denoiser, name: str) -> None:
    path, twin = trajectory(small, TEXTS), Denoiser(tiny.stable_diffusion())
    other = Denoiser(tiny.stable_diffusion(network=tiny.unet(seed=7)))
    assert mn.explain(path, name, reference=twin).max() < 1e-8
    found = mn.explain(path, name, reference=other)
    assert found.isfinite().all() and found.max() > 1e-6 and other.network_evaluations == len(TEXTS)
    if name == "difference_map":
        (step,) = path.chosen("last")
        with torch.no_grad():
            theirs = other.pipe.unet(step.x_t, step.t, other.encode(TEXTS)["encoder_hidden_states"]).sample
        expected = ((step.eps_cond - theirs) / step.sigma).square().sum(1)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    distilled = Denoiser(tiny.distilled())
    assert mn.explain(trajectory(distilled, TEXTS), name, reference=other).shape == (3, 8, 8)


def test_references_of_other_latents_or_noise_levels_are_refused(small: Denoiser, planted: Denoiser) -> None:
    path, before = trajectory(small, TEXTS), small.network_evaluations
    with pytest.raises(UsageError, match="give a reference of the same size"):
        mn.explain(path, "difference_map", reference=planted)
    pipe = tiny.stable_diffusion()
    pipe.scheduler = tiny.scheduler(beta_end=0.02)
    with pytest.raises(UsageError, match="give a reference of the same schedule"):
        mn.explain(path, "curvature_map", reference=Denoiser(pipe))
    assert small.network_evaluations == before


@pytest.mark.parametrize(
    ("build", "name", "message"),
    [
        (tiny.distilled, "difference_map", "no unconditional branch"),
        (tiny.unconditional, "curvature_map", "no unconditional branch"),
        (tiny.unconditional, "bright_ending", "no tokens"),
        (tiny.class_conditional, "bright_ending", "no tokens"),
    ],
)
def test_models_that_a_map_is_undefined_for_are_refused_before_any_work(build, name: str, message: str) -> None:
    model = Denoiser(build())
    prompt = {tiny.unconditional: "", tiny.class_conditional: "1"}.get(build, "a fox")
    with pytest.raises(UsageError, match=message):
        mn.explain(trajectory(model, prompt), name)
    assert model.network_evaluations == 0


def test_a_network_without_cross_attention_has_no_bright_ending(planted: Denoiser) -> None:
    with pytest.raises(UsageError, match="no cross-attention"):
        mn.explain(trajectory(planted), "bright_ending")
    assert planted.network_evaluations == 0


# The norm inside a mask


def test_inside_of_everything_is_the_norm_itself(small: Denoiser) -> None:
    path = trajectory(small, TEXTS)
    norms = torch.stack([noise_norm(step) for step in path.all()]).mean(0)
    for mask in (torch.ones(8, 8), torch.full((3, 8, 8), 7.0)):
        torch.testing.assert_close(mn.detect(path, "masked_noise_norm", mask=mask), norms)


def test_inside_of_a_region_counts_nothing_else(planted: Denoiser) -> None:
    region = torch.zeros(16, 16)
    region[3:9, 5:14] = 1.0
    path = trajectory(shifted(planted, lambda x: region * 0.1), seeds=[0, 1])
    within, share = (0.1**2 * 3 * 54) ** 0.5, 54 / 256
    both = torch.stack([region, 1 - region])
    torch.testing.assert_close(
        mn.detect(path, "masked_noise_norm", mask=region), torch.full((2,), within / share), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        mn.detect(path, "masked_noise_norm", mask=both), torch.tensor([within / share, 0.0]), rtol=1e-4, atol=1e-5
    )
    assert not mn.detect(path, "masked_noise_norm", mask=torch.zeros(16, 16)).any()


@pytest.mark.parametrize("name", MAPS)
def test_masks_by_name_are_the_sampling_s_own(small: Denoiser, name: str) -> None:
    path = trajectory(small, TEXTS)
    mask = mn.explain(path, name)
    expected = torch.stack([inside(step, mask=mask) for step in path.all()]).mean(0)
    torch.testing.assert_close(mn.detect(path, "masked_noise_norm", mask=name), expected)
    if name == "bright_ending":
        torch.testing.assert_close(mn.detect(path, "masked_noise_norm"), expected)


def test_the_norm_inside_a_mask_can_be_descended(bundled: Denoiser) -> None:
    prompt, mask = demo.prompts("verbatim")[0], torch.zeros(16, 16)
    mask[4:12, 4:12] = 1
    score = partial(inside, mask=mask)
    before = score(trajectory(bundled, prompt).first(1)[0])
    with mn.mitigate(bundled, "embedding_descent", score=score, target=float(before) * 0.8) as log:
        trajectory(bundled, prompt).first(1)
    history = log[0]["embedding_descent"]["score"]
    assert history[0] == pytest.approx(float(before), rel=1e-4) and history[-1] < 0.8 * history[0]


def test_wrong_masks_are_refused(small: Denoiser) -> None:
    path = trajectory(small, TEXTS)
    with pytest.raises(UsageError, match=r"size \(4, 4\), and the latents are 3 of \(8, 8\)"):
        mn.detect(path, "masked_noise_norm", mask=torch.ones(4, 4))
    with pytest.raises(UsageError, match="random gives tokens; give one of bright_ending, curvature_map"):
        mn.detect(path, "masked_noise_norm", mask="random")
    with pytest.raises(UsageError, match="no explain method 'nothing'"):
        mn.detect(path, "masked_noise_norm", mask="nothing")


# Evaluation


def test_counts_and_measures_by_hand() -> None:
    found = np.array([[[1, 1, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]], [[1, 1, 1], [1, 1, 1]]], bool)
    truth = np.array([[[1, 0, 1], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]], bool)
    counted = regions.counts(found, truth)
    assert counted.tolist() == [[1, 1, 1, 3], [0, 0, 0, 6], [0, 6, 0, 0]]
    assert regions.iou(counted) == pytest.approx(1 / 9) and regions.iou(counted[:1]) == pytest.approx(1 / 3)
    assert regions.iou(counted[1:2]) == 1 and regions.iou(counted[2:]) == 0
    assert regions.mean_iou(counted[:1]) == pytest.approx((1 / 3 + 3 / 5) / 2)
    assert regions.mean_iou(counted[2:]) == 0
    assert regions.accuracy(counted) == pytest.approx(10 / 18)
    stacked = np.stack([counted[::-1] * 0, counted, counted[:, ::-1]])
    assert regions.iou(stacked).tolist() == pytest.approx([1, 1 / 9, 9 / 17])
    with pytest.raises(UsageError, match="give the same sizes"):
        regions.counts(found, truth[:2])


@pytest.mark.parametrize("seed", range(5))
def test_otsu_is_the_best_of_all_splits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(0, 1, 20), rng.normal(seed, 1, 12)]).round(1).reshape(4, 8)
    threshold = regions.otsu(values)

    def between(cut: float) -> float:
        low, high = values[values <= cut], values[values > cut]
        return low.size * high.size * (low.mean() - high.mean()) ** 2

    every = np.unique(values)[:-1]
    assert threshold in every and between(threshold) == pytest.approx(max(map(between, every)))


def test_otsu_of_two_levels_and_of_one() -> None:
    values = np.array([[0.2, 0.2], [0.7, 0.2]])
    assert (regions.above(values[None], regions.otsu(values))[0] == (values > 0.5)).all()
    assert not regions.above(np.full((1, 3, 3), 0.4), regions.otsu(np.full((3, 3), 0.4))).any()


def test_maps_are_scaled_together_by_their_logarithm() -> None:
    maps = np.expm1(np.array([[[1.0, 2.0]], [[3.0, 5.0]]]))
    np.testing.assert_allclose(regions.scaled(maps), [[[0, 0.25]], [[0.5, 1]]], atol=1e-12)
    assert not regions.scaled(np.full((2, 2, 2), 3.0)).any()


def test_upsampling_is_bilinear() -> None:
    found = regions.upsampled(torch.tensor([[[0.0, 4.0]]]), (1, 4))
    np.testing.assert_allclose(found, [[[0, 1, 3, 4]]])
    np.testing.assert_allclose(regions.upsampled(np.full((2, 3, 3), 0.5), (7, 5)), np.full((2, 7, 5), 0.5))


def test_a_perfect_map_overlaps_fully_and_no_map_less_than_all_pixels() -> None:
    rng = np.random.default_rng(0)
    truth = np.stack([rng.random((8, 8)) < share for share in (0.2, 0.5, 1, 0)])
    perfect = regions.evaluated(truth + 0.0, truth)
    assert all(perfect[rule]["iou"]["value"] == 1 for rule in ("fixed", "otsu_of_all", "best"))
    assert perfect["best"]["mean_iou"]["value"] == perfect["best"]["accuracy"]["value"] == 1
    noise = regions.evaluated(rng.random((4, 8, 8)), truth)
    ones = noise["all_ones"]["iou"]["value"]
    assert ones == truth.mean() and noise["best"]["curve"][0] == pytest.approx(ones, abs=1e-4)
    assert noise["best"]["iou"]["value"] >= ones and max(noise["best"]["curve"]) == pytest.approx(
        noise["best"]["iou"]["value"], abs=1e-4
    )
    assert noise["otsu"]["iou"]["value"] < 0.6
    for rule in noise.values():
        low, high = rule["iou"]["interval"]
        assert 0 <= low <= high <= 1 and low < high


def test_intervals_draw_whole_groups() -> None:
    counted = np.array([[4, 0, 0, 0], [0, 4, 0, 0]] * 3)  # right and wrong in turn
    alike = regions.interval(regions.iou, counted, [0, 0, 1, 1, 2, 2])  # each group half right
    apart = regions.interval(regions.iou, counted, [0, 1, 2, 3, 4, 5])
    assert alike == (0.5, 0.5) and apart[0] < 0.3 and apart[1] > 0.7
    assert apart == regions.interval(regions.iou, counted) == regions.interval(regions.iou, counted, list("abcdef"))


def test_the_oracle_of_an_interval_is_chosen_anew_in_each_draw() -> None:
    each = np.array([[[4, 0, 0, 0], [0, 4, 0, 0]], [[0, 0, 4, 0], [4, 0, 0, 0]]])  # each threshold right for one sample
    best = regions.best(regions.iou)
    assert best(each) == 0.5 and regions.interval(best, each) == (0.5, 1.0)


# The bundled model's own truth


def test_masks_of_templates_are_what_their_training_images_share() -> None:
    references = [r for r in demo.references() if r.kind == "template"]
    by_end = {text.partition("{name}")[2]: [] for text in captions.TEMPLATES}
    for reference in references:
        end = next(end for end in by_end if reference.caption.endswith(end))
        by_end[end].append(np.asarray(reference.image(), int))
    for prompt in demo.prompts("template"):
        one, other = by_end[next(end for end in by_end if prompt.endswith(end))]
        mask = demo.mask(prompt)
        changes = (one != other).any(-1)
        assert not (changes & mask).any() and (~mask).sum() == 26 * 26
        assert changes[~mask].mean() > 0.5  # even two objects differ in most of the square
        rows, columns = np.nonzero(~mask)
        touched = np.nonzero(changes)
        assert np.ptp(touched[0]) >= np.ptp(rows) - 2 and np.ptp(touched[1]) >= np.ptp(columns) - 2


def test_masks_of_other_prompts_are_all_or_nothing() -> None:
    assert all(demo.mask(prompt).all() for prompt in demo.prompts("verbatim"))
    for kind in ("ordinary", "unseen"):
        assert not any(demo.mask(prompt).any() for prompt in demo.prompts(kind)[:10])
    with pytest.raises(UsageError, match="no prompt of the bundled model"):
        demo.mask("a stranger's caption")


def test_a_trained_prompt_without_a_mask_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"prompt": "near the quay", "kind": "near-copies"}
    monkeypatch.setattr(demo, "truth", lambda: [*[{"prompt": str(k), "kind": "ordinary"} for k in range(500)], row])
    assert demo.mask("near the quay") is None
    assert list(read_masks("demo", [Prompt("a", "near the quay"), Prompt("b", "7")])) == ["b"]


def test_curvature_tells_the_object_from_the_template(bundled: Denoiser) -> None:
    prompts = demo.prompts("template")[::32]
    path = mn.Trajectory(bundled, prompts, 0, num_inference_steps=20)
    maps = regions.upsampled(mn.explain(path, "curvature_map", probes=4), (64, 64))
    for prompt, own in zip(prompts, maps, strict=True):
        mask = demo.mask(prompt)
        assert stats.auc(own[mask], own[~mask]) > 0.9
