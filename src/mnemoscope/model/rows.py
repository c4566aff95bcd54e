"""What is true of each text-to-image pipeline of diffusers beyond Stable Diffusion 1, 2 and XL: one row a class.

A row is a statement that a test checks: sampling by it equals the pipeline's own bit for bit, and with one fact of it
spoilt it does not.
"""

from dataclasses import replace

from mnemoscope.model import facts as fact
from mnemoscope.model import packing as pk
from mnemoscope.model.decoders import by_batch_norm, by_statistics, by_video_scale
from mnemoscope.model.facts import Encoded, Row

_FLUX = Row(
    name="flux",
    calls="one",
    time=fact.thousandth,
    encoded=(Encoded("text_encoder_2", "tokenizer_2"),),
    pooled=("pooled_projections",),
    samples=("guidance",),
    packing=pk.SQUARES,
)
_FLUX_2 = Row(
    name="flux-2",
    calls="one",
    time=fact.thousandth,
    samples=("guidance", "txt_ids", "img_ids"),
    packing=pk.FLAT,
    decode=by_batch_norm,
    pixels=lambda pipe: 2 * pipe.vae_scale_factor,
)
_PIXART = Row(
    name="pixart",
    calls="null first",
    samples=("encoder_attention_mask", "resolution", "aspect_ratio"),
    call={"use_resolution_binning": False},
)

ROWS: dict[str, Row] = {
    "StableDiffusion3Pipeline": Row(
        name="stable-diffusion-3",
        calls="null first",
        pooled=("pooled_projections",),
        encoded=(Encoded(), Encoded("text_encoder_3", "tokenizer_3", place=fact.after_clip)),
    ),
    "FluxPipeline": _FLUX,
    "Flux2Pipeline": _FLUX_2,
    "Flux2KleinPipeline": replace(
        _FLUX_2, name="flux-2-klein", calls="apart", distilled=lambda pipe: bool(pipe.config.is_distilled)
    ),
    "QwenImagePipeline": Row(
        name="qwen-image",
        calls="apart",
        time=fact.thousandth,
        encoded=(Encoded(place=fact.after_template),),
        repeated=("img_shapes",),
        packing=pk.SHAPED,
        combine=fact.renormed,
        scale="true_cfg_scale",
        null_prompt=" ",
        ragged="mask",
        decode=by_statistics,
    ),
    "ZImagePipeline": Row(
        name="z-image",
        calls="cond first",
        time=fact.left,
        x="x",
        t="t",
        texts=("cap_feats",),
        encoded=(Encoded(text="cap_feats"),),
        packing=pk.FRAMES,
        float_state=True,
        floats=True,
        sign=-1,
        combine=fact.from_cond,
        off=0.0,
        ragged="list",
    ),
    "PixArtAlphaPipeline": _PIXART,
    "PixArtSigmaPipeline": replace(_PIXART, name="pixart-sigma"),
    "SanaPipeline": Row(
        name="sana",
        calls="null first",
        time=fact.scaled,
        encoded=(Encoded(place=fact.last),),
        samples=("encoder_attention_mask",),
        float_state=True,
        floats=True,
        call={"use_resolution_binning": False},
    ),
    "Lumina2Pipeline": Row(
        name="lumina-2",
        calls="apart",
        time=fact.left_of_all,
        samples=("encoder_attention_mask",),
        sign=-1,
        combine=fact.renormed,
    ),
    "AuraFlowPipeline": Row(name="auraflow", calls="null first", time=fact.thousandth_typed),
    "ChromaPipeline": Row(
        name="chroma", calls="apart", time=fact.thousandth, samples=("attention_mask",), packing=pk.SQUARES
    ),
    "HunyuanDiTPipeline": Row(
        name="hunyuan-dit",
        calls="null first",
        time=fact.typed,
        texts=("encoder_hidden_states", "encoder_hidden_states_t5"),
        encoded=(Encoded(), Encoded("text_encoder_2", "tokenizer_2", "encoder_hidden_states_t5")),
        samples=("text_embedding_mask", "text_embedding_mask_t5", "image_meta_size", "style"),
        call={"use_resolution_binning": False},
    ),
    "CogView4Pipeline": Row(
        name="cogview-4",
        calls="apart",
        samples=("original_size", "target_size", "crop_coords"),
        float_state=True,
        ragged="groups",
    ),
    "KolorsPipeline": Row(
        name="kolors",
        calls="null first",
        network="unet",
        x="sample",
        pooled=("text_embeds",),
        samples=("time_ids",),
    ),
    "WanPipeline": Row(
        name="wan",
        calls="apart",
        packing=pk.FRAME,
        float_state=True,
        call={"num_frames": 1},
        decode=by_statistics,
        pixels=lambda pipe: pipe.vae_scale_factor_spatial,
    ),
    "LTXPipeline": Row(
        name="ltx",
        calls="null first",
        samples=("encoder_attention_mask",),
        packing=pk.VIDEO,
        float_state=True,
        floats=True,
        call={"num_frames": 1},
        decode=by_video_scale,
        pixels=lambda pipe: pipe.vae_spatial_compression_ratio,
    ),
}
