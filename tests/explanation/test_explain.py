"""Explanations: gradients against plain ones, occlusion and classes against their definition, costs, planted truth."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
import torch

import mnemoscope as mn
import tiny
from mnemoscope import registry
from mnemoscope.errors import UsageError
from mnemoscope.explainers.token_gradients import per_step
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.words import Token, aligned, content, joined, merged

EXPLAINERS = registry.explainers("tokens")
PROMPTS = ["memorized 1", "ordinary 2", "a photo of the memorized 3", ""]
TEXTS = ["a fox", "two foxes", "an owl"]
SAMPLING = {"num_inference_steps": 3, "guidance_scale": 5.0}


@pytest.fixture(scope="module")
def small() -> Denoiser:
    return Denoiser(tiny.stable_diffusion())


@contextmanager
def unsaturated(model: Denoiser) -> Iterator[None]:
    """A planted text that says its words a little less than fully, where the closed form is not clamped yet."""
    with model.edit("cond", lambda cond: {k: 0.9 * v for k, v in cond.items()}):
        yield


def explained(model: Denoiser, prompts: list[str], name: str, seeds: int | list[int] = 3, **parameters) -> torch.Tensor:
    return mn.explain(mn.Trajectory(model, prompts, seeds, num_inference_steps=20), name, **parameters)


# Every explainer


@pytest.mark.parametrize("name", EXPLAINERS)
def test_values_are_finite_and_one_a_position(planted: Denoiser, name: str) -> None:
    with unsaturated(planted):
        found = explained(planted, PROMPTS, name)
    assert found.shape == (4, 16) and found.isfinite().all() and not found.requires_grad
    assert found.dtype == torch.float32 and (found[[0, 2]] != 0).any(dim=1).all()


@pytest.mark.parametrize("name", EXPLAINERS)
def test_values_are_the_same_twice_and_in_any_batch(planted: Denoiser, name: str) -> None:
    with unsaturated(planted):
        whole = explained(planted, PROMPTS, name)
        assert torch.equal(whole, explained(planted, PROMPTS, name))
        alone = torch.cat([explained(planted, [p], name) for p in PROMPTS])
        turned = explained(planted, PROMPTS[::-1], name).flip(0)
    torch.testing.assert_close(whole, alone, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(whole, turned, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in EXPLAINERS if n != "random"])
def test_the_words_that_name_the_memorized_image_carry_the_score(planted: Denoiser, name: str) -> None:
    with unsaturated(planted):
        values = explained(planted, ["a photo of the memorized 3"], name)[0]
    said = values[1:7].tolist()  # a photo of the memorized 3
    assert values[7:].abs().max() < 1e-6 and values[0] == 0
    if name == "embedding_classes":
        assert len(set(said)) == 1 and said[0] > 0.5
    else:
        assert min(said[4:]) > 5 * max(said[:4]) and said[4] == pytest.approx(said[5], rel=1e-4)


@pytest.mark.parametrize("name", EXPLAINERS)
@pytest.mark.parametrize("pipe", [tiny.unconditional, tiny.class_conditional])
def test_models_without_tokens_are_refused(name: str, pipe) -> None:
    model = Denoiser(pipe())
    with pytest.raises(UsageError, match="no tokens"):
        mn.explain(mn.Trajectory(model, [""] if pipe is tiny.unconditional else ["1"], 0), name)
    assert model.network_evaluations == 0


@pytest.mark.parametrize("name", [n for n in EXPLAINERS if n != "random"])
@pytest.mark.parametrize("score", ["noise_norm", "score_norm"])
def test_xl_and_several_steps(name: str, score: str) -> None:
    model = Denoiser(tiny.stable_diffusion_xl())
    trajectory = mn.Trajectory(model, TEXTS[:2], 0, **SAMPLING)
    whole = mn.explain(trajectory, name, score=score, steps=[0, 2])
    parts = [mn.explain(trajectory, name, score=score, steps=[k]) for k in (0, 2)]
    assert whole.shape == (2, 16) and whole.isfinite().all() and (whole != 0).any()
    torch.testing.assert_close(whole, (parts[0] + parts[1]) / 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in EXPLAINERS if n != "random"])
def test_methods_look_at_any_function_of_a_step_and_at_a_score_with_parameters(small: Denoiser, name: str) -> None:
    trajectory = mn.Trajectory(small, TEXTS, 0, **SAMPLING)
    one = mn.explain(trajectory, name, score="noise_norm", **{"score.p": 1})
    other = mn.explain(trajectory, name, score=lambda step: (step.eps_cond - step.eps_uncond).abs().sum((1, 2, 3)))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [n for n in EXPLAINERS if n != "random"])
def test_without_steps_it_is_the_score_s_own(small: Denoiser, name: str) -> None:
    trajectory = mn.Trajectory(small, TEXTS, 0, **SAMPLING)
    own = registry.get("score", "last_step_difference").function
    last = mn.explain(trajectory, name, score="last_step_difference", steps="last")
    for score in ("last_step_difference", own, partial(own)):
        torch.testing.assert_close(mn.explain(trajectory, name, score=score), last)
    first = mn.explain(trajectory, name, score=lambda step: own(step), steps=1)
    torch.testing.assert_close(mn.explain(trajectory, name, score=lambda step: own(step)), first)
    middle = mn.explain(trajectory, name, score=own, steps=0.5)
    torch.testing.assert_close(middle, mn.explain(trajectory, name, score=own, steps=[1]))


# Gradients


def plain_gradients(model: Denoiser, prompt: str, noise: torch.Tensor, *, away: bool = False) -> torch.Tensor:
    """d joint norm / d one shared embedding at three steps, written out; `away` follows the anti-guided path."""
    pipe, n, w = model.pipe, len(noise), SAMPLING["guidance_scale"]
    pipe.scheduler.set_timesteps(3)
    null, x, found = model.null(n)["encoder_hidden_states"], noise, []
    for t in pipe.scheduler.timesteps:
        leaf = model.encode([prompt])["encoder_hidden_states"].requires_grad_()
        text = pipe.unet(x, t, leaf.expand(n, -1, -1)).sample
        empty = pipe.unet(x, t, null).sample.detach()
        found.append(torch.autograd.grad((text - empty).norm(), leaf)[0][0])
        guided = text + w * (empty - text) if away else empty + w * (text - empty)
        x = pipe.scheduler.step(guided.detach(), t, x).prev_sample
    return torch.stack(found)


def test_gradients_are_those_of_a_plain_leaf(small: Denoiser) -> None:
    noise = tiny.latents(1)
    expected = plain_gradients(small, TEXTS[0], noise).norm(dim=2)
    trajectory = mn.Trajectory(small, TEXTS[0], 0, latents=noise, **SAMPLING)
    torch.testing.assert_close(per_step(trajectory, steps="all")[:, 0], expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(mn.explain(trajectory, "token_gradients", steps="all")[0], expected.mean(0))


def test_signed_values_are_gradient_times_embedding(small: Denoiser) -> None:
    noise = tiny.latents(1)
    embedding = small.encode(TEXTS[:1])["encoder_hidden_states"][0]
    expected = (plain_gradients(small, TEXTS[0], noise)[0] * embedding).sum(1)
    trajectory = mn.Trajectory(small, TEXTS[0], 0, latents=noise, **SAMPLING)
    found = mn.explain(trajectory, "token_gradients", value="signed")[0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert found.min() < 0 < found.max()


def test_compat_is_the_joint_norm_along_the_path_away_from_the_prompt(small: Denoiser) -> None:
    noise = tiny.latents(2)
    trajectory = mn.Trajectory(small, TEXTS[0], [0, 1], latents=noise, **SAMPLING)
    found = per_step(trajectory, steps="all", compat="wen")
    expected = plain_gradients(small, TEXTS[0], noise, away=True).norm(dim=2) / 4
    for image in (0, 1):
        torch.testing.assert_close(found[:, image], expected, rtol=1e-4, atol=1e-6)
    towards = plain_gradients(small, TEXTS[0], noise).norm(dim=2) / 4
    assert (found[1:, 0] / towards[1:] - 1).abs().max() > 0.02  # the test can tell the two paths apart
    only_last = per_step(trajectory, steps=[2], compat="wen")[0, 0]  # steps that are no targets are guided as usual
    torch.testing.assert_close(only_last, towards[2], rtol=1e-4, atol=1e-6)


def test_compat_joins_the_samples_of_a_prompt_and_no_others(small: Denoiser) -> None:
    mixed = mn.Trajectory(small, [TEXTS[0], TEXTS[1], TEXTS[0]], [0, 0, 1], **SAMPLING)
    alone = mn.Trajectory(small, TEXTS[0], [0, 1], **SAMPLING)
    found, expected = (mn.explain(t, "token_gradients", compat="wen") for t in (mixed, alone))
    torch.testing.assert_close(found[[0, 2]], expected, rtol=1e-5, atol=1e-6)
    one = mn.explain(mn.Trajectory(small, TEXTS[1], 0, **SAMPLING), "token_gradients")
    torch.testing.assert_close(found[1] * 2, one[0], rtol=1e-5, atol=1e-6)


def test_compat_score_sees_what_the_released_code_takes_for_guided(small: Denoiser) -> None:
    trajectory = mn.Trajectory(small, TEXTS[0], 0, **SAMPLING)
    found = mn.explain(trajectory, "token_gradients", score="score_norm", compat="wen")
    away = mn.explain(
        trajectory,
        "token_gradients",
        score=lambda s: (s.eps_cond + 5.0 * (s.eps_uncond - s.eps_cond)).flatten(1).norm(dim=1) / s.sigma,
    )
    torch.testing.assert_close(2 * found, away, rtol=1e-5, atol=1e-6)
    assert (away - mn.explain(trajectory, "token_gradients", score="score_norm")).abs().max() > 1e-3


def test_the_null_embedding_never_leaks_in(small: Denoiser) -> None:
    """Swapping the branches, the repair suggested for the released code, gives the null embedding's gradient."""
    noise = tiny.latents(1)
    cond, null = (c["encoder_hidden_states"].requires_grad_() for c in (small.encode(TEXTS[:1]), small.null(1)))
    t = mn.Trajectory(small, TEXTS[0], 0, **SAMPLING).timesteps[0]
    text, empty = (small.pipe.unet(noise, t, c).sample for c in (cond, null))
    right, wrong = (g[0].norm(dim=1) for g in torch.autograd.grad((text - empty).norm(), [cond, null]))
    found = mn.explain(mn.Trajectory(small, TEXTS[0], 0, latents=noise, **SAMPLING), "token_gradients")[0]
    torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-6)
    assert (right / wrong - 1).abs().max() > 0.02  # the test can tell the two apart
    seen: list[torch.Tensor] = []
    mn.explain(
        mn.Trajectory(small, TEXTS[0], 0, **SAMPLING),
        "token_gradients",
        score=lambda step: seen.append(step.eps_uncond) or step.eps_cond.flatten(1).norm(dim=1),
    )
    assert not seen[0].requires_grad


def test_scores_that_do_not_depend_on_the_prompt_are_refused(small: Denoiser) -> None:
    with pytest.raises(UsageError, match="does not depend on the prompt"):
        mn.explain(mn.Trajectory(small, TEXTS, 0, **SAMPLING), "token_gradients", score="uncond_norm")


# Costs


def cost(model: Denoiser, name: str, prompts: list[str], seeds: list[int], **parameters) -> int:
    trajectory, before = mn.Trajectory(model, prompts, seeds, **SAMPLING), model.network_evaluations
    mn.explain(trajectory, name, **parameters)
    return model.network_evaluations - before


def test_costs_are_the_least(small: Denoiser) -> None:
    texts, seeds = ["ab", "ab", "cde", "cde"], [0, 1, 0, 1]
    assert cost(small, "token_gradients", texts, seeds) == 4 + 2  # two noises, shared by the two prompts
    assert cost(small, "token_gradients", texts, seeds, steps="all") == 4 + 2 + 2 * (4 + 4)
    assert cost(small, "token_gradients", texts, seeds, compat="wen") == 4 + 2
    assert cost(small, "token_occlusion", texts, seeds) == 4 + 2 + 2 * (2 + 3)  # each letter is a token
    assert cost(small, "token_occlusion", texts, seeds, batch=3) == 4 + 2 + 2 * (2 + 3)
    assert cost(small, "embedding_classes", texts, seeds) == 4 + 2 + 4 * 4
    assert cost(small, "embedding_classes", ["", "a" * 14], [0, 0]) == 2 + 1 + 3 + 3  # no words, no padding
    assert cost(small, "random", texts, seeds) == 0


def test_steps_known_already_cost_their_conditional_prediction_only(small: Denoiser) -> None:
    trajectory = mn.Trajectory(small, TEXTS, 0, **SAMPLING)
    mn.detect(trajectory, "noise_norm")
    before = small.network_evaluations
    mn.explain(trajectory, "token_gradients")
    assert small.network_evaluations - before == 3


# Occlusion, classes, control


def norms(model: Denoiser, cond: dict, noise: torch.Tensor) -> torch.Tensor:
    t = mn.Trajectory(model, TEXTS[0], 0, **SAMPLING).timesteps[0]
    with torch.no_grad():
        text, empty = (model.predict(noise.expand(len(c), -1, -1, -1), t, {"encoder_hidden_states": c}) for c in cond)
    return (text - empty).flatten(1).norm(dim=1)


def test_occlusion_is_the_drop_without_the_token(small: Denoiser) -> None:
    noise, texts = tiny.latents(1), ["a fox", "fox", "a ox", "a fx", "a fo"]
    cond = [small.encode(texts)["encoder_hidden_states"], small.null(5)["encoder_hidden_states"]]
    values = norms(small, cond, noise)
    for batch in (1, 3, 16):
        trajectory = mn.Trajectory(small, "a fox", 0, latents=noise, **SAMPLING)
        found = mn.explain(trajectory, "token_occlusion", batch=batch)[0]
        torch.testing.assert_close(found[1:5], values[0] - values[1:], rtol=1e-4, atol=1e-5)
        assert found[0] == 0 and not found[5:].any()


def test_occlusion_of_words_cuts_each_of_them_once(small: Denoiser) -> None:
    noise, texts = tiny.latents(1), ["ab, ab c", ", ab c", "ab ab c", "ab,  c", "ab, ab"]
    values = norms(small, [small.encode(texts)["encoder_hidden_states"], small.null(5)["encoder_hidden_states"]], noise)
    trajectory, before = mn.Trajectory(small, texts[0], 0, latents=noise, **SAMPLING), small.network_evaluations
    found = mn.explain(trajectory, "token_occlusion", unit="word", batch=3)[0]
    assert small.network_evaluations - before == 2 + 4
    drops = (values[0] - values[1:])[[0, 0, 1, 2, 2, 3]] / torch.tensor([2, 2, 1, 2, 2, 1])  # a b , a b c
    torch.testing.assert_close(found[1:7], drops, rtol=1e-4, atol=1e-5)
    assert found[0] == 0 and not found[7:].any()


def test_occlusion_of_a_truncated_prompt_lets_nothing_move_up(small: Denoiser) -> None:
    noise = tiny.latents(1)
    short, long = (
        mn.explain(mn.Trajectory(small, " ".join(letters), 0, latents=noise, **SAMPLING), "token_occlusion")
        for letters in ("abcdefghijklmn", "abcdefghijklmnopq")
    )
    assert short[0, 1:15].abs().min() > 0
    torch.testing.assert_close(short, long)


def test_occlusion_refuses_a_batch_of_none(small: Denoiser) -> None:
    with pytest.raises(UsageError, match="batch=0"):
        mn.explain(mn.Trajectory(small, TEXTS, 0), "token_occlusion", batch=0)


@pytest.mark.parametrize("fill", ["zero", "mean"])
def test_classes_are_the_drop_without_their_embeddings(small: Denoiser, fill: str) -> None:
    noise, whole = tiny.latents(1), small.encode(["fox"])["encoder_hidden_states"][0]
    spans = [(0, 1), (1, 4), (4, 5), (5, 16)]
    changed = [whole.clone() for _ in spans]
    for c, (a, b) in zip(changed, spans, strict=True):
        c[a:b] = 0 if fill == "zero" else whole.mean(0)
    values = norms(small, [torch.stack([whole, *changed]), small.null(5)["encoder_hidden_states"]], noise)
    trajectory = mn.Trajectory(small, "fox", 0, latents=noise, **SAMPLING)
    found = mn.explain(trajectory, "embedding_classes", fill=fill)[0]
    for (a, b), value in zip(spans, values[1:], strict=True):
        torch.testing.assert_close(found[a:b], (values[0] - value).expand(b - a), rtol=1e-4, atol=1e-5)


def test_random_is_drawn_from_prompt_and_seed_alone(small: Denoiser, planted: Denoiser) -> None:
    found = mn.explain(mn.Trajectory(small, ["abc", "abc", "xyz"], [0, 1, 0]), "random")
    assert len(set(found[:, 1:4].flatten().tolist())) == 9 and not found[:, 4:].any() and not found[:, 0].any()
    assert torch.equal(mn.explain(mn.Trajectory(planted, "abc", 1), "random")[0], found[1])
    assert not torch.equal(mn.explain(mn.Trajectory(small, "abc", 0), "random", salt="x")[0], found[0])


# Words


def test_tokens_know_their_characters(bundled: Denoiser) -> None:
    prompt = "Old  Wave, Duke's café 🙂"
    (tokens,) = content(bundled.family, [prompt])
    assert tokens[0].text == prompt[tokens[0].start : tokens[0].end].lower()
    assert [t.text for t in tokens if prompt[t.start : t.end] == ","] == [","]
    assert content(bundled.family, [""]) == [[]]
    (long,) = content(bundled.family, ["a " * 200])
    assert len(long) == 75


def test_pieces_are_merged_into_the_words_of_the_prompt() -> None:
    prompt = "Kanagawa, Duke's 2023: Kanagawa t-shirt!!"
    pieces = ["kan", "agawa", ",", "duke", "'s", "2", "0", "2", "3", ":", "kan", "agawa", "t", "-", "shirt", "!!"]
    scores = [float(k) for k in range(len(pieces))]
    tokens = aligned(prompt, pieces)
    assert tokens is not None and tokens[1] == Token("agawa", 3, 8)
    found = merged(prompt, tokens, scores)
    assert [w["word"] for w in found] == [
        "Kanagawa", ",", "Duke's", "2023", ":", "Kanagawa", "t", "-", "shirt", "!!",
    ]  # fmt: skip
    assert found[0] == {"word": "Kanagawa", "sum": 1.0, "max": 1.0, "first": 0, "last": 1}
    assert found[3] == {"word": "2023", "sum": 26.0, "max": 8.0, "first": 5, "last": 8}
    assert found[5]["sum"] == 21.0 and (found[5]["first"], found[5]["last"]) == (10, 11)
    assert sum(w["sum"] for w in found) == sum(scores)


def test_characters_of_several_tokens_are_one_word(bundled: Denoiser) -> None:
    prompt = "naïve 🙂 İstanbul"
    (tokens,) = content(bundled.family, [prompt])
    found = merged(prompt, tokens, [1.0] * len(tokens))
    assert [w["word"] for w in found] == ["naïve", "🙂", "İstanbul"]
    assert sum(w["sum"] for w in found) == len(tokens)
    assert (found[-1]["first"], found[-1]["last"]) == (found[1]["last"] + 1, len(tokens) - 1)


@pytest.mark.parametrize("pieces", [["old", "dog"], ["x", "old"], ["�", "old"], [""]])
def test_pieces_that_do_not_spell_the_prompt_are_not_aligned(pieces: list[str]) -> None:
    assert aligned("Old cat", pieces) is None


def test_pieces_alone_end_words_where_they_say_so() -> None:
    assert [w["word"] for w in joined(["kan", "agawa</w>", "wave</w>"], [1, 2, 3])] == ["kanagawa", "wave"]
    assert [w["sum"] for w in joined(["kan", "agawa</w>", "wave</w>"], [1, 2, 3])] == [3, 3]
    assert [w["word"] for w in joined(["kan", "agawa"], [1, 2])] == ["kan", "agawa"]
    assert merged("a", [], []) == [] == joined([], [])


def test_words_of_the_tokenizer_and_of_its_pieces_are_the_same(bundled: Denoiser) -> None:
    from mnemoscope import demo

    prompts = demo.prompts("verbatim")
    for prompt, tokens in zip(prompts, content(bundled.family, prompts), strict=True):
        pieces = [t.text for t in tokens]
        scores = [float(k) for k in range(len(pieces))]
        places = aligned(prompt, pieces)
        assert places == [token._replace(place=-1) for token in tokens]
        assert merged(prompt, tokens, scores) == merged(prompt, places, scores)
