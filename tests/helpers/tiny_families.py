"""Pipelines of today's families with tiny random weights; `PIPES` has a builder and the arguments of a call."""

import functools
import os
import string
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import diffusers
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import CLIPTextModelWithProjection, PreTrainedTokenizerFast, T5Config, T5EncoderModel

import tiny  # CLIP tokenizer, text_encoder, vae, unet (read only)
from mnemoscope.model.denoiser import Denoiser

seeded, quiet = tiny.seeded, tiny.quiet
CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PARTS = (  # as FLUX.2 writes messages
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}{{ c['text'] }}{% endfor %}"
    "<|im_end|>\n{% endfor %}"
)


def byte_tokenizer(kind="t5", side="right", max_length=512):
    """Byte-level BPE without merges; T5 adds </s>, Gemma <bos>, chat ones have a template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<pad>", "</s>", "<unk>", "<bos>", "<|im_start|>", "<|im_end|>", "[gMASK]", "<sop>"]
    vocab = {w: i for i, w in enumerate([*special, *alphabet])}
    tok = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens(special)
    tpl = {
        "t5": ("$A </s>", ["</s>"]),
        "gemma": ("<bos> $A", ["<bos>"]),
        "glm": ("[gMASK] <sop> $A", ["[gMASK]", "<sop>"]),
    }.get(kind)
    if tpl:
        tok.post_processor = processors.TemplateProcessing(
            single=tpl[0], special_tokens=[(s, vocab[s]) for s in tpl[1]]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tok,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        bos_token="<bos>",
        padding_side=side,
        model_max_length=max_length,
    )
    fast.chat_template = {"chat": CHAT, "parts": PARTS}.get(kind)
    return fast


VOCAB = 266


def t5(width=32, seed=11, cls=T5EncoderModel, config=T5Config):
    c = config(
        vocab_size=VOCAB,
        d_model=width,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
        relative_attention_num_buckets=8,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        initializer_factor=1.0,
    )
    return seeded(lambda: cls(c), seed)


def flow(**o):
    return diffusers.FlowMatchEulerDiscreteScheduler(**o)


def vae1(latent=4, blocks=(4,), **o):
    n = len(blocks)
    shape = dict(
        sample_size=32,
        in_channels=3,
        out_channels=3,
        block_out_channels=blocks,
        layers_per_block=1,
        latent_channels=latent,
        down_block_types=("DownEncoderBlock2D",) * n,
        up_block_types=("UpDecoderBlock2D",) * n,
        norm_num_groups=1,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.0609,
        scaling_factor=1.5035,
    )
    return seeded(lambda: diffusers.AutoencoderKL(**shape | o), 3)


def sd3(scheduler=None, **o):
    net = seeded(
        lambda: diffusers.SD3Transformer2DModel(
            sample_size=8,
            patch_size=1,
            in_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=80,
            pooled_projection_dim=64,
            out_channels=4,
            pos_embed_max_size=16,
            **o,
        ),
        21,
    )
    return quiet(
        diffusers.StableDiffusion3Pipeline(
            transformer=net,
            scheduler=scheduler or flow(shift=3.0),
            vae=vae1(),
            text_encoder=tiny.text_encoder(CLIPTextModelWithProjection),
            tokenizer=tiny.tokenizer(),
            text_encoder_2=tiny.text_encoder(CLIPTextModelWithProjection, seed=4, width=48),
            tokenizer_2=tiny.tokenizer(),
            text_encoder_3=t5(80),
            tokenizer_3=byte_tokenizer(),
        )
    )


def flux(scheduler=None, guidance_embeds=True):
    net = seeded(
        lambda: diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=[4, 4, 8],
            guidance_embeds=guidance_embeds,
        ),
        22,
    )
    return quiet(
        diffusers.FluxPipeline(
            transformer=net,
            scheduler=scheduler or flow(use_dynamic_shifting=True),
            vae=vae1(4, (4, 4)),
            text_encoder=tiny.text_encoder(),
            tokenizer=tiny.tokenizer(),
            text_encoder_2=t5(),
            tokenizer_2=byte_tokenizer(),
        )
    )


def qwen3(width=16, seed=31, cls="Qwen3Model", layers=3):
    c = transformers.Qwen3Config(
        hidden_size=width,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=VOCAB,
        max_position_embeddings=1024,
        head_dim=8,
    )
    return seeded(lambda: getattr(transformers, cls)(c), seed)


def vae_flux2():
    def make():
        return diffusers.AutoencoderKLFlux2(
            sample_size=32,
            in_channels=3,
            out_channels=3,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            block_out_channels=(4, 4),
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=1,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )

    v = seeded(make, 3)
    g = torch.Generator().manual_seed(5)
    v.bn.running_mean.copy_(torch.randn(v.bn.running_mean.shape, generator=g))
    v.bn.running_var.copy_(torch.rand(v.bn.running_var.shape, generator=g) + 0.5)
    return v


def flux2_net(guidance):
    return seeded(
        lambda: diffusers.Flux2Transformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=48,
            timestep_guidance_channels=256,
            axes_dims_rope=[4, 4, 4, 4],
            guidance_embeds=guidance,
        ),
        23,
    )


def flux2_klein(scheduler=None):
    return quiet(
        diffusers.Flux2KleinPipeline(
            transformer=flux2_net(False),
            scheduler=scheduler or flow(use_dynamic_shifting=True),
            vae=vae_flux2(),
            text_encoder=qwen3(cls="Qwen3ForCausalLM", layers=28),
            tokenizer=byte_tokenizer("chat"),
        )
    )


class Processor:
    """Stands in for Mistral's processor, which needs torchvision: a tokenizer inside."""

    def __init__(self, tokenizer):
        self.tokenizer, self.apply_chat_template = tokenizer, tokenizer.apply_chat_template


def flux2(scheduler=None):
    p = diffusers.Flux2Pipeline(
        transformer=flux2_net(True),
        scheduler=scheduler or flow(use_dynamic_shifting=True),
        vae=vae_flux2(),
        text_encoder=qwen3(cls="Qwen3ForCausalLM", layers=31),
        tokenizer=byte_tokenizer("parts"),
    )
    return quiet(p)


def qwenimage(scheduler=None, guidance_embeds=False):
    net = seeded(
        lambda: diffusers.QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=3,
            joint_attention_dim=16,
            guidance_embeds=guidance_embeds,
            axes_dims_rope=(8, 4, 4),
        ),
        24,
    )
    vae = seeded(
        lambda: diffusers.AutoencoderKLQwenImage(
            base_dim=24,
            z_dim=4,
            dim_mult=[1, 2, 4],
            num_res_blocks=1,
            temperal_downsample=[False, True],
            latents_mean=[0.1, -0.2, 0.3, 0.0],
            latents_std=[1.2, 0.9, 1.0, 1.1],
        ),
        3,
    )
    c = transformers.Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "vocab_size": VOCAB,
            "rope_scaling": {"mrope_section": [1, 1, 2], "rope_type": "default", "type": "default"},
            "rope_theta": 1000000.0,
        },
        vision_config={"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16},
        hidden_size=16,
        vocab_size=VOCAB,
        vision_end_token_id=4,
        vision_start_token_id=5,
        vision_token_id=6,
    )
    te = seeded(lambda: transformers.Qwen2_5_VLForConditionalGeneration(c), 32)
    return quiet(
        diffusers.QwenImagePipeline(
            transformer=net,
            scheduler=scheduler or flow(use_dynamic_shifting=True, shift_terminal=0.02),
            vae=vae,
            text_encoder=te,
            tokenizer=byte_tokenizer("chat"),
        )
    )


def zimage(scheduler=None):
    net = seeded(lambda: _z(), 25)
    vae = vae1(16, (4, 4))
    return quiet(
        diffusers.ZImagePipeline(
            transformer=net,
            scheduler=scheduler or flow(shift=3.0),
            vae=vae,
            text_encoder=qwen3(),
            tokenizer=byte_tokenizer("chat"),
        )
    )


def _z():
    n = diffusers.ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=16,
        dim=32,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        norm_eps=1e-5,
        qk_norm=True,
        cap_feat_dim=16,
        rope_theta=256.0,
        t_scale=1000.0,
        axes_dims=[8, 4, 4],
        axes_lens=[1024, 32, 32],
    )
    with torch.no_grad():
        n.x_pad_token.copy_(torch.ones_like(n.x_pad_token))
        n.cap_pad_token.copy_(torch.ones_like(n.cap_pad_token))
    return n


def pixart(scheduler=None, kind=diffusers.PixArtSigmaPipeline):
    net = seeded(
        lambda: diffusers.PixArtTransformer2DModel(
            sample_size=8,
            num_layers=2,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=3,
            caption_channels=32,
            in_channels=4,
            cross_attention_dim=24,
            out_channels=8,
            attention_bias=True,
            activation_fn="gelu-approximate",
            num_embeds_ada_norm=1000,
            norm_type="ada_norm_single",
            norm_elementwise_affine=False,
            norm_eps=1e-6,
        ),
        26,
    )
    sch = scheduler or diffusers.DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02)
    return quiet(kind(transformer=net, scheduler=sch, vae=tiny.vae(), text_encoder=t5(), tokenizer=byte_tokenizer()))


def gemma(width=8, seed=33):
    c = transformers.Gemma2Config(
        head_dim=8,
        hidden_size=width,
        intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=2,
        num_key_value_heads=2,
        vocab_size=VOCAB,
        max_position_embeddings=2048,
        attn_implementation="eager",
        sliding_window=1024,
    )
    return seeded(lambda: transformers.Gemma2Model(c), seed)


def sana(scheduler=None, **o):
    net = seeded(
        lambda: diffusers.SanaTransformer2DModel(
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            num_attention_heads=2,
            attention_head_dim=4,
            num_cross_attention_heads=2,
            cross_attention_head_dim=4,
            cross_attention_dim=8,
            caption_channels=8,
            sample_size=8,
            **o,
        ),
        27,
    )
    vae = seeded(
        lambda: diffusers.AutoencoderDC(
            in_channels=3,
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=[1, 1],
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
            scaling_factor=0.41407,
        ),
        3,
    )
    sch = scheduler or diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, solver_order=2
    )
    return quiet(
        diffusers.SanaPipeline(
            transformer=net,
            scheduler=sch,
            vae=vae,
            text_encoder=gemma(),
            tokenizer=byte_tokenizer("gemma", max_length=2048),
        )
    )


def lumina2(scheduler=None):
    net = seeded(
        lambda: diffusers.Lumina2Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            hidden_size=8,
            num_layers=2,
            num_attention_heads=1,
            num_kv_heads=1,
            multiple_of=16,
            ffn_dim_multiplier=None,
            norm_eps=1e-5,
            scaling_factor=1.0,
            axes_dim_rope=[4, 2, 2],
            cap_feat_dim=8,
            axes_lens=[1024, 64, 64],
        ),
        28,
    )
    return quiet(
        diffusers.Lumina2Pipeline(
            transformer=net,
            scheduler=scheduler or flow(shift=6.0),
            vae=vae1(4, (4, 4, 4, 4)),
            text_encoder=gemma(),
            tokenizer=byte_tokenizer("gemma"),
        )
    )


def aura(scheduler=None):
    net = seeded(
        lambda: diffusers.AuraFlowTransformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            num_mmdit_layers=1,
            num_single_dit_layers=1,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_projection_dim=32,
            joint_attention_dim=32,
            out_channels=4,
            pos_embed_max_size=256,
        ),
        29,
    )
    te = t5(cls=transformers.UMT5EncoderModel, config=transformers.UMT5Config)
    return quiet(
        diffusers.AuraFlowPipeline(
            transformer=net,
            scheduler=scheduler or flow(shift=1.73),
            vae=tiny.vae(),
            text_encoder=te,
            tokenizer=byte_tokenizer(),
        )
    )


def chroma(scheduler=None):
    net = seeded(
        lambda: diffusers.ChromaTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            axes_dims_rope=[4, 4, 8],
            approximator_hidden_dim=32,
            approximator_layers=1,
            approximator_num_channels=16,
        ),
        30,
    )
    return quiet(
        diffusers.ChromaPipeline(
            transformer=net,
            scheduler=scheduler or flow(),
            vae=vae1(4, (4, 4)),
            text_encoder=t5(),
            tokenizer=byte_tokenizer(),
        )
    )


def hunyuandit(scheduler=None):
    net = seeded(
        lambda: diffusers.HunyuanDiT2DModel(
            sample_size=8,
            num_layers=2,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=3,
            in_channels=4,
            cross_attention_dim=32,
            cross_attention_dim_t5=32,
            pooled_projection_dim=16,
            hidden_size=24,
            activation_fn="gelu-approximate",
        ),
        34,
    )
    c = transformers.BertConfig(
        vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37
    )
    te = seeded(lambda: transformers.BertModel(c), 35)
    sch = scheduler or diffusers.DDPMScheduler(
        beta_start=0.00085,
        beta_end=0.03,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        steps_offset=1,
        clip_sample=False,
    )
    return quiet(
        diffusers.HunyuanDiTPipeline(
            transformer=net,
            scheduler=sch,
            vae=tiny.vae(),
            text_encoder=te,
            tokenizer=word_pieces(),
            text_encoder_2=t5(),
            tokenizer_2=byte_tokenizer(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    )


def word_pieces():
    """BERT's own tokenizer, with a piece for each letter at the beginning of a word and for each one inside."""
    letters = [*string.ascii_lowercase, *string.digits]
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{c}" for c in letters), *string.punctuation]
    return transformers.BertTokenizer(vocab={name: k for k, name in enumerate(names)}, model_max_length=77)


def cogview4(scheduler=None):
    net = seeded(
        lambda: diffusers.CogView4Transformer2DModel(
            patch_size=2,
            in_channels=4,
            num_layers=2,
            attention_head_dim=4,
            num_attention_heads=4,
            out_channels=4,
            text_embed_dim=32,
            time_embed_dim=8,
            condition_dim=4,
            sample_size=8,
        ),
        36,
    )
    c = transformers.GlmConfig(
        hidden_size=32,
        intermediate_size=8,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        vocab_size=VOCAB,
        pad_token_id=0,
    )
    te = seeded(lambda: transformers.GlmModel(c), 37)
    sch = scheduler or flow(
        base_shift=0.25, max_shift=0.75, base_image_seq_len=256, use_dynamic_shifting=True, time_shift_type="linear"
    )
    return quiet(
        diffusers.CogView4Pipeline(
            transformer=net,
            scheduler=sch,
            vae=tiny.vae(),
            text_encoder=te,
            tokenizer=byte_tokenizer("glm", side="left"),
        )
    )


def kolors(scheduler=None):
    net = tiny.unet(
        cross_attention_dim=32,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 16,
        use_linear_projection=True,
        encoder_hid_dim=16,
        encoder_hid_dim_type="text_proj",
    )
    from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel
    from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer

    c = ChatGLMConfig(
        num_layers=2,
        padded_vocab_size=512,
        hidden_size=16,
        ffn_hidden_size=24,
        kv_channels=8,
        num_attention_heads=2,
        multi_query_attention=True,
        multi_query_group_num=2,
        seq_length=256,
        original_rope=True,
    )
    te = ChatGLMModel(c).float().eval()
    g = torch.Generator().manual_seed(38)
    with torch.no_grad():
        for q in te.parameters():
            q.copy_(torch.randn(q.shape, generator=g) * 0.3 + (q.ndim == 1))
    sch = scheduler or diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.014, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"
    )
    return quiet(
        diffusers.KolorsPipeline(
            unet=net,
            scheduler=sch,
            vae=tiny.vae(),
            text_encoder=te,
            tokenizer=ChatGLMTokenizer(_sentence_pieces(), model_max_length=256),
            force_zeros_for_empty_prompt=False,
        )
    )


@functools.cache
def _sentence_pieces():
    """A file of pieces of letters, which goes when the tests do."""
    sentencepiece = pytest.importorskip("sentencepiece")
    _FILES.append(tempfile.TemporaryDirectory())
    prefix, letters = f"{_FILES[-1].name}/tokenizer", string.ascii_letters + string.digits + string.punctuation
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(letters), "a red dog sits on a mat"] * 9),
        model_prefix=prefix,
        vocab_size=400,
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return f"{prefix}.model"


_FILES: list[tempfile.TemporaryDirectory] = []


def wan(scheduler=None):
    vae = seeded(
        lambda: diffusers.AutoencoderKLWan(
            base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
        ),
        3,
    )
    net = seeded(
        lambda: diffusers.WanTransformer3DModel(
            patch_size=(1, 2, 2),
            num_attention_heads=2,
            attention_head_dim=12,
            in_channels=16,
            out_channels=16,
            text_dim=32,
            freq_dim=256,
            ffn_dim=32,
            num_layers=2,
            cross_attn_norm=True,
            qk_norm="rms_norm_across_heads",
            rope_max_seq_len=32,
        ),
        39,
    )
    te = t5(cls=transformers.UMT5EncoderModel, config=transformers.UMT5Config)
    sch = scheduler or diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return quiet(
        diffusers.WanPipeline(transformer=net, scheduler=sch, vae=vae, text_encoder=te, tokenizer=byte_tokenizer())
    )


def ltx(scheduler=None):
    net = seeded(
        lambda: diffusers.LTXVideoTransformer3DModel(
            in_channels=8,
            out_channels=8,
            patch_size=1,
            patch_size_t=1,
            num_attention_heads=4,
            attention_head_dim=8,
            cross_attention_dim=32,
            num_layers=2,
            caption_channels=32,
        ),
        40,
    )
    vae = seeded(
        lambda: diffusers.AutoencoderKLLTXVideo(
            in_channels=3,
            out_channels=3,
            latent_channels=8,
            block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            layers_per_block=(1,) * 5,
            decoder_layers_per_block=(1,) * 5,
            spatio_temporal_scaling=(True, True, False, False),
            decoder_spatio_temporal_scaling=(True, True, False, False),
            decoder_inject_noise=(False,) * 5,
            upsample_residual=(False,) * 4,
            upsample_factor=(1,) * 4,
            timestep_conditioning=False,
            patch_size=1,
            patch_size_t=1,
            encoder_causal=True,
            decoder_causal=False,
        ),
        3,
    )
    return quiet(
        diffusers.LTXPipeline(
            transformer=net,
            scheduler=scheduler or flow(use_dynamic_shifting=True, shift_terminal=0.1),
            vae=vae,
            text_encoder=t5(),
            tokenizer=byte_tokenizer(),
        )
    )


# name: (builder, call arguments)
PIPES = {
    "sd3": (sd3, dict(guidance_scale=7.0, max_sequence_length=32)),
    "flux": (flux, dict(guidance_scale=3.5, height=16, width=16, max_sequence_length=32)),
    "flux true cfg": (
        flux,
        dict(guidance_scale=3.5, true_cfg_scale=4.0, negative_prompt="", height=16, width=16, max_sequence_length=32),
    ),
    "flux schnell": (
        lambda **k: flux(guidance_embeds=False, **k),
        dict(guidance_scale=0.0, height=16, width=16, max_sequence_length=32),
    ),
    "flux2": (
        flux2,
        dict(guidance_scale=4.0, height=16, width=16, max_sequence_length=512),
    ),
    "flux2 klein": (
        flux2_klein,
        dict(guidance_scale=4.0, height=16, width=16, max_sequence_length=64),
    ),
    "qwenimage": (
        qwenimage,
        dict(true_cfg_scale=4.0, negative_prompt=" ", height=32, width=32, max_sequence_length=1024),
    ),
    "zimage": (zimage, dict(guidance_scale=5.0, height=16, width=16)),
    "zimage renorm": (
        zimage,
        dict(guidance_scale=5.0, height=16, width=16, cfg_normalization=True, cfg_truncation=0.5),
    ),
    "pixart": (pixart, dict(guidance_scale=4.5, use_resolution_binning=False, max_sequence_length=48)),
    "pixart alpha": (
        lambda **k: pixart(kind=diffusers.PixArtAlphaPipeline, **k),
        dict(guidance_scale=4.5, use_resolution_binning=False, max_sequence_length=48),
    ),
    "sana": (sana, dict(guidance_scale=4.5, height=32, width=32, use_resolution_binning=False, max_sequence_length=64)),
    "lumina2": (lumina2, dict(guidance_scale=4.0, height=32, width=32)),
    "lumina2 trunc": (
        lumina2,
        dict(guidance_scale=4.0, height=32, width=32, cfg_trunc_ratio=0.5, cfg_normalization=False),
    ),
    "aura": (aura, dict(guidance_scale=3.5, height=None, width=None, max_sequence_length=48)),
    "chroma": (chroma, dict(guidance_scale=5.0, height=16, width=16, max_sequence_length=48)),
    "hunyuandit": (hunyuandit, dict(guidance_scale=5.0, use_resolution_binning=False, height=16, width=16)),
    "hunyuandit rescale": (
        hunyuandit,
        dict(guidance_scale=5.0, guidance_rescale=0.7, use_resolution_binning=False, height=16, width=16),
    ),
    "cogview4": (cogview4, dict(guidance_scale=5.0, height=16, width=16)),
    "kolors": (kolors, dict(guidance_scale=5.0)),
    "wan": (wan, dict(guidance_scale=5.0, height=32, width=32, num_frames=1, max_sequence_length=48)),
    "ltx": (ltx, dict(guidance_scale=3.0, height=32, width=32, num_frames=1, max_sequence_length=48)),
}
OPTIONS = ("height", "width", "max_sequence_length")
NAMES = [n for n in PIPES if n.split()[-1] not in ("renorm", "trunc", "rescale", "cfg")]
SPATIAL = ("flux2", "flux2 klein", "zimage")  # take latents as they draw them, not as the network is given them


def pipeline(name, dtype=torch.float32):
    """The one pipeline of a name and dtype: another with the same weights elsewhere in memory may round otherwise."""
    return _pipeline(name, dtype)


@functools.cache
def _pipeline(name, dtype):
    if name == "kolors":
        pytest.importorskip("sentencepiece")
    build, _ = PIPES[name]
    return build().to(dtype)


def model_of(name, dtype=torch.float32):
    call = {k: v for k, v in PIPES[name][1].items() if k in OPTIONS and v}
    return Denoiser(pipeline(name, dtype), call={"height": 16, "width": 16} | call if name == "aura" else call)
