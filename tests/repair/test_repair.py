"""A LoRA whose channels leave the base's principal subspace: closed forms, and the file that is written."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.training_utils import _collate_lora_metadata
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image
from safetensors.torch import load_file, save_file

import tiny
from mnemoscope.errors import UsageError
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.weights.lora_file import read_lora
from mnemoscope.model.weights.marks import read_header
from mnemoscope.repair.channels import alignments, channels_of, damped, principal_subspace
from mnemoscope.repair.run import Repair, run_repair
from mnemoscope.run.run import read_json, read_rows

FILE = "pytorch_lora_weights.safetensors"


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_principal_subspace_is_the_fewest_directions_that_hold_the_energy() -> None:
    weight = torch.zeros(5, 4)
    weight[[2, 0, 4], [1, 3, 0]] = torch.tensor([3.0, -2.0, 1.0])  # squares 9, 4 and 1 of 14
    for energy, count in ((0.0, 1), (9 / 14, 1), (0.65, 2), (13 / 14, 2), (0.93, 3), (1.0, 3)):
        found = principal_subspace(weight, energy)
        assert found.left.shape == (5, count) and found.right.shape == (4, count)
    one = principal_subspace(weight, 0.5)
    assert one.left[2].abs() == 1 and one.right[1].abs() == 1
    assert principal_subspace(torch.zeros(3, 2), 0.9).left.shape == (3, 0)


def test_a_channel_inside_stays_to_the_bit_and_one_outside_is_multiplied_by_the_factor() -> None:
    base = principal_subspace(torch.diag(torch.tensor([10.0, 8.0, 0.1, 0.1])), 0.9)
    up, down = torch.zeros(4, 2), torch.zeros(2, 4)
    up[1, 0], down[0, 0] = 0.3, 0.7  # from the first direction to the second: inside
    up[3, 1], down[1, 2] = 0.9, 0.5  # from the third to the fourth: outside
    channels = channels_of(up, down)
    assert alignments(channels, base).tolist() == [0, 1]  # the one outside is the larger one
    outside = alignments(channels, base) < 0.5
    made = damped(up, channels.left[:, outside], 0.25)
    assert torch.equal(made[:, 0], up[:, 0])
    assert torch.allclose(made[:, 1], 0.25 * up[:, 1], rtol=1e-6, atol=1e-9)
    assert damped(up, channels.left[:, :0], 0.25) is up
    assert damped(up, channels.left[:, outside], 0.0)[:, 1].abs().max() < 1e-15


@pytest.mark.parametrize(("out", "into"), [(0.0, 0.0), (0.3, 0.0), (0.0, 1.2), (0.4, 0.9)])
def test_an_alignment_is_the_product_of_the_cosines_of_both_sides(out: float, into: float) -> None:
    base = principal_subspace(torch.diag(torch.tensor([5.0, 0.0, 0.0])), 0.9)
    u = torch.tensor([[out], [0.0], [0.0]]).cos() * torch.tensor([[1.0], [0.0], [0.0]])
    u = u + torch.tensor([[0.0], [out], [0.0]]).sin()
    v = torch.tensor([torch.tensor(into).cos(), 0.0, torch.tensor(into).sin()])
    found = alignments(channels_of(2 * u, v[None]), base)
    assert found.item() == pytest.approx(float(torch.tensor(out).cos() * torch.tensor(into).cos()), abs=1e-6)


@pytest.mark.parametrize(("out", "into"), [(3, 9), (9, 3), (4, 4)])
def test_an_update_has_no_more_channels_than_its_layer_has_sides(out: int, into: int) -> None:
    up, down = drawn(out, 6), drawn(6, into, seed=1)
    found = channels_of(up, down)
    assert found.left.shape == (out, min(out, into)) and found.right.shape == (into, min(out, into))
    assert torch.allclose(found.left * found.values @ found.right.T, (up @ down).double(), atol=1e-5)


def test_only_the_channels_that_leave_change_as_a_full_svd_says() -> None:
    weight = drawn(12, 3) @ drawn(3, 9, seed=1) + 0.01 * drawn(12, 9, seed=2)
    up, down = drawn(12, 5, seed=3), drawn(5, 9, seed=4)
    base, channels = principal_subspace(weight, 0.99), channels_of(up, down)
    outside = alignments(channels, base) < 0.3
    assert 0 < outside.sum() < 5
    left, values, right = torch.linalg.svd((up @ down).double(), full_matrices=False)
    inside = [(base.left @ (base.left.T @ left[:, k])).norm() * (right[k] @ base.right).norm() for k in range(5)]
    assert torch.allclose(torch.stack(inside), alignments(channels, base), atol=1e-6)
    scale = torch.tensor([0.2 if value < 0.3 else 1.0 for value in inside]).double()
    expected = left[:, :5] * (values[:5] * scale) @ right[:5]
    assert torch.allclose(damped(up, channels.left[:, outside], 0.2).double() @ down.double(), expected, atol=1e-5)


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    """A LoRA of attention and of convolutions of the tiny pipeline, with an alpha of its own, as diffusers saves it."""
    network = tiny.unet()
    config = LoraConfig(r=3, lora_alpha=6, target_modules=["to_q", "to_v", "conv1"], init_lora_weights=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network.add_adapter(config)
    layers = convert_state_dict_to_diffusers(get_peft_model_state_dict(network))
    about = _collate_lora_metadata({"unet": network})
    StableDiffusionPipeline.save_lora_weights(tmp_path / "lora", unet_lora_layers=layers, **about)
    return tmp_path / "lora"


def base() -> Denoiser:
    return Denoiser(tiny.stable_diffusion(), source="tiny")


def test_the_repaired_file_is_the_first_one_but_for_what_was_damped(lora: Path, tmp_path: Path) -> None:
    found = run_repair(base(), lora, tmp_path / "run", Repair(energy=0.7, least_alignment=0.45, factor=0.1))
    before, after = load_file(lora / FILE), load_file(tmp_path / "run" / "lora" / FILE)
    assert read_header(lora / FILE)[1] == read_header(tmp_path / "run" / "lora" / FILE)[1]
    assert before.keys() == after.keys() and all(before[k].dtype == after[k].dtype for k in before)
    rows, updates = read_rows(tmp_path / "run"), {u.stem: u for u in read_lora(lora / FILE).updates}
    assert found["layers"] == len(rows) == len(before) // 2 and 0 < found["damped"] < found["channels"]
    for row in rows:
        up, down = (updates[row["id"]].key(side) for side in ("up", "down"))
        assert torch.equal(before[down], after[down])
        assert torch.equal(before[up], after[up]) is (row["damped"] == 0)
        values = torch.linalg.svdvals(after[up].double().flatten(1) @ after[down].double().flatten(1))[:3]
        scaled = [v * (0.1 if a < 0.45 else 1) for v, a in zip(row["values"], row["alignments"], strict=True)]
        assert values.tolist() == pytest.approx(sorted(scaled, reverse=True), rel=1e-4)
        assert row["norm_after"] == pytest.approx(sum(v**2 for v in scaled) ** 0.5)
    assert found["norm_kept"] == pytest.approx(found["norm_after"] / found["norm_before"])


def test_plain_diffusers_loads_it_and_it_is_what_the_option_merges(lora: Path, tmp_path: Path) -> None:
    run_repair(base(), lora, tmp_path / "run", Repair(energy=0.7, least_alignment=0.45))
    plain = tiny.stable_diffusion()
    plain.load_lora_weights(tmp_path / "run" / "lora")
    plain.fuse_lora()
    tiny.stable_diffusion().save_pretrained(tmp_path / "base")
    ours = Denoiser.from_pretrained(str(tmp_path / "base"), lora=tmp_path / "run", device="cpu").pipe.unet.state_dict()
    theirs = {k.replace(".base_layer", ""): v for k, v in plain.unet.state_dict().items() if "lora_" not in k}
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[k], theirs[k], atol=1e-5) for k in ours)
    untouched = tiny.unet().state_dict()
    assert any(not torch.equal(ours[k], untouched[k]) for k in ours)


def test_where_nothing_leaves_the_subspace_the_file_is_the_same_to_the_bit(lora: Path, tmp_path: Path) -> None:
    found = run_repair(base(), lora, tmp_path / "run", Repair(energy=1.0, least_alignment=0.0))
    before, after = load_file(lora / FILE), load_file(tmp_path / "run" / "lora" / FILE)
    assert found["damped"] == 0 and found["norm_kept"] == 1
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_what_has_no_two_factors_or_is_of_another_model_is_refused(lora: Path, tmp_path: Path) -> None:
    name = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    out, into = tiny.unet().get_submodule(name.removeprefix("unet.")).weight.shape
    parts = {"hada_w1_a": (out, 2), "hada_w1_b": (2, into), "hada_w2_a": (out, 2), "hada_w2_b": (2, into)}
    save_file({f"{name}.{role}": drawn(*shape) for role, shape in parts.items()}, tmp_path / "loha.safetensors")
    with pytest.raises(UsageError, match="holds a loha update"):
        run_repair(base(), tmp_path / "loha.safetensors", tmp_path / "run", Repair())
    renamed = {key.replace("down_blocks", "side_blocks"): value for key, value in load_file(lora / FILE).items()}
    save_file(renamed, tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="belong to no layer of this model"):
        run_repair(base(), tmp_path / "other.safetensors", tmp_path / "run2", Repair())
    with pytest.raises(UsageError, match="energy is 1.5"):
        Repair(energy=1.5)


def test_the_command_writes_the_run_and_its_page(mnemoscope, lora: Path, tmp_path: Path) -> None:
    tiny.stable_diffusion().save_pretrained(tmp_path / "base")
    words = ["repair", tmp_path / "base", "--lora", lora, "--energy", 0.7, "--device", "cpu"]
    words += ["--least-alignment", 0.45, "--out", tmp_path / "run"]
    code, printed, error = mnemoscope(*words)
    assert code == 0, error
    assert "channels in" in printed and "of the update's norm is left" in printed
    page = (tmp_path / "run" / "report.html").read_text()
    assert "damping outside the principal subspace" in page and "to_q" in page
    assert mnemoscope(*words)[0] == 0  # once more
    (tmp_path / "set").mkdir()
    Image.new("RGB", (16, 16), "red").save(tmp_path / "set" / "red.png")
    (tmp_path / "set" / "red.txt").write_text("red")
    words = ["recover", tmp_path / "base", "--lora", lora, "--edited-lora", tmp_path / "run", "--device", "cpu"]
    words += ["--prompts", tmp_path / "set", "--references", tmp_path / "set", "--features", "pixels"]
    words += ["--threshold", 0.8, "--images", 1, "--num-inference-steps", 1, "--attack-steps", 1, "--attack-batch", 1]
    code, _, error = mnemoscope(*words, "--out", tmp_path / "recovered")
    assert code == 0, error
    record = read_json(tmp_path / "recovered" / "run.json")
    assert record["edited"]["weights"] != record["model"]["weights"]
    assert record["edited"]["parts"]["loras"][0]["file"].startswith(str(tmp_path / "run"))
    code, _, error = mnemoscope("repair", tmp_path / "base", "--out", tmp_path / "none")
    assert code == 2 and "A repair is of one LoRA, and 0 were given" in error
