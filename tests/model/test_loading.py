"""Models load from folders, single files and memory; what cannot be loaded is refused in one sentence."""

import json
import pickle
import shutil
from pathlib import Path

import diffusers
import pytest
import torch
import transformers
from diffusers import StableDiffusionPipeline
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from diffusers.training_utils import _collate_lora_metadata
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig

import tiny
from mnemoscope.errors import UsageError
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.loading import class_named, load, pick_device, pick_dtype
from mnemoscope.model.solvers import SCHEDULERS

UNET = "unet/diffusion_pytorch_model.safetensors"
pytestmark = pytest.mark.filterwarnings(  # diffusers' solvers make arrays of tensors, which numpy 2 finds outdated
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "sd"
    tiny.stable_diffusion().save_pretrained(folder)
    return folder


@pytest.fixture
def broken(saved, tmp_path):
    return Path(shutil.copytree(saved, tmp_path / "broken"))


def eps(model):
    step = next(model.steps(["a cat", "two dogs"], [0, 1], num_inference_steps=3))
    return step.eps_cond


def loaded(*args, **options):
    return Denoiser.from_pretrained(*args, device="cpu", **options)


def refusal(*args, **options):
    """The one sentence with which loading fails."""
    with pytest.raises(UsageError) as caught:
        load(*map(str, args), **{"device": "cpu"} | options)
    sentence = str(caught.value)
    assert sentence and "\n" not in sentence and len(sentence) < 1000
    return sentence


# Folders and memory


def test_a_saved_folder_predicts_what_the_pipeline_in_memory_predicts(saved):
    memory, disk = Denoiser(tiny.stable_diffusion()), loaded(saved)
    assert torch.equal(eps(memory), eps(disk))
    assert disk.source == str(saved) and memory.source == "StableDiffusionPipeline"
    assert memory.weights_hash == disk.weights_hash


@pytest.mark.parametrize(
    "build", [tiny.stable_diffusion_xl, tiny.unconditional, tiny.class_conditional, tiny.distilled]
)
def test_every_family_comes_back_from_its_folder(build, tmp_path):
    pipe = build()
    pipe.save_pretrained(tmp_path)
    back = loaded(tmp_path)
    assert type(back.pipe) is type(pipe) and back.weights_hash == Denoiser(pipe).weights_hash
    assert back.family.name == Denoiser(pipe).family.name


def test_every_parameter_is_frozen_and_every_network_evaluates(saved):
    pipe = load(str(saved), device="cpu")
    pipe.unet.requires_grad_(True)
    model = Denoiser(pipe)
    assert not any(p.requires_grad for m in model.modules.values() for p in m.parameters())
    assert not any(m.training for m in model.modules.values())


def test_the_safety_checker_is_left_out(tmp_path):
    pipe = tiny.stable_diffusion()
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = CLIPConfig(text_config=sizes, vision_config={**sizes, "image_size": 8, "patch_size": 4}, projection_dim=8)
    parts = {**pipe.components, "safety_checker": StableDiffusionSafetyChecker(config)}
    name = "CLIPImageProcessorPil" if hasattr(transformers, "CLIPImageProcessorPil") else "CLIPImageProcessor"
    full = StableDiffusionPipeline(**{**parts, "feature_extractor": getattr(transformers, name)()})
    full.save_pretrained(tmp_path)
    assert (tmp_path / "safety_checker").is_dir()
    back = loaded(tmp_path)
    assert back.pipe.safety_checker is None and not back.pipe.config.requires_safety_checker
    assert "safety_checker" not in back.modules
    assert back.weights_hash == Denoiser(pipe).weights_hash
    shutil.rmtree(tmp_path / "safety_checker")
    assert loaded(tmp_path).weights_hash == back.weights_hash  # it is not even looked for


# Parts that are swapped in


@pytest.mark.parametrize("inside", ["", "unet"])
def test_a_fine_tuned_unet_takes_the_place_of_the_models_own(saved, tmp_path, inside):
    tuned = tiny.unet(seed=77)
    tuned.save_pretrained(tmp_path / inside)
    model = loaded(saved, unet=tmp_path)
    assert torch.equal(eps(model), eps(Denoiser(tiny.stable_diffusion(network=tuned))))
    assert not torch.allclose(eps(model), eps(loaded(saved)), atol=1e-2)
    assert model.weights_hash != loaded(saved).weights_hash
    assert not any(p.requires_grad for p in model.network.parameters())


def test_a_fine_tuned_unconditional_unet_takes_the_place_of_the_models_own(tmp_path):
    pipe = tiny.unconditional()
    pipe.save_pretrained(tmp_path / "own")
    with torch.no_grad():
        pipe.unet.conv_out.bias += 1
    pipe.unet.save_pretrained(tmp_path / "tuned")
    model = loaded(tmp_path / "own", unet=tmp_path / "tuned")
    assert torch.equal(model.network.conv_out.bias, pipe.unet.conv_out.bias)


def test_a_unet_that_does_not_fit_is_refused(saved, tmp_path):
    tiny.unet(cross_attention_dim=8).save_pretrained(tmp_path / "other")
    tiny.unconditional().unet.save_pretrained(tmp_path / "pixels")
    tiny.class_conditional().save_pretrained(tmp_path / "dit")
    text = "does not fit this model: its cross_attention_dim is 8, and 32 is needed."
    assert text in refusal(saved, unet=tmp_path / "other")
    text = "its class is UNet2DModel, and UNet2DConditionModel is needed."
    assert text in refusal(saved, unet=tmp_path / "pixels")
    assert refusal(tmp_path / "dit", unet=saved) == "DiTPipeline has no U-Net; leave out --unet."


def test_a_unet_that_is_missing_or_broken_is_refused(saved, broken, tmp_path):
    assert f"{tmp_path / 'none'} holds no U-Net; --unet expects" in refusal(saved, unet=tmp_path / "none")
    (broken / UNET).write_bytes(b"junk" * 50)
    assert f"The unet of {broken} could not be loaded: " in refusal(saved, unet=broken)


@pytest.fixture
def lora(tmp_path):
    """A LoRA whose two factors are drawn at random, so that it changes what the network predicts, scaled by four."""
    network = tiny.unet()
    config = LoraConfig(r=2, lora_alpha=8, target_modules=["to_q", "to_v"], init_lora_weights=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network.add_adapter(config)
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(network))
    assert all(v.any() for v in layers.values())
    StableDiffusionPipeline.save_lora_weights(
        tmp_path / "lora", unet_lora_layers=layers, **_collate_lora_metadata({"unet": network})
    )
    return tmp_path / "lora", network


@pytest.mark.parametrize("file", ["", "pytorch_lora_weights.safetensors"])
def test_a_lora_changes_the_prediction_as_its_adapter_does(saved, lora, file):
    folder, network = lora
    model = loaded(saved, lora=folder / file)
    assert torch.allclose(eps(model), eps(Denoiser(tiny.stable_diffusion(network=network))), atol=1e-5)
    assert not torch.allclose(eps(model), eps(loaded(saved)), atol=1e-2)
    assert not any(p.requires_grad for p in model.network.parameters())
    assert model.weights_hash != loaded(saved).weights_hash


def test_a_lora_that_does_not_load_is_refused(saved, lora, tmp_path):
    assert "holds no LoRA; --lora expects" in refusal(saved, lora=tmp_path / "none")
    weights = load_file(lora[0] / "pytorch_lora_weights.safetensors")
    elsewhere, narrow, plain = files = [tmp_path / f"{i}.safetensors" for i in range(3)]
    save_file({k.replace("mid_block", "mid_block_9"): v for k, v in weights.items() if "mid_block" in k}, elsewhere)
    save_file({k: v[:, :1].contiguous() for k, v in weights.items()}, narrow)
    save_file({"weight": torch.ones(1)}, plain)
    for file in files:
        assert f"{file} was not loaded: " in refusal(saved, lora=file)
    (tmp_path / "pickled.safetensors").write_bytes(pickle.dumps(weights))
    assert "is not a readable safetensors file" in refusal(saved, lora=tmp_path / "pickled.safetensors")
    tiny.unconditional().save_pretrained(tmp_path / "pixels")
    assert f"{plain} was not loaded: 1 of its 1 keys" in refusal(tmp_path / "pixels", lora=plain)


def test_a_pickled_lora_is_refused_and_never_opened(saved, tmp_path):
    file = tmp_path / "lora.bin"
    torch.save(Bomb(tmp_path / "opened"), file)
    expected = f"{file} is not a .safetensors file, and pickled weights are not opened; convert it first."
    assert refusal(saved, lora=file) == expected and not (tmp_path / "opened").exists()


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_scheduler_can_be_switched_and_keeps_the_models_noise_levels(saved, name):
    own, other = loaded(saved), loaded(saved, scheduler=name)
    assert type(other.pipe.scheduler).__name__ == SCHEDULERS[name]
    assert torch.allclose(other.pipe.scheduler.alphas_cumprod, own.pipe.scheduler.alphas_cumprod)
    assert other.describe()["scheduler"] == SCHEDULERS[name]
    assert [*other.steps(["a"], [0], num_inference_steps=5)][-1].x_prev.isfinite().all()


def test_the_prediction_type_survives_a_switch_of_scheduler(tmp_path):
    tiny.stable_diffusion("v_prediction").save_pretrained(tmp_path)
    assert loaded(tmp_path, scheduler="dpm++").prediction_type == "v_prediction"


@pytest.mark.parametrize("name", ["ddim", "ddpm"])
def test_a_scheduler_that_knows_no_clipping_is_not_given_one(tmp_path, name):
    tiny.stable_diffusion(scheduler="dpm++").save_pretrained(tmp_path)
    assert "clip_sample" not in load(str(tmp_path), device="cpu").scheduler.config
    assert load(str(tmp_path), device="cpu", scheduler=name).scheduler.config.clip_sample is False


def test_clipping_that_a_model_asks_for_is_kept(tmp_path):
    pipe = tiny.unconditional()
    pipe.scheduler = tiny.scheduler("ddpm", clip_sample=True)
    pipe.save_pretrained(tmp_path)
    assert load(str(tmp_path), device="cpu", scheduler="ddim").scheduler.config.clip_sample is True


def test_an_unknown_scheduler_is_refused(saved):
    expected = "There is no scheduler 'heun'; use own, ddim, ddpm, dpm++, euler, pndm, unipc."
    assert refusal(saved, scheduler="heun") == expected


# Device and dtype


@pytest.mark.parametrize("device", ["nope", "cuda:77", "meta", ""])
def test_a_device_that_is_not_there_is_refused(saved, device):
    assert refusal(saved, device=device) == f"Device '{device}' is not to be had here; use auto or cpu."


def test_an_unknown_dtype_is_refused(saved):
    expected = "'int8' is not a dtype to run in; use auto, float32, float16, bfloat16."
    assert refusal(saved, dtype="int8") == expected


def test_the_cpu_runs_in_float32_unless_asked_otherwise(saved):
    cpu = torch.device("cpu")
    assert pick_device("cpu") == cpu and pick_dtype("auto", cpu) == torch.float32
    assert pick_dtype("auto", torch.device("cuda")) == torch.float16
    assert pick_dtype("auto", torch.device("cuda"), by_row=True) == torch.bfloat16
    assert pick_dtype("auto", cpu, by_row=True) == torch.float32
    classes = {"demo": "StableDiffusionPipeline", "demo-flow": "StableDiffusion3Pipeline", "nowhere": None}
    assert {name: class_named(name) for name in classes} == classes
    assert loaded(saved).dtype == torch.float32
    half = loaded(saved, dtype="bfloat16")
    assert {m.dtype for m in half.modules.values()} == {torch.bfloat16}
    step = next(half.steps(["a cat"], [0]))
    assert step.x_t.dtype == torch.bfloat16 and step.eps_cond.dtype == torch.float32
    assert half.describe()["dtype"] == "bfloat16" and half.weights_hash != loaded(saved).weights_hash


# Single files


@pytest.fixture(params=["sd", "xl"])
def checkpoint(request, tmp_path):
    """A single-file checkpoint without its configuration, and the pipeline that it was made of."""
    pipe = tiny.stable_diffusion() if request.param == "sd" else tiny.stable_diffusion_xl()
    save_file(tiny.single_file(pipe), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors", pipe


def configuration(checkpoint):
    file, pipe = checkpoint
    pipe.save_pretrained(file.with_suffix(""))
    for weights in file.with_suffix("").rglob("*.safetensors"):
        weights.unlink()


def test_a_single_file_with_its_configuration_beside_it_is_the_pipeline(checkpoint):
    file, pipe = checkpoint
    configuration(checkpoint)
    model = loaded(file)
    assert type(model.pipe) is type(pipe) and getattr(model.pipe, "safety_checker", None) is None
    assert model.weights_hash == Denoiser(pipe).weights_hash
    assert torch.equal(eps(model), eps(Denoiser(pipe)))


def test_a_single_file_without_its_configuration_or_a_network_says_where_to_put_it(checkpoint):
    file, _ = checkpoint
    sentence = refusal(file)
    assert f"{file} could not be loaded as a single-file checkpoint" in sentence
    assert f"(without a network, put its configuration in the folder {file.with_suffix('')})" in sentence


def test_a_single_file_that_lacks_weights_is_refused(checkpoint):
    file, _ = checkpoint
    configuration(checkpoint)
    weights = load_file(file)
    del weights["model.diffusion_model.out.2.weight"]
    save_file(weights, file)
    assert refusal(file) == f"{file} lacks 1 weights of the model's unet, conv_out.weight."


@pytest.mark.parametrize("content", [b"", b"junk" * 100, b"\xff" * 8])
def test_a_corrupted_single_file_is_refused(tmp_path, content):
    file = tmp_path / "model.safetensors"
    file.write_bytes(content)
    assert refusal(file).startswith(f"{file} is not a readable safetensors file: ")


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", [".ckpt", ".bin", ".pt", ".pth"])
def test_a_pickled_file_is_refused_and_never_opened(tmp_path, suffix):
    file, mark = tmp_path / f"model{suffix}", tmp_path / "opened"
    torch.save(Bomb(mark), file)
    expected = f"{file} is not a .safetensors file, and pickled checkpoints are not opened; convert it first."
    assert refusal(file) == expected and not mark.exists()
    torch.load(file, weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize("part, name", [("unet", "diffusion_pytorch_model"), ("text_encoder", "pytorch_model")])
def test_a_folder_with_pickled_weights_is_refused_whether_they_are_harmless_or_not(broken, tmp_path, part, name):
    for weights in (broken / part).glob("*.safetensors"):
        harmless = load_file(weights)
        weights.unlink()
    for content in (harmless, Bomb(tmp_path / "opened")):
        torch.save(content, broken / part / f"{name}.bin")
        assert f"has only pickled weights ({name}.bin), which are not opened" in refusal(broken)
    assert not (tmp_path / "opened").exists()


# What is not a model


@pytest.mark.parametrize("model", ["nothing", "/nowhere/model", "./model", "a/b/c", "~/model"])
def test_a_model_that_is_nowhere_is_refused(model):
    expected = f"There is no model at '{model}'; give demo, demo-flow, a folder, a .safetensors file or a hub id."
    assert refusal(model) == expected


def test_a_hub_model_that_is_not_here_is_refused_without_a_network():
    assert "'nobody/nothing' could not be loaded as a diffusers pipeline: " in refusal("nobody/nothing")


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path):
    expected = f"{tmp_path} holds no model_index.json; give the folder of a saved diffusers pipeline."
    assert refusal(tmp_path) == expected


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe\x00"])
def test_an_index_that_is_not_json_is_refused(broken, content):
    (broken / "model_index.json").write_bytes(content)
    assert refusal(broken).startswith(f"{broken / 'model_index.json'} is not readable JSON: ")


@pytest.mark.parametrize("content", ["null", "3", "[]", '"safety_checker"'])
def test_an_index_that_is_no_index_is_refused(broken, content):
    (broken / "model_index.json").write_text(content)
    assert refusal(broken) == f"{broken / 'model_index.json'} is not the index of a diffusers pipeline."


@pytest.mark.parametrize("content", [{}, {"_class_name": "Nonesuch"}, {"_class_name": ["pipeline", "Own"]}])
def test_an_index_of_an_unknown_pipeline_is_refused(broken, content):
    (broken / "model_index.json").write_text(json.dumps(content))
    assert refusal(broken).startswith(f"'{broken}' could not be loaded as a diffusers pipeline: ")


@pytest.mark.parametrize("file", [UNET, "text_encoder/model.safetensors", "vae/diffusion_pytorch_model.safetensors"])
@pytest.mark.parametrize("damage", [lambda b: b"junk" * 99, lambda b: b[:500], lambda b: b[:-8], lambda b: b""])
def test_corrupted_weights_are_refused(broken, file, damage):
    (broken / file).write_bytes(damage((broken / file).read_bytes()))
    part = file.partition("/")[0]
    assert refusal(broken).startswith(f"The {part} of {broken} could not be loaded: ")


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("part", ["unet", "scheduler", "tokenizer", "text_encoder"])
def test_a_folder_with_a_part_missing_is_refused(broken, part, empty):
    shutil.rmtree(broken / part)
    if empty:
        (broken / part).mkdir()
    assert refusal(broken) == f"{broken} lacks its {part}, which its model_index.json names."


def test_a_network_that_lacks_weights_is_refused(saved, broken):
    weights = load_file(broken / UNET)
    del weights["conv_out.weight"]
    save_file(weights, broken / UNET)
    total = len(weights) + 1
    expected = f"The unet in {broken / 'unet'} lacks 1 of its {total} weights, conv_out.weight."
    assert refusal(broken) == expected == refusal(saved, unet=broken)


# The hash of the weights


def test_the_hash_changes_with_any_one_weight_and_with_nothing_else():
    pipe = tiny.stable_diffusion()
    before = Denoiser(pipe).weights_hash
    assert len(before) == 16 and int(before, 16) >= 0
    Denoiser(pipe).generate(["a"], [0], num_inference_steps=2)
    pipe.scheduler = tiny.scheduler("euler")
    assert Denoiser(pipe).weights_hash == before == Denoiser(tiny.stable_diffusion()).weights_hash
    seen = {before}
    for module in (pipe.unet, pipe.vae, pipe.text_encoder):
        for parameter in [*module.parameters()][:: max(1, len([*module.parameters()]) // 4)]:
            kept = parameter.data.clone()
            parameter.data.view(-1)[-1] += 1e-3
            seen.add(changed := Denoiser(pipe).weights_hash)
            assert changed != before
            parameter.data.copy_(kept)
    assert len(seen) > 12 and Denoiser(pipe).weights_hash == before


def test_the_hash_sees_two_weights_change_places():
    pipe = tiny.stable_diffusion()
    before = Denoiser(pipe).weights_hash
    down, up = (pipe.unet.get_submodule(f"mid_block.resnets.{i}.norm1") for i in (0, 1))
    down.weight.data, up.weight.data = up.weight.data, down.weight.data
    assert Denoiser(pipe).weights_hash != before


def test_the_hash_sees_the_shape_of_a_weight():
    pipe = tiny.stable_diffusion()
    before = Denoiser(pipe).weights_hash
    weight = pipe.unet.conv_in.weight
    weight.data = weight.data.flatten()
    assert Denoiser(pipe).weights_hash != before


def test_every_named_scheduler_is_one_of_diffusers():
    assert all(hasattr(diffusers, name) for name in SCHEDULERS.values())
