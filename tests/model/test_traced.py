"""Families that are known by a row: our steps are their pipelines' own, and each fact of a row is needed for it."""

import functools
import importlib
import json
from dataclasses import replace

import diffusers
import pytest
import torch
from diffusers.image_processor import VaeImageProcessor
from PIL import Image

import mnemoscope as mn
import tiny
import tiny_families
from mnemoscope.errors import UsageError
from mnemoscope.explanation.run import special
from mnemoscope.localization.statistics import activations
from mnemoscope.model import ablation
from mnemoscope.model.autoencoder import encode_images
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.hooks import edit_output
from mnemoscope.model.trajectory import Trajectory
from mnemoscope.scores.noise_norm import noise_norm
from tiny_families import NAMES, SPATIAL, model_of, pipeline

pytestmark = pytest.mark.filterwarnings("ignore")  # what the pipelines say about optional packages
STEPS = 3


def guidance(model, name):
    return tiny_families.PIPES[name][1].get(model.family.row.scale)


def states_of(name, dtype=torch.float32):
    """Every state of the solver while the pipeline draws from the noise of seed 3."""
    model, states = model_of(name, dtype), []
    pipe, noise = model.pipe, model.initial_noise([3])
    plain = pipe.scheduler.step

    @functools.wraps(plain)
    def step(*args, **kwargs):
        states.append(plain(*args, **kwargs)[0])
        return (states[-1],)

    pipe.scheduler.step = step
    try:
        latents = noise if name in SPATIAL else model.family.row.packing.pack(noise)
        options = {"latents": latents, "num_inference_steps": STEPS, "output_type": "latent"}
        pipe(prompt=["a cat"], generator=tiny.generators([3])[0], **options, **tiny_families.PIPES[name][1])
    finally:
        del pipe.scheduler.step
    return states


theirs = functools.cache(states_of)


def ours(model, name, noise):
    given = {"num_inference_steps": STEPS, "guidance_scale": guidance(model, name), "latents": noise}
    return [step.x_prev for step in model.steps(["a cat"], [3], **given)]


def differences(name, model, states):
    noise, pack = model.initial_noise([3]), model.family.row.packing.pack
    made = [x if name in SPATIAL[2:] else pack(x) for x in ours(model, name, noise)]
    assert [x.dtype for x in made] == [x.dtype for x in states]
    return [(a.float() - b.float().reshape(a.shape)).abs().max().item() for a, b in zip(made, states, strict=True)]


SMALL = ("sd3", "flux", "qwenimage", "hunyuandit", "zimage", "cogview4")
some_fast = pytest.mark.parametrize(
    "name", [name if name in SMALL else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_every_solver_state_equals_the_pipelines_bit_for_bit(name, dtype):
    assert differences(name, model_of(name, dtype), theirs(name, dtype)) == [0.0] * STEPS


def wrong_time(t, dtype, pipe):
    return 0.9 * t.float() + 0.01


SPOILT = {
    "time": {"time": wrong_time},
    "combination": {"combine": lambda row, cond, uncond, scale: uncond + (scale - 1) * (cond - uncond)},
    "sign": {"sign": -1},
}


@pytest.mark.parametrize("fact", SPOILT)
@pytest.mark.parametrize("name", NAMES)
def test_a_row_with_one_fact_spoilt_is_found_out(name, fact):
    model = model_of(name)
    if fact == "combination" and not model.family.branches:
        pytest.skip("one branch: nothing is combined")
    spoilt = {"sign": -model.family.row.sign} if fact == "sign" else SPOILT[fact]
    model.family.row = replace(model.family.row, **spoilt)
    assert max(differences(name, model, theirs(name))) > 0


PROMPT = "A red Dog, sitting"


@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_found_and_spell_the_prompt_without_template_and_padding(name):
    family = model_of(name).family
    (own,), (texts,) = family.spans([PROMPT]), family.tokens([PROMPT])
    assert {t.start for t in own if t.text} == {k for k, char in enumerate(PROMPT) if char != " "}
    if name not in ("sd3", "hunyuandit"):  # where two encoders have tokens of their own
        assert "".join(PROMPT[t.start : t.end] for t in own) == PROMPT.replace(" ", "")
    assert len({t.place for t in own}) == len(own) >= len(PROMPT.replace(" ", ""))
    assert all(texts[t.place] == t.text for t in own)
    assert family.spans([""]) == [[]]


@pytest.mark.parametrize("name", SMALL)
def test_token_gradients_are_plain_autograds_at_the_places_of_the_tokens(name):
    model = model_of(name)
    trajectory = Trajectory(model, [PROMPT, "two"], [0, 1], num_inference_steps=STEPS)
    found = mn.explain(trajectory, "token_gradients", score="noise_norm", steps=[1])
    step = trajectory.with_graph(1)
    size = noise_norm(step).sum()
    names = [n for n in (*model.family.texts, *model.family.pooled) if n in step.cond]
    parts = [g.norm(dim=-1) for g in torch.autograd.grad(size, [step.cond[n] for n in names])]
    plain = torch.cat([g if g.ndim == 2 else g[:, None] for g in parts], 1)
    assert torch.allclose(found, plain, rtol=1e-3, atol=1e-6)
    (own, _), (texts, _) = model.family.spans([PROMPT, "two"]), model.family.tokens([PROMPT, "two"])
    assert all(found[0, t.place] > 0 for t in own)
    apart = special(model.family, PROMPT, found[0].tolist(), own)
    assert ("pooled_share" in apart) == any(n in model.family.pooled for n in texts)
    assert 0 < apart.get("pooled_share", 0.5) < 1


def test_token_occlusion_cuts_a_word_for_both_encoders_at_once():
    model = model_of("sd3")
    trajectory = Trajectory(model, ["a cat"], [0], num_inference_steps=STEPS, guidance_scale=5.0)
    drops = mn.explain(trajectory, "token_occlusion", score="noise_norm", steps=[1], unit="word")
    (own,) = model.family.spans(["a cat"])
    whole, step = noise_norm(trajectory.chosen([1])[0]), trajectory.chosen([1])[0]
    cut = noise_norm(model.observe(step.x_t, step.t, model.encode(["a "]), index=1, guidance_scale=5.0))
    assert len(own) == 9 and drops[0, [t.place for t in own if t.start > 1]].sum().item() == pytest.approx(
        (whole - cut).item(), rel=1e-3
    )


def test_a_prompt_is_encoded_once_and_depends_on_no_neighbour():
    model, runs = model_of("sd3"), []
    model.pipe.text_encoder_3.register_forward_pre_hook(lambda *_: runs.append(1))
    alone, together = model.encode(["a cat"]), model.encode(["two very long dogs", "a cat", "a cat"])
    assert len(runs) == 3  # of the size, and of two prompts
    assert all(torch.equal(v[0], together[k][1]) for k, v in alone.items())
    with torch.no_grad():
        next(model.pipe.text_encoder_3.parameters()).mul_(1.5)
    try:
        assert not torch.equal(model.encode(["a cat"])["encoder_hidden_states"], alone["encoder_hidden_states"])
    finally:
        with torch.no_grad():
            next(model.pipe.text_encoder_3.parameters()).div_(1.5)
        model.pipe.text_encoder_3._forward_pre_hooks.clear()


@pytest.mark.parametrize("name", NAMES)
def test_batches_of_unequal_lengths_equal_each_prompt_alone(name):
    model, prompts = model_of(name), ["a cat", "two very long dogs that sit on a mat, in the sun"]
    options = {"num_inference_steps": STEPS, "guidance_scale": guidance(model, name)}
    together = [*model.steps(prompts, [3, 4], **options)][-1].x_prev
    for k, prompt in enumerate(prompts):
        alone = [*model.steps([prompt], [3 + k], **options)][-1].x_prev
        assert torch.allclose(together[k], alone[0], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_images_equal_the_pipelines(name):
    model, call = model_of(name), dict(tiny_families.PIPES[name][1])
    noise = model.initial_noise([3])
    given = {"latents": noise if name in SPATIAL else model.family.row.packing.pack(noise), "num_inference_steps": 2}
    found = pipeline(name)(prompt=["a cat"], generator=tiny.generators([3])[0], output_type="pt", **given, **call)
    images = (found.images if hasattr(found, "images") else found.frames[:, 0]).float()
    latents = [*model.steps(["a cat"], [3], latents=noise, num_inference_steps=2, guidance_scale=guidance(model, name))]
    assert torch.equal(model.decode(latents[-1].x_prev), images)


@pytest.mark.parametrize("name", ["sana", "lumina2", "qwenimage"])
def test_the_null_is_not_the_encoding_of_the_empty_prompt(name):
    model = model_of(name)
    null, empty = model.null(2), model.encode(["", ""])
    assert any(not torch.equal(v, empty[k]) for k, v in null.items() if v.is_floating_point())


def test_the_null_of_a_guidance_distilled_model_is_the_empty_prompt_under_the_same_guidance():
    model = model_of("flux")
    step = Trajectory(model, ["a cat"], [3], num_inference_steps=2, guidance_scale=6.0).first(1)[0]
    empty = {**model.encode([""]), "guidance": torch.tensor([6.0])}
    assert not step.guided and torch.equal(step.native_uncond, model.predict(step.x_t, step.t, empty))
    other = {**empty, "guidance": torch.tensor([1.0])}
    assert not torch.allclose(step.native_uncond, model.predict(step.x_t, step.t, other), atol=1e-4)


@pytest.mark.parametrize("name, spent", [("sd3", 4), ("lumina2", 5), ("flux schnell", 4)])
def test_evaluations_of_samples_that_share_their_noise(name, spent):
    model = model_of(name)
    step = Trajectory(model, ["a cat", "two", "dogs"], [3, 3, 3], num_inference_steps=2).first(1)[0]
    noise_norm(step)
    # a prediction each and one without a prompt; where two calls are made, one more to see the second
    assert model.network_evaluations == spent


def test_a_dry_run_leaves_no_trace():
    pipe, prompts = pipeline("zimage"), ["a cat"]
    before = torch.random.get_rng_state()
    Denoiser(pipe, call={"height": 16, "width": 16}).encode(prompts)
    assert prompts == ["a cat"] and torch.equal(before, torch.random.get_rng_state())
    assert not pipe.transformer._forward_pre_hooks and not pipe.text_encoder._forward_pre_hooks


@some_fast
def test_a_saved_folder_draws_what_its_pipeline_draws(name, tmp_path):
    pipe, size, options = pipeline(name), model_of(name).size, {"num_inference_steps": 2}
    pipe.save_pretrained(tmp_path)
    loaded, own = Denoiser.from_pretrained(tmp_path, device="cpu", size=size), Denoiser(pipe, size=size)
    assert type(loaded.pipe) is type(pipe) and loaded.size == size
    (*_, found), (*_, expected) = (model.steps(["a cat"], [3], **options) for model in (loaded, own))
    assert torch.equal(found.x_prev, expected.x_prev)
    assert loaded.family.spans([PROMPT]) == own.family.spans([PROMPT]) != [[]]


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda: diffusers.StableDiffusion3Img2ImgPipeline(**pipeline("sd3").components), "an image to begin from"),
        (lambda: diffusers.StableDiffusion3InpaintPipeline(**pipeline("sd3").components), "an image and a mask"),
        (lambda: diffusers.FluxKontextPipeline(**pipeline("flux").components), "an image to edit"),
        (
            lambda: diffusers.PixArtSigmaPAGPipeline(**pipeline("pixart").components, pag_applied_layers=["blocks.1"]),
            "a third branch",
        ),
        (lambda: type("MyPipeline", (diffusers.StableDiffusion3Pipeline,), {})(**pipeline("sd3").components), "a row"),
    ],
    ids=["img2img", "inpaint", "kontext", "pag", "a class of its own"],
)
def test_a_class_without_a_row_is_refused_and_says_what_it_would_need(make, sentence):
    with pytest.raises(UsageError, match=f"needs {sentence}|would need {sentence}") as refused:
        Denoiser(make())
    assert str(refused.value).count(". ") == 0


def controlled():
    parts = tiny_families.sd3().components  # its own: the call below writes into the configuration that it is given
    control = diffusers.SD3ControlNetModel.from_transformer(parts["transformer"], num_layers=1)
    return diffusers.StableDiffusion3ControlNetPipeline(**parts, controlnet=control)


def adapted():
    pipe = tiny_families.sd3()
    pipe.transformer.image_proj = torch.nn.Linear(2, 2)  # as load_ip_adapter leaves it there
    return pipe


def adapted_flux():
    pipe = tiny_families.flux()
    layers = torch.nn.ModuleList([torch.nn.Linear(2, 2)])
    pipe.transformer.encoder_hid_proj = diffusers.models.embeddings.MultiIPAdapterImageProjection(layers)
    return pipe


@pytest.mark.parametrize(
    "make, sentence",
    [
        (controlled, "StableDiffusion3ControlNetPipeline needs an image that controls it"),
        (adapted, "StableDiffusion3Pipeline has an IP-adapter"),
        (adapted_flux, "FluxPipeline has an IP-adapter"),
        (
            lambda: diffusers.QwenImageImg2ImgPipeline(**pipeline("qwenimage").components),
            "Qwen.* an image to begin",
        ),
        (lambda: diffusers.FluxInpaintPipeline(**pipeline("flux").components), "FluxInpaint.* an image and a mask"),
    ],
    ids=["controlnet", "ip-adapter of sd3", "ip-adapter of flux", "img2img of qwen", "inpaint of flux"],
)
def test_what_takes_more_than_a_text_is_refused(make, sentence):
    with pytest.raises(UsageError, match=f"^{sentence}"):
        Denoiser(make())


@pytest.mark.parametrize("changed", [{"boundary_ratio": 0.9}, {"expand_timesteps": True}])
def test_a_network_that_changes_along_the_sampling_is_refused(changed):
    pipe = tiny_families.wan()
    pipe.register_to_config(**changed)
    with pytest.raises(UsageError, match="changes its network or its times along the sampling"):
        Denoiser(pipe)


def test_a_network_whose_steps_are_cached_is_refused():
    pipe = tiny_families.flux()
    pipe.transformer.enable_cache(diffusers.FasterCacheConfig(current_timestep_callback=lambda: 1))
    with pytest.raises(UsageError, match="has a cache enabled, which skips steps; call disable_cache"):
        Denoiser(pipe, call={"height": 16, "width": 16}).encode(["a cat"])


def test_the_guidance_scale_is_the_pipelines_own_where_none_is_given():
    for name, scale in (("sd3", 7.0), ("flux", 3.5), ("qwenimage", 4.0), ("kolors", 5.0)):
        if name in NAMES:
            assert Trajectory(model_of(name), ["a"], [0], num_inference_steps=2).guidance_scale == scale
    assert Trajectory(Denoiser(tiny.stable_diffusion()), ["a"], [0]).guidance_scale == 7.5
    assert Trajectory(Denoiser(tiny.stable_diffusion_xl()), ["a"], [0]).guidance_scale == 5.0


def size(step):
    return step.push.flatten(1).norm(dim=1)


CARRIED = ("sd3", "flux", "qwenimage", "hunyuandit", "zimage", "cogview4", "sana", "kolors")


@pytest.mark.parametrize("name", CARRIED)
def test_embedding_descent_lowers_the_score_by_steps_of_the_embeddings_own_size(name):
    model = model_of(name)
    sampling = {"num_inference_steps": STEPS, "guidance_scale": guidance(model, name) or 3.5}
    before = size(next(model.steps(["a cat", "two dogs"], [3, 4], **sampling)))
    with mn.mitigate(model, "embedding_descent", score=size, iterations=4, lr=0.03):
        step = next(model.steps(["a cat", "two dogs"], [3, 4], **sampling))
    assert (size(step) < before).all()
    for key in model.family.texts:
        plain, moved = model.encode(["a cat", "two dogs"])[key].float(), step.cond[key].float()
        there = plain.square().sum(2) > 0
        rms = (plain.square().sum((1, 2)) / (there.sum(1) * plain.shape[2])).sqrt()
        far = (moved - plain).abs().amax((1, 2))
        assert ((0.02 * rms < far) & (far <= 4 * 0.03 * 1.3 * rms)).all(), key
        assert not (moved - plain)[~there].any() or name not in ("qwenimage", "zimage", "cogview4")


@pytest.mark.parametrize("tokens", ["content", "content+eos", "all-but-bos"])
@pytest.mark.parametrize("name", ["sd3", "hunyuandit"])
def test_descent_moves_the_tokens_that_it_is_asked_to_of_every_encoder(name, tokens):
    model = model_of(name)
    with mn.mitigate(model, "embedding_descent", score=size, iterations=2, tokens=tokens):
        step = next(model.steps(["a cat"], [3], num_inference_steps=STEPS))
    plain, moved = model.encode(["a cat"]), step.cond
    changed = torch.cat([(moved[k] - plain[k]).abs().sum(2)[0] for k in model.family.texts]).nonzero()[:, 0].tolist()
    own = sorted(t.place for t in model.family.spans(["a cat"])[0])
    second = next(p for p in own if p - 1 not in own and p != own[0])  # where the other encoder's tokens begin
    ends = [own[own.index(second) - 1] + 1, own[-1] + 1]
    if tokens == "all-but-bos":
        assert {*own, *ends} <= {*changed} and 0 not in changed
    else:
        assert changed == sorted(own + (ends if tokens == "content+eos" else []))


def test_embedding_noise_is_of_each_texts_own_size_and_spares_what_is_padded_with_zeros():
    model = model_of("hunyuandit")
    with mn.mitigate(model, "embedding_noise", scale=0.2):
        step = next(model.steps(["a cat"] * 4, [3, 4, 5, 6], num_inference_steps=STEPS))
    plain = model.encode(["a cat"] * 4)
    for key in model.family.texts:
        noise, rms = step.cond[key] - plain[key], plain[key].square().mean().sqrt()
        assert float(noise.std() / rms) == pytest.approx(0.2, rel=0.05)
    aura = model_of("aura")
    with mn.mitigate(aura, "embedding_noise", scale=0.2):
        step = next(aura.steps(["a cat"], [3], num_inference_steps=STEPS))
    text = aura.encode(["a cat"])["encoder_hidden_states"]
    changed = (step.cond["encoder_hidden_states"] - text).abs().sum(2)[0] > 0
    assert torch.equal(changed, text.abs().sum(2)[0] > 0) and not changed.all()


WITH_NEURONS = [n for n in NAMES if n not in ("zimage", "lumina2", "cogview4")]


@pytest.mark.parametrize("name", WITH_NEURONS)
def test_neurons_of_the_texts_own_values_are_ablated_for_each_sample_alone(name):
    model = model_of(name)
    layer = next(iter(ablation.layers(model)))
    own = {layer: list(range(4))}
    plain, *_ = model.steps(["a cat", "a cat"], [3, 3], num_inference_steps=2)
    with ablation.ablated(model, [own, {}]):
        step, *_ = model.steps(["a cat", "a cat"], [3, 3], num_inference_steps=2)
    apart = (step.native_cond - plain.native_cond).abs().flatten(1).amax(1)
    assert apart[0] > 0 and apart[1] < 1e-5
    module = model.network.get_submodule(layer)
    with edit_output(model.network, {layer: lambda v: v.index_fill(-1, torch.arange(4), 0.0)}):
        by_hand = model.predict(plain.x_t, plain.t, plain.cond)
    assert torch.allclose(step.native_cond[0], by_hand[0], atol=1e-5) and module.weight.shape[0] > 4
    statistics = activations(model, ["a cat", "two"])
    assert list(statistics) == list(ablation.layers(model)) and all(len(v) == 2 for v in statistics.values())


@pytest.mark.parametrize("name", ["zimage", "lumina2", "cogview4"])
def test_a_network_without_values_of_the_text_alone_refuses_neurons(name):
    model = model_of(name)
    with pytest.raises(UsageError, match="has no cross-attention, hence no neurons to locate or ablate"):
        ablation.layers(model)
    with pytest.raises(UsageError, match="has no cross-attention"), mn.mitigate(model, "attention_rescaling"):
        next(model.steps(["a cat"], [3], num_inference_steps=2))


def test_the_images_own_attention_of_sd35_is_not_taken_for_the_texts():
    pipe = tiny_families.sd3(dual_attention_layers=(0,))
    model = Denoiser(pipe, call={"max_sequence_length": 32})
    assert any(n.endswith("attn2.to_v") for n, _ in pipe.transformer.named_modules())
    assert all(n.endswith("attn.add_v_proj") for n in ablation.layers(model))


@pytest.mark.parametrize("method", ["eot_mask", "padding_mask", "pad_fix", "attention_rescaling", "embedding_classes"])
def test_what_needs_one_end_token_or_plain_attention_refuses_in_one_sentence(method):
    model = model_of("sd3")
    with pytest.raises(UsageError) as refused:
        if method == "embedding_classes":
            mn.explain(Trajectory(model, ["a cat"], [3], num_inference_steps=2), method)
        with mn.mitigate(model, method):
            next(model.steps(["a cat"], [3], num_inference_steps=2))
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 250


@pytest.mark.parametrize("method", ["difference_map", "curvature_map"])
def test_region_maps_are_of_the_cores_latents(method):
    trajectory = Trajectory(model_of("flux2"), ["a cat"], [3], num_inference_steps=STEPS)
    found = mn.explain(trajectory, method, steps=[1])
    assert found.shape == (1, 4, 4) and found.isfinite().all() and found.std() > 0


def test_a_guidance_schedule_acts_where_sampling_is_guided_and_refuses_where_it_is_not():
    model = model_of("cogview4")
    plain = [*model.steps(["a cat"], [3], num_inference_steps=STEPS)][-1].x_prev
    with mn.mitigate(model, "guidance_schedule"):
        assert not torch.equal([*model.steps(["a cat"], [3], num_inference_steps=STEPS)][-1].x_prev, plain)
    model = model_of("flux")
    with pytest.raises(UsageError, match="its guidance is distilled"), mn.mitigate(model, "guidance_schedule"):
        next(model.steps(["a cat"], [3], num_inference_steps=2))


@pytest.mark.parametrize("name", ["sd3", "lumina2", "qwenimage", "zimage", "wan"])
def test_a_negative_prompt_conditions_the_unconditional_branch_as_in_the_pipeline(name, monkeypatch):
    model = model_of(name)
    plain = model.null(1)
    model.family.negate("a dog")
    assert any(not torch.equal(v, plain[k]) for k, v in model.null(1).items() if v.is_floating_point())
    build, call = tiny_families.PIPES[name]
    monkeypatch.setitem(tiny_families.PIPES, name, (build, {**call, "negative_prompt": ["a dog"]}))
    assert differences(name, model, states_of(name)) == [0.0] * STEPS
    assert model.describe()["negative_prompt"] == "a dog"


@pytest.mark.parametrize("make", [tiny.stable_diffusion, tiny.stable_diffusion_xl])
def test_a_negative_prompt_of_stable_diffusion_is_its_pipelines(make):
    pipe = make()
    model = Denoiser(pipe)
    model.family.negate("a dog")
    options = {"num_inference_steps": 3, "guidance_scale": 4.0}
    found = pipe(
        ["a cat"], negative_prompt=["a dog"], generator=tiny.generators([3]), output_type="latent", **options
    ).images
    assert torch.equal([*model.steps(["a cat"], [3], **options)][-1].x_prev, found)


def test_a_negative_prompt_that_would_do_nothing_is_refused():
    for model in (model_of("flux"), Denoiser(tiny.unconditional()), Denoiser(tiny.class_conditional())):
        with pytest.raises(UsageError, match="^A negative prompt would do nothing for this model: "):
            model.family.negate("a dog")


def test_the_command_line_takes_the_pipelines_guidance_and_a_negative_prompt(mnemoscope, tmp_path):
    pipe, texts = tiny.stable_diffusion_xl(), tmp_path / "texts.txt"
    pipe.save_pretrained(tmp_path / "xl")
    texts.write_text("a cat\ntwo dogs\n")
    common = ["--prompts", texts, "--num-inference-steps", 3, "--device", "cpu", "--out"]
    plain = mnemoscope("detect", tmp_path / "xl", *common, tmp_path / "plain")
    other = mnemoscope("detect", tmp_path / "xl", "--negative-prompt", "a dog", *common, tmp_path / "other")
    assert plain[0] == other[0] == 0, (plain, other)
    first, second = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("plain", "other"))
    assert first["settings"]["guidance_scale"] == 5.0 and second["model"]["negative_prompt"] == "a dog"
    scores = [[json.loads(line)["score"] for line in (tmp_path / n / "rows.jsonl").open()] for n in ("plain", "other")]
    assert scores[0] != scores[1]


def picture(side=64):
    generator = torch.Generator().manual_seed(1)
    return Image.fromarray(torch.randint(0, 256, (side, side, 3), generator=generator, dtype=torch.uint8).numpy())


def through(vae, pixels):
    """An autoencoder's own way there and back, by itself."""
    pixels = pixels[:, :, None] if type(vae).__name__ in VIDEO else pixels
    found = vae.encode(pixels)
    latents = found.latent_dist.mode() if hasattr(found, "latent_dist") else found.latent
    back = vae.decode(latents, None)[0] if type(vae).__name__ == "AutoencoderKLLTXVideo" else vae.decode(latents)[0]
    return back[:, :, 0] if back.ndim == 5 else back


VIDEO = ("AutoencoderKLQwenImage", "AutoencoderKLWan", "AutoencoderKLLTXVideo")


@pytest.mark.parametrize("name", NAMES)
def test_images_become_latents_that_decode_as_the_autoencoders_own_do(name):
    model = model_of(name)
    latents = encode_images(model.pipe, [picture()], model.latent_shape)
    assert latents.shape == (1, *model.latent_shape) and latents.dtype == torch.float32
    fitted = picture().resize(model.size[::-1], Image.Resampling.LANCZOS)
    pixels = VaeImageProcessor(do_resize=False).preprocess([fitted])
    with torch.no_grad():
        own = (through(model.pipe.vae, pixels) / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(model.decode(latents), own, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name, module", [("qwenimage", "qwenimage.pipeline_qwenimage_img2img"), ("flux2", "")])
def test_latents_of_images_are_those_of_diffusers_own_pipelines_from_images(name, module, monkeypatch):
    pipe, model = pipeline(name), model_of(name)
    if module:
        file = importlib.import_module(f"diffusers.pipelines.{module}")
        monkeypatch.setattr(file, "retrieve_latents", lambda found, generator=None: found.latent_dist.mode())
        theirs = diffusers.QwenImageImg2ImgPipeline(**pipe.components)
    else:
        theirs = pipe
    pixels = VaeImageProcessor(do_resize=False).preprocess(picture().resize(model.size[::-1], Image.Resampling.LANCZOS))
    given = pixels[:, :, None] if module else pixels
    with torch.no_grad():
        expected = theirs._encode_vae_image(given, torch.Generator())
    found = encode_images(pipe, [picture()], model.latent_shape)
    torch.testing.assert_close(found, expected[:, :, 0] if module else expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["flux", "zimage", "cogview4"])
def test_scores_and_mitigations_carry_over(name):
    model = model_of(name)
    for score, steps in (("noise_norm", 1), ("score_norm", [1]), ("sharpness", [1]), ("flipd", [1])):
        values = mn.detect(Trajectory(model, ["a cat", "two dogs"], [0, 1], num_inference_steps=4), score, steps=steps)
        assert values.isfinite().all() and (values != 0).all(), score
    plain = [*model.steps(["a cat"], [0], num_inference_steps=STEPS)][-1].x_prev
    for method, given in (("noise_descent", {"iterations": 2}), ("embedding_noise", {})):
        with mn.mitigate(model, method, **given):
            moved = [*model.steps(["a cat"], [0], num_inference_steps=STEPS)][-1].x_prev
        assert moved.isfinite().all() and not torch.equal(moved, plain), method


@pytest.mark.parametrize("name", ["qwenimage", "zimage", "lumina2", "sd3"])
def test_the_guided_noise_at_other_latents_is_combined_as_the_pipeline_combines_it(name):
    model = model_of(name)
    step = [*model.steps(["a cat"], [0], num_inference_steps=4)][1]
    assert step.guided and torch.allclose(step.eps_at(step.x_t, branch="guided"), step.eps, atol=1e-4)
