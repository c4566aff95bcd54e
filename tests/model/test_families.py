"""Sampling equals each family's own pipeline bit for bit, and the two branches are what they are called."""

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    LDMPipeline,
    StableDiffusionInpaintPipeline,
    UNet2DModel,
    VQModel,
)

import tiny
from mnemoscope.errors import UsageError
from mnemoscope.model.cond import concatenate, rows
from mnemoscope.model.denoiser import Denoiser
from mnemoscope.model.trajectory import Trajectory
from mnemoscope.scores.noise_norm import noise_norm

pytestmark = pytest.mark.filterwarnings(  # diffusers' solvers make arrays of tensors, which numpy 2 finds outdated
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
PROMPTS, SEEDS = ["a cat", "two dogs"], [3, 8]
TEXT = {
    "sd": tiny.stable_diffusion,
    "sd v": lambda scheduler: tiny.stable_diffusion("v_prediction", scheduler),
    "sd x0": lambda scheduler: tiny.stable_diffusion("sample", scheduler),
    "distilled": tiny.distilled,
    "xl": tiny.stable_diffusion_xl,
    "xl text null": lambda scheduler: tiny.stable_diffusion_xl(scheduler, zeros=False),
}
SOLVERS = [*((family, solver) for family in TEXT for solver in ("ddim", "dpm++")), ("sd", "euler"), ("sd", "pndm")]
SOLVERS += [("sd", "ddpm"), ("sd v", "euler"), ("xl", "euler")]


def last(model, prompts, seeds, **sampling):
    return [*model.steps(prompts, seeds, num_inference_steps=4, **sampling)][-1].x_prev


# prompts are encoded one by one: pooled vectors, of SDXL alone, round otherwise where a pipeline encodes them together
BATCHES = {False: [slice(None)], True: [slice(0, 1), slice(1, 2)]}


def same_images(ours, theirs):
    return len(ours) == len(theirs) and all(
        np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("guidance", [7.5, 1.0])
@pytest.mark.parametrize("family, solver", SOLVERS)
def test_sampling_from_text_equals_the_pipeline_bit_for_bit(family, solver, guidance):
    pipe = TEXT[family](scheduler=solver)
    options = {"num_inference_steps": 4, "guidance_scale": guidance, "output_type": "latent"}
    for part in BATCHES[family.startswith("xl")]:
        theirs = pipe(PROMPTS[part], generator=tiny.generators(SEEDS[part]), **options).images
        assert torch.equal(last(Denoiser(pipe), PROMPTS[part], SEEDS[part], guidance_scale=guidance), theirs)


def test_a_batch_of_the_large_model_equals_the_pipelines_up_to_the_rounding_of_its_pooled_vectors():
    pipe = tiny.stable_diffusion_xl()
    theirs = pipe(
        PROMPTS, generator=tiny.generators(SEEDS), num_inference_steps=4, guidance_scale=7.5, output_type="latent"
    ).images
    assert torch.allclose(last(Denoiser(pipe), PROMPTS, SEEDS, guidance_scale=7.5), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("solver", ["ddim", "dpm++", "euler", "pndm"])
def test_every_step_equals_what_the_pipeline_shows_its_callback(solver):
    pipe, theirs = tiny.stable_diffusion(scheduler=solver), []

    def keep(pipe, index, t, tensors):
        theirs.append((t, tensors["latents"]))
        return tensors

    pipe(PROMPTS, generator=tiny.generators(SEEDS), num_inference_steps=4, callback_on_step_end=keep)
    ours = [*Denoiser(pipe).steps(PROMPTS, SEEDS, num_inference_steps=4)]
    assert [s.index for s in ours] == [*range(len(theirs))]
    assert all(s.t == t and torch.equal(s.x_prev, x) for s, (t, x) in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("solver", ["ddim", "ddpm", "dpm++"])
def test_unconditional_sampling_equals_the_pipeline_bit_for_bit(solver):
    if solver == "dpm++":  # no unconditional pipeline takes that solver: compare with the plain loop
        pipe = tiny.unconditional(solver)
        ours, scheduler = last(Denoiser(pipe), ["", ""], SEEDS), pipe.scheduler
        x = torch.cat([torch.randn(1, 3, tiny.SIZE, tiny.SIZE, generator=g) for g in tiny.generators(SEEDS)])
        scheduler.set_timesteps(4)
        for t in scheduler.timesteps:
            x = scheduler.step(pipe.unet(x, t).sample, t, x).prev_sample
        assert torch.equal(ours, x)
        return
    pipe = tiny.unconditional(solver)
    theirs = pipe(2, tiny.generators(SEEDS), num_inference_steps=4, output_type="np").images
    model = Denoiser(pipe)
    assert np.array_equal(model.decode(last(model, ["", ""], SEEDS)).permute(0, 2, 3, 1).numpy(), theirs)


@pytest.mark.parametrize("guidance", [4.0, 1.0])
@pytest.mark.parametrize("solver", ["ddim", "dpm++"])
def test_sampling_of_classes_equals_the_pipeline_bit_for_bit(solver, guidance):
    pipe = tiny.class_conditional(solver)
    options = {"num_inference_steps": 4, "guidance_scale": guidance, "output_type": "pt"}
    theirs = pipe([7, 999], generator=tiny.generators(SEEDS), **options).images
    model = Denoiser(pipe)
    assert torch.equal(model.decode(last(model, ["7", "999"], SEEDS, guidance_scale=guidance)), theirs)


@pytest.mark.parametrize(
    "pipe",
    [
        tiny.stable_diffusion(),
        tiny.distilled(),
        tiny.stable_diffusion_xl(),
        tiny.stable_diffusion_xl(latents_mean=[0.5, -1, 0, 2], latents_std=[1, 2, 3, 4.0], scaling_factor=0.7),
    ],
    ids=["sd", "distilled", "xl", "xl with a latent mean"],
)
def test_images_equal_the_pipelines_exactly(pipe):
    options = {"num_inference_steps": 3, "guidance_scale": 7.5}
    for part in BATCHES[hasattr(pipe, "text_encoder_2")]:
        theirs = pipe(PROMPTS[part], generator=tiny.generators(SEEDS[part]), **options).images
        assert same_images(Denoiser(pipe).generate(PROMPTS[part], SEEDS[part], **options), theirs)


def test_images_without_text_equal_the_pipelines_exactly():
    pixels, classes = tiny.unconditional("ddpm"), tiny.class_conditional()
    theirs = pixels(2, tiny.generators(SEEDS), num_inference_steps=3).images
    assert same_images(Denoiser(pixels).generate(["", ""], SEEDS, num_inference_steps=3), theirs)
    theirs = classes([0, 1], generator=tiny.generators(SEEDS), num_inference_steps=3, guidance_scale=4.0).images
    ours = Denoiser(classes).generate(["Tinca tinca", "1"], SEEDS, num_inference_steps=3, guidance_scale=4.0)
    assert same_images(ours, theirs)


def test_given_latents_equal_the_pipelines_with_the_same_latents():
    pipe, noise = tiny.stable_diffusion(scheduler="euler"), tiny.latents(2)
    theirs = pipe(PROMPTS, latents=noise, num_inference_steps=4, output_type="latent").images
    assert torch.equal(last(Denoiser(pipe), PROMPTS, SEEDS, latents=noise), theirs)


@pytest.mark.parametrize("name", ["sd", "distilled", "xl", "class-conditional"])
def test_the_network_is_given_what_the_pipeline_gives_it_in_the_same_order(name):
    by_class, seen = name == "class-conditional", []
    pipe = tiny.class_conditional() if by_class else TEXT[name](scheduler="ddim")
    model = Denoiser(pipe)

    def keep(module, args, given):
        seen.append((args[0], given["class_labels" if by_class else "encoder_hidden_states"]))

    model.network.register_forward_pre_hook(keep, with_kwargs=True)
    pipe([7, 999] if by_class else PROMPTS, generator=tiny.generators(SEEDS), num_inference_steps=2, guidance_scale=4.0)
    last(model, ["7", "999"] if by_class else PROMPTS, SEEDS, guidance_scale=4.0)
    theirs, ours = seen[0], seen[2]  # at the first step of two, and of four: the solvers' noise is the same
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_the_pipeline_keeps_working_after_it_was_wrapped():
    pipe = tiny.stable_diffusion()
    before = pipe(PROMPTS, generator=tiny.generators(SEEDS), num_inference_steps=3, output_type="latent").images
    Denoiser(pipe).generate(PROMPTS, SEEDS, num_inference_steps=4)
    after = pipe(PROMPTS, generator=tiny.generators(SEEDS), num_inference_steps=3, output_type="latent").images
    assert torch.equal(before, after)


def text_embeddings(pipe, prompts):
    ids = pipe.tokenizer(prompts, padding="max_length", max_length=tiny.CONTEXT, return_tensors="pt").input_ids
    return pipe.text_encoder(ids).last_hidden_state


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_named_branches_are_separate_forward_passes_in_noise_units(kind):
    pipe = tiny.stable_diffusion(kind)
    model = Denoiser(pipe)
    for step in model.steps(PROMPTS, SEEDS, num_inference_steps=3):
        alpha = pipe.scheduler.alphas_cumprod[step.t].sqrt()
        sigma = (1 - alpha**2).sqrt()
        slack = 1e-5 / (sigma.item() if kind == "sample" else 1)
        for ours, texts in ((step.eps_cond, PROMPTS), (step.eps_uncond, ["", ""])):
            out = pipe.unet(step.x_t, step.t, text_embeddings(pipe, texts)).sample
            eps = {
                "epsilon": out,
                "v_prediction": sigma * step.x_t + alpha * out,
                "sample": (step.x_t - alpha * out) / sigma,
            }[kind]
            assert torch.allclose(ours, eps, rtol=1e-5, atol=slack)
        assert not torch.allclose(step.eps_cond, step.eps_uncond, rtol=1e-3, atol=1e-3)
        assert torch.allclose(step.eps, step.eps_uncond + 7.5 * (step.eps_cond - step.eps_uncond), atol=20 * slack)


def test_the_null_of_sdxl_is_zeros_or_the_empty_text_as_its_pipeline_has_it():
    zeros = Denoiser(tiny.stable_diffusion_xl()).null(2)
    text = Denoiser(tiny.stable_diffusion_xl(zeros=False))
    assert not zeros["encoder_hidden_states"].any() and not zeros["text_embeds"].any() and zeros["time_ids"].any()
    empty = text.encode([""])
    assert all(torch.equal(text.null(1)[k], empty[k]) for k in empty)
    assert text.null(1)["encoder_hidden_states"].any()


def test_the_branches_of_sdxl_are_separate_forward_passes():
    pipe = tiny.stable_diffusion_xl()
    step = next(Denoiser(pipe).steps(PROMPTS, SEEDS, num_inference_steps=3))
    embeds, _, pooled, _ = pipe.encode_prompt(PROMPTS, do_classifier_free_guidance=False)
    side = 2 * tiny.SIZE
    sizes = torch.tensor([[side, side, 0, 0, side, side]]).float().repeat(2, 1)

    def forward(embeds, pooled):
        return pipe.unet(step.x_t, step.t, embeds, added_cond_kwargs={"text_embeds": pooled, "time_ids": sizes}).sample

    assert torch.allclose(step.eps_cond, forward(embeds, pooled), atol=1e-5)
    assert torch.allclose(step.eps_uncond, forward(0 * embeds, 0 * pooled), atol=1e-5)


def test_the_branches_of_classes_are_the_class_and_the_null_class():
    pipe = tiny.class_conditional()
    step = next(Denoiser(pipe).steps(["3", "5"], SEEDS, num_inference_steps=3))
    times = step.t.expand(2)
    forward = [pipe.transformer(step.x_t, times, torch.tensor(c)).sample[:, :4] for c in ([3, 5], [1000, 1000])]
    assert torch.allclose(step.eps_cond, forward[0], atol=1e-5)
    assert torch.allclose(step.eps_uncond, forward[1], atol=1e-5)


@pytest.mark.parametrize("name", TEXT)
def test_observing_at_a_stored_x_t_gives_the_step_again(name):
    model = Denoiser(TEXT[name](scheduler="ddim"))
    for step in model.steps(PROMPTS, SEEDS, num_inference_steps=3, guidance_scale=5.0):
        seen = model.observe(step.x_t, step.t, model.encode(PROMPTS), index=step.index, guidance_scale=5.0)
        scale = step.eps_cond.abs().max()
        assert (seen.eps_cond - step.eps_cond).abs().max() <= 4e-6 * scale
        assert (seen.eps - step.eps).abs().max() <= 1e-4 * scale
        assert torch.equal(model.predict_noise(step.x_t, step.t, step.cond), seen.eps_cond)
        assert (seen.index, seen.alpha, seen.sigma) == (step.index, step.alpha, step.sigma)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_x_t_is_made_of_the_clean_image_and_the_noise(kind):
    for step in Denoiser(tiny.stable_diffusion(kind)).steps(PROMPTS, SEEDS, num_inference_steps=4):
        again = step.alpha * step.x0_hat + step.sigma * step.eps
        assert torch.allclose(again, step.x_t, rtol=1e-4, atol=1e-4)


def test_ddim_steps_are_made_of_the_steps_own_numbers():
    model = Denoiser(tiny.stable_diffusion("v_prediction"))
    steps = [*model.steps(PROMPTS, SEEDS, num_inference_steps=4)]
    for step, after in zip(steps, steps[1:], strict=False):
        expected = after.alpha * step.x0_hat + after.sigma * step.eps
        assert torch.allclose(step.x_prev, expected, rtol=1e-4, atol=1e-4)
        assert torch.equal(step.x_prev, after.x_t)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_gradient_of_the_noise_norm_is_plain_autograds(kind):
    pipe = tiny.stable_diffusion(kind)
    model, x_t, t = Denoiser(pipe), tiny.latents(2), torch.tensor(601)
    leaf = model.encode(PROMPTS)["encoder_hidden_states"].requires_grad_()
    step = model.observe(x_t, t, {"encoder_hidden_states": leaf})
    ours = torch.autograd.grad(noise_norm(step).sum(), leaf)[0]
    assert step.eps_cond.requires_grad and not step.eps_uncond.requires_grad
    null = pipe.unet(x_t, t, text_embeddings(pipe, ["", ""])).sample
    gap = (pipe.unet(x_t, t, leaf).sample - null).flatten(1).norm(dim=1)
    factor = {"epsilon": 1, "v_prediction": pipe.scheduler.alphas_cumprod[601].sqrt()}[kind]
    plain = torch.autograd.grad(factor * gap.sum(), leaf)[0]
    assert plain.abs().max() > 0 and torch.allclose(ours, plain, rtol=1e-3, atol=1e-4 * plain.abs().max())


def test_the_null_branch_has_a_graph_if_x_t_wants_a_gradient_and_grad_is_on():
    model, x_t, t = Denoiser(tiny.stable_diffusion()), tiny.latents(1).requires_grad_(), torch.tensor(601)
    assert model.observe(x_t, t, model.encode(["a cat"])).eps_uncond.requires_grad
    with torch.no_grad():
        assert not model.observe(x_t, t, model.encode(["a cat"])).eps_uncond.requires_grad


def test_sampled_steps_carry_no_graph():
    model = Denoiser(tiny.stable_diffusion())
    step = next(model.steps(PROMPTS, SEEDS, num_inference_steps=2))
    assert not any(v.requires_grad for v in (step.eps_cond, step.eps_uncond, step.x_t, step.x_prev))


def test_wrapping_a_pipeline_freezes_and_evaluates_every_network():
    pipe = tiny.stable_diffusion()
    pipe.unet.train().requires_grad_(True)
    model = Denoiser(pipe)
    assert set(model.modules) == {"unet", "vae", "text_encoder"}
    assert not any(p.requires_grad for m in model.modules.values() for p in m.parameters())
    assert not any(m.training for m in model.modules.values())


def test_the_guidance_scale_of_a_distilled_model_reaches_its_network():
    model = Denoiser(tiny.distilled())
    weak, strong = (next(model.steps(PROMPTS, SEEDS, guidance_scale=g)).eps for g in (2.0, 9.0))
    assert (weak - strong).abs().max() > 1e-3


@pytest.mark.parametrize(
    "pipe, prompts, reason",
    [(tiny.unconditional(), ["", ""], "unconditional model"), (tiny.distilled(), PROMPTS, "guidance is distilled")],
    ids=["unconditional", "distilled"],
)
def test_noise_norm_says_why_it_is_undefined_and_never_gives_zeros(pipe, prompts, reason):
    model = Denoiser(pipe)
    step = next(model.steps(prompts, SEEDS))
    seen = model.observe(step.x_t, step.t, model.encode(prompts))
    traced = Trajectory(model, prompts, SEEDS).first(1)[0]
    for each in (step, seen, traced):
        with pytest.raises(UsageError, match=rf"no unconditional branch \(.*{reason}.*\), so this method is undefined"):
            noise_norm(each)
        assert torch.equal(each.eps, each.eps_cond)
    with pytest.raises(UsageError, match=reason):
        model.null(2)


def test_an_unconditional_model_takes_no_prompt():
    with pytest.raises(UsageError, match="An unconditional model takes no prompt; 'a cat' was given"):
        next(Denoiser(tiny.unconditional()).steps(["", "a cat"], SEEDS))


@pytest.mark.parametrize("label", ["1000", "1001", "-1", "shark", "", "1.0"])
def test_what_is_not_a_class_is_refused(label):
    model = Denoiser(tiny.class_conditional())
    with pytest.raises(UsageError, match=rf"'{label}' is not a class of this model: give a number from 0 to 999"):
        model.encode(["1", label])


def test_classes_are_given_by_number_or_by_name():
    model = Denoiser(tiny.class_conditional())
    assert model.encode(["goldfish", "tench", " 12 ", "999"])["class_labels"].tolist() == [1, 0, 12, 999]


def latent_diffusion():
    unet = UNet2DModel(
        sample_size=8,
        block_out_channels=(8,),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    )
    coder = VQModel(block_out_channels=(8,), norm_num_groups=4)
    return LDMPipeline(vqvae=coder, unet=unet, scheduler=DDIMScheduler())


def inpainting():
    pipe = tiny.stable_diffusion(network=tiny.unet(in_channels=9))
    return StableDiffusionInpaintPipeline(**pipe.components, requires_safety_checker=False)


@pytest.mark.parametrize(
    "pipe, sentence",
    [
        (
            latent_diffusion(),
            "LDMPipeline is not supported: it would need a row .* there are stable-diffusion-xl, stable-",
        ),
        (
            inpainting(),
            "StableDiffusionInpaintPipeline needs an image and a mask beside .* give the StableDiffusionPip",
        ),
    ],
    ids=["latent diffusion", "inpainting"],
)
def test_a_pipeline_of_no_supported_family_is_refused(pipe, sentence):
    with pytest.raises(UsageError, match=f"^{sentence}"):
        Denoiser(pipe)


@pytest.mark.parametrize(
    "pipe, name, shape",
    [
        (tiny.stable_diffusion(), "stable-diffusion", (4, 8, 8)),
        (tiny.stable_diffusion_xl(), "stable-diffusion-xl", (4, 8, 8)),
        (tiny.unconditional(), "unconditional", (3, 8, 8)),
        (tiny.class_conditional(), "class-conditional", (4, 8, 8)),
        (tiny.stable_diffusion(network=tiny.unet(sample_size=(8, 16))), "stable-diffusion", (4, 8, 16)),
    ],
    ids=["sd", "xl", "unconditional", "class-conditional", "wide"],
)
def test_each_pipeline_finds_its_family_and_its_latent_shape(pipe, name, shape):
    model = Denoiser(pipe)
    assert (model.family.name, model.latent_shape) == (name, shape)
    assert model.describe()["family"] == name and model.describe()["latent_shape"] == list(shape)


def test_tokens_are_the_texts_characters_between_begin_and_end():
    first = Denoiser(tiny.stable_diffusion()).family.tokens(["a b", ""])[0]
    assert len(first) == tiny.CONTEXT and first[:4] == ["<|startoftext|>", "a</w>", "b</w>", "<|endoftext|>"]
    for pipe in (tiny.unconditional(), tiny.class_conditional()):
        with pytest.raises(UsageError, match="has no tokens to explain"):
            Denoiser(pipe).family.tokens(["a"])


def test_conditionings_concatenate_and_select_by_sample():
    model = Denoiser(tiny.stable_diffusion_xl())
    both = model.encode(PROMPTS)
    one, other = model.encode(PROMPTS[:1]), model.encode(PROMPTS[1:])
    for k, v in concatenate(one, other).items():
        assert torch.allclose(v, both[k], atol=1e-5)
    assert all(torch.equal(v, both[k][1:]) for k, v in rows(both, [1]).items())
