"""Whether an edit removed anything: the attack, pruning, and the run that tells before, after and attacked apart."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from mnemoscope.errors import UsageError
from mnemoscope.features import descriptor
from mnemoscope.model import schedule
from mnemoscope.model.autoencoder import encode_images
from mnemoscope.model.cond import rows
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.prompts.prompt import as_prompts
from mnemoscope.recovery import pruning
from mnemoscope.recovery.adversarial import adversarial_embedding, overlap
from mnemoscope.recovery.editing import edited_by
from mnemoscope.recovery.run import Recovery, Target, run_recovery, summary
from mnemoscope.recovery.targets import targets_of
from mnemoscope.run.run import read_rows

KEY = "encoder_hidden_states"  # the text embedding of these models
FAST = Recovery(images=2, num_inference_steps=3, attack_steps=3, attack_batch=2, threshold=0.9)


@pytest.fixture
def model() -> Denoiser:
    return Denoiser(tiny.stable_diffusion())


def picture(seed: int) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    return Image.fromarray(values)


def targets(count: int = 2, control: bool = True) -> list[Target]:
    found = [Target(p, picture(k)) for k, p in enumerate(as_prompts([f"text {k}" for k in range(count)]))]
    (other,) = as_prompts(["never seen"])
    return found + ([Target(other, picture(9), is_control=True)] if control else [])


def test_the_attack_takes_adams_steps_on_the_training_loss(model: Denoiser) -> None:
    """One image, one step: the first loss and the update, from the definitions."""
    x0 = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(5))
    cond = model.encode(["a text"])
    found, history = adversarial_embedding(model, x0, cond, steps=1, lr=0.3, batch=3, seed=7)
    generator = torch.Generator().manual_seed(7)
    times = torch.randint(1, 1000, (3,), generator=generator)
    noises = torch.randn(3, *x0.shape[1:], generator=generator)
    leaf = cond[KEY].detach().clone().requires_grad_()
    losses = []
    for t, eps in zip(times, noises, strict=True):
        alpha, sigma = schedule.alpha_sigma(model.pipe.scheduler, t)
        predicted = model.pipe.unet(alpha * x0 + sigma * eps, t, leaf).sample
        losses.append((predicted - eps).square().mean())
    loss = torch.stack(losses).mean()
    loss.backward()
    assert history[0][0] == pytest.approx(loss.item(), rel=1e-4)
    moved = cond[KEY] - 0.3 * leaf.grad / (leaf.grad.abs() + 1e-8)  # Adam's first step
    large = leaf.grad.abs() > 1e-5  # elsewhere rounding turns the sign
    torch.testing.assert_close(found[KEY][large], moved[large], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_attack_brings_the_loss_down_and_each_image_by_itself(kind: str) -> None:
    model = Denoiser(tiny.stable_diffusion(kind))
    x0 = torch.randn(2, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    cond = model.encode(["a", "b"])
    before = model.network_evaluations
    both, history = adversarial_embedding(model, x0, cond, steps=12, lr=0.2, batch=4)
    assert model.network_evaluations - before == 2 * 12 * 4
    fresh = {"steps": 1, "batch": 16, "seed": 99}  # noises that the search did not see
    begun, ended = (adversarial_embedding(model, x0, e, **fresh)[1] for e in ({KEY: cond[KEY]}, both))
    assert all(b[0] < a[0] for a, b in zip(begun, ended, strict=True)) and len(history[0]) == 12
    alone, _ = adversarial_embedding(model, x0[1:], rows(cond, slice(1, 2)), steps=12, lr=0.2, batch=4)
    torch.testing.assert_close(both[KEY][1:], alone[KEY], rtol=1e-3, atol=2e-3)


def test_the_attack_keeps_the_steering_of_an_edit(model: Denoiser) -> None:
    from mnemoscope.model.ablation import gain, layers, steer

    x0, cond = torch.zeros(1, *model.latent_shape), model.encode(["a"])
    all_neurons = {name: range(module.weight.shape[0]) for name, module in layers(model, "all").items()}
    blind = steer(cond, gain(model, [all_neurons]))
    _, history = adversarial_embedding(model, x0, blind, steps=2, batch=2)
    embedding, _ = adversarial_embedding(model, x0, blind, steps=2, batch=2)
    torch.testing.assert_close(embedding[KEY], cond[KEY])  # no gradient reaches an embedding that nothing reads
    assert history[0][0] != adversarial_embedding(model, x0, cond, steps=1, batch=2)[1][0][0]


def test_the_attack_refuses_what_has_no_text(model: Denoiser) -> None:
    plain = Denoiser(tiny.unconditional())
    with pytest.raises(UsageError, match="has none"):
        adversarial_embedding(plain, torch.zeros(1, *plain.latent_shape), plain.encode([""]))
    with pytest.raises(UsageError, match="give 1 or more"):
        adversarial_embedding(model, torch.zeros(1, *model.latent_shape), model.encode(["a"]), steps=0)


def test_overlap_is_the_mean_intersection_over_union() -> None:
    assert overlap([[1, 2, 3], [2, 3, 4], [1, 2, 3]]) == pytest.approx((0.5 + 1 + 0.5) / 3)
    assert overlap([[1], []]) == 0 and overlap([[], []]) is None and overlap([[1]]) is None


def test_activation_norms_are_those_of_the_inputs_of_the_second_map(model: Denoiser) -> None:
    found = pruning.activation_norms(model, ["a", "b"], steps=2, num_inference_steps=4)
    seen: dict[str, list[torch.Tensor]] = {name: [] for name in found}
    handles = [
        model.network.get_submodule(name).register_forward_pre_hook(
            lambda module, inputs, name=name: seen[name].append(inputs[0][1].double())  # of no prompt and the prompt
        )
        for name in found
    ]
    for text in ("a", "b"):
        for _, _ in zip(range(2), model.steps([text], [0], num_inference_steps=4), strict=False):
            pass
    for handle in handles:
        handle.remove()
    for name, own in seen.items():
        norms = torch.cat(own).square().sum(0).sqrt().float()
        torch.testing.assert_close(found[name], norms, rtol=1e-4, atol=1e-5)


def test_memorized_weights_rank_in_their_row_for_the_memorized_prompts_alone(
    model: Denoiser, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2"
    weight = model.network.get_submodule(name).weight
    norms = {"m": torch.ones(weight.shape[1]), "n": torch.ones(weight.shape[1])}
    norms["m"][5] = 1e6  # the fifth input is large for memorized prompts alone
    norms["m"][6] = norms["n"][6] = 1e6
    monkeypatch.setattr(pruning, "activation_norms", lambda model, prompts, **_: {name: norms[prompts[0]]})
    found = pruning.memorized_weights(model, ["m"], ["n"], share=2 / weight.shape[1])[name]
    assert found[:, 5].all() and not found[:, 6].any() and found.sum() == len(weight)


def test_pruning_sets_weights_to_zero_and_puts_them_back(model: Denoiser) -> None:
    name = "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2"
    weight = model.network.get_submodule(name).weight
    before = weight.clone()
    mask = torch.zeros_like(weight, dtype=torch.bool)
    mask[3, 4] = True
    with pytest.raises(RuntimeError, match="inside"), pruning.pruned(model, {name: mask}):
        assert weight[3, 4] == 0 and torch.equal(weight[~mask], before[~mask])
        raise RuntimeError("inside")
    assert torch.equal(weight, before)
    with pytest.raises(UsageError, match="share 1"):
        pruning.memorized_weights(model, ["a"], ["b"], share=1)


def test_the_run_tells_before_after_and_attacked_apart(model: Denoiser, tmp_path: Path) -> None:
    neuron = next(iter(n for n, _ in model.network.named_modules() if n.endswith("attn2.to_v")))
    edit = edited_by(model, ["neuron_ablation"], {"neurons": {neuron: [0, 1, 2, 3]}, "factor": -9.0}, [], [])
    found = run_recovery(model, targets(), tmp_path / "run", FAST, descriptor("pixels"), edit=edit)
    table = read_rows(tmp_path / "run")
    assert [(r["prompt"], r["control"]) for r in table] == [("text 0", False), ("text 1", False), ("never seen", True)]
    texts = [r["prompt"] for r in table]
    pixels = descriptor("pixels")
    for k, row in enumerate(table):
        own = pixels([targets()[k].image])[0]
        drawn = model.generate([texts[k]] * 2, [0, 1], num_inference_steps=3)
        assert row["before"] == pytest.approx((pixels(drawn) @ own).tolist(), abs=1e-4)
        with edit():
            ablated = model.generate([texts[k]] * 2, [0, 1], num_inference_steps=3)
        assert row["after"] == pytest.approx((pixels(ablated) @ own).tolist(), abs=1e-4)
        assert row["before"] != row["after"] != row["attacked"]
        assert row["memorized_after"] is (max(row["after"]) > 0.9)
        for stage in ("before", "after", "attacked"):
            assert all((tmp_path / "run" / name).is_file() for name in row[f"{stage}_files"])
    assert found["targets"] == 2 and found["controls"] == 1
    assert found["similarity_after"] == pytest.approx(np.mean([max(r["after"]) for r in table[:2]]))


def test_a_run_does_not_depend_on_the_batch_and_goes_on_where_it_was(model: Denoiser, tmp_path: Path) -> None:
    run_recovery(model, targets(), tmp_path / "one", FAST, descriptor("pixels"), batch=2)
    run_recovery(model, targets(), tmp_path / "all", FAST, descriptor("pixels"), batch=64)
    whole = read_rows(tmp_path / "all")
    for one, other in zip(read_rows(tmp_path / "one"), whole, strict=True):
        assert one["attacked"] == pytest.approx(other["attacked"], abs=2e-3)
    lines = (tmp_path / "all" / "rows.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "all" / "rows.jsonl").write_text(lines[0])
    run_recovery(model, targets(), tmp_path / "all", FAST, descriptor("pixels"), batch=64)
    assert [r["id"] for r in read_rows(tmp_path / "all")] == [r["id"] for r in whole]


def test_an_attack_may_begin_anywhere(model: Denoiser, tmp_path: Path) -> None:
    values = {}
    for begin in ("prompt", "random", "another text"):
        recovery = Recovery(**{**vars(FAST), "begin": begin})
        run_recovery(model, targets(1, control=False), tmp_path / begin, recovery, descriptor("pixels"))
        values[begin] = read_rows(tmp_path / begin)[0]["loss"][0]
    assert len(set(values.values())) == 3


def test_rates_count_the_best_of_the_seeds() -> None:
    table = [
        {"control": False, "before": [0.2, 0.95], "after": [0.1, 0.1], "attacked": [0.99, 0.0]},
        {"control": False, "before": [0.95, 0.96], "after": [0.1, 0.3], "attacked": [0.5, 0.4]},
    ]
    for row in table:
        row |= {f"memorized_{stage}": max(row[stage]) > 0.9 for stage in ("before", "after", "attacked")}
    found = summary(table, 0.9)
    assert (found["memorization_rate_before"], found["memorization_rate_after"]) == (1.0, 0.0)
    assert found["memorization_rate_attacked"] == 0.5 and found["similarity_attacked"] == pytest.approx(0.745)
    assert found["controls"] == 0 and "memorization_rate_control_before" not in found


def test_another_network_stands_in_for_an_edit(model: Denoiser, tmp_path: Path) -> None:
    other = Denoiser(tiny.stable_diffusion(network=tiny.unet(seed=77)))
    before = model.network_evaluations
    run_recovery(model, targets(1, False), tmp_path / "run", FAST, descriptor("pixels"), edited=other)
    (row,) = read_rows(tmp_path / "run")
    drawn = other.generate(["text 0"] * 2, [0, 1], num_inference_steps=3)
    pixels = descriptor("pixels")
    expected = pixels(drawn) @ pixels([targets()[0].image])[0]
    assert row["after"] == pytest.approx(expected.tolist(), abs=1e-4)
    assert model.network_evaluations - before == 2 * 2 * 3 * 3 + FAST.attack_steps * FAST.attack_batch


def test_targets_are_the_references_with_the_prompts_as_captions(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("text 0")
    found, told = targets_of(as_prompts(["text 0"]), str(tmp_path), str(tmp_path))
    assert np.array_equal(np.asarray(found[0].image), np.asarray(picture(0)))
    assert [t.is_control for t in found] == [False, True] and told["reference_captions"]["with_caption"] == 1
    with pytest.raises(UsageError, match="no image for 1 of the 2 prompts"):
        targets_of(as_prompts(["text 0", "text 1"]), str(tmp_path))
    picture(1).save(tmp_path / "b.png")
    with pytest.raises(UsageError, match="b.png in .* has no caption"):
        targets_of(as_prompts(["text 0"]), str(tmp_path), str(tmp_path))
    (tmp_path / "b.txt").write_text("text  0")
    both, _ = targets_of(as_prompts(["text 0"]), str(tmp_path))  # two pictures of one caption are brought back each
    assert [t.prompt.id for t in both] == [as_prompts(["text 0"])[0].id + end for end in ("", "-image2")]
    assert np.array_equal(np.asarray(both[1].image), np.asarray(picture(1)))
    (tmp_path / "b.png").write_text("no image")
    with pytest.raises(UsageError, match="The image b.png cannot be read: text, not an image"):
        targets_of(as_prompts(["text 0"]), str(tmp_path))


def test_edits_by_name(model: Denoiser) -> None:
    with pytest.raises(UsageError, match="give them as --negatives"):
        edited_by(model, ["weight_pruning"], {}, ["a"], [])
    edit = edited_by(model, ["weight_pruning"], {"share": 0.02, "steps": 1, "num_inference_steps": 2}, ["a"], ["b c"])
    before = {k: v.clone() for k, v in model.network.state_dict().items()}
    with edit():
        changed = [k for k, v in model.network.state_dict().items() if not torch.equal(v, before[k])]
    assert changed and all(k.endswith("ff.net.2.weight") for k in changed)
    assert all(torch.equal(v, before[k]) for k, v in model.network.state_dict().items())


@pytest.mark.slow
def test_an_attack_brings_a_memorized_image_back_from_the_bundled_model(bundled: Denoiser) -> None:
    """The prompt is ruined, the image is still there."""
    from mnemoscope import demo

    prompt = demo.prompts("verbatim")[0]
    (reference,) = [r for r in demo.references() if r.caption == prompt]
    own = descriptor("pixels")([reference.image()])[0]

    @contextmanager
    def drawn_from(embedding: torch.Tensor) -> Iterator[None]:
        with bundled.edit("cond", lambda cond: {**cond, KEY: embedding}):
            yield

    x0 = encode_images(bundled.pipe, [reference.image()], bundled.latent_shape)
    begun = bundled.encode(["a photo of a dog"])
    found, _ = adversarial_embedding(bundled, x0, begun, steps=30, batch=4)
    similarity = []
    for embedding in (begun[KEY], found[KEY]):
        with drawn_from(embedding):
            images = bundled.generate([prompt], [0], num_inference_steps=10)
        similarity.append(float(descriptor("pixels")(images)[0] @ own))
    assert similarity[0] < 0.7 < 0.8 < similarity[1]
