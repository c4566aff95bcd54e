"""LoRA files in the names of FLUX's and SD3's published code, and of what trains on it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import tiny_families
from mnemoscope.errors import UsageError
from mnemoscope.model.weights.lora import merge_lora

SPELT = {  # the same file under the names of several tools: what stands before a layer, and how its dots are written
    "published": ("", False),
    "comfy": ("diffusion_model.", False),
    "kohya": ("lora_unet_", True),
    "trained": ("transformer.", False),
}
FLUX = "attn.qkv attn.proj mlp.0 mlp.2 mod.lin"  # of images, and of text
SINGLE = "linear1 linear2 modulation.lin"
ENDS = "img_in txt_in time_in.in_layer vector_in.out_layer guidance_in.in_layer final_layer.linear"


def flux_layers() -> list[str]:
    blocks = [f"double_blocks.0.{kind}_{name}" for kind in ("img", "txt") for name in FLUX.split()]
    blocks += [f"single_blocks.0.{name}" for name in SINGLE.split()]
    return blocks + ENDS.split()


def sizes(layer: str) -> tuple[int, int]:
    """Outputs and inputs of a layer of the tiny FLUX, as its published code would have them."""
    special = {"mlp.0": (128, 32), "mlp.2": (32, 128), "modulation.lin": (96, 32), "mod.lin": (192, 32)}
    special |= {"qkv": (96, 32), "linear1": (224, 32), "linear2": (32, 160), "img_in": (32, 16)}
    special |= {"time_in.in_layer": (32, 256), "guidance_in.in_layer": (32, 256), "final_layer.linear": (16, 32)}
    return next((size for end, size in special.items() if layer.endswith(end)), (32, 32))


def updates(layers: list[str], spelt: str = "published", rank: int = 2) -> dict[str, Tensor]:
    prefix, flat = SPELT[spelt]
    generator, state = torch.Generator().manual_seed(0), {}
    for layer in layers:
        outputs, inputs = sizes(layer)
        stem = prefix + (layer.replace(".", "_") if flat else layer)
        down, up = ("lora_down", "lora_up") if flat else ("lora_A", "lora_B")
        state[f"{stem}.{down}.weight"] = torch.randn(rank, inputs, generator=generator)
        state[f"{stem}.{up}.weight"] = torch.randn(outputs, rank, generator=generator)
        state |= {f"{stem}.alpha": torch.tensor(1.0)} if flat else {}
    return state


def merged(state: Mapping[str, Tensor], file: Path, pipe: Any = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What a file changes in a tiny FLUX, or another pipeline, and what is recorded of it."""
    pipe = pipe or tiny_families.flux()
    before = {k: v.clone() for k, v in pipe.transformer.state_dict().items()}
    save_file({k: v.clone().contiguous() for k, v in state.items()}, file)
    (done,) = merge_lora(pipe, file, 1.0)
    return {k: v - before[k] for k, v in pipe.transformer.state_dict().items()}, done


@pytest.mark.parametrize("spelt", SPELT)
def test_every_layer_of_a_flux_lora_arrives(spelt: str, tmp_path: Path) -> None:
    state = updates(flux_layers(), spelt)
    moved, done = merged(state, tmp_path / "lora.safetensors")
    parts = len(flux_layers()) + 2 + 2 + 3
    assert done["layers"] == len(flux_layers()) and done["changed"] == parts
    prefix, flat = SPELT[spelt]
    scale = 0.5 if flat else 1.0
    down, up = (
        state[f"{prefix}{'single_blocks_0_linear1' if flat else 'single_blocks.0.linear1'}.{end}.weight"]
        for end in (("lora_down", "lora_up") if flat else ("lora_A", "lora_B"))
    )
    wanted = (scale * up @ down).split([32, 32, 32, 128])
    names = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
    for name, delta in zip(names, wanted, strict=True):
        torch.testing.assert_close(moved[f"single_transformer_blocks.0.{name}.weight"], delta, rtol=1e-3, atol=1e-5)


def test_it_is_what_diffusers_makes_of_the_file(tmp_path: Path) -> None:
    sized = (
        "linear1",
        *ENDS.split(),
    )  # which diffusers leaves out of such files, or takes to be those of FLUX.1's size
    layers = [name for name in flux_layers() if not name.endswith(sized)]
    state = updates(layers, "kohya")
    theirs = tiny_families.flux().lora_state_dict(dict(state))
    ours, done = merged(state, tmp_path / "kohya.safetensors")
    again, _ = merged({k: v for k, v in theirs.items() if "alpha" not in k}, tmp_path / "diffusers.safetensors")
    assert done["layers"] == len(layers)
    for name, delta in ours.items():
        torch.testing.assert_close(delta, again[name], rtol=1e-3, atol=1e-4, msg=name)


def test_processors_of_xlabs(tmp_path: Path) -> None:
    named = {"double_blocks.0.processor.qkv_lora1": "double_blocks.0.img_attn.qkv"}
    named |= {"double_blocks.0.processor.proj_lora1": "double_blocks.0.img_attn.proj"}
    named |= {"double_blocks.0.processor.qkv_lora2": "double_blocks.0.txt_attn.qkv"}
    named |= {"double_blocks.0.processor.proj_lora2": "double_blocks.0.txt_attn.proj"}
    named |= {"single_blocks.0.processor.proj_lora": "single_blocks.0.linear2"}
    plain = updates(list(named.values()))
    roles = {"lora_A": "down", "lora_B": "up"}
    state = {f"{x}.{roles[r]}.weight": plain[f"{layer}.{r}.weight"] for x, layer in named.items() for r in roles}
    joined = {"down": torch.randn(2, 32), "up": torch.randn(96, 2)}
    state |= {f"single_blocks.0.processor.qkv_lora.{role}.weight": value for role, value in joined.items()}
    ours, done = merged(state, tmp_path / "xlabs.safetensors")
    again, _ = merged(tiny_families.flux().lora_state_dict(dict(state)), tmp_path / "diffusers.safetensors")
    assert done["layers"] == 6 and done["changed"] == 12
    for name, delta in ours.items():
        torch.testing.assert_close(delta, again[name], rtol=1e-3, atol=1e-4, msg=name)


def test_lokr_and_loha_of_joined_projections_are_multiplied_and_taken_apart(tmp_path: Path) -> None:
    stem = "lycoris_double_blocks_0_img_attn_qkv"
    lokr = {f"{stem}.lokr_w1": torch.randn(3, 2), f"{stem}.lokr_w2_a": torch.randn(32, 4)}
    lokr |= {f"{stem}.lokr_w2_b": torch.randn(4, 16), f"{stem}.alpha": torch.tensor(2.0)}
    loha = {f"{stem}.hada_w{k}_{e}": torch.randn(96, 2) if e == "a" else torch.randn(2, 32) for k in "12" for e in "ab"}
    whole = 0.5 * torch.kron(lokr[f"{stem}.lokr_w1"], lokr[f"{stem}.lokr_w2_a"] @ lokr[f"{stem}.lokr_w2_b"])
    product = [loha[f"{stem}.hada_w{k}_a"] @ loha[f"{stem}.hada_w{k}_b"] for k in "12"]
    for name, state, delta in (("lokr", lokr, whole), ("loha", loha, product[0] * product[1])):
        moved, done = merged(state, tmp_path / f"{name}.safetensors")
        assert done["changed"] == 3
        for part, rows in zip("qkv", delta.chunk(3), strict=True):
            torch.testing.assert_close(moved[f"transformer_blocks.0.attn.to_{part}.weight"], rows, rtol=1e-3, atol=1e-4)


def test_stable_diffusion_3_in_its_published_names(tmp_path: Path) -> None:
    names = "x_block.attn.qkv x_block.attn.proj x_block.mlp.fc1 x_block.mlp.fc2 x_block.adaLN_modulation.1".split()
    names += (
        "context_block.attn.qkv context_block.attn.proj context_block.mlp.fc1 context_block.adaLN_modulation.1".split()
    )
    shapes = {"qkv": (96, 32), "fc1": (128, 32), "fc2": (32, 128), "adaLN_modulation.1": (192, 32)}
    state = {}
    for name in names:
        outputs, inputs = next((s for end, s in shapes.items() if name.endswith(end)), (32, 32))
        state[f"diffusion_model.joint_blocks.0.{name}.lora_A.weight"] = torch.randn(2, inputs)
        state[f"diffusion_model.joint_blocks.0.{name}.lora_B.weight"] = torch.randn(outputs, 2)
    moved, done = merged(state, tmp_path / "sd3.safetensors", tiny_families.sd3())
    assert done["layers"] == len(names) and done["changed"] == len(names) + 4
    key = "diffusion_model.joint_blocks.0.context_block.attn.qkv.lora_"
    delta = state[f"{key}B.weight"] @ state[f"{key}A.weight"]
    torch.testing.assert_close(moved["transformer_blocks.0.attn.add_k_proj.weight"], delta[32:64], rtol=1e-3, atol=1e-5)


def test_what_belongs_to_no_layer_is_counted_and_nothing_is_merged(tmp_path: Path) -> None:
    pipe, state = tiny_families.flux(), updates(flux_layers(), "comfy")
    before = {k: v.clone() for k, v in pipe.transformer.state_dict().items()}
    save_file(
        state | {k.replace("blocks.0", "blocks.9"): v.clone() for k, v in state.items()}, tmp_path / "l.safetensors"
    )
    with pytest.raises(UsageError, match="26 of its 64 keys belong to no layer of this model"):
        merge_lora(pipe, tmp_path / "l.safetensors", 1.0)
    assert all(torch.equal(v, before[k]) for k, v in pipe.transformer.state_dict().items())
    with pytest.raises(UsageError, match="belong to no layer"):  # of another family, whatever its shapes
        merged(state, tmp_path / "l.safetensors", tiny_families.sd3())
