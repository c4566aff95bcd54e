"""What the tokenizer makes of prompts: what it cuts off, where it pads, and text encoded with other padding."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mnemoscope.errors import UsageError
from mnemoscope.model.device import working_on
from mnemoscope.model.inversion import encoded_texts
from mnemoscope.model.start import Start
from mnemoscope.run.rows import PromptRow

if TYPE_CHECKING:
    from mnemoscope.model.predictor import Predictor


def cut_off(model: "Predictor", prompts: Sequence[str]) -> list[int]:
    """How many tokens of each prompt lie beyond the tokenizer's limit; none where there is no tokenizer."""
    tokenizer = getattr(model.pipe, "tokenizer", None) if model.family.has_ends else None
    return over_limit(tokenizer, encoded_texts(model.pipe, prompts)) if tokenizer else [0] * len(prompts)


def over_limit(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """How many tokens of each text lie beyond a tokenizer's limit; none without a tokenizer."""
    if tokenizer is None:
        return [0] * len(texts)
    lengths = [len(row) for row in tokenizer(list(texts), verbose=False).input_ids]
    return [max(0, length - tokenizer.model_max_length) for length in lengths]


class CutPrompts(TypedDict):
    """How many prompts are cut off, and by how many tokens at most."""

    prompts: int
    most_tokens: int


class CutOff(TypedDict):
    """What a summary says of them."""

    cut_off: CutPrompts
    notes: NotRequired[list[str]]


def cut_off_summary(rows: Sequence[PromptRow]) -> CutOff:
    """How many prompts of a run are cut off, by how many tokens at most, and a sentence that says so."""
    cut = [row["cut_off"] for row in rows if row.get("cut_off")]
    if not cut:
        return {"cut_off": {"prompts": 0, "most_tokens": 0}}
    which = "1 prompt is" if len(cut) == 1 else f"{len(cut)} prompts are"
    sentence = (
        f"{which} longer than the text encoder reads: up to {max(cut)} tokens at the end take no part in any figure."
    )
    return {"cut_off": {"prompts": len(cut), "most_tokens": max(cut)}, "notes": [sentence]}


def ends_before_padding(start: Start, method: str) -> Int[Tensor, " B"]:
    """Position of each prompt's end token; raises `UsageError` unless the end token is what the text is padded with."""
    pipe = start.model.pipe
    used = [t for t in (getattr(pipe, name, None) for name in ("tokenizer", "tokenizer_2")) if t is not None]
    if len(used) != 1 or used[0].pad_token_id != used[0].eos_token_id:
        reason = f"pads with '{used[0].pad_token}'" if len(used) == 1 else f"has {len(used)} tokenizers"
        wanted = "one tokenizer that pads with its end token, as Stable Diffusion 1 has"
        raise UsageError(f"{method} needs {wanted}, and this model {reason}; use another mitigation.")
    return start.ends().to(start.x_t.device)


@torch.no_grad()
def encode_padded(model: "Predictor", prompts: Sequence[str], token: str) -> Float[Tensor, "B L D"]:
    """Embeddings of prompts padded with `token`; raises `UsageError` for a token that there is not."""
    tokenizer, encoder = model.pipe.tokenizer, model.pipe.text_encoder
    if token not in tokenizer.get_vocab():
        raise UsageError(f"'{token}' is no token of this model's tokenizer; give one of its vocabulary, such as '!'.")
    length = tokenizer.model_max_length
    texts = encoded_texts(model.pipe, prompts)
    ids = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
    ends = torch.tensor(model.family.ends(prompts))[:, None]
    padded = ids.input_ids.masked_fill(torch.arange(length) > ends, tokenizer.convert_tokens_to_ids(token))
    return encoder(padded.to(working_on(encoder)))[0]
