"""Caption transforms insert as many words as asked, where chance puts them, and nothing else."""

import random
from collections import Counter

import pytest
import torch

import mnemoscope as mn
import tiny
from mnemoscope import demo, registry
from mnemoscope.captions import random_caption, random_numbers, random_words, repeat_words
from mnemoscope.errors import UsageError
from mnemoscope.model.denoiser import Denoiser

NAMES = registry.names("caption")
every = pytest.mark.parametrize("name", NAMES)
inserting = pytest.mark.parametrize("name", [name for name in NAMES if name != "random_caption"])
CAPTION = "The Lion of Marrakand, oil on canvas"


def transform(name, caption, seed=0, **parameters):
    return registry.get("caption", name).function(caption, random.Random(seed), **parameters)


def inserted(before, after):
    """Words that came in between, if what is left is the caption in its order."""
    rest = iter(before.split() + [None])
    wanted, new = next(rest), []
    for word in after.split():
        if word == wanted:
            wanted = next(rest)
        else:
            new.append(word)
    assert wanted is None
    return new


@inserting
@pytest.mark.parametrize("count", [1, 2, 4, 16])
def test_as_many_words_are_inserted_as_asked_and_the_caption_stays_in_order(name, count):
    for seed in range(20):
        assert len(inserted(CAPTION, transform(name, CAPTION, seed, count=count))) == count


@every
def test_the_same_generator_gives_the_same_caption_and_another_one_another(name):
    drawn = [transform(name, CAPTION, seed) for seed in range(50)]
    assert drawn == [transform(name, CAPTION, seed) for seed in range(50)] and len(set(drawn)) > 45


@pytest.mark.parametrize("name", ["random_words", "random_numbers"])
def test_every_gap_is_as_likely_as_any_other(name):
    found = Counter()
    for seed in range(3000):
        words = transform(name, "X Y", seed, count=1).split()
        found[next(i for i, w in enumerate(words) if w not in ("X", "Y"))] += 1
    assert sorted(found) == [0, 1, 2] and all(abs(n - 1000) < 130 for n in found.values())  # 5 deviations


def test_repeated_words_are_the_captions_own_and_each_as_likely():
    found = Counter()
    for seed in range(3000):
        words = Counter(repeat_words("X Y Z", random.Random(seed), count=2).split())
        assert set(words) == {"X", "Y", "Z"} and words.total() == 5
        found.update(words - Counter("XYZ"))
    assert all(abs(n - 2000) < 200 for n in found.values())


def test_repeated_words_may_stand_at_any_gap():
    ends = [repeat_words("X Y", random.Random(seed), count=1) for seed in range(600)]
    assert set(ends) == {"X X Y", "Y X Y", "X Y X", "X Y Y"}


def test_numbers_lie_below_a_hundred_thousand():
    numbers = [int(random_numbers("", random.Random(seed), count=1)) for seed in range(5000)]
    assert min(numbers) >= 0 and 99_000 < max(numbers) < 100_000
    assert abs(sum(numbers) / 5000 - 50_000) < 5 * 28_868 / 5000**0.5


def test_words_without_a_tokenizer_are_letters():
    words = random_words("", random.Random(1), count=300).split()
    assert len(words) == 300 and all(3 <= len(w) <= 8 and w.isascii() and w.islower() for w in words)
    assert len(set(words)) > 295


def test_words_of_a_tokenizer_are_its_tokens_as_text():
    tokenizer = demo_tokenizer()
    words = random_words("", random.Random(1), count=2000, tokenizer=tokenizer).split()
    assert len(words) == 2000 and len(set(words)) > 800
    known = {tokenizer.decode([i]).strip() for i in range(len(tokenizer)) if i not in tokenizer.all_special_ids}
    assert set(words) <= known and not any("\ufffd" in w or "endoftext" in w for w in words)


def demo_tokenizer():
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(demo.MODEL / "tokenizer")


def test_a_random_caption_is_the_text_of_as_many_tokens_and_nothing_of_the_caption():
    tokenizer = demo_tokenizer()
    special, found = set(tokenizer.all_special_ids), []
    for seed in range(400):
        text = random_caption(CAPTION, random.Random(seed), count=4, tokenizer=tokenizer)
        ids = drawn_tokens(seed, 4, tokenizer)
        assert text == tokenizer.decode(ids).strip() and "\ufffd" not in text and not special & set(ids)
        assert max(ids) < len(tokenizer)
        found += ids
    valid = [k for k in range(len(tokenizer)) if plain(k, tokenizer)]
    assert len(set(found)) > 600 and abs(sum(found) / len(found) - sum(valid) / len(valid)) < 5 * 510 / 40  # 5 errors
    assert random_caption("another", random.Random(7), tokenizer=tokenizer) == random_caption(
        CAPTION, random.Random(7), tokenizer=tokenizer
    )
    words = random_caption(CAPTION, random.Random(1), count=3).split()
    assert len(words) == 3 and not set(words) & set(CAPTION.split())


def drawn_tokens(seed, count, tokenizer):
    """Uniform draws, repeated until a token is plain text."""
    rng, ids = random.Random(seed), []
    while len(ids) < count:
        number = rng.randrange(len(tokenizer))
        ids += [number] if plain(number, tokenizer) else []
    return ids


def plain(number, tokenizer):
    text = tokenizer.decode([number])
    return text.strip() and "\ufffd" not in text and number not in tokenizer.all_special_ids


@every
def test_a_caption_without_words_is_no_accident(name):
    assert len(transform(name, "", count=3).split()) == (0 if name == "repeat_words" else 3)


@every
@pytest.mark.parametrize("count", [0, -2])
def test_a_count_below_one_is_refused(name, count):
    with pytest.raises(UsageError, match=f"^{name} got count={count}; give 1 or more.$"):
        transform(name, CAPTION, count=count)


@every
def test_captions_say_what_they_are(name):
    found = registry.get("caption", name)
    assert 20 < len(found.summary) <= 120 and found.summary.endswith(".")
    assert found.paper.startswith("arXiv:") and "count" in found.parameters
    assert found.strength is None if name == "random_caption" else found.strength[0] == "count"


# While sampling


@inserting
def test_a_sample_is_drawn_from_the_transformed_caption_of_its_own_seed(bundled, name):
    prompts, seeds = [CAPTION, "a red fox", CAPTION], [7, 8, 9]
    with mn.mitigate(bundled, name, count=2) as log:
        steps = [*bundled.steps(prompts, seeds, num_inference_steps=2)]
    used = [seen["used_prompt"] for seen in log]
    assert [len(inserted(p, u)) for p, u in zip(prompts, used, strict=True)] == [2, 2, 2] and used[0] != used[2]
    assert torch.equal(steps[-1].x_prev, [*bundled.steps(used, seeds, num_inference_steps=2)][-1].x_prev)
    with mn.mitigate(bundled, name, count=2) as alone:
        next(bundled.steps([CAPTION], [9], num_inference_steps=2))
    assert alone[0]["used_prompt"] == used[2]


def test_random_words_are_those_of_the_models_own_tokenizer(bundled):
    with mn.mitigate(bundled, "random_words", count=20) as log:
        next(bundled.steps([CAPTION], [3], num_inference_steps=1))
    words = inserted(CAPTION, log[0]["used_prompt"])
    tokenizer = bundled.pipe.tokenizer
    assert set(words) <= {tokenizer.decode([i]).strip() for i in range(len(tokenizer))}


@every
def test_what_the_tokenizer_cuts_off_is_counted(name):
    model = Denoiser(tiny.stable_diffusion())
    with mn.mitigate(model, name, count=30) as log:
        next(model.steps(["ab cd"], [3], num_inference_steps=1))
    length = len(model.pipe.tokenizer(log[0]["used_prompt"], verbose=False).input_ids)
    assert log[0]["tokens_cut_off"] == length - tiny.CONTEXT > 0
    with mn.mitigate(model, name, count=1) as log:
        next(model.steps(["a"], [3], num_inference_steps=1))
    assert "tokens_cut_off" not in log[0]
