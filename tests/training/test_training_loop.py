"""The training loop against the plain one written out, its schedule, averages, filter, previews and refusals."""

import copy
import io
import json
import math
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import EMAModel
from PIL import Image
from torch.nn import functional as F

import mnemoscope as mn
import tiny
from mnemoscope.errors import UsageError
from mnemoscope.run.run import read_json, read_rows
from mnemoscope.training.data.batches import Batches
from mnemoscope.training.objective import ObjectiveOptions
from mnemoscope.training.optimizers import learning_rate
from mnemoscope.training.options import TrainOptions, chosen
from training_data import SIDE, SMALL, data, pictures, trained

STEADY = {"adam_epsilon": 1e-3}  # so that Adam does not make a step of the rounding of a gradient that is nearly 0


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory):
    return data(pictures(tmp_path_factory.mktemp("data")))


def weights(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def batches_of(found, pipe, folder: Path, **options):
    batches = Batches(found, getattr(pipe, "vae", None), TrainOptions(**{**SMALL, **options}), folder=folder)
    list(batches.prepare())
    return batches


def plainly(found, folder: Path, networks=("unet",), **options) -> tuple[object, list[float], EMAModel]:
    """The loop of the published trainers on the same batches: encode, noise, predict, AdamW, clip, average."""
    pipe = tiny.stable_diffusion()
    pipe.scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    asked = TrainOptions(**{**SMALL, **options})
    batches, modules = batches_of(found, pipe, folder, **options), [getattr(pipe, name) for name in networks]
    for module in pipe.components.values():
        if isinstance(module, torch.nn.Module):
            module.requires_grad_(module in modules)
    parameters = [p for m in modules for p in m.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=asked.learning_rate, weight_decay=asked.weight_decay, foreach=False)
    average, losses = EMAModel(parameters, decay=0.5), []
    for step in range(asked.steps):
        (batch,) = batches.of(step)
        noise, t = batch.draws.normal("noise", (4, 8, 8)), batch.draws.integers("timestep", 0, 1000)
        ids = pipe.tokenizer(
            list(batch.captions), padding="max_length", max_length=16, truncation=True, return_tensors="pt"
        )
        x_t = pipe.scheduler.add_noise(batch.latents, noise, t)
        loss = F.mse_loss(pipe.unet(x_t, t, pipe.text_encoder(ids.input_ids)[0]).sample, noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, asked.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        average.step(parameters)
        losses.append(loss.item())
    return pipe, losses, average


@pytest.mark.parametrize(
    "train,networks,atol", [("unet", ["unet"], 2e-6), ("unet+text", ["unet", "text_encoder"], 1e-4)]
)
def test_weights_losses_and_averages_are_those_of_the_plain_loop(found, tmp_path, train, networks, atol):
    """Where a gradient is next to nothing, as of a token that hardly acts, Adam makes its rounding a step."""
    plain, losses, average = plainly(found, tmp_path / "plain", networks)
    pipe, summary = trained(found, tmp_path / "run", train=train, ema=(0.5, 0.9999))
    for name in ("unet", "text_encoder", "vae"):
        torch.testing.assert_close(weights(getattr(pipe, name)), weights(getattr(plain, name)), rtol=0, atol=atol)
    rows = read_rows(tmp_path / "run")
    assert [r["loss"] for r in rows] == pytest.approx(losses, rel=1e-5)
    assert summary["steps"] == summary["updates"] == 4 and summary["loss"] == pytest.approx(sum(losses) / 4, rel=1e-5)
    exported = mn.Denoiser.from_pretrained(tmp_path / "run" / "pipeline", device="cpu").pipe
    shadow = torch.cat([p.flatten() for p in average.shadow_params])
    own = torch.cat([weights(getattr(exported, name)) for name in networks])
    torch.testing.assert_close(own, shadow, rtol=0, atol=atol)  # the first average is what is exported
    assert not torch.equal(weights(exported.unet), weights(pipe.unet))


def test_what_does_not_train_stays_as_it_is_and_the_network_does_train(found, tmp_path):
    before = tiny.stable_diffusion()
    pipe, _ = trained(found, tmp_path / "run")
    for name in ("vae", "text_encoder"):
        assert torch.equal(weights(getattr(pipe, name)), weights(getattr(before, name)))
    assert (weights(pipe.unet) - weights(before.unet)).abs().max() > 1e-3


def test_batches_do_not_depend_on_how_they_are_shared(found, tmp_path):
    (whole,) = batches_of(found, tiny.stable_diffusion(), tmp_path / "1", batch_size=4).of(3)
    halves = batches_of(found, tiny.stable_diffusion(), tmp_path / "2", batch_size=2, accumulation=2).of(3)
    parts = []
    for process in (0, 1):
        options = TrainOptions(**SMALL | {"batch_size": 2})
        shared = Batches(
            found, tiny.stable_diffusion().vae, options, process=process, processes=2, folder=tmp_path / "2"
        )
        parts += shared.of(3)
    for two in (halves, parts):
        assert [c for b in two for c in b.captions] == list(whole.captions)
        noise = torch.cat([b.draws.normal("noise", (4, 8, 8)) for b in two])
        assert torch.equal(noise, whole.draws.normal("noise", (4, 8, 8)))
        torch.testing.assert_close(torch.cat([b.latents for b in two]), whole.latents)


def test_accumulated_batches_are_one_batch(found, tmp_path):
    one, _ = trained(found, tmp_path / "1", batch_size=4, **STEADY)
    two, _ = trained(found, tmp_path / "2", batch_size=1, accumulation=4, **STEADY)
    torch.testing.assert_close(weights(two.unet), weights(one.unet), rtol=0, atol=1e-6)


def test_the_filter_keeps_the_mean_over_the_kept_however_the_batch_is_shared(found, tmp_path):
    free, _ = trained(found, tmp_path / "free", batch_size=4)
    norms = {"hard_threshold": 0.72}
    one, _ = trained(found, tmp_path / "1", batch_size=4, objective=norms, **STEADY)
    two, _ = trained(found, tmp_path / "2", batch_size=1, accumulation=4, objective=norms, **STEADY)
    shares = [row["excluded_memorized"] for row in read_rows(tmp_path / "1")]
    assert any(0 < share < 1 for share in shares)
    torch.testing.assert_close(weights(two.unet), weights(one.unet), rtol=0, atol=1e-6)
    assert not torch.equal(weights(free.unet), weights(one.unet))


def test_a_batch_without_a_kept_sample_changes_nothing_but_the_step(found, tmp_path):
    pipe = tiny.stable_diffusion()
    with pytest.raises(UsageError, match="left out every sample of 4 steps.*--hard-threshold above 1e-09"):
        trained(found, tmp_path / "run", pipe=pipe, objective={"hard_threshold": 1e-9}, ema=(0.9,))
    assert torch.equal(weights(pipe.unet), weights(tiny.unet()))
    assert not list((tmp_path / "run").rglob("model_index.json"))  # nothing that looks like a result
    assert not (tmp_path / "run" / "summary.json").exists()
    rows = read_rows(tmp_path / "run")
    assert [(r["loss"], r["updated"], r["excluded_memorized"]) for r in rows] == [(None, False, 1.0)] * 4


def test_without_a_filter_each_sample_costs_one_evaluation(found, tmp_path):
    pipe = tiny.stable_diffusion()
    seen = []
    pipe.unet.register_forward_pre_hook(lambda module, given: seen.append(len(given[0])))
    _, summary = trained(found, tmp_path / "run", pipe=pipe)
    assert sum(seen) == summary["network_evaluations"] == 8


@pytest.mark.parametrize(
    "name,warmup,expected",
    [
        ("constant", 0, [1.0, 1.0, 1.0, 1.0]),
        ("constant_with_warmup", 2, [0.0, 0.5, 1.0, 1.0]),
        ("linear", 0, [1.0, 0.75, 0.5, 0.25]),
        ("cosine", 0, [(1 + math.cos(math.pi * s / 4)) / 2 for s in range(4)]),
    ],
)
def test_the_learning_rate_is_a_function_of_the_step(found, tmp_path, name, warmup, expected):
    trained(found, tmp_path / "run", lr_scheduler=name, warmup=warmup, learning_rate=2.0e-4, accumulation=2)
    rates = [row["lr"] for row in read_rows(tmp_path / "run")]
    assert rates == pytest.approx([2e-4 * factor for factor in expected])
    options = TrainOptions(lr_scheduler=name, warmup=warmup, steps=4)
    assert [learning_rate(options, 1.0)(s) for s in range(4)] == pytest.approx(expected)


def test_scale_lr_counts_the_samples_of_an_update(found, tmp_path):
    trained(found, tmp_path / "run", steps=1, batch_size=2, accumulation=3, scale_lr=True, learning_rate=1e-5)
    assert read_rows(tmp_path / "run")[0]["lr"] == pytest.approx(6e-5)


def test_gradients_are_clipped_and_their_norm_is_logged(found, tmp_path):
    loose, _ = trained(found, tmp_path / "loose", max_grad_norm=1e9, steps=1)
    tight, _ = trained(found, tmp_path / "tight", max_grad_norm=1e-9, steps=1)
    norms = [read_rows(tmp_path / name)[0]["gradient_norm"] for name in ("loose", "tight")]
    assert norms[0] == norms[1] > 1e-3
    moved = [(weights(p.unet) - weights(tiny.unet())).abs().max() for p in (loose, tight)]
    assert moved[1] < 0.5 * moved[0]  # Adam's eps is no longer small beside the gradient


@pytest.mark.parametrize("family", ["stable_diffusion_xl", "unconditional"])
def test_other_families_train(tmp_path, family):
    pipe = getattr(tiny, family)()
    side, conditioning = (SIDE, "original") if family == "stable_diffusion_xl" else (tiny.SIZE, "nolevel")
    found = data(pictures(tmp_path / "data"), resolution=side, conditioning=conditioning)
    before = weights(pipe.unet)
    pipe, summary = trained(found, tmp_path / "run", pipe=pipe, steps=2)
    assert summary["updates"] == 2 and not torch.equal(weights(pipe.unet), before)
    exported = mn.Denoiser.from_pretrained(tmp_path / "run" / "pipeline", device="cpu").pipe
    assert torch.equal(weights(exported.unet), weights(pipe.unet))


@pytest.mark.parametrize("kind", ["v_prediction", "epsilon"])
def test_the_prediction_type_is_saved_with_the_model(found, tmp_path, kind):
    trained(found, tmp_path / "run", steps=1, objective={"prediction_type": kind})
    exported = mn.Denoiser.from_pretrained(tmp_path / "run" / "pipeline", device="cpu")
    assert exported.prediction_type == kind


@pytest.mark.parametrize("layers", ["attention", "all"])
def test_a_lora_is_read_by_the_option_of_that_name(found, tmp_path, layers):
    options = {"lora_rank": 2, "lora_alpha": 8, "lora_layers": layers}
    pipe, summary = trained(found, tmp_path / "run", train="lora", steps=3, **options)
    assert any("conv1" in name for name, _ in pipe.unet.named_parameters() if "lora" in name) is (layers == "all")
    assert summary["export"] == "lora"
    lora = tmp_path / "run" / "lora"
    tiny.stable_diffusion().save_pretrained(tmp_path / "base")
    model = mn.Denoiser.from_pretrained(tmp_path / "base", lora=lora, device="cpu")
    x_t, t = tiny.latents(2), torch.tensor(500)
    own, plain = mn.Denoiser(pipe), mn.Denoiser(tiny.stable_diffusion())
    expected = own.predict_noise(x_t, t, own.encode(["a", "b"]))
    torch.testing.assert_close(model.predict_noise(x_t, t, model.encode(["a", "b"])), expected)
    assert not torch.allclose(plain.predict_noise(x_t, t, plain.encode(["a", "b"])), expected, atol=1e-4)
    base = [p for name, p in pipe.unet.named_parameters() if "lora" not in name]
    assert torch.equal(torch.cat([p.flatten() for p in base]), weights(tiny.unet()))


def test_a_network_from_scratch_depends_on_the_seed_alone(found, tmp_path):
    def begun(name: str, **options):
        return weights(
            trained(found, tmp_path / name, train="scratch", steps=1, learning_rate=1e-12, **options)[0].unet
        )

    first = begun("1")
    torch.manual_seed(99)
    assert torch.equal(begun("2"), first)
    assert not torch.allclose(begun("3", seed=1), first, atol=1e-3)
    assert not torch.allclose(weights(tiny.unet()), first, atol=1e-3)


def test_a_network_from_scratch_takes_a_configuration(found, tmp_path):
    config = dict(tiny.unet().config) | {"block_out_channels": [8, 16]}
    (tmp_path / "unet.json").write_text(json.dumps({k: v for k, v in config.items() if k[0] != "_"}))
    options = {"train": "scratch", "steps": 1, "unet_config": str(tmp_path / "unet.json")}
    pipe, _ = trained(found, tmp_path / "run", **options)
    assert pipe.unet.config.block_out_channels == [8, 16]
    (tmp_path / "unet.json").write_text(json.dumps({"cross_attention_dim": 5}))
    with pytest.raises(UsageError, match="its cross_attention_dim is 5, and 32 is needed"):
        trained(found, tmp_path / "other", **options)


@pytest.mark.parametrize(
    "options", [{"gradient_checkpointing": True}, {"train": "unet+text", "gradient_checkpointing": True}]
)
def test_gradient_checkpointing_changes_nothing(found, tmp_path, options):
    plain, _ = trained(found, tmp_path / "1", **{k: v for k, v in options.items() if k == "train"})
    saving, _ = trained(found, tmp_path / "2", **options)
    assert torch.equal(weights(plain.unet), weights(saving.unet))


def test_bf16_trains_nearly_the_same_and_keeps_weights_in_full(found, tmp_path):
    exact, _ = trained(found, tmp_path / "1")
    rough, _ = trained(found, tmp_path / "2", mixed_precision="bf16")
    assert rough.unet.dtype == torch.float32
    losses = [[row["loss"] for row in read_rows(tmp_path / name)] for name in "12"]
    assert losses[0] == pytest.approx(losses[1], rel=0.05) and losses[0] != losses[1]


def test_previews_and_callbacks_see_the_steps_and_change_nothing(found, tmp_path):
    seen = []

    def watch(step, pipe, run):
        seen.append((step, pipe.unet.training, run.folder))
        torch.rand(3)  # a callback may do as it likes with torch's random state

    options = {"preview_every": 2, "preview_images": 3, "preview_inference_steps": 2, "preview_prompts": ("a", "b")}
    watched, _ = trained(found, tmp_path / "1", **options, callbacks=[watch])
    alone, _ = trained(found, tmp_path / "2")
    assert seen == [(step, True, tmp_path / "1") for step in range(5)]
    assert torch.equal(weights(watched.unet), weights(alone.unet))
    strips = sorted((tmp_path / "1" / "previews").iterdir())
    assert [p.name for p in strips] == ["000000.png", "000002.png", "000004.png"]
    sheets = [Image.open(io.BytesIO(file.read_bytes())) for file in strips]
    assert sheets[0].size == (3 * SIDE, 2 * SIDE)
    model = mn.Denoiser(copy.deepcopy(watched))
    (last,) = model.generate(["b"], [1], num_inference_steps=2)
    assert sheets[-1].crop((SIDE, SIDE, 2 * SIDE, 2 * SIDE)).tobytes() == last.tobytes()


def test_a_callback_stops_the_training_with_its_reason(found, tmp_path):
    _, summary = trained(found, tmp_path / "run", callbacks=[lambda step, *_: "enough" if step == 2 else None])
    assert (summary["stopped"], summary["steps"], summary["checkpoint"]) == ("enough", 2, "checkpoints/step-000002")
    assert trained(found, tmp_path / "run")[1] == summary  # it does not go on


def test_the_record_names_every_setting(found, tmp_path):
    trained(found, tmp_path / "run", ema=(0.9,), objective={"snr_gamma": 5})
    record = read_json(tmp_path / "run" / "run.json")
    assert record["command"] == "train" and record["free"]["checkpoint_every"] == 100
    expected = {"train": "unet", "ema": [0.9], "snr_gamma": 5, "conditioning": "original", "batch_size": 2}
    assert expected.items() <= record["settings"].items() and record["data"]["hash"] == found.content
    assert (tmp_path / "run" / "manifest.parquet").is_file()


def test_torchs_random_state_and_accelerates_are_left_alone(found, tmp_path):
    from accelerate.state import PartialState

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    trained(found, tmp_path / "run", steps=1)
    assert torch.equal(torch.rand(3), expected) and not PartialState._shared_state


def test_a_loss_that_is_no_number_stops_before_it_reaches_the_weights(found, tmp_path):
    pipe = tiny.stable_diffusion()
    with torch.no_grad():
        pipe.unet.conv_out.bias.fill_(torch.inf)
    before = weights(pipe.unet)
    with pytest.raises(UsageError, match="The loss of step 1 is (inf|nan); use a lower --learning-rate"):
        trained(found, tmp_path / "run", pipe=pipe)
    assert torch.equal(weights(pipe.unet), before)


REFUSED = [
    ({"train": "vae"}, "--train vae is not known; give unet, unet+text, lora or scratch."),
    ({"steps": 0}, "--steps 0 was given; give a number above 0."),
    ({"warmup": -1}, "--warmup -1 was given; give 0 or more."),
    ({"adam_beta2": 1.0}, "--adam-beta2 1.0 was given; give a number from 0 to below 1."),
    ({"ema": (1.5,)}, "--ema 1.5 is no decay; give a number between 0 and 1, for instance 0.9999."),
    ({"ema": (0.9, 0.9)}, "--ema was given one decay twice; give each once."),
    ({"warmup": 2}, "The constant schedule has no warm-up; use --lr-scheduler constant_with_warmup."),
    (
        {"warmup": 9, "steps": 9, "lr_scheduler": "linear"},
        "--warmup 9 leaves none of 9 steps; give fewer, or more --steps.",
    ),
    ({"unet_config": "a.json"}, "--unet-config describes a new U-Net; give --train scratch with it."),
    ({"lora_layers": "all"}, "--lora-layers are a LoRA's; give --train lora with it."),
    ({"lora_alpha": 2}, "--lora-alpha is a LoRA's; give --train lora with it."),
    ({"mixed_precision": "fp8"}, "--mixed-precision fp8 is not known; give no, fp16 or bf16."),
]


@pytest.mark.parametrize("options,sentence", REFUSED, ids=lambda value: str(value)[:30])
def test_wrong_settings_are_one_sentence(options, sentence):
    with pytest.raises(UsageError) as refused:
        TrainOptions(**options)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    "pipe,options,sentence",
    [
        ("class_conditional", {}, "A class-conditional model cannot be trained here"),
        ("distilled", {}, "its guidance is distilled into the network"),
        ("stable_diffusion_xl", {"train": "unet+text"}, "The text encoder of a stable-diffusion-xl model is not"),
        ("unconditional", {"train": "lora"}, "DDIMPipeline takes no LoRA; use --train unet"),
        ("stable_diffusion", {"trackers": ("nonsense",)}, "The tracker nonsense is not installed or not known"),
        ("stable_diffusion", {"optimizer": "adamw8bit"}, "The 8-bit optimizer needs bitsandbytes: pip install"),
        ("stable_diffusion", {"resume": "nowhere"}, "nowhere is no checkpoint; give auto, or a folder step-N"),
        ("stable_diffusion", {"mixed_precision": "fp16"}, "fp16 needs an accelerator, and this trains on the CPU"),
        ("stable_diffusion", {"device": "nonsense"}, "Device 'nonsense' is not to be had here"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(found, tmp_path, pipe, options, sentence):
    if "optimizer" in options and __import__("importlib.util").util.find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is installed here")
    with pytest.raises(UsageError, match=sentence):
        trained(found, tmp_path / "run", pipe=getattr(tiny, pipe)(), **options)


def test_options_are_chosen_from_all_that_is_given():
    given = {"steps": 3, "ema": [0.9], "snr_gamma": 5, "unknown": 1}
    assert chosen(TrainOptions, given) == TrainOptions(steps=3, ema=(0.9,))
    assert chosen(ObjectiveOptions, given) == ObjectiveOptions(snr_gamma=5)
