"""LoRA files of every naming arrive whole, or are refused with counts; scales, ranks and alphas are the file's own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import tiny
from mnemoscope.errors import UsageError
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.weights.layer_names import Layers
from mnemoscope.model.weights.lora import merge_lora, parse_lora
from mnemoscope.model.weights.marks import read_header, save_with_header

ENDS = ("attn2.to_k", "attn2.to_v", "attn1.to_out.0", "conv1", "conv_shortcut", "proj_in", "time_emb_proj")
RANK = 2
State = dict[str, Tensor]


def factors(network: torch.nn.Module, ends: tuple[str, ...] = ENDS) -> dict[str, tuple[Tensor, Tensor]]:
    """(down, up) of some layers, drawn at random."""
    drawn, generator = {}, torch.Generator().manual_seed(0)
    for name, module in network.named_modules():
        if name.endswith(ends) and hasattr(module, "weight"):
            out, *rest = module.weight.shape
            shapes = ((RANK, *rest), (out, RANK, *(1 for _ in rest[1:])))
            drawn[name] = tuple(torch.randn(s, generator=generator) * 0.3 for s in shapes)
    assert len(drawn) > 1
    return drawn


def merged(network: torch.nn.Module, drawn: dict[str, tuple[Tensor, Tensor]], scale: float = 1.0) -> State:
    """W + scale B A, layer by layer, in float64."""
    state = {k: v.clone() for k, v in network.state_dict().items()}
    for name, (down, up) in drawn.items():
        product = up.double().flatten(1) @ down.double().flatten(1)
        weight = state[f"{name}.weight"]
        state[f"{name}.weight"] = (weight.double() + scale * product.view(weight.shape)).float()
    return state


def equal(network: torch.nn.Module, state: State) -> bool:
    own = network.state_dict()
    return own.keys() == state.keys() and all(torch.allclose(own[k], v, atol=1e-6) for k, v in state.items())


def under(drawn: dict, form: str, *, down: str = "lora_A", up: str = "lora_B") -> State:
    """The factors under names of a form, as in "unet.{}.{}.weight"."""
    return {
        form.format(n, kind): v.clone() for n, pair in drawn.items() for kind, v in zip((down, up), pair, strict=True)
    }


def flat(drawn: dict) -> dict:
    return {name.replace(".", "_"): pair for name, pair in drawn.items()}


def processors(drawn: dict) -> State:
    """The names of diffusers before its LoRA layers were modules."""
    state = {}
    for name, pair in drawn.items():
        head, last = name.removesuffix(".0").rsplit(".", 1)
        state |= {f"unet.{head}.processor.{last}_lora.{k}.weight": v for k, v in zip(("down", "up"), pair, strict=True)}
    return state


NAMINGS: dict[str, Callable[[dict], State]] = {
    "diffusers": lambda d: under(d, "unet.{}.{}.weight"),
    "diffusers, older": lambda d: under(d, "unet.{}.lora.{}.weight", down="down", up="up"),
    "peft": lambda d: under(d, "base_model.model.{}.{}.weight"),
    "peft, adapter named": lambda d: under(d, "base_model.model.{}.{}.default.weight"),
    "peft inside diffusers": lambda d: under(d, "unet.base_model.model.{}.{}.weight"),
    "no prefix": lambda d: under(d, "{}.{}.weight"),
    "kohya": lambda d: under(flat(d), "lora_unet_{}.{}.weight", down="lora_down", up="lora_up"),
    "lycoris": lambda d: under(flat(d), "lycoris_{}.{}.weight", down="lora_down", up="lora_up"),
    "up and down": lambda d: under(d, "unet.{}.{}.weight", down="lora_down", up="lora_up"),
}


@pytest.mark.parametrize("naming", NAMINGS)
def test_a_lora_of_every_naming_is_added_to_its_layers(naming: str, tmp_path: Path) -> None:
    pipe = tiny.stable_diffusion()
    drawn = factors(pipe.unet)
    save_file(NAMINGS[naming](drawn), tmp_path / "a.safetensors")
    (done,) = merge_lora(pipe, tmp_path / "a.safetensors", 1.0)
    assert done["layers"] == done["changed"] == len(drawn)
    assert equal(pipe.unet, merged(tiny.unet(), drawn))


def test_the_processors_of_old_files_are_added_to_their_layers(tmp_path: Path) -> None:
    pipe = tiny.stable_diffusion()
    drawn = factors(pipe.unet, ("attn1.to_q", "attn2.to_v", "attn2.to_out.0"))
    save_file(processors(drawn), tmp_path / "a.safetensors")
    merge_lora(pipe, tmp_path / "a.safetensors", 1.0)
    assert equal(pipe.unet, merged(tiny.unet(), drawn))


@pytest.mark.parametrize("prefix", ["lora_unet_{}", "diffusion_model.{}"])
@pytest.mark.parametrize("kind", ["tiny", "xl", "as 1.5"])
def test_the_block_names_of_the_original_code_mean_the_same_layers(kind: str, prefix: str, tmp_path: Path) -> None:
    network = tiny.unet_of_stable_diffusion_1() if kind == "as 1.5" else None
    pipe = tiny.stable_diffusion_xl() if kind == "xl" else tiny.stable_diffusion(network=network)
    plain = {k: v.clone() for k, v in pipe.unet.state_dict().items()}
    drawn = factors(pipe.unet, (*ENDS, "downsamplers.0.conv", "upsamplers.0.conv", "conv_in", "linear_1"))
    state, numbers = {}, numbered(pipe.unet)
    for name, (down, up) in drawn.items():
        stem = numbers[name]
        stem = stem.replace(".", "_") if "_{}" in prefix else stem
        state |= {prefix.format(stem) + f".lora_{k}.weight": v for k, v in (("down", down), ("up", up))}
    save_file(state, tmp_path / "a.safetensors")
    merge_lora(pipe, tmp_path / "a.safetensors", 1.0)
    reference = tiny.unet()
    reference.state_dict = lambda: plain
    assert equal(pipe.unet, merged(reference, drawn))


def numbered(unet: Any) -> dict[str, str]:
    """Names of the original code for each layer of a U-Net, by counting its blocks in the order that it builds them."""
    names, depth = (
        {"conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0"},
        unet.config.layers_per_block,
    )
    names["add_embedding.linear_1"] = "label_emb.0.0"
    place = 1
    for b, block in enumerate(unet.down_blocks):
        for layer in range(depth):
            names |= {f"down_blocks.{b}.resnets.{layer}": f"input_blocks.{place}.0"}
            names |= {f"down_blocks.{b}.attentions.{layer}": f"input_blocks.{place}.1"}
            place += 1
        if block.downsamplers:
            names[f"down_blocks.{b}.downsamplers.0.conv"] = f"input_blocks.{place}.0.op"
            place += 1
    names |= {"mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1"}
    names["mid_block.resnets.1"] = "middle_block.2"
    place = 0
    for b, block in enumerate(unet.up_blocks):
        for layer in range(depth + 1):
            names |= {f"up_blocks.{b}.resnets.{layer}": f"output_blocks.{place}.0"}
            names |= {f"up_blocks.{b}.attentions.{layer}": f"output_blocks.{place}.1"}
            place += 1
        if block.upsamplers:
            after = 2 if hasattr(block, "attentions") else 1
            names[f"up_blocks.{b}.upsamplers.0.conv"] = f"output_blocks.{place - 1}.{after}.conv"
    inner = {"conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "conv2": "out_layers.3"}
    inner["conv_shortcut"] = "skip_connection"
    found = {}
    for name, _ in unet.named_modules():
        head = next((h for h in names if name == h or name.startswith(h + ".")), None)
        if head is not None:
            rest = name.removeprefix(head)
            rest = "." + inner[rest[1:]] if ".resnets." in head and rest[1:] in inner else rest
            found[name] = names[head] + rest
    return found


def test_diffusers_own_loader_gives_the_same_weights(tmp_path: Path) -> None:
    """Its merged weights are the reference, with an alpha that differs from the rank, where it reads the file rightly.

    It does not where alphas differ from layer to layer, nor where a text encoder's layer has q_proj alone.
    """
    drawn = factors(tiny.unet(), ("to_q", "to_k", "to_v", "to_out.0"))
    text = factors(tiny.text_encoder(), ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"))
    kohya = NAMINGS["kohya"](drawn)
    prefix = {n: "lora_te_text_model_" + n.removeprefix("text_model.").replace(".", "_") for n in text}
    for name, pair in text.items():
        kohya |= {f"{prefix[name]}.lora_{k}.weight": v for k, v in zip(("down", "up"), pair, strict=True)}
    stems = {key.partition(".")[0] for key in kohya}
    kohya |= {f"{stem}.alpha": torch.tensor(1.0) for stem in stems}
    save_file(kohya, tmp_path / "a.safetensors")
    ours, theirs = tiny.stable_diffusion(), tiny.stable_diffusion()
    (done,) = merge_lora(ours, tmp_path / "a.safetensors", 0.7)
    assert done["layers"] == len(drawn) + len(text)
    theirs.load_lora_weights(str(tmp_path), weight_name="a.safetensors")
    theirs.fuse_lora(lora_scale=0.7, components=["unet", "text_encoder"])
    theirs.unload_lora_weights()
    for part in ("unet", "text_encoder"):
        plain = getattr(tiny.stable_diffusion(), part).state_dict()
        assert equal(getattr(ours, part), getattr(theirs, part).state_dict())
        assert not equal(getattr(ours, part), plain)


def test_the_alpha_of_a_header_or_of_an_adapters_folder_scales(tmp_path: Path) -> None:
    drawn = factors(tiny.unet(), ("attn2.to_k", "attn2.to_v"))
    folder = tmp_path / "adapter"
    folder.mkdir()
    save_file(NAMINGS["peft"](drawn), folder / "adapter_model.safetensors")
    cases: dict[str, tuple[dict, Callable[[str], float]]] = {
        "alpha": ({"lora_alpha": 6}, lambda _: 3.0),
        "rank-stabilized": ({"lora_alpha": 6, "use_rslora": True}, lambda _: 6 / 2**0.5),
        "pattern": ({"lora_alpha": 2, "alpha_pattern": {"attn2.to_v": 8}}, lambda n: 4.0 if "to_v" in n else 1.0),
    }
    for name, (more, scaling) in cases.items():
        config = {"peft_type": "LORA", "r": RANK, **more}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        header = {"lora_adapter_metadata": json.dumps({f"unet.{k}": v for k, v in config.items()})}
        save_file(NAMINGS["diffusers"](drawn), tmp_path / f"{name}.safetensors", metadata=header)
        expected = merged(tiny.unet(), {n: (down, scaling(n) * up) for n, (down, up) in drawn.items()})
        for path in (folder, folder / "adapter_model.safetensors", tmp_path / f"{name}.safetensors"):
            pipe = tiny.stable_diffusion()
            merge_lora(pipe, path, 1.0)
            assert equal(pipe.unet, expected), (name, path)


def test_adapters_of_several_networks_in_one_folder_all_arrive(tmp_path: Path) -> None:
    pipe = tiny.stable_diffusion()
    drawn, text = factors(pipe.unet), factors(pipe.text_encoder, ("q_proj", "v_proj"))
    for part, own in (("unet", drawn), ("text_encoder", text)):
        (tmp_path / part).mkdir()
        save_file(NAMINGS["peft"](own), tmp_path / part / "adapter_model.safetensors")
        (tmp_path / part / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "lora_alpha": RANK}))
    done = merge_lora(pipe, tmp_path, 1.0)
    assert sum(each["layers"] for each in done) == len(drawn) + len(text)
    assert equal(pipe.unet, merged(tiny.unet(), drawn))
    assert equal(pipe.text_encoder, merged(tiny.text_encoder(), text))


def test_the_two_text_encoders_of_xl_are_told_apart(tmp_path: Path) -> None:
    pipe = tiny.stable_diffusion_xl()
    other = {k: v.clone() for k, v in pipe.text_encoder_2.state_dict().items()}
    second = factors(pipe.text_encoder_2, ("q_proj",))
    state = {}
    for name, (down, up) in second.items():
        stem = "lora_te2_text_model_" + name.removeprefix("text_model.").replace(".", "_")
        state |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}
    save_file(state, tmp_path / "second.safetensors")
    merge_lora(pipe, tmp_path / "second.safetensors", 1.0)
    assert equal(pipe.text_encoder, tiny.text_encoder().state_dict())
    assert not equal(pipe.text_encoder_2, other)


def products(drawn: dict, kind: str) -> tuple[State, dict[str, Tensor]]:
    """A file of a kind other than LoRA, and what it adds to each layer."""
    state, added = {}, {}
    for name, (down, up) in drawn.items():
        stem, one = "lora_unet_" + name.replace(".", "_"), up.flatten(1) @ down.flatten(1)
        if kind == "loha":
            roles = {"hada_w1_a": up, "hada_w1_b": down, "hada_w2_a": -up, "hada_w2_b": down}
            added[name] = 0.25 * one * -one
        elif kind == "lokr":
            roles = {
                "lokr_w1": up[:2, :2].flatten(1),
                "lokr_w2_a": up[: len(up) // 2],
                "lokr_w2_b": down[:, : down.shape[1] // 2],
            }
            added[name] = 0.25 * torch.kron(roles["lokr_w1"], roles["lokr_w2_a"] @ roles["lokr_w2_b"])
        else:
            roles = {"diff": one.clone()}
            added[name] = one
        state |= {f"{stem}.{role}": value.clone().contiguous() for role, value in roles.items()}
        state |= {f"{stem}.alpha": torch.tensor(0.5)} if kind != "diff" else {}
    return state, added


@pytest.mark.parametrize("kind", ["loha", "lokr", "diff"])
def test_products_of_another_kind_are_added_as_their_papers_say(kind: str, tmp_path: Path) -> None:
    pipe = tiny.stable_diffusion()
    state, added = products(factors(pipe.unet, ("attn2.to_k", "attn2.to_v")), kind)
    save_file(state, tmp_path / "a.safetensors")
    merge_lora(pipe, tmp_path / "a.safetensors", 1.0)
    expected = tiny.unet().state_dict()
    assert equal(pipe.unet, {k: v + added.get(k.removesuffix(".weight"), 0.0) for k, v in expected.items()})


def refused(pipe: Any, state: State, file: Path, scale: float = 1.0, **header: str) -> str:
    """The sentence of the refusal; nothing of the pipeline was changed."""
    save_file({k: v.contiguous() for k, v in state.items()}, file, metadata=header or None)
    before = Denoiser(pipe).weights_hash
    with pytest.raises(UsageError) as caught:
        merge_lora(pipe, file, scale)
    assert Denoiser(pipe).weights_hash == before
    return str(caught.value)


def test_what_does_not_arrive_whole_is_refused_with_counts_and_changes_nothing(tmp_path: Path) -> None:
    pipe, file = tiny.stable_diffusion(), tmp_path / "a.safetensors"
    drawn = factors(pipe.unet, ("attn2.to_k", "attn2.to_v"))
    whole, count = NAMINGS["diffusers"](drawn), 2 * len(drawn)
    half = {k if "up_blocks" in k else k.replace("unet.", "unet.blocks_"): v for k, v in whole.items()}
    lost = sum("blocks_" in k for k in half)
    assert 0 < lost < count and f"{lost} of its {count} keys belong to no layer of this model" in refused(
        pipe, half, file
    )
    other = under(drawn, "transformer.{}.{}.weight")
    assert f"{count} of its {count} keys belong to no layer" in refused(pipe, other, file)
    flux = {"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": torch.ones(2, 4)}
    flux |= {"lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight": torch.ones(4, 2)}
    assert "2 of its 2 keys belong to no layer" in refused(pipe, flux, file)
    wide = {k: torch.cat([v, v], 1) if "lora_A" in k and "down_blocks" in k else v for k, v in whole.items()}
    misfits = sum("lora_A" in k and "down_blocks" in k for k in whole)
    assert f"the updates of {misfits} of its {len(drawn)} layers have another shape" in refused(pipe, wide, file)
    torn = {k: v for k, v in whole.items() if k != next(k for k in whole if "lora_B" in k)}
    assert f"the updates of 1 of its {len(drawn)} layers are incomplete" in refused(pipe, torn, file)
    saved_whole = {**whole, "unet.conv_norm_out.weight": torch.ones(16)}
    assert f"1 of its {count + 1} keys belong to no layer of this model, unet.conv_norm_out.weight" in refused(
        pipe, saved_whole, file
    )
    dora = {f"unet.{n}.lora_magnitude_vector": torch.ones(32) for n in drawn}
    assert f"{len(drawn)} of its {len(drawn)} layers are incomplete" in refused(pipe, dora, file)
    broken = {k: v * float("nan") for k, v in whole.items()}
    assert "not finite" in refused(pipe, broken, file)
    assert "holds no weights" in refused(pipe, {}, file)
    adapter = {"lora_adapter_metadata": json.dumps({"peft_type": "IA3"})}
    assert "is a IA3 adapter" in refused(pipe, whole, file, **adapter)
    assert "whole checkpoint" in refused(pipe, tiny.single_file(pipe), file)


def test_a_lora_that_changes_no_weight_is_refused(tmp_path: Path) -> None:
    pipe = tiny.stable_diffusion()
    drawn = factors(pipe.unet, ("attn2.to_k",))
    untrained = {k: v * 0 if "lora_B" in k else v for k, v in NAMINGS["diffusers"](drawn).items()}
    assert "changes no weight" in refused(pipe, untrained, tmp_path / "a.safetensors")
    small = {k: v * 1e-9 for k, v in NAMINGS["diffusers"](drawn).items()}
    assert "too small for this dtype" in refused(pipe, small, tmp_path / "a.safetensors")


def test_alphas_that_differ_from_layer_to_layer_are_each_heeded(tmp_path: Path) -> None:
    pipe = tiny.stable_diffusion()
    drawn = factors(pipe.unet, ("attn2.to_k", "attn2.to_v"))
    alphas = {name: float(1 + number % 3) for number, name in enumerate(drawn)}
    state = NAMINGS["kohya"](drawn)
    state |= {f"lora_unet_{n.replace('.', '_')}.alpha": torch.tensor(a) for n, a in alphas.items()}
    save_file(state, tmp_path / "a.safetensors")
    merge_lora(pipe, tmp_path / "a.safetensors", 1.0)
    assert equal(pipe.unet, merged(tiny.unet(), {n: (d, alphas[n] / RANK * u) for n, (d, u) in drawn.items()}))


def test_scales_are_read_from_the_option(tmp_path: Path) -> None:
    (tmp_path / "odd:0.5").write_bytes(b"")
    assert parse_lora("a/b.safetensors:0.7") == (Path("a/b.safetensors"), 0.7)
    assert parse_lora("a.safetensors:-1") == (Path("a.safetensors"), -1.0)
    assert parse_lora(tmp_path / "odd:0.5") == (tmp_path / "odd:0.5", 1.0)
    assert parse_lora("a:b") == (Path("a:b"), 1.0)
    for scale in ("0", "nan", "inf"):
        with pytest.raises(UsageError, match="give a number other than 0"):
            parse_lora(f"a.safetensors:{scale}")


def test_several_loras_add_up_with_their_scales_and_the_run_records_them(tmp_path: Path) -> None:
    tiny.stable_diffusion().save_pretrained(tmp_path / "sd")
    drawn = factors(tiny.unet(), ("attn2.to_k", "attn2.to_v"))
    one, two = (tmp_path / f"{n}.safetensors" for n in ("one", "two"))
    save_file(NAMINGS["diffusers"](drawn), one)
    save_file(NAMINGS["kohya"]({n: (down, -2 * up) for n, (down, up) in drawn.items()}), two)
    model = Denoiser.from_pretrained(tmp_path / "sd", lora=[f"{one}:0.5", two], device="cpu")
    assert equal(model.pipe.unet, merged(tiny.unet(), drawn, -1.5))
    loras = model.describe()["parts"]["loras"]
    assert [(each["file"], each["scale"]) for each in loras] == [(str(one), 0.5), (str(two), 1.0)]
    assert len({each["sha256"] for each in loras}) == 2 and all(len(each["sha256"]) == 16 for each in loras)
    again = Denoiser.from_pretrained(tmp_path / "sd", lora=[f"{one}:0.25", two], device="cpu")
    assert again.weights_hash != model.weights_hash


def test_a_folder_with_several_files_or_pickled_ones_is_refused(tmp_path: Path) -> None:
    pipe = tiny.stable_diffusion()
    for name in ("one", "two"):
        save_file({"x": torch.ones(1)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(UsageError, match="holds 2 files that may be a LoRA"):
        merge_lora(pipe, tmp_path, 1.0)
    with pytest.raises(UsageError, match=r"holds no LoRA.*; did you mean .*one.safetensors\?"):
        merge_lora(pipe, tmp_path / "oen.safetensors", 1.0)
    (tmp_path / "pickled").mkdir()
    torch.save({}, tmp_path / "pickled/adapter_model.bin")
    with pytest.raises(UsageError, match="pickled weights are not opened"):
        merge_lora(pipe, tmp_path / "pickled", 1.0)


def test_every_layer_with_a_matrix_is_found_by_its_own_name() -> None:
    for pipe in (tiny.stable_diffusion(), tiny.stable_diffusion_xl(), tiny.class_conditional()):
        layers = Layers(pipe)
        for component, table in layers.tables.items():
            network = getattr(pipe, component)
            for name, module in network.named_modules():
                if isinstance(getattr(module, "weight", None), torch.nn.Parameter):
                    assert (component, name, module) in layers.find(f"{component}.{name}")
            assert len({id(module) for _, module in table.values()}) > 5


def test_a_file_with_fields_in_its_header_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    tensors = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(3, dtype=torch.float16)}
    header = {"format": "pt", "size": "16x24", "café": '{"x": "\x1f\\n"}', "about": "é" * 5}
    files = [tmp_path / f"{k}.safetensors" for k in range(12)]
    for file in files:
        save_with_header(tensors, file, header if file != files[0] else dict(reversed(header.items())))
    assert len({file.read_bytes() for file in files}) == 1
    keys, found = read_header(files[0])
    assert sorted(keys) == ["a", "b"] and found == header
    read = load_file(files[0])
    assert all(torch.equal(read[k], v) and read[k].dtype == v.dtype for k, v in tensors.items())
