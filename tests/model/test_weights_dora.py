"""DoRA under PEFT's names and LyCORIS's, and updates of joined projections, merged as their own code does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import tiny
import tiny_families
from mnemoscope.errors import UsageError
from mnemoscope.model.weights.lora import merge_lora

NAMES = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn2.to_k", "attn2.to_v", "conv1")


def layers(network: torch.nn.Module) -> dict[str, Any]:
    return {name: m for name, m in network.named_modules() if name.endswith(NAMES)}


def saved(state: dict[str, torch.Tensor], file: Path) -> Path:
    save_file({k: v.contiguous() for k, v in state.items()}, file)
    return file


def pipeline() -> Any:
    torch.manual_seed(0)
    return tiny.stable_diffusion("epsilon")


def test_dora_is_merged_as_peft_merges_it(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed")
    pipe, other = pipeline(), pipeline()
    config = peft.LoraConfig(r=3, lora_alpha=6, use_dora=True, target_modules=list(layers(other.unet)))
    model = peft.get_peft_model(other.unet, config)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path / "a")
    done = merge_lora(pipe, tmp_path / "a", 1.0)
    assert done[0]["layers"] == done[0]["changed"] == len(layers(pipe.unet))
    merged = model.merge_and_unload().state_dict()
    plain = pipeline().unet.state_dict()
    for name in layers(pipe.unet):
        found, wanted = pipe.unet.state_dict()[f"{name}.weight"], merged[f"{name}.weight"]
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        assert (found - plain[f"{name}.weight"]).abs().max() > 0.01


@pytest.mark.parametrize("axis", [0, 1])
def test_dora_of_lycoris_has_its_norm_by_outputs_or_by_inputs(axis: int, tmp_path: Path) -> None:
    pipe, state, wanted = pipeline(), {}, {}
    for k, (name, module) in enumerate(layers(pipe.unet).items()):
        generator = torch.Generator().manual_seed(k)
        w = module.weight.detach().clone()
        up, down = torch.randn(len(w), 2, generator=generator), torch.randn(2, w[0].numel(), generator=generator)
        shape = [w.shape[a] if a == axis else 1 for a in range(w.dim())]
        scale = 1 + torch.rand(shape, generator=generator)
        moved = w + 0.5 * (up @ down).reshape(w.shape)  # alpha 1, rank 2
        norm = moved.pow(2).sum([a for a in range(w.dim()) if a != axis], keepdim=True).sqrt()
        wanted[name] = moved * scale / norm
        stem = f"lora_unet_{name.replace('.', '_')}"
        state |= {f"{stem}.lora_up.weight": up.reshape(*up.shape, *[1] * (w.dim() - 2)), f"{stem}.dora_scale": scale}
        state |= {f"{stem}.lora_down.weight": down.reshape(2, *w.shape[1:]), f"{stem}.alpha": torch.tensor(1.0)}
    merge_lora(pipe, saved(state, tmp_path / "l.safetensors"), 1.0)
    for name, module in layers(pipe.unet).items():
        torch.testing.assert_close(module.weight.detach(), wanted[name], rtol=1e-4, atol=1e-5)


def test_magnitudes_of_another_size_are_refused(tmp_path: Path) -> None:
    pipe = pipeline()
    name, module = next(iter(layers(pipe.unet).items()))
    w = module.weight
    state = {f"unet.{name}.lora_B.weight": torch.ones(len(w), 2), f"unet.{name}.lora_magnitude_vector": torch.ones(7)}
    state[f"unet.{name}.lora_A.weight"] = torch.ones(2, w[0].numel())
    with pytest.raises(UsageError, match="updates of 1 of its 1 layers have another shape"):
        merge_lora(pipe, saved(state, tmp_path / "l.safetensors"), 1.0)


@pytest.mark.parametrize("with_magnitudes", [False, True])
def test_joined_projections_are_taken_apart(with_magnitudes: bool, tmp_path: Path) -> None:
    """As diffusers joins them by `fuse_qkv_projections`: outputs of the query, the key and the value in this order."""
    pipe, apart = pipeline(), pipeline()
    attention = [name.removesuffix(".to_q") for name in layers(pipe.unet) if name.endswith("attn1.to_q")]
    joined, single = {}, {}
    for k, name in enumerate(attention):
        generator = torch.Generator().manual_seed(k)
        own = [pipe.unet.get_submodule(f"{name}.{each}").weight for each in ("to_q", "to_k", "to_v")]
        down = torch.randn(2, own[0].shape[1], generator=generator)
        up = torch.randn(sum(map(len, own)), 2, generator=generator)
        size = 1 + torch.rand(len(up), generator=generator)
        joined |= {f"unet.{name}.to_qkv.lora_A.weight": down, f"unet.{name}.to_qkv.lora_B.weight": up}
        joined |= {f"unet.{name}.to_qkv.lora_magnitude_vector": size} if with_magnitudes else {}
        sizes = [len(w) for w in own]
        for each, part, m in zip(("to_q", "to_k", "to_v"), up.split(sizes), size.split(sizes), strict=True):
            single |= {f"unet.{name}.{each}.lora_A.weight": down.clone(), f"unet.{name}.{each}.lora_B.weight": part}
            single |= {f"unet.{name}.{each}.lora_magnitude_vector": m} if with_magnitudes else {}
    done = merge_lora(pipe, saved(joined, tmp_path / "joined.safetensors"), 0.7)
    assert done[0]["changed"] == 3 * len(attention)
    merge_lora(apart, saved(single, tmp_path / "apart.safetensors"), 0.7)
    for one, other in zip(pipe.unet.parameters(), apart.unet.parameters(), strict=True):
        assert torch.equal(one, other)


def test_joined_outputs_that_do_not_add_up_are_refused(tmp_path: Path) -> None:
    pipe = pipeline()
    name = next(n for n in layers(pipe.unet) if n.endswith("attn1.to_q")).removesuffix(".to_q")
    state = {
        f"unet.{name}.to_qkv.lora_A.weight": torch.ones(2, 32),
        f"unet.{name}.to_qkv.lora_B.weight": torch.ones(5, 2),
    }
    with pytest.raises(UsageError, match="2 of its 2 keys belong to no layer of this model"):
        merge_lora(pipe, saved(state, tmp_path / "l.safetensors"), 1.0)


def test_flux_lora_of_kohya_is_taken_apart_by_diffusers_own_names(tmp_path: Path) -> None:
    pipe, plain = tiny_families.flux(), tiny_families.flux()
    query = pipe.transformer.transformer_blocks[0].attn.to_q.weight
    down, up = torch.randn(2, query.shape[1]), torch.randn(3 * len(query), 2)
    stem = "lora_unet_double_blocks_0_img_attn_qkv"
    state = {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up, f"{stem}.alpha": torch.tensor(1.0)}
    done = merge_lora(pipe, saved(state, tmp_path / "l.safetensors"), 1.0)
    assert done[0]["changed"] == 3
    before, after = (p.transformer.transformer_blocks[0].attn for p in (plain, pipe))
    for name, part in zip(("to_q", "to_k", "to_v"), up.chunk(3), strict=True):
        moved = after.get_submodule(name).weight - before.get_submodule(name).weight
        torch.testing.assert_close(moved, 0.5 * part @ down, rtol=1e-4, atol=1e-5)
    strange = state | {k.replace("double_blocks", "triple_blocks"): v.clone() for k, v in state.items()}
    with pytest.raises(UsageError, match="3 of its .* keys belong to no layer of this model, lora_unet_triple"):
        merge_lora(pipe, saved(strange, tmp_path / "s.safetensors"), 1.0)
