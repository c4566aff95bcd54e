"""Prompts from anywhere."""

from mnemoscope import lazily

_HOMES = {
    "Prompt": "prompts.prompt",
    "as_prompts": "prompts.prompt",
    "read_prompts": "prompts.prompt",
    "read_rows": "prompts.sources",
    "random_texts": "prompts.sources",
}
__getattr__, __dir__ = lazily(__name__, _HOMES)
