"""Whether images show what their prompts ask for: the network of the bundled model's concepts, and CLIP."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

import tiny
from mnemoscope import demo
from mnemoscope.demo import concepts, loop, scenes, train_concepts
from mnemoscope.errors import UsageError
from mnemoscope.features.alignment import aligner, by_chance, other_prompts
from mnemoscope.model.denoiser import Denoiser
from squares import Squares

VERBATIM = [r for r in demo.references() if r.kind == "verbatim"]
OTHERS = [*VERBATIM[7:], *VERBATIM[:7]]  # each beside another one's image: the control
SIDE = 32


@pytest.fixture(scope="module")
def found() -> concepts.Concepts:
    return concepts.load()


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    return [r.image() for r in VERBATIM]


def own(references: list) -> list[str]:
    return [concepts.of_prompts()[r.caption] for r in references]


def test_by_chance_an_image_shows_one_concept_of_all_or_is_aligned_as_with_another_prompt(images) -> None:
    prompts = [r.caption for r in VERBATIM[:2]] + ["no concept at all"]
    assert by_chance(aligner("concepts"), images[:3], prompts, {}).tolist() == [1 / 66] * 3

    class Length:
        name, range = "length of the prompt", (0.0, 100.0)

        def align(self, images, prompts):
            return np.array([float(len(p)) for p in prompts])

    asked = ["a", "bb", "a", "ccc"]
    others = other_prompts(asked)
    assert others == {"a": "bb", "bb": "ccc", "ccc": "a"} and other_prompts(["a", "a"]) == {} == other_prompts([])
    assert by_chance(Length(), images[:4], asked, others).tolist() == [2, 3, 2, 1]
    assert np.isnan(by_chance(Length(), images[:2], ["a", "a"], {})).all()


# The bundled concepts


def test_every_trained_prompt_has_a_concept_and_no_unseen_one(found: concepts.Concepts) -> None:
    of_prompts = concepts.of_prompts()
    assert set(of_prompts.values()) == set(found.names) and len(found.names) == 66
    trained = [p for kind in ("verbatim", "template", "ordinary") for p in demo.prompts(kind)]
    assert set(trained) == set(of_prompts)


def test_short_and_readable_names_are_one_concept() -> None:
    of_prompts = concepts.of_prompts()
    verbatim = {of_prompts[p] for p in demo.prompts("verbatim")}
    ordinary = {of_prompts[p] for p in demo.prompts("ordinary")}
    assert verbatim - ordinary == {"robot face", "bicyclist"}  # no ordinary caption names these


def test_images_it_was_not_trained_on_are_nearest_to_their_own_concept(
    found: concepts.Concepts, images: list[Image.Image]
) -> None:
    rank, control = found.rank(images, own(VERBATIM)), found.rank(images, own(OTHERS))
    assert (rank == 0).mean() >= 0.95
    assert (control == 0).mean() <= 0.1 and np.median(control) > 10


def test_the_blur_of_the_autoencoder_does_not_hide_them(
    found: concepts.Concepts, images: list[Image.Image], bundled: Denoiser, capsys: pytest.CaptureFixture
) -> None:
    blurred = train_concepts.decoded(bundled.pipe.vae, images)
    assert (found.rank(blurred, own(VERBATIM)) == 0).mean() >= 0.9
    train_concepts.report(found, {"blurred": (blurred, own(VERBATIM)), "wrong": (blurred, own(OTHERS))})
    right, wrong = capsys.readouterr().out.splitlines()
    assert right.startswith("blurred (30): top-1 ") and right > "blurred (30): top-1 0.9"
    assert wrong < "wrong (30): top-1 0.1"


def test_the_rank_counts_the_nearer_concepts(found: concepts.Concepts, images: list[Image.Image]) -> None:
    order = np.argsort(-found.cosines(images[:5]), axis=1)
    for rank in (0, 1, 65):
        assert (found.rank(images[:5], [found.names[k] for k in order[:, rank]]) == rank).all()


def test_an_image_has_the_same_vector_in_every_batch(
    found: concepts.Concepts, images: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = found.cosines(images)
    monkeypatch.setattr(concepts, "BATCH", 7)
    assert np.allclose(found.cosines(images), whole, atol=1e-5)
    assert np.allclose(found.cosines(images[3:4])[0], whole[3], atol=1e-5)
    assert np.abs(whole).max() <= 1 + 1e-5 and found.cosines([]).shape == (0, 66)


def test_larger_and_transparent_images_are_read_as_they_look(
    found: concepts.Concepts, images: list[Image.Image]
) -> None:
    larger = [i.resize((192, 192), Image.Resampling.NEAREST).convert("RGBA") for i in images[:4]]
    assert np.allclose(found.cosines(larger), found.cosines(images[:4]), atol=1e-5)


def test_the_weights_are_small_halves(found: concepts.Concepts) -> None:
    state = load_file(concepts.FILE)
    assert {v.dtype for v in state.values()} == {torch.float16, torch.int64}
    assert concepts.FILE.stat().st_size < 1e6
    parameters = list(found.net.parameters())
    assert 100_000 < sum(p.numel() for p in parameters) < 300_000
    assert {p.dtype for p in parameters} == {torch.float32} and not any(p.requires_grad for p in parameters)


def test_a_concept_that_is_none_is_refused(found: concepts.Concepts, images: list[Image.Image]) -> None:
    with pytest.raises(UsageError, match="'zeppelin' is not a concept of the bundled model; take one of"):
        found.rank(images[:1], ["zeppelin"])
    with pytest.raises(UsageError, match="2 images and 1 concepts were given; give one for each image"):
        found.rank(images[:2], ["octopus"])


# Alignment by concepts


def test_alignment_is_a_hit_or_none(images: list[Image.Image]) -> None:
    measure = aligner("concepts")
    hits = measure.align(images, [r.caption for r in VERBATIM])
    assert set(hits) <= {0.0, 1.0} and hits.mean() >= 0.95
    assert measure.align(images, [r.caption for r in OTHERS]).mean() <= 0.1
    assert measure.range == (0.0, 1.0) and "66 (1 or 0; chance 0.015)" in measure.name


def test_prompts_without_a_concept_have_no_alignment(images: list[Image.Image]) -> None:
    prompts = [demo.prompts("unseen")[0], VERBATIM[1].caption, "a cat", demo.prompts("ordinary")[0], ""]
    measure = aligner("concepts")
    for values in (measure.align(images[:5], prompts), measure.similarity(images[:5], prompts)):
        assert np.isnan(values).tolist() == [True, False, True, False, True]
    assert np.isnan(measure.align(images[:1], ["a cat"])).all() and len(measure.align([], [])) == 0


def test_similarity_is_higher_for_the_own_concept(found: concepts.Concepts, images: list[Image.Image]) -> None:
    mine, other = (aligner("concepts").similarity(images, [r.caption for r in rs]) for rs in (VERBATIM, OTHERS))
    column = [found.names.index(c) for c in own(VERBATIM)]
    assert np.array_equal(mine, found.cosines(images)[np.arange(30), column])
    assert (mine > other).mean() >= 0.9


def test_images_and_prompts_go_in_pairs(images: list[Image.Image], clip: Path) -> None:
    for name in ("concepts", str(clip)):
        with pytest.raises(UsageError, match="2 images and 1 prompts were given; give one prompt for each image"):
            aligner(name).align(images[:2], ["a cat"])


# Alignment by CLIP


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIP with random weights, with its tokenizer and image processor."""
    folder = tmp_path_factory.mktemp("clip")
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    end = len(tiny.tokenizer()) - 1
    text = {"vocab_size": end + 1, "bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
    text |= {"max_position_embeddings": tiny.CONTEXT, "initializer_factor": 4.0, **small}
    vision = {"image_size": SIDE, "patch_size": 8, "initializer_factor": 4.0, **small}
    tiny.seeded(
        lambda: CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    ).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    sides = {"height": SIDE, "width": SIDE}
    CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=sides).save_pretrained(folder)
    return folder


PROMPTS = ["a cat", "two dogs", "x", "y", "the red bus"]


def test_clip_is_the_cosine_of_the_two_embeddings(clip: Path, images: list[Image.Image]) -> None:
    small = [i.resize((SIDE, SIDE)) for i in images[:5]]
    model = CLIPModel.from_pretrained(clip).eval()
    for image, prompt, value in zip(small, PROMPTS, aligner(str(clip)).align(small, PROMPTS), strict=True):
        mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
        pixels = torch.tensor((np.asarray(image) / 255 - mean) / std).float().permute(2, 0, 1)[None]
        a = model.visual_projection(model.vision_model(pixels).pooler_output)
        words = torch.tensor([tiny.tokenizer()(prompt).input_ids])
        b = model.text_projection(model.text_model(words).pooler_output)
        assert value == pytest.approx(torch.cosine_similarity(a, b).item(), abs=1e-5)


def test_clip_depends_on_image_and_prompt(clip: Path, images: list[Image.Image]) -> None:
    measure = aligner(str(clip))
    values = measure.align([*images[:2], images[0]], ["a cat", "a cat", "two dogs"])
    assert np.ptp(values) > 1e-3 and len(set(values)) == 3 and (np.abs(values) <= 1).all()
    assert measure.range == (-1.0, 1.0) and str(clip) in measure.name


def test_clip_cuts_off_what_its_context_does_not_hold(clip: Path, images: list[Image.Image]) -> None:
    long, longer = "abcdefghijklmnop", "abcdefghijklmnopqrstuvwxyz"
    values = aligner(str(clip)).align([images[0]] * 2, [long, longer])
    assert values[0] == pytest.approx(values[1], abs=1e-6)


def test_clip_of_other_images_than_square_ones(clip: Path, images: list[Image.Image]) -> None:
    wide = images[0].resize((90, 50)).convert("RGBA")
    assert np.isfinite(aligner(str(clip)).align([wide, images[1]], ["a", "b"])).all()


def test_what_is_no_clip_is_refused_in_a_sentence(tmp_path: Path) -> None:
    for name in (str(tmp_path), str(demo.MODEL), "conceptz", "nobody/nothing", ""):
        with pytest.raises(
            UsageError, match=f"^'{re.escape(name)}' cannot measure alignment; give 'concepts', or the folder"
        ):
            aligner(name)
    with pytest.raises(UsageError, match="give 'concepts', .*as CLIP: it holds a model of the type clip_text_model$"):
        aligner(str(demo.MODEL / "text_encoder"))


def test_an_incomplete_clip_is_refused_in_a_sentence(clip: Path, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        return shutil.copytree(clip, tmp_path / name)

    file = copy("weights") / "model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if k != "text_projection.weight"}, file, {"format": "pt"})
    with pytest.raises(UsageError, match="lacks 1 of CLIP's weights, text_projection.weight among them"):
        aligner(str(file.parent))
    for path in copy("words").glob("token*"):
        path.unlink()
    with pytest.raises(UsageError, match="knows 2 tokens and its text model 514; save CLIP's own there"):
        aligner(str(tmp_path / "words"))
    (copy("pixels") / "preprocessor_config.json").unlink()
    with pytest.raises(UsageError, match="cannot measure alignment; .*image processor"):
        aligner(str(tmp_path / "pixels"))


# Training of the concepts' network


@pytest.fixture(scope="module")
def squares() -> Squares:
    return Squares(sorted({concepts.of_prompts()[p] for p in demo.prompts("ordinary")}))


def test_a_batch_depends_on_its_step_alone(bundled: Denoiser, squares: Squares) -> None:
    emoji, vae = squares, bundled.pipe.vae
    names = train_concepts.concepts(emoji)
    assert names == list(concepts.load().names)
    one, again, other = (train_concepts.batch(emoji, vae, names, step, 6) for step in (3, 3, 4))
    assert torch.equal(one[0], again[0]) and torch.equal(one[1], again[1])
    assert not torch.equal(one[0], other[0]) and one[0].abs().max() <= 1


def test_training_goes_on_where_it_was_killed_and_writes_what_loads(
    bundled: Denoiser, squares: Squares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY", 1)
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    train_concepts.train(squares, bundled.pipe.vae, whole, steps=3, size=8)

    def killed(emoji: scenes.Emoji, vae: AutoencoderKL, names: list[str], step: int, size: int) -> tuple:
        if step == 2:
            raise KeyboardInterrupt
        return batch(emoji, vae, names, step, size)

    batch = train_concepts.batch
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_concepts, "batch", killed)
        train_concepts.train(squares, bundled.pipe.vae, cut, steps=3, size=8)
    assert not cut.exists()
    train_concepts.train(squares, bundled.pipe.vae, cut, steps=3, size=8)
    assert cut.read_bytes() == whole.read_bytes()
    assert concepts.load(whole).names == concepts.load().names
