"""DINO's own networks, earlier layers and three scales, against transformers' models called by hand."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Dinov2Config, Dinov2Model, ViTConfig, ViTModel

from mnemoscope.errors import UsageError
from mnemoscope.features import descriptor
from mnemoscope.features.geometry import HALF, IMAGENET, Geometry, normalised
from mnemoscope.features.variants import Variant, varied

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vision transformer as DINO's are saved: without a pooling head."""
    folder = tmp_path_factory.mktemp("dino")
    torch.manual_seed(0)
    ViTModel(ViTConfig(**SIZES, patch_size=16, image_size=224), add_pooling_layer=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    small = [rng.integers(0, 256, (12, 9, 3), dtype=np.uint8) for _ in range(2)]
    return [Image.fromarray(each).resize((320, 260), Image.Resampling.BICUBIC) for each in small]


def pixels(photos: list[Image.Image], resample="bicubic", statistics=IMAGENET) -> torch.Tensor:
    geometry = Geometry(short=256, crop=224, resample=resample)
    return torch.from_numpy(np.stack([normalised(np.asarray(geometry(p)), statistics) for p in photos]))


def unit(found: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(found, dim=-1).detach().numpy()


def network(folder: Path) -> ViTModel:
    return ViTModel.from_pretrained(folder, add_pooling_layer=False).eval()


def test_the_class_token_of_dino_and_its_patches(dino: Path, photos: list[Image.Image]) -> None:
    whole, patches = (descriptor("dino", preset=p, weights=dino, device="cpu") for p in ("dino-cls", "dino-patch"))
    hidden = network(dino)(pixels(photos)).last_hidden_state
    np.testing.assert_allclose(whole(photos), unit(hidden[:, 0]), atol=1e-5)
    np.testing.assert_allclose(patches.tokens(photos), unit(hidden[:, 1:]), atol=1e-5)
    assert patches.identity.dimension == 14 * 14 * 16 and whole.identity.preset == "dino-cls"


def test_a_layer_is_counted_from_the_last_and_normed_alike(dino: Path, photos: list[Image.Image]) -> None:
    model = network(dino)
    states = model(pixels(photos), output_hidden_states=True).hidden_states
    for layer in (2, 3):
        found = descriptor("dino", preset=f"dino-cls+layer{layer}", weights=dino, device="cpu")
        np.testing.assert_allclose(found(photos), unit(model.layernorm(states[-layer])[:, 0]), atol=1e-5)
    last = descriptor("dino", preset="dino-cls+layer1", weights=dino, device="cpu")
    assert last.identity == descriptor("dino", weights=dino, device="cpu").identity
    with pytest.raises(UsageError, match="--layer 4 was asked for, and .* has 3 blocks"):
        descriptor("dino", preset="dino-cls+layer4", weights=dino, device="cpu")


def test_a_layer_of_dinov2_too(photos: list[Image.Image], tmp_path: Path) -> None:
    torch.manual_seed(1)
    own = {**SIZES, "patch_size": 14, "image_size": 224}
    del own["intermediate_size"]
    Dinov2Model(Dinov2Config(**own)).save_pretrained(tmp_path)
    model = Dinov2Model.from_pretrained(tmp_path).eval()
    states = model(pixels(photos), output_hidden_states=True).hidden_states
    found = descriptor("dino", preset="dino-cls+layer2", weights=tmp_path, device="cpu")
    np.testing.assert_allclose(found(photos), unit(model.layernorm(states[-2])[:, 0]), atol=1e-5)


def test_three_scales_are_averaged_before_the_length(dino: Path, photos: list[Image.Image]) -> None:
    model, batch = network(dino), pixels(photos)
    total = model(batch).last_hidden_state[:, 0]
    for side, scale in ((158, 0.5**0.5), (112, 0.5)):
        small = torch.nn.functional.interpolate(batch, scale_factor=scale, mode="bilinear", align_corners=False)
        assert small.shape[-1] == side
        total = total + model(small, interpolate_pos_encoding=True).last_hidden_state[:, 0]
    found = descriptor("dino", preset="dino-cls+multiscale", weights=dino, device="cpu")
    np.testing.assert_allclose(found(photos), unit(total / 3), atol=1e-5)
    plain = descriptor("dino", weights=dino, device="cpu")
    assert found.identity != plain.identity and np.abs(found(photos) - plain(photos)).max() > 1e-3
    with pytest.raises(UsageError, match="--multiscale averages class tokens"):
        descriptor("dino", preset="dino-patch+multiscale", weights=dino, device="cpu")


def test_the_preprocessing_of_somepalli_et_al(dino: Path, photos: list[Image.Image]) -> None:
    found = descriptor("dino", preset="dcr-cls", weights=dino, device="cpu")(photos)
    hidden = network(dino)(pixels(photos, "bilinear", HALF)).last_hidden_state
    np.testing.assert_allclose(found, unit(hidden[:, 0]), atol=1e-5)


def test_options_become_part_of_the_preset() -> None:
    assert varied("dino", None, 2, True) == "dino-cls+layer2+multiscale"
    assert varied("dino", "dcr-patch", 2, False) == "dcr-patch+layer2"
    assert varied("dino", "dino-cls+layer3", None, True) == "dino-cls+layer3+multiscale"
    assert varied("pixels", None, None, False) is None
    assert str(Variant.of("dino", "dino-cls+layer3+multiscale", ["dino-cls"])) == "dino-cls+layer3+multiscale"
    for features, layer, said in (("sscd", 2, "--layer is of the features dino"), ("clip", None, "--multiscale is of")):
        with pytest.raises(UsageError, match=said):
            varied(features, None, layer, True)
    with pytest.raises(UsageError, match="'dino-cls.layerx' is no preset"):
        Variant.of("dino", "dino-cls+layerx", ["dino-cls"])
    with pytest.raises(UsageError, match="packaged SSCD takes whole grey levels"):
        descriptor("sscd", preset="sscd-288+multiscale")


def test_an_index_is_searched_with_the_variant_it_was_built_with(
    mnemoscope, dino: Path, photos: list[Image.Image], tmp_path: Path
) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    for k, photo in enumerate(photos):
        photo.save(folder / f"{k}.png")
    words = ("--features", "dino", "--weights", dino, "--layer", "2", "--multiscale")
    code, _, error = mnemoscope("index", "build", folder, *words, "--out", tmp_path / "i")
    assert code == 0, error
    code, said, error = mnemoscope(
        "index", "search", tmp_path / "i", folder, "--weights", dino, "--out", tmp_path / "s"
    )
    assert code == 0, error
    words = ("--features", "dino", "--weights", dino, "--threshold", "0.9", "--references", tmp_path / "i")
    code, _, error = mnemoscope("measure", folder, *words, "--out", tmp_path / "m")
    assert code == 2 and "preset dino-cls+layer2+multiscale and dino-cls" in error


class Pooled(torch.nn.Module):
    """A network of any size of image: the mean of each colour, and a constant that no scale changes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[:, :, ::2, ::2].square().mean((2, 3)), torch.ones_like(x[:, :1, 0, 0])], 1)


def test_an_official_file_at_three_scales(photos: list[Image.Image], tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # published weights have no other format
        torch.jit.script(Pooled()).save(str(tmp_path / "n.pt"))
    found = descriptor("sscd", preset="crop-224+multiscale", weights=tmp_path / "n.pt", device="cpu")
    batch = pixels(photos, "bilinear")
    scaled = [
        torch.nn.functional.interpolate(batch, scale_factor=s, mode="bilinear", align_corners=False)
        for s in (0.5**0.5, 0.5)
    ]
    total = sum((Pooled()(each) for each in scaled), Pooled()(batch))
    np.testing.assert_allclose(found(photos), unit(total / 3), atol=1e-5)
    assert found.identity.preset == "crop-224+multiscale" and found.threshold is None
