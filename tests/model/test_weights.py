"""Every weight of every network is from a file, or the model is refused; what is in the files and not used is told."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline, StableDiffusionXLInpaintPipeline
from safetensors.torch import load_file, save_file

import tiny
import tiny_families
from mnemoscope.errors import UsageError
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.loading import load, open_model
from mnemoscope.model.weights.heard import heard, in_one_line
from mnemoscope.model.weights.paths import on_the_hub

UNET = "unet/diffusion_pytorch_model.safetensors"
BUILDERS: dict[str, Callable] = {
    "sd": tiny.stable_diffusion,
    "xl": tiny.stable_diffusion_xl,
    "dit": tiny.class_conditional,
    "pixels": tiny.unconditional,
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    places = {name: tmp_path_factory.mktemp("saved") / name for name in BUILDERS}
    for name, build in BUILDERS.items():
        build().save_pretrained(places[name])
    return places


def weights_of(component: Path) -> Path:
    (file,) = component.glob("*.safetensors")
    return file


def refusal(model: object, **how: Any) -> str:
    with pytest.raises(UsageError) as caught:
        load(str(model), device="cpu", **how)
    sentence = str(caught.value)
    assert sentence and "\n" not in sentence and len(sentence) < 1000
    return sentence


def hash_of(model: object, **how: Any) -> str:
    return Denoiser.from_pretrained(str(model), device="cpu", **how).weights_hash


PARTS = [
    *(("sd", part) for part in ("unet", "vae", "text_encoder")),
    *(("xl", part) for part in ("text_encoder", "text_encoder_2")),
    ("dit", "transformer"),
    ("pixels", "unet"),
]


@pytest.mark.parametrize("family, part", PARTS)
def test_a_network_without_some_of_its_weights_is_refused(
    saved: dict[str, Path], family: str, part: str, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(saved[family], tmp_path / "broken"))
    file = weights_of(folder / part)
    whole = load_file(file)
    matrices = [k for k, v in whole.items() if v.dim() > 1]
    lost = matrices[len(matrices) // 2]
    lora_inside = {k.replace(lost, lost.replace(".weight", ".base_layer.weight")): v for k, v in whole.items()}
    for name, state in {
        "one is missing": {k: v for k, v in whole.items() if k != lost},
        "saved with a LoRA inside": lora_inside,
    }.items():
        save_file(state, file)
        assert f"The {part} in {folder / part} lacks 1 of its " in (said := refusal(folder)), name
        assert lost in said and ("base_layer" in said) == (state is lora_inside)
    save_file({f"module.net.{k}": v for k, v in whole.items()}, file)
    said = refusal(folder)
    assert f"lacks {len(whole)} of its " in said and f"{len(whole)} keys there are not its own" in said
    save_file({**whole, lost: torch.cat([whole[lost], whole[lost]])}, file)
    assert f"The {part} in {folder / part} has 1 weights of another shape: {lost} is " in refusal(folder)


def test_two_loads_of_what_is_whole_are_equal_and_nothing_is_warned_of(saved: dict[str, Path]) -> None:
    for family, folder in saved.items():
        model = Denoiser.from_pretrained(folder, device="cpu")
        assert model.weights_hash == Denoiser(BUILDERS[family]()).weights_hash
        assert model.opened.warnings == () and model.describe()["warnings"] == []


def test_other_versions_names_give_no_false_alarm(saved: dict[str, Path], tmp_path: Path) -> None:
    """Shards, files of older versions: position_ids, the text model's prefix or none, old names of the attention."""
    folder = Path(shutil.copytree(saved["sd"], tmp_path / "older"))
    expected = hash_of(folder)
    text, vae = weights_of(folder / "text_encoder"), weights_of(folder / "vae")
    state = {k.removeprefix("text_model."): v for k, v in load_file(text).items()}
    positions = {"text_model.embeddings.position_ids": torch.arange(tiny.CONTEXT)[None]}
    save_file({f"text_model.{k}": v for k, v in state.items()} | positions, text, metadata={"format": "pt"})
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for key, value in load_file(vae).items():
        for new, name in old.items():
            key = key.replace(f"attentions.0.{new}.", f"attentions.0.{name}.")
        renamed[key] = value
    assert any(".query." in key for key in renamed)
    save_file(renamed, vae, metadata={"format": "pt"})
    unet = tiny.unet()
    weights_of(folder / "unet").unlink()
    unet.save_pretrained(folder / "unet", max_shard_size="40KB")
    assert len(list((folder / "unet").glob("*.safetensors"))) > 2
    assert hash_of(folder) == expected
    shard = sorted((folder / "unet").glob("*.safetensors"))[1]
    part = load_file(shard)
    shard.unlink()
    assert "The unet of" in refusal(folder)
    save_file(dict([*part.items()][1:]), shard, metadata={"format": "pt"})
    assert "lacks 1 of its" in refusal(folder) or "could not be loaded" in refusal(folder)


def test_keys_that_are_not_used_are_named_in_the_run_and_in_one_line(
    saved: dict[str, Path], tmp_path: Path, mnemoscope: Callable[..., tuple]
) -> None:
    folder = Path(shutil.copytree(saved["sd"], tmp_path / "more"))
    for part in ("unet", "text_encoder"):
        file = weights_of(folder / part)
        more = {f"extra.{k}.weight": torch.ones(1) for k in range(5)}
        save_file({**load_file(file), **more}, file, metadata={"format": "pt"})
    (tmp_path / "prompts.txt").write_text("a b\n")
    asked = ["detect", folder, "--prompts", tmp_path / "prompts.txt", "--num-inference-steps", 2]
    code, _, error = mnemoscope(*asked, "--device", "cpu", "--out", tmp_path / "run")
    assert code == 0, error
    said = json.loads((tmp_path / "run/run.json").read_text())["model"]["warnings"]
    for part in ("unet", "text_encoder"):
        assert (
            f"{part}: 5 keys of its files are not used, extra.0.weight, extra.1.weight, extra.2.weight, ..."
            in "".join(said)
        )
    lines = [line for line in error.splitlines() if line.startswith("Note: ")]
    assert len(lines) == 1 and "more, in the run's record" in lines[0]
    code, _, error = mnemoscope(*asked, "--device", "cpu", "--out", tmp_path / "run")
    assert code == 0, error  # what was warned about is no setting


def test_warnings_of_the_libraries_are_kept_and_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    before = [(n, logging.getLogger(n).level, logging.getLogger(n).handlers[:]) for n in ("diffusers", "transformers")]
    said: list[str] = []
    with heard(said):
        logging.getLogger("diffusers.models.anything").warning("\x1b[1mone\x1b[0m\n%s lines", "two")
        logging.getLogger("transformers.modeling_utils").warning("other")
        logging.getLogger("transformers.modeling_utils").warning("other")
        logging.getLogger("transformers.modeling_utils").info("small talk")
        about = "`CLIPImageProcessor` requires torchvision (not installed); falling back to `CLIPImageProcessorPil`"
        logging.getLogger("transformers.utils").warning(about)
    assert said == ["one\ntwo lines", "other"]
    assert in_one_line(said) == "one two lines (and 1 more, in the run's record)"
    assert in_one_line(["x" * 500]) == "x" * 240 and in_one_line([]) == ""
    assert capfd.readouterr() == ("", "")
    assert before == [(n, logging.getLogger(n).level, logging.getLogger(n).handlers) for n, *_ in before]


# Variants


def test_weights_of_one_variant_are_found_by_their_names(saved: dict[str, Path], tmp_path: Path) -> None:
    pipe = tiny.stable_diffusion()
    pipe.save_pretrained(tmp_path / "half", variant="fp16")
    opened = open_model(str(tmp_path / "half"), device="cpu")
    assert opened.warnings == ("The fp16 variant was loaded, the only one there.",)
    assert Denoiser(opened.pipe).weights_hash == hash_of(saved["sd"]) == hash_of(tmp_path / "half", variant="fp16")
    shards = tmp_path / "shards"
    pipe.save_pretrained(shards, variant="fp16", max_shard_size="40KB")
    assert len(list((shards / "unet").glob("*.safetensors"))) > 2
    assert hash_of(shards) == hash_of(saved["sd"])


def test_a_variant_is_taken_where_there_is_one_and_plain_weights_otherwise(
    saved: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(saved["sd"], tmp_path / "both"))
    tiny.unet(seed=9).save_pretrained(folder / "unet", variant="non_ema")
    plain, other = hash_of(folder), hash_of(folder, variant="non_ema")
    assert plain == hash_of(saved["sd"]) != other
    assert refusal(folder, variant="fp16") == f"{folder} has no weights of the variant 'fp16'; leave out --variant."
    weights = folder / UNET
    weights.rename(folder / "unet/diffusion_pytorch_model.fp16.safetensors")
    expected = f"The unet in {folder / 'unet'} has the variants fp16 and non_ema; choose one with --variant."
    assert refusal(folder) == expected
    assert hash_of(folder, variant="non_ema") == other and hash_of(folder, variant="fp16") == plain


def test_a_network_without_any_weights_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved["sd"], tmp_path / "empty"))
    (folder / UNET).unlink()
    assert refusal(folder) == f"The unet in {folder / 'unet'} has no weights; safetensors files are needed there."


# Hub


def test_a_pipeline_in_the_hubs_cache_is_checked_like_a_folder(
    saved: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import DiffusionPipeline

    asked: dict[str, Any] = {}

    def download(model: str, **how: Any) -> str:
        asked.update(how, model=model)
        return str(tmp_path / "snapshot")

    shutil.copytree(saved["sd"], tmp_path / "snapshot")
    monkeypatch.setattr(DiffusionPipeline, "download", download)
    assert hash_of("nobody/nothing") == hash_of(saved["sd"])
    assert asked["use_safetensors"] is True and asked["safety_checker"] is None and asked["variant"] is None
    file = weights_of(tmp_path / "snapshot/text_encoder")
    save_file(dict([*load_file(file).items()][3:]), file, metadata={"format": "pt"})
    assert "lacks 3 of its" in refusal("nobody/nothing")


# Other pipelines of the same parts


@pytest.mark.parametrize("kind", [StableDiffusionXLImg2ImgPipeline, StableDiffusionXLInpaintPipeline])
def test_xl_saved_as_a_pipeline_for_pictures_draws_from_text(kind: type, tmp_path: Path) -> None:
    pipe = tiny.stable_diffusion_xl()
    kind(**pipe.components, add_watermarker=False).save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == kind.__name__
    model, own = Denoiser.from_pretrained(tmp_path, device="cpu"), Denoiser(pipe)
    assert type(model.pipe) is type(pipe) and model.weights_hash == own.weights_hash
    one, other = (m.generate(["a b"], [0], num_inference_steps=2)[0].tobytes() for m in (model, own))
    assert one == other


def test_a_network_that_needs_a_picture_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved["sd"], tmp_path / "inpaint"))
    tiny.unet(in_channels=9).save_pretrained(folder / "unet")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": "StableDiffusionInpaintPipeline"}))
    expected = "A StableDiffusionInpaintPipeline draws from a picture: its network takes 9 channels, 4 of them latents"
    assert expected in refusal(folder)


def edited(folder: Path, file: str, **changes: Any) -> Path:
    config = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**config, **changes}))
    return folder


def test_the_solver_of_a_flow_model_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved["sd"], tmp_path / "flow"))
    edited(folder, "scheduler/scheduler_config.json", _class_name="FlowMatchEulerDiscreteScheduler")
    edited(folder, "model_index.json", scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"])
    with pytest.raises(UsageError, match=r"^FlowMatchEulerDiscreteScheduler solves flow models, and a .* is none;"):
        Denoiser.from_pretrained(folder, device="cpu")


def test_a_solver_that_is_named_as_two_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(saved["sd"], tmp_path / "two"))
    own = json.loads((folder / "model_index.json").read_text())["scheduler"][1]
    edited(folder, "scheduler/scheduler_config.json", _class_name="EulerDiscreteScheduler")
    config = folder / "scheduler/scheduler_config.json"
    said = f"{folder / 'model_index.json'} names a {own}, and {config} a EulerDiscreteScheduler; correct the wrong one."
    assert refusal(folder) == said


@pytest.mark.parametrize("spacing", ["middle", None])
def test_a_solver_that_cannot_be_timed_is_refused_once(
    saved: dict[str, Path], tmp_path: Path, spacing: str | None
) -> None:
    folder = Path(shutil.copytree(saved["sd"], tmp_path / "untimed"))
    edited(folder, "scheduler/scheduler_config.json", timestep_spacing=spacing)
    model = Denoiser.from_pretrained(folder, device="cpu")
    with pytest.raises(UsageError, match=r"^\w+Scheduler cannot take 2 steps as it is configured \(.+\); correct its"):
        model.sampler(2)


# Paths


def test_a_mistyped_path_is_called_that(
    saved: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(saved["sd"], tmp_path / "models/my-model")
    (tmp_path / "models/photo.safetensors").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    for given, near in {
        "./models/my-modle": "models/my-model",
        "models/my-modle": "models/my-model",
        "models/photo.safetensor": "models/photo.safetensors",
        "models/phto.safetensors": "models/photo.safetensors",
        "dmeo": "demo",
    }.items():
        assert refusal(given) == f"There is no model at '{given}'; did you mean {near}?"
    assert refusal("model/my-model").endswith("; did you mean models/my-model?")  # after the hub was asked
    general = "; give demo, demo-flow, a folder, a .safetensors file or a hub id."
    for given in ("models/something-else", "owner/model.safetensors", "some where/else", "a/b/c", "x.ckpt"):
        assert refusal(given) == f"There is no model at '{given}'{general}"
    assert on_the_hub("owner/name") and not on_the_hub("models/name")
    assert refusal("models/my-model", unet="models/my-modle").endswith("; did you mean models/my-model?")
    assert refusal("models/my-model", text_encoder="models/my-modle").endswith("; did you mean models/my-model?")
    assert refusal("models/my-model", embedding="models/phto.safetensors").endswith(
        "did you mean models/photo.safetensors?"
    )


# Parts


def test_a_checkpoints_text_encoder_comes_with_its_unet(saved: dict[str, Path], tmp_path: Path) -> None:
    tuned, text = tiny.unet(seed=77), tiny.text_encoder(seed=78)
    tuned.save_pretrained(tmp_path / "checkpoint/unet")
    text.save_pretrained(tmp_path / "checkpoint/text_encoder")
    pipe = tiny.stable_diffusion(network=tuned)
    alone = Denoiser(pipe).weights_hash
    pipe.register_modules(text_encoder=text)
    both = Denoiser(pipe).weights_hash
    opened = open_model(str(saved["sd"]), unet=tmp_path / "checkpoint", device="cpu")
    assert Denoiser(opened.pipe).weights_hash == both
    assert opened.parts == {k: str(tmp_path / "checkpoint" / k) for k in ("unet", "text_encoder")}
    assert opened.warnings == (f"The text_encoder of {tmp_path / 'checkpoint'} was loaded with its U-Net.",)
    assert hash_of(saved["sd"], unet=tmp_path / "checkpoint/unet") == alone
    for place in ("checkpoint", "checkpoint/text_encoder"):
        assert hash_of(saved["sd"], unet=tmp_path / "checkpoint/unet", text_encoder=tmp_path / place) == both
    own = saved["sd"] / "text_encoder"
    assert hash_of(saved["sd"], unet=tmp_path / "checkpoint", text_encoder=own) == alone


def test_the_average_of_a_checkpoint_is_taken_where_it_is_alone(saved: dict[str, Path], tmp_path: Path) -> None:
    tuned = tiny.unet(seed=77)
    tuned.save_pretrained(tmp_path / "checkpoint-500/unet_ema")
    edited(tmp_path / "checkpoint-500/unet_ema", "config.json", decay=0.9999, optimization_step=500)
    expected = Denoiser(tiny.stable_diffusion(network=tuned)).weights_hash
    assert hash_of(saved["sd"], unet=tmp_path / "checkpoint-500") == expected
    file = tmp_path / "checkpoint-500/unet_ema/diffusion_pytorch_model.safetensors"
    assert hash_of(saved["sd"], unet=file) == expected


def test_a_text_encoder_that_does_not_fit_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    tiny.text_encoder(width=tiny.WIDER).save_pretrained(tmp_path / "wide")
    assert "its hidden_size is 48, and 32 is needed." in refusal(saved["sd"], text_encoder=tmp_path / "wide")
    assert "holds no text encoder; --text-encoder expects" in refusal(saved["sd"], text_encoder=tmp_path)
    broken = Path(shutil.copytree(saved["sd"] / "text_encoder", tmp_path / "broken"))
    save_file(dict([*load_file(weights_of(broken)).items()][1:]), weights_of(broken), metadata={"format": "pt"})
    assert f"The text_encoder in {broken} lacks 1 of its" in refusal(saved["sd"], text_encoder=broken)
    assert "holds a text_encoder, and DDIMPipeline has none." in refusal(saved["pixels"], text_encoder=saved["sd"])


# Embeddings


def test_an_embedding_is_what_its_token_means(saved: dict[str, Path], tmp_path: Path) -> None:
    vectors = torch.randn(3, tiny.WIDTH, generator=torch.Generator().manual_seed(0))
    files = {"<cat>": {"<cat>": vectors[0]}, "dog": {"emb_params": vectors}}
    for name, state in files.items():
        save_file(state, tmp_path / f"{name}.safetensors")
    given = [tmp_path / f"{name}.safetensors" for name in files]
    model = Denoiser.from_pretrained(saved["sd"], embedding=given, device="cpu")
    assert [e["tokens"] for e in model.describe()["parts"]["embeddings"]] == [{"<cat>": 1}, {"dog": 3}]
    assert model.weights_hash != hash_of(saved["sd"])
    tokenizer, rows = model.pipe.tokenizer, model.pipe.text_encoder.get_input_embeddings().weight
    for token, vector in [
        ("<cat>", vectors[0]),
        *((t, v) for t, v in zip(("dog", "dog_1", "dog_2"), vectors, strict=True)),
    ]:
        assert torch.equal(rows[tokenizer.convert_tokens_to_ids(token)], vector)
    plain = Denoiser.from_pretrained(saved["sd"], device="cpu")
    with_token, without = ("encoder_hidden_states" for _ in range(2))
    assert not torch.allclose(model.encode(["a <cat>"])[with_token], plain.encode(["a <cat>"])[without], atol=1e-2)
    assert torch.equal(model.encode(["a b"])[with_token], plain.encode(["a b"])[without])


def test_an_embedding_of_xl_has_vectors_for_both_encoders(saved: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "style.safetensors"
    both = {"clip_l": torch.ones(2, tiny.WIDTH), "clip_g": torch.ones(2, tiny.WIDER)}
    save_file(both, file)
    pipe = load(str(saved["xl"]), embedding=[file], device="cpu")
    for tokenizer, encoder in ((pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)):
        ids = tokenizer.convert_tokens_to_ids(["style", "style_1"])
        assert (encoder.get_input_embeddings().weight[ids] == 1).all()
    assert f"{file} holds vectors for text_encoder and text_encoder_2, and this model has text_encoder." in refusal(
        saved["sd"], embedding=[file]
    )
    save_file({"clip_l": both["clip_l"]}, file)
    assert "this model has text_encoder and text_encoder_2." in refusal(saved["xl"], embedding=[file])


def test_an_embedding_of_flux_has_vectors_for_its_clip_and_perhaps_for_its_t5(tmp_path: Path) -> None:
    tiny_families.flux().save_pretrained(tmp_path / "flux")
    options, file = {"device": "cpu", "size": (16, 16)}, tmp_path / "style.safetensors"
    flux, prompts = str(tmp_path / "flux"), ["a style", "a cat"]
    plain = Denoiser.from_pretrained(flux, **options).encode(prompts)
    for keys, moved in ((("clip_l",), False), (("clip_l", "t5"), True)):
        save_file({key: torch.full((2, tiny.WIDTH), 3.0) for key in keys}, file)
        model = Denoiser.from_pretrained(flux, embedding=[file], **options)
        found = model.encode(prompts)
        assert all(torch.equal(found[k][1], plain[k][1]) for k in plain)
        assert not torch.equal(found["pooled_projections"][0], plain["pooled_projections"][0])
        assert torch.equal(found["encoder_hidden_states"][0], plain["encoder_hidden_states"][0]) is not moved
        (own,) = model.family.spans(["a style"])
        assert {own[0].start, own[-1].end} == {0, 7}
    save_file({"clip_l": torch.ones(2, tiny.WIDTH), "clip_g": torch.ones(2, tiny.WIDTH)}, file)
    assert "1 of its 2 keys are not known, clip_g" in refusal(flux, embedding=[file])


def test_an_embedding_that_does_not_fit_is_refused(saved: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    cases = {
        "holds vectors of 5 numbers, and the text_encoder needs 32": {"x y": torch.ones(5)},
        "holds no embedding: no key has one vector": {"x": torch.ones(2, 2, 2)},
        "already in tokenizer vocabulary": {"a</w>": torch.ones(tiny.WIDTH)},
        "not finite": {"<x>": torch.full((tiny.WIDTH,), float("nan"))},
        "1 of its 2 keys are not known": {"clip_l": torch.ones(32), "other": torch.ones(32)},
    }
    for sentence, state in cases.items():
        save_file(state, file)
        assert sentence in refusal(saved["sd"], embedding=[file])
    assert "DiTPipeline takes no embeddings" in refusal(saved["dit"], embedding=[file])
    torch.save({}, tmp_path / "learned_embeds.bin")
    assert "pickled weights are not opened" in refusal(saved["sd"], embedding=[tmp_path / "learned_embeds.bin"])
