"""Images have the size that was asked for, that a training was at, or that a file says; thresholds hold it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

import tiny
from mnemoscope.errors import UsageError
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.weights.size import latent_size, make_own, own_size, parse_size

Command = Callable[..., tuple[int, str, str]]
BUILDERS: dict[str, Callable] = {
    "sd": tiny.stable_diffusion,
    "xl": tiny.stable_diffusion_xl,
    "dit": tiny.class_conditional,
    "pixels": tiny.unconditional,
}
PROMPTS = {"dit": "1", "pixels": ""}


def test_a_size_is_height_x_width_in_pixels() -> None:
    assert parse_size("512x768") == (512, 768) == parse_size(" 512 X 768 ") == parse_size("512×768")
    assert parse_size("256") == (256, 256)
    for text in ("", "x", "0", "0x8", "-8", "8x", "8x8x8", "1e3", "8.5", "100000", "nan", "9" * 9):
        with pytest.raises(UsageError, match=r"is no size; give height x width in pixels, as 512x768, up to 16384\.$"):
            parse_size(text)


@pytest.mark.parametrize("family", BUILDERS)
@pytest.mark.parametrize("size", [(24, 24), (16, 32), (40, 24)])
def test_every_family_draws_at_any_size_as_its_pipeline_does(family: str, size: tuple[int, int]) -> None:
    pipe = BUILDERS[family]()
    if family == "dit" and size[0] != size[1]:
        with pytest.raises(UsageError, match="a DiTTransformer2DModel draws squares only"):
            Denoiser(pipe, size=size)
        return
    factor = 1 if family == "pixels" else 2
    model = Denoiser(pipe, size=size)
    assert model.size == size and model.latent_shape[1:] == (size[0] // factor, size[1] // factor)
    about = model.describe()
    assert about["latent_shape"] == list(model.latent_shape) and about["size"] == list(size)
    prompt = PROMPTS.get(family, "a b")
    (image,) = model.generate([prompt], [3], num_inference_steps=2, guidance_scale=3.0)
    assert image.size == (size[1], size[0])
    assert own_size(pipe) == (8 * factor, 8 * factor)  # the user's pipeline stays as it was
    if family in ("sd", "xl"):
        drawn = pipe(
            prompt,
            height=size[0],
            width=size[1],
            generator=torch.Generator().manual_seed(3),
            num_inference_steps=2,
            guidance_scale=3.0,
        ).images[0]
        assert np.array_equal(np.asarray(image), np.asarray(drawn))


def test_sizes_that_the_networks_cannot_do_are_refused() -> None:
    pixels = tiny.unconditional()
    assert latent_size(pixels, (16, 32)) == (16, 32)
    for pipe, size, step in (
        (tiny.stable_diffusion(), (17, 16), 2),
        (tiny.stable_diffusion_xl(), (16, 17), 2),
        (tiny.class_conditional(), (18, 16), 4),
        (pixels, (9, 16), 2),
    ):
        given = "x".join(map(str, size))
        expected = f"The size {given} cannot be drawn: height and width must be multiples of {step} here."
        with pytest.raises(UsageError, match=f"^{expected}$"):
            Denoiser(pipe, size=size)


@pytest.mark.parametrize("family", ["sd", "xl", "pixels"])
def test_a_size_that_is_made_a_pipelines_own_is_saved_and_drawn_by_plain_diffusers(family: str, tmp_path: Path) -> None:
    pipe = BUILDERS[family]()
    make_own(pipe, (24, 24))
    pipe.save_pretrained(tmp_path)
    again = tiny.quiet(DiffusionPipeline.from_pretrained(tmp_path))
    assert own_size(again) == (24, 24)
    for each in (pipe, again):
        asked: dict[str, Any] = {"num_inference_steps": 1}
        asked |= {"prompt": "a"} if family in ("sd", "xl") else {}
        assert each(**asked).images[0].size == (24, 24)


def test_a_wide_size_is_saved_as_such(tmp_path: Path) -> None:
    pipe = tiny.stable_diffusion()
    make_own(pipe, (16, 24))
    assert pipe("a", num_inference_steps=1).images[0].size == (24, 16)
    pipe.save_pretrained(tmp_path)
    assert Denoiser.from_pretrained(tmp_path, device="cpu").size == (16, 24)


@pytest.mark.parametrize("size", [0, -8, "8", 8.5, [8, 8, 8], True])
def test_a_size_in_the_configuration_that_is_none_is_refused(size: object) -> None:
    pipe = tiny.stable_diffusion()
    pipe.unet.register_to_config(sample_size=size)
    with pytest.raises(UsageError, match="has sample_size .*; write a whole number"):
        _ = Denoiser(pipe).latent_shape


def test_a_network_without_a_size_asks_for_one(tmp_path: Path) -> None:
    pipe = tiny.stable_diffusion()
    pipe.unet.register_to_config(sample_size=None)
    pipe.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match=r"^The configuration of the U-Net has no sample_size; give --size HxW in pix"):
        Denoiser.from_pretrained(tmp_path, device="cpu").latent_shape  # noqa: B018
    assert Denoiser.from_pretrained(tmp_path, size="16x32", device="cpu").latent_shape == (4, 8, 16)


# Commands


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sized")
    tiny.stable_diffusion().save_pretrained(folder / "sd")
    (folder / "prompts.txt").write_text("a b\nc d\n")
    (folder / "negatives.txt").write_text("\n".join(f"n {k} {'x' * (k % 5)}" for k in range(12)) + "\n")
    return folder


def test_a_threshold_holds_for_the_size_it_was_set_at(saved: Path, tmp_path: Path, mnemoscope: Command) -> None:
    common = ["--num-inference-steps", 2, "--device", "cpu"]
    detect = ["detect", saved / "sd", "--prompts", saved / "prompts.txt", *common]
    set_at = ["--negatives", saved / "negatives.txt", "--fpr", 0.2, "--size", "16x32", "--out", tmp_path / "set"]
    code, _, error = mnemoscope(*detect, *set_at)
    assert code == 0, error
    record = json.loads((tmp_path / "set/run.json").read_text())
    assert record["asked"]["parameters"]["size"] == "16x32" and record["model"]["latent_shape"] == [4, 8, 16]
    assert json.loads((tmp_path / "set/summary.json").read_text())["conditions"]["latent_shape"] == [4, 8, 16]
    code, _, error = mnemoscope(*detect, "--threshold", tmp_path / "set/summary.json", "--out", tmp_path / "other")
    assert code == 2 and "holds for other conditions (latent_shape [4, 8, 16] there, [4, 8, 8] here)" in error
    generate = ["generate", saved / "sd", "--prompts", saved / "prompts.txt", *common, "--images", 1, "--size", "16x32"]
    gate = ["--mitigate", "embedding_noise", "--threshold", tmp_path / "set/summary.json"]
    code, _, error = mnemoscope(*generate, *gate, "--out", tmp_path / "drawn")
    assert code == 0, error
    for file in (tmp_path / "drawn/images").glob("*.png"):
        with Image.open(file) as image:
            assert image.size == (32, 16)
    code, _, error = mnemoscope(*detect, "--size", "17x16", "--out", tmp_path / "odd")
    assert code == 2 and error.strip().endswith("height and width must be multiples of 2 here.")


def test_every_command_that_opens_a_model_has_the_same_options() -> None:
    import typer

    from mnemoscope.cli import main  # noqa: F401
    from mnemoscope.cli.application import app

    commands = typer.main.get_command(app).commands
    drawing = [commands[n] for n in ("audit", "detect", "explain", "generate", "recover", "sweep")]
    drawing += [commands["localize"].commands[n] for n in ("statistics", "threshold")]
    for command in drawing:
        names = {name for parameter in command.params for name in parameter.opts}
        wanted = {"--unet", "--text-encoder", "--lora", "--embedding", "--variant", "--size", "--low-memory"}
        assert wanted <= names, command.name


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for k in range(2):
        Image.new("RGB", (40, 40), (40 * k, 90, 200)).save(folder / f"{k}.png")
        (folder / f"{k}.txt").write_text("ab"[k])
    return folder


def test_a_trained_pipeline_knows_its_size(saved: Path, pictures: Path, tmp_path: Path, mnemoscope: Command) -> None:
    common = [saved / "sd", "--data", pictures, "--steps", 1, "--batch-size", 1, "--resolution", 24, "--device", "cpu"]
    watched = ["--preview-every", 1, "--preview-images", 1, "--preview-inference-steps", 1]
    watched += ["--probe-every", 1, "--probe-count", 1, "--probe-inference-steps", 1]
    code, _, error = mnemoscope("train", *common, *watched, "--out", tmp_path / "run")
    assert code == 0, error
    with Image.open(tmp_path / "run/previews/000001.png") as preview:
        assert preview.size[0] == 24 and preview.size[1] % 24 == 0
    assert json.loads((tmp_path / "run/run.json").read_text())["model"]["latent_shape"] == [4, 12, 12]
    assert json.loads((tmp_path / "run/pipeline/unet/config.json").read_text())["sample_size"] == 12
    assert Denoiser.from_pretrained(tmp_path / "run/pipeline", device="cpu").size == (24, 24)
    code, _, error = mnemoscope("train", *common, "--train", "lora", "--out", tmp_path / "lora")
    assert code == 0, error
    checkpoint = tmp_path / "lora/lora"
    adapter = Denoiser.from_pretrained(saved / "sd", lora=checkpoint, device="cpu")
    assert adapter.size == (24, 24) and "24x24 pixels" in adapter.describe()["warnings"][-1]
    assert Denoiser.from_pretrained(saved / "sd", lora=checkpoint, size="16x32", device="cpu").size == (16, 32)
    assert adapter.pipe.unet.config.sample_size == 12
    pipe = tiny.stable_diffusion()
    pipe.load_lora_weights(str(checkpoint))  # and diffusers reads it as before
    assert pipe.get_active_adapters()
