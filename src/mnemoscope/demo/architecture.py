"""The untrained parts of the bundled pipeline: SD 1's architecture at small width, and its tokenizer."""

import json
from collections.abc import Iterable
from pathlib import Path

from diffusers import AutoencoderKL, SD3Transformer2DModel, UNet2DConditionModel
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from mnemoscope.model.bundled import TOKENS

VOCABULARY = 1536
WIDTH = 96  # of the text embedding, hence of the cross-attention
FLOW_WIDTH = 64  # of each of the two text encoders of the flow model


def tokenizer(texts: Iterable[str], folder: Path) -> CLIPTokenizer:
    """CLIP's byte-level, lower-case BPE with a vocabulary of its own, learnt from `texts`."""
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Lowercase()
    pattern = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    split = pre_tokenizers.Split(pattern, "removed", invert=True)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    bpe.decoder = decoders.ByteLevel()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 2, initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False
    )
    bpe.train_from_iterator(texts, trainer)
    learnt = json.loads(bpe.to_str())["model"]["merges"]
    pairs = [tuple(m) if isinstance(m, list) else tuple(m.split(" ")) for m in learnt]
    alphabet = [*letters, *(c + "</w>" for c in letters)]
    words = [*alphabet, *dict.fromkeys("".join(p) for p in pairs), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    ids = {w: i for i, w in enumerate(dict.fromkeys(words))}
    (folder / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in pairs))
    return CLIPTokenizer.from_pretrained(folder, model_max_length=77)


def text_encoder(vocabulary: int) -> CLIPTextModel:
    """CLIP's text encoder of three layers, for so many tokens."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            projection_dim=WIDTH,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
        )
    )


def autoencoder() -> AutoencoderKL:
    """An autoencoder of pictures of 64 x 64 pixels, with latents [4, 16, 16]."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 48, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=64,
        mid_block_add_attention=False,
    )


def unet() -> UNet2DConditionModel:
    """A U-Net over those latents, with cross-attention at its three finest sizes."""
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(48, 64, 64, 64),
        down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
        cross_attention_dim=WIDTH,
        attention_head_dim=2,  # diffusers' name for the number of heads
        norm_num_groups=16,
    )


def transformer(num_layers: int = 6) -> SD3Transformer2DModel:
    """SD3's network: joint attention over image patches and text states, and a pooled text vector in the modulation."""
    net = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=num_layers,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=2 * FLOW_WIDTH,
        caption_projection_dim=128,
        pooled_projection_dim=2 * FLOW_WIDTH,
        pos_embed_max_size=16,
        qk_norm="rms_norm",
    )
    modulations = [m for name, m in net.named_modules() if name.endswith(("norm1.linear", "norm1_context.linear"))]
    for linear in [
        *modulations,
        net.norm_out.linear,
        net.proj_out,
    ]:  # each block begins as the identity, the whole as zero
        nn.init.zeros_(linear.weight)
        nn.init.zeros_(linear.bias)
    return net


def projected_text_encoder(vocabulary: int) -> CLIPTextModelWithProjection:
    """CLIP's text encoder with a pooled vector, as the flow model has two of."""
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=FLOW_WIDTH,
            intermediate_size=4 * FLOW_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=4,
            projection_dim=FLOW_WIDTH,
            max_position_embeddings=TOKENS,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
        )
    )
