"""What a single-file checkpoint says about itself is read, and a contradiction is refused; what it lacks is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import tiny
from mnemoscope.errors import UsageError
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.weights.marks import read_marks

BUILDERS: dict[str, Callable] = {"sd": tiny.stable_diffusion, "xl": tiny.stable_diffusion_xl}
ARCHITECTURE = {"sd": "stable-diffusion-v1", "xl": "stable-diffusion-xl-v1-base"}


@pytest.fixture(scope="module")
def states() -> dict[str, dict[str, torch.Tensor]]:
    return {name: tiny.single_file(build()) for name, build in BUILDERS.items()}


@pytest.fixture
def write(states: dict, tmp_path: Path) -> Callable[..., Path]:
    """Write a checkpoint with some of its keys and a header, and its configuration with some changes."""

    def made(family: str = "sd", *, more: Any = (), keep: Any = None, header: Any = None, **config: Any) -> Path:
        file = tmp_path / "model.safetensors"
        state = {k: v for k, v in states[family].items() if keep is None or keep(k)}
        save_file({**state, **{k: torch.ones(1) for k in more}}, file, metadata=header)
        if not (tmp_path / "model").exists():
            BUILDERS[family]().save_pretrained(tmp_path / "model")
            for weights in (tmp_path / "model").rglob("*.safetensors"):
                weights.unlink()
        place = tmp_path / "model/scheduler/scheduler_config.json"
        settings = json.loads(place.read_text()) | config
        place.write_text(json.dumps({k: v for k, v in settings.items() if v is not ...}))
        return file

    return made


def loaded(file: Path, **how: Any) -> Denoiser:
    return Denoiser.from_pretrained(file, device="cpu", **how)


def refusal(file: Path, **how: Any) -> str:
    with pytest.raises(UsageError) as caught:
        loaded(file, **how)
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 600
    return sentence


@pytest.mark.parametrize(
    "prefix, part, count",
    [
        ("cond_stage_model.transformer.text_model.encoder.layers.1.", "text_encoder", 16),
        ("model.diffusion_model.out.2.weight", "unet", 1),
        ("model.diffusion_model.middle_block.1.", "unet", 36),
        ("first_stage_model.decoder.conv_in.", "vae", 2),
        ("first_stage_model.quant_conv.", "vae", 2),
    ],
)
def test_what_a_file_lacks_is_named(write: Callable, prefix: str, part: str, count: int) -> None:
    file = write(keep=lambda key: not key.startswith(prefix))
    assert f"{file} lacks {count} weights of the model's {part}, " in refusal(file)


@pytest.mark.parametrize("prefix, kind", [("cond_stage", "CLIPTextModel"), ("first_stage", "AutoencoderKL")])
def test_a_file_without_a_whole_network_is_refused(write: Callable, prefix: str, kind: str) -> None:
    said = refusal(write(keep=lambda key: not key.startswith(prefix)))
    assert kind in said or "vae" in said


def test_keys_that_no_network_reads_are_told_and_those_of_training_are_not(write: Callable) -> None:
    model = loaded(write(more=("betas", "model_ema.decay", "lora_unet_x.alpha", "my.own")))
    assert model.describe()["warnings"] == ["2 keys of the file are not used, lora_unet_x.alpha, my.own."]
    assert model.weights_hash == Denoiser(tiny.stable_diffusion()).weights_hash


@pytest.mark.parametrize("family", BUILDERS)
@pytest.mark.parametrize("mark", ["key", "header"])
def test_a_v_prediction_mark_is_heeded_where_the_configuration_leaves_it_open(
    write: Callable, family: str, mark: str
) -> None:
    how: dict[str, Any] = {"more": ("v_pred",)} if mark == "key" else {"header": {"modelspec.prediction_type": "v"}}
    assert loaded(write(family, **how, prediction_type=...)).prediction_type == "v_prediction"
    assert loaded(write(family, **how, prediction_type="v_prediction")).prediction_type == "v_prediction"
    assert loaded(write(family, prediction_type="epsilon")).prediction_type == "epsilon"
    said = refusal(write(family, **how, prediction_type="epsilon"))
    assert 'is marked prediction_type "v_prediction", and ' in said and 'says "epsilon"' in said


def test_a_mark_of_zero_terminal_snr_is_heeded(write: Callable) -> None:
    model = loaded(write(more=("v_pred", "ztsnr"), prediction_type=..., rescale_betas_zero_snr=...))
    assert model.pipe.scheduler.config.rescale_betas_zero_snr and model.pipe.scheduler.alphas_cumprod[-1] < 1e-6
    assert model.pipe.scheduler.config.timestep_spacing == "trailing"
    said = refusal(write(more=("ztsnr",), rescale_betas_zero_snr=False))
    assert "is marked rescale_betas_zero_snr true, and " in said and "says false; correct the one" in said


def test_contradictions_inside_a_file_are_refused(write: Callable) -> None:
    both = write(more=("v_pred",), header={"modelspec.prediction_type": "epsilon"})
    assert refusal(both) == f"{both} contradicts itself: it is marked as v-prediction, and its header says epsilon."
    assert "predicts 'x0'; epsilon and v are supported" in refusal(write(header={"modelspec.prediction_type": "x0"}))
    said = refusal(write(header={"modelspec.architecture": ARCHITECTURE["xl"]}))
    assert said.endswith("its weights are named as those of Stable Diffusion 1 or 2.")
    assert "is a flux-1-dev; single files of" in refusal(write(header={"modelspec.architecture": "Flux-1-dev"}))
    assert "its noise levels are EDM's" in refusal(write(more=("edm_vpred.sigma_max",)))


def test_an_architecture_of_another_size_than_the_configuration_is_refused(
    write: Callable, states: dict, tmp_path: Path
) -> None:
    file = write("sd", header={"modelspec.architecture": ARCHITECTURE["sd"]})
    assert loaded(file).family.name == "stable-diffusion"
    save_file(states["xl"], file)
    assert refusal(file) == f"{file} holds an XL model, and {tmp_path / 'model'} configures a StableDiffusionPipeline."


def test_the_resolution_of_a_header_must_be_the_configurations(write: Callable) -> None:
    assert loaded(write(header={"modelspec.resolution": "16x16"})).size == (16, 16)
    wide = write(header={"modelspec.resolution": "32x24"})
    assert "says that it draws 24x32 (height x width), and " in refusal(wide)
    assert loaded(wide, size="24x32").size == (24, 32)
    assert read_marks(wide).size == (24, 32)
    assert "gives its resolution as 'large'" in refusal(write(header={"modelspec.resolution": "large"}))
    for architecture, prediction in {
        "stable-diffusion-v2-768-v": "v_prediction",
        "stable-diffusion-v2-512": None,
    }.items():
        file = write(header={"modelspec.architecture": architecture})
        assert read_marks(file).prediction_type == prediction


def test_files_of_something_else_say_which_option_takes_them(write: Callable, tmp_path: Path) -> None:
    file = tmp_path / "part.safetensors"
    cases = {
        "holds a LoRA and no model; give the model that it belongs to, and --lora": "lora_unet_x.lora_down.weight",
        "holds an embedding and no model; give the model, and --embedding": "emb_params",
        "holds a U-Net alone; give the pipeline that it belongs to, and --unet": "down_blocks.0.x",
    }
    for sentence, key in cases.items():
        save_file({key: torch.ones(1)}, file)
        assert f"{file} {sentence}" in refusal(file)


@pytest.mark.parametrize("family", BUILDERS)
def test_what_is_whole_is_the_pipeline(write: Callable, family: str) -> None:
    model = loaded(write(family))
    assert model.weights_hash == Denoiser(BUILDERS[family]()).weights_hash and model.describe()["warnings"] == []
