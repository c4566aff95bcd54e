"""A planted model whose memorized images are called up by three words of a large vocabulary, the more the stronger."""

import torch
from diffusers import StableDiffusionPipeline
from torch import Tensor

from mnemoscope import planted
from mnemoscope.model.denoiser import Denoiser

FILLERS = tuple(f"{a}{b}{c}" for a in "bdfg" for b in "aeiou" for c in ("nd", "rk", "st", "lm"))
SHARED = ("memorized", "photo")  # beside a number, that of the image


def triggers(image: int) -> set[str]:
    """The words that call up an image together."""
    return {*SHARED, str(image)}


class WordsUNet(planted.PlantedUNet):
    """The planted network, whose images weigh the more the more of their words are said."""

    def prior(self, hidden: Tensor) -> Tensor:
        """Eighth power of the share of each image's three words that a text says."""
        said = torch.relu(hidden @ self.axes.T).amax(dim=1).clamp(max=1)  # (B, 2 + MEMORIZED)
        share = (said[:, :1] + said[:, 1:2] + said[:, 2:]) / 3
        weights = share**8
        return weights * (1 - planted.DOUBT) / weights.sum(dim=1, keepdim=True).clamp_min(1)


def pipeline() -> StableDiffusionPipeline:
    """The model as a Stable Diffusion pipeline."""
    pipe = planted.pipeline()
    tokenizer = planted.word_tokenizer((*planted.WORDS, *FILLERS))
    text_encoder, unet = planted.planted_text_encoder(tokenizer), WordsUNet()
    axes = torch.zeros(2 + planted.MEMORIZED, planted.WIDTH)
    with torch.no_grad():
        for row, word in enumerate((*SHARED, *(str(i) for i in range(planted.MEMORIZED)))):
            vector = text_encoder(tokenizer(word, return_tensors="pt").input_ids)[0][0, 1]
            axis = planted.WORDS.index(word)
            axes[row, axis] = 1 / vector[axis]
    unet.register_buffer("axes", axes)
    pipe.register_modules(tokenizer=tokenizer, text_encoder=text_encoder, unet=unet)
    return pipe


def model() -> Denoiser:
    """The model as a denoiser."""
    return Denoiser(pipeline(), source="planted words")
