"""The job of explaining: words, tokens and regions over a list of prompts."""

from mnemoscope import lazily

_HOMES = {
    "Explanation": "explanation.asked",
    "run_explanation": "explanation.run",
    "explain_rows": "explanation.run",
    "import_explanation": "explanation.run",
}
__getattr__, __dir__ = lazily(__name__, _HOMES)
