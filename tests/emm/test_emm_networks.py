"""The networks of the EMM experiments: their sizes, the skip mask, what they are told, and their files."""

import json
from dataclasses import replace
from math import sqrt
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, UNet2DModel
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from mnemoscope.emm.networks import NetworkOptions, build
from mnemoscope.emm.networks.adapters import adapted, mask_skips
from mnemoscope.emm.networks.block import Block
from mnemoscope.emm.networks.embedding import Fourier, Positional
from mnemoscope.emm.networks.files import read_edm, write_edm
from mnemoscope.emm.networks.layers import Resampler
from mnemoscope.emm.networks.options import STYLES
from mnemoscope.emm.networks.preconditioning import Preconditioned
from mnemoscope.emm.networks.unet import UNet
from mnemoscope.errors import UsageError
from places import FIXTURES

SMALL = NetworkOptions(width=16, multipliers=(1, 2), blocks=1, attention=(4,), dropout=0, preconditioning="edm")
THREE = NetworkOptions(width=16, multipliers=(1, 2, 2), blocks=2, attention=(4,), dropout=0)
ADM = NetworkOptions("adm", 192, (1, 2, 3, 4), 3, (32, 16, 8))


NETWORKS = FIXTURES / "edm_networks"
GOLDEN = json.loads((NETWORKS / "index.json").read_text())
EDM = {"preconditioning": "edm"}


def outline(options: NetworkOptions, resolution: int = 32, **kinds: int) -> UNet:
    """A network without numbers."""
    with torch.device("meta"):
        return UNet(options, resolution=resolution, **({"channels": 3} | kinds))


def lively(options: NetworkOptions, **kinds: int) -> Preconditioned:
    """A network none of whose parts is near zero, as after a long training."""
    network = build(options, **({"channels": 1, "resolution": 8} | kinds)).eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(
                torch.randn(parameter.shape, generator=generator) * 0.2 + (0.5 if parameter.ndim == 1 else 0)
            )
    return network


def noise(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("change", "millions"),
    [({"blocks": b}, m) for b, m in ((2, 35.1), (4, 55.7), (6, 76.3), (8, 96.9), (10, 117.6), (12, 138.2))]
    + [({"width": w}, m) for w, m in ((192, 79.0), (256, 140.4), (320, 219.3))],
    ids=str,
)
def test_sizes_are_those_of_the_paper(change: dict[str, int], millions: float) -> None:
    size = sum(p.numel() for p in outline(replace(NetworkOptions(), **change)).parameters())
    assert round(size / 1e6, 1) == millions


def test_one_architecture_serves_three_resolutions_and_adm_has_its_published_size() -> None:
    sizes = {
        sum(p.numel() for p in outline(replace(NetworkOptions(), attention=(r // 2,)), r).parameters())
        for r in (32, 16, 8)
    }
    assert len(sizes) == 1
    assert round(sum(p.numel() for p in outline(ADM, 64, num_classes=1000).parameters()) / 1e6) == 296


@pytest.mark.parametrize(("blocks", "billions"), [(2, 25.4), (4, 42.4)])
def test_work_is_that_of_the_paper(blocks: int, billions: float) -> None:
    network = outline(replace(NetworkOptions(), blocks=blocks))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, 32, 32, device="meta"), torch.zeros(1, device="meta"))
    saved = sum(2 * 256 * 256 * (size**2 - (size // 2) ** 2) for size in (16, 32))  # 1x1 convolutions before repeating
    assert round((counter.get_total_flops() + saved) / 1e9, 1) == billions


@pytest.mark.parametrize("architecture", STYLES)
@pytest.mark.parametrize(("channels", "classes"), [(1, 0), (3, 7)])
def test_shapes_and_gradients_of_every_parameter(architecture: str, channels: int, classes: int) -> None:
    options = replace(SMALL, architecture=architecture, augmentation=True, dropout=0.1)
    network = build(options, channels=channels, resolution=8, num_classes=classes).train()
    labels = torch.tensor([0, 6]) if classes else None
    out = network(noise(2, channels, 8, 8).double(), torch.tensor([0.1, 3.0]), labels, noise(2, 9))
    assert out.shape == (2, channels, 8, 8) and out.dtype == torch.float32
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def by_hand(block: Block, architecture: str, x: torch.Tensor, vector: torch.Tensor, size: int) -> torch.Tensor:
    """A residual block and its attention, written out, for filters that repeat or average."""
    adm = architecture == "adm"
    eps, scale = (1e-5, 1.0) if adm else (1e-6, sqrt(0.5))

    def norm(of: torch.nn.GroupNorm, h: torch.Tensor) -> torch.Tensor:
        groups = h.unflatten(1, (min(32, h.shape[1] // 4), -1))
        mean, var = groups.mean((2, 3, 4), keepdim=True), groups.var((2, 3, 4), keepdim=True, correction=0)
        return ((groups - mean) / (var + eps).sqrt()).flatten(1, 2) * of.weight[:, None, None] + of.bias[:, None, None]

    def resized(h: torch.Tensor) -> torch.Tensor:
        return F.interpolate(h, size=(size, size), mode="nearest" if size >= h.shape[-1] else "area")

    h = block.conv0(resized(F.silu(norm(block.norm0, x))))
    told = block.affine(vector)[:, :, None, None]
    if adm:
        half = told.shape[1] // 2
        h = norm(block.norm1, h) * (1 + told[:, :half]) + told[:, half:]
    else:
        h = norm(block.norm1, h + told)
    h = block.conv1(F.silu(h))
    x = resized(x)
    x = (h + (x if block.skip is None else block.skip(x))) * scale
    if block.attention is None:
        return x
    heads = x.shape[1] // 64 if adm else 1
    q, k, v = (t.flatten(2) for t in block.attention.qkv(norm(block.attention.norm, x)).chunk(3, 1))
    seen = []
    for a, b, c in zip(q.chunk(heads, 1), k.chunk(heads, 1), v.chunk(heads, 1), strict=True):
        share = (torch.einsum("bci,bcj->bij", a, b) / sqrt(a.shape[1])).softmax(2)
        seen.append(torch.einsum("bij,bcj->bci", share, c))
    return (block.attention.out(torch.cat(seen, 1).reshape(x.shape)) + x) * scale


@pytest.mark.parametrize("architecture", ["ddpmpp", "adm"])
@pytest.mark.parametrize(
    ("c_in", "resample", "attention"),
    [(128, None, True), (96, None, False), (128, "up", False), (128, "down", True), (128, "up", True)],
)
def test_a_block_is_what_its_paper_says(architecture: str, c_in: int, resample: str | None, attention: bool) -> None:
    torch.manual_seed(0)
    block = Block(c_in, 128, 16, STYLES[architecture], attention=attention, resample=resample)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.05)
        x, vector = noise(2, c_in, 8, 8), noise(2, 16)
        size = {None: 8, "up": 16, "down": 4}[resample]
        expected = by_hand(block, architecture, x, vector, size)
        assert torch.allclose(block(x, vector), expected, atol=1e-4 * float(expected.abs().max()))
    assert (block.skip is None) == (c_in == 128 and (resample is None or architecture == "adm"))


def test_dropout_is_of_training_alone() -> None:
    block = Block(16, 16, 8, STYLES["ddpmpp"], dropout=0.5)
    x, vector = noise(2, 16, 4, 4), noise(2, 8)
    assert not torch.equal(block.train()(x, vector), block(x, vector))
    assert torch.equal(block.eval()(x, vector), block(x, vector))


@pytest.mark.parametrize("architecture", STYLES)
def test_skips_in_encoder_order(architecture: str) -> None:
    network = outline(replace(NetworkOptions(architecture), attention=(16,)))
    vector = torch.zeros(1, 512, device="meta")
    outputs = network.encoder(torch.zeros(1, 3, 32, 32, device="meta"), vector)
    assert [x.shape[-1] for x in outputs] == [32] * 3 + [16] * 3 + [8] * 3


@pytest.mark.parametrize("architecture", STYLES)
def test_mask_of_ones_changes_nothing(architecture: str) -> None:
    options = replace(THREE, architecture=architecture)
    whole, masked = lively(options), lively(replace(options, skips=(1,) * 9))
    x = noise(2, 1, 16, 16)
    assert torch.equal(whole(x, 1.0), masked(x, 1.0))


@pytest.mark.parametrize("architecture", STYLES)
@pytest.mark.parametrize("place", range(9))
def test_a_masked_skip_has_no_influence_and_the_others_have(architecture: str, place: int) -> None:
    options = replace(THREE, architecture=architecture, skips=tuple(int(k != place) for k in range(9)))
    network = lively(options, resolution=16).network
    vector = torch.ones(1, 64)
    with torch.no_grad():
        outputs = network.encoder(noise(1, 1, 16, 16), vector)
        decoded = network.decoder(outputs, vector)
        for changed in range(8):  # the last is also what the decoder starts from
            other = list(outputs)
            other[changed] = other[changed] + 1 + noise(*other[changed].shape)
            same = torch.equal(decoded, network.decoder(other, vector))
            assert same == (changed == place)


@pytest.mark.parametrize("kept", [(1,) * 4, (1, 0, 1, 0), (0, 1, 0, 1), (0, 0, 1, 1), (1, 1, 0, 0)])
def test_what_decoder_blocks_are_given(kept: tuple[int, ...]) -> None:
    network = lively(replace(SMALL, multipliers=(1, 1), attention=(), skips=kept)).network
    seen: list[torch.Tensor] = []
    for level in network.decoder.levels:
        for block in level:
            block.register_forward_pre_hook(lambda block, given: seen.append(given[0][:, 16:]))
    with torch.no_grad():
        vector = network.conditioning(torch.zeros(1), None, None)
        outputs = network.encoder(noise(1, 1, 8, 8), vector)
        network(noise(1, 1, 8, 8), torch.zeros(1))
    for given, output, keep in zip(reversed(seen), outputs, kept, strict=True):
        assert torch.equal(given, output if keep else torch.zeros_like(output))


def test_mask_changes_neither_widths_nor_start() -> None:
    whole, masked = (
        build(replace(SMALL, skips=s), channels=1, resolution=8).state_dict() for s in (None, (0, 1, 0, 0))
    )
    assert whole.keys() == masked.keys() and all(torch.equal(whole[k], masked[k]) for k in whole)


@pytest.mark.parametrize("about", GOLDEN, ids=lambda about: about["architecture"])
def test_networks_are_the_published_ones_under_their_own_names(about: dict, tmp_path: Path) -> None:
    file = NETWORKS / about["file"]
    network, given = read_edm(file, preconditioning=about["preconditioning"]), load_file(file)
    assert (network.resolution, network.channels, network.num_classes) == (16, 3, about["num_classes"])
    found = network(given["x"], given["sigma"], given.get("label"))
    assert float((found - given["output"]).abs().max() / given["output"].abs().max()) < 2e-6
    for name in ("map_layer1.bias", "enc.8x8_down.conv0.weight", "dec.16x16_block1.skip.weight"):
        spoiled = {k: v + 0.1 if k.endswith(name) else v for k, v in given.items()}
        save_file(spoiled, tmp_path / "w.safetensors")
        other = read_edm(tmp_path / "w.safetensors", preconditioning=about["preconditioning"])
        assert not torch.allclose(other(given["x"], given["sigma"], given.get("label")), found, rtol=1e-3)


def test_published_weights_that_do_not_fit(tmp_path: Path) -> None:
    given, file = load_file(NETWORKS / "adm_labels.safetensors"), tmp_path / "w.safetensors"

    def refused(said: str, weights: dict, **how: str) -> None:
        save_file(weights, file)
        with pytest.raises(UsageError, match=said):
            read_edm(file, **how)

    refused("--preconditioning", given)
    refused("lacks 'out_norm.bias' and 0 more", {k: v for k, v in given.items() if "out_norm.bias" not in k}, **EDM)
    refused("'enc.8x8_stranger' and 0 more", {**given, "network.enc.8x8_stranger": torch.zeros(1)}, **EDM)
    refused("no encoder", {k: v for k, v in given.items() if "enc." not in k}, **EDM)
    refused("what network it is", {"some.weight": torch.zeros(1)}, **EDM)


def test_adm_draws_biases_and_label_rows_of_deviation_one() -> None:
    network = build(
        replace(ADM, width=64, multipliers=(1, 1), blocks=1, attention=()), channels=3, resolution=64, num_classes=500
    )
    block, table = network.network.encoder.levels[0][0], network.network.conditioning.label
    for layer in (block.conv0, block.affine):
        limit = 1 / sqrt(layer.weight[0].numel())
        for drawn in (layer.weight, layer.bias):
            assert 0.8 * limit < float(drawn.detach().abs().max()) <= limit
    assert not block.conv1.weight.any() and not block.conv1.bias.any()
    assert float(table.weight.detach().std()) == pytest.approx(1, rel=0.02)
    assert torch.equal(table(torch.tensor([7])), table.weight[7:8])


def test_blocks_of_adm_have_a_head_for_each_64_channels() -> None:
    kinds = {channels: Block(channels, channels, 8, STYLES["adm"], attention=True) for channels in (32, 96, 128)}
    assert kinds[32].attention is None and kinds[96].attention.heads == 1 and kinds[128].attention.heads == 2


def test_weights_of_another_network_of_that_name_are_refused(tmp_path: Path) -> None:
    options = replace(SMALL, architecture="ncsnpp")
    weights, config = tmp_path / "w.safetensors", tmp_path / "w.json"
    write_edm(lively(options), options, weights, config)
    settings = json.loads(config.read_text())
    del settings["version"]
    config.write_text(json.dumps(settings))
    with pytest.raises(UsageError, match="not the published one .* train it again"):
        read_edm(weights, config)


def test_the_pyramid_carries_the_image_past_the_blocks() -> None:
    network = lively(replace(SMALL, architecture="ncsnpp"))
    encoder = network.network.encoder
    with torch.no_grad():
        x, vector = noise(1, 1, 8, 8), torch.ones(1, 64)
        outputs = encoder(x, vector)
        below = encoder.downs[0](outputs[1], vector)
        assert torch.allclose(outputs[2], (below + encoder.pyramid[0](x)) * sqrt(0.5))


@pytest.mark.parametrize("architecture", STYLES)
def test_a_sample_does_not_depend_on_its_batch(architecture: str) -> None:
    network = lively(replace(SMALL, architecture=architecture), num_classes=5)
    x, sigma, labels = noise(4, 1, 8, 8), torch.tensor([0.01, 0.3, 2.0, 70.0]), torch.arange(4)
    with torch.no_grad():
        together = network(x, sigma, labels)
        alone = torch.cat([network(x[k : k + 1], sigma[k], labels[k : k + 1]) for k in range(4)])
        apart = (together[0] - together[1]).abs().max()
    assert torch.allclose(together, alone, rtol=1e-4, atol=1e-4 * float(alone.abs().max())) and apart > 0.01


def test_a_seed_gives_the_same_weights_and_leaves_the_callers_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, again, other = (
        build(SMALL, channels=1, resolution=8, num_classes=3, seed=s).state_dict() for s in (7, 7, 8)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(first[k], again[k]) for k in first)
    drawn = [k for k in first if first[k].ndim > 1]
    assert drawn and not any(torch.equal(first[k], other[k]) for k in drawn)


def test_weights_at_the_start() -> None:
    network = build(replace(SMALL, width=64, attention=(8, 4)), channels=3, resolution=8).network
    block = network.encoder.levels[0][0]
    for weight, gain in (
        (block.conv0.weight, 1),
        (block.conv1.weight, 1e-5),
        (block.attention.qkv.weight, sqrt(0.2)),
        (block.attention.out.weight, 1e-5),
        (block.affine.weight, 1),
        (network.decoder.output.weight, 1e-5),
    ):
        area = weight[0, 0].numel() if weight.ndim == 4 else 1
        expected = gain * sqrt(2 / ((weight.shape[0] + weight.shape[1]) * area))
        weight = weight.detach()
        assert float(weight.std()) == pytest.approx(expected, rel=0.05)
        assert float(weight.abs().max()) <= expected * sqrt(3) * 1.0001
    assert all((p == 0).all() for name, p in network.named_parameters() if name.endswith("bias"))


def test_adm_starts_as_the_identity() -> None:
    network = build(replace(SMALL, architecture="adm"), channels=1, resolution=8)
    x = noise(2, 1, 8, 8)
    assert torch.equal(network.network(x, torch.zeros(2)), torch.zeros_like(x))
    assert torch.allclose(network(x, 0.5), x / 2)


@pytest.mark.parametrize(("classes", "rms"), [(10, 0.38), (100, 0.94), (1000, 1.33), (50_000, 1.41)])
def test_label_signal_grows_with_the_classes_unless_it_may_not(classes: int, rms: float) -> None:
    tables = {}
    for scale in ("classes", "constant"):
        options = replace(SMALL, width=128, multipliers=(1,), attention=(), label_scale=scale)
        tables[scale] = build(options, channels=1, resolution=8, num_classes=classes).network.conditioning.label
    labels = torch.arange(min(classes, 1000))
    found = {scale: float(table(labels).detach().square().mean().sqrt()) for scale, table in tables.items()}
    assert found == pytest.approx({"classes": rms, "constant": 0.38}, abs=0.015)


def test_labels_are_one_hot_rows_times_the_root_of_their_number() -> None:
    label = lively(SMALL, num_classes=6).network.conditioning.label
    labels = torch.tensor([5, 0, 3])
    rows = F.linear(F.one_hot(labels, 6).float() * sqrt(6), label.weight.T, label.bias)
    assert torch.allclose(label(labels), rows)


def test_positional_and_fourier_features() -> None:
    c = torch.tensor([0.5, 998.0])
    for is_adm, last, sine in ((False, 1e-4, 0), (True, 10000 ** (-7 / 8), 8)):
        found = Positional(16, is_adm)(c)
        assert torch.allclose(found[:, sine], c.sin()) and torch.allclose(found[:, 8 - sine], c.cos())
        assert torch.allclose(found[:, sine + 7], (c * last).sin()) and found.shape == (2, 16)
    network = build(replace(SMALL, architecture="ncsnpp", width=256, embedding="fourier"), channels=1, resolution=8)
    fourier = network.network.conditioning.noise
    assert isinstance(fourier, Fourier) and "network.conditioning.noise.frequencies" in network.state_dict()
    assert fourier.frequencies.shape == (256,) and float(fourier.frequencies.std()) == pytest.approx(16, rel=0.1)
    angles = 2 * torch.pi * c[:1, None] * fourier.frequencies
    assert torch.allclose(fourier(c[:1]), torch.cat([angles.sin(), angles.cos()], 1), atol=1e-4)


def test_augmentation_is_told_and_zeros_are_nothing() -> None:
    network = lively(replace(SMALL, augmentation=True))
    x = noise(2, 1, 8, 8)
    assert torch.equal(network(x, 1.0), network(x, 1.0, augment=torch.zeros(2, 9)))
    assert not torch.allclose(network(x, 1.0), network(x, 1.0, augment=torch.ones(2, 9)))


def test_resampling() -> None:
    x = noise(2, 3, 8, 8)
    for taps in ((1, 1), (1, 3, 3, 1)):
        down, up = Resampler("down", taps), Resampler("up", taps)
        assert down(x).shape == (2, 3, 4, 4) and up(x).shape == (2, 3, 16, 16)
        constant = torch.ones(1, 2, 8, 8)
        assert torch.allclose(down(constant)[..., 1:-1, 1:-1], torch.ones(2, 2))
        assert torch.allclose(up(constant)[..., 2:-2, 2:-2], torch.ones(12, 12))
        y = noise(2, 3, 4, 4, seed=2)
        assert torch.allclose((down(x) * y).sum() * 4, (x * up(y)).sum(), rtol=1e-4)  # one is the other's transpose
    assert torch.allclose(Resampler("down", (1, 1))(x), x.unflatten(3, (4, 2)).unflatten(2, (4, 2)).mean((3, 5)))
    line = torch.zeros(1, 1, 8, 8)
    line[..., 3] = 8
    assert torch.allclose(Resampler("down", (1, 3, 3, 1))(line)[0, 0, 1], torch.tensor([0.0, 3, 1, 0]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"skips": (1, 0)}, "give 4 entries"),
        ({"skips": (1, 0, 2, 1)}, "entries 0 or 1"),
        ({"width": 10}, "multiple of 4"),
        ({"blocks": 0}, "at least 1"),
        ({"multipliers": ()}, "at least 1"),
        ({"dropout": 1.0}, "below 1"),
        ({"architecture": "adm", "embedding": "fourier"}, "positional"),
        ({"attention": (16,)}, "levels are 8, 4"),
        ({"multipliers": (1, 1, 1, 1, 1)}, "halve 4 times"),
        ({"width": 48, "attention": ()}, "144 channels"),
        ({"architecture": "adm", "width": 224, "multipliers": (1, 1)}, "into 3 attention heads"),
        ({"architecture": "adm", "label_scale": "constant"}, "leave label_scale out"),
    ],
    ids=str,
)
def test_options_that_make_no_network(change: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build(replace(SMALL, **change), channels=1, resolution=8)


def test_labels_where_there_are_none_and_none_where_there_are() -> None:
    x, told = noise(1, 1, 8, 8), torch.zeros(1, 9)
    with pytest.raises(UsageError, match="give a label"):
        lively(SMALL, num_classes=3)(x, 1.0)
    with pytest.raises(UsageError, match="no labels"):
        lively(SMALL)(x, 1.0, torch.tensor([0]))
    with pytest.raises(UsageError, match="without augmentation"):
        lively(SMALL)(x, 1.0, augment=told)


def test_options_from_a_settings_file() -> None:
    settings = {"width": 16, "multipliers": [1, 2], "skips": [1, 1, 0, 0], "attention": [], "blocks": 1}
    options = NetworkOptions.of(settings)
    assert options.multipliers == (1, 2) and options.skips == (1, 1, 0, 0) and options.attention == ()
    with pytest.raises(UsageError, match="no option 'wdth'"):
        NetworkOptions.of({"wdth": 3})


def unet(**config: object) -> UNet2DModel:
    torch.manual_seed(0)
    kind = {
        "sample_size": 16,
        "in_channels": 1,
        "out_channels": 1,
        "block_out_channels": (8, 16, 16),
        "down_block_types": ("DownBlock2D",) * 3,
        "up_block_types": ("UpBlock2D",) * 3,
        "norm_num_groups": 4,
        "layers_per_block": 2,
        "downsample_type": "resnet",
        "upsample_type": "resnet",
    }
    return UNet2DModel(**{**kind, **config}).eval()


def handed_over(network: UNet2DModel, x: torch.Tensor) -> list[torch.Tensor]:
    """The skip connections that the decoder is given, in encoder order."""
    found: list[tuple[torch.Tensor, ...]] = []
    hooks = [b.register_forward_pre_hook(lambda block, given: found.append(given[1])) for b in network.up_blocks]
    with torch.no_grad():
        network(x, torch.zeros(1))
    for hook in hooks:
        hook.remove()
    return [skip for skips in reversed(found) for skip in skips]


def test_diffusers_skip_mask() -> None:
    x, kept = noise(1, 1, 16, 16), (1, 0, 1, 0, 1, 1, 0, 0, 1)
    network = unet()
    own, out = handed_over(network, x), network(x, 3).sample
    assert [skip.shape[-1] for skip in own] == [16] * 3 + [8] * 3 + [4] * 3
    mask_skips(network, (1,) * 9)
    assert torch.equal(network(x, 3).sample, out)
    mask_skips(network, kept)
    assert not torch.allclose(network(x, 3).sample, out)
    for masked, skip, keep in zip(handed_over(network, x), own, kept, strict=True):
        assert torch.equal(masked, skip if keep else torch.zeros_like(skip))
    with pytest.raises(UsageError, match="give 9"):
        mask_skips(network, (1, 0))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_diffusers_network_by_its_scheduler(prediction: str) -> None:
    scheduler = DDIMScheduler(prediction_type=prediction, clip_sample=False)
    network, t = unet(), 400
    denoiser = adapted(network, scheduler=scheduler)
    kept = scheduler.alphas_cumprod[t]
    z = noise(1, 1, 16, 16)
    scheduler.set_timesteps(1000)
    with torch.no_grad():
        expected = scheduler.step(network(z, t).sample, t, z).pred_original_sample
        found = denoiser(z / kept.sqrt(), ((1 - kept) / kept).sqrt())
    assert torch.allclose(found, expected, atol=1e-5)
    assert denoiser.resolution == 16 and denoiser.sigma_max == pytest.approx(
        float(((1 - scheduler.alphas_cumprod[-1]) / scheduler.alphas_cumprod[-1]).sqrt()), rel=1e-5
    )


def test_diffusers_network_by_a_preconditioning() -> None:
    network = unet(num_class_embeds=4)
    denoiser = adapted(network, "edm", skips=(1, 1, 1, 0, 0, 0, 1, 1, 1))
    x, labels = noise(2, 1, 16, 16), torch.tensor([1, 3])
    assert denoiser.num_classes == 4
    raw = network(x / sqrt(1.25), torch.zeros(2), class_labels=labels).sample
    assert torch.allclose(denoiser(x, 1.0, labels), 0.2 * x + 0.5 / sqrt(1.25) * raw, atol=1e-5)
    with pytest.raises(UsageError, match="augmentations"):
        denoiser(x, 1.0, labels, torch.zeros(2, 9))


def test_diffusers_networks_that_do_not_fit() -> None:
    with pytest.raises(UsageError, match="either"):
        adapted(unet())
    with pytest.raises(UsageError, match="divides its output"):
        adapted(unet(time_embedding_type="fourier"), "edm")
    with pytest.raises(UsageError, match="square"):
        adapted(unet(out_channels=2), "edm")
    with pytest.raises(UsageError, match="num_class_embeds"):
        adapted(unet(class_embed_type="identity"), "edm")
    with pytest.raises(UsageError, match="prediction is not known"):
        adapted(unet(), scheduler=FlowMatchEulerDiscreteScheduler())


@pytest.mark.parametrize("architecture", STYLES)
def test_files_bring_a_network_back(architecture: str, tmp_path: Path) -> None:
    options = replace(SMALL, architecture=architecture, skips=(1, 0, 1, 0), augmentation=True)
    network, x, labels = lively(options, num_classes=3), noise(2, 1, 8, 8), torch.tensor([0, 2])
    weights, config = tmp_path / "w.safetensors", tmp_path / "w.json"
    write_edm(network, options, weights, config)
    again = read_edm(weights, config).eval()
    assert torch.equal(again(x, 1.0, labels), network(x, 1.0, labels)) and again.num_classes == 3


def test_files_with_names_and_layouts_of_another_program(tmp_path: Path) -> None:
    network, x, labels = lively(SMALL, num_classes=16), noise(2, 1, 8, 8), torch.tensor([0, 15])
    weights, config = tmp_path / "w.safetensors", tmp_path / "w.json"
    write_edm(network, SMALL, weights, config)
    own, settings = load_file(weights), json.loads(config.read_text())
    theirs = {}
    for k, (name, value) in enumerate(own.items()):
        if ".qkv." in name:
            value = torch.stack(value.chunk(3), 1).flatten(0, 1).contiguous()
            value = value[:, :, 0, 0].contiguous() if value.ndim == 4 else value
        theirs[f"model.{k}"] = value.T.contiguous() if name == "conditioning.label.weight" else value
    save_file(theirs, weights)
    with pytest.raises(UsageError, match="lacks"):
        read_edm(weights, config)
    settings |= {"names": {name: f"model.{k}" for k, name in enumerate(own)}, "qkv": "interleaved", "labels": "columns"}
    config.write_text(json.dumps(settings))
    assert torch.equal(read_edm(weights, config).eval()(x, 1.0, labels), network(x, 1.0, labels))


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    weights, config = tmp_path / "w.safetensors", tmp_path / "w.json"
    write_edm(lively(SMALL), SMALL, weights, config)
    with pytest.raises(UsageError, match="no JSON"):
        read_edm(weights, weights)
    settings, own = json.loads(config.read_text()), load_file(weights)

    def refused(said: str, settings: dict, given: dict[str, torch.Tensor] | None = None) -> None:
        config.write_text(json.dumps(settings))
        save_file(own if given is None else given, weights)
        with pytest.raises(UsageError, match=said):
            read_edm(weights, config)

    refused("no whole number 'channels'", {"resolution": 8})
    refused("qkv 'mixed'", {**settings, "qkv": "mixed"})
    refused("no place for", settings, {**own, "stranger": torch.zeros(1)})
    refused("of shape", {**settings, "network": {**settings["network"], "width": 32}})
    torch.save(own, weights)
    with pytest.raises(UsageError, match="no safetensors"):
        read_edm(weights, config)
