"""Methods held against a model of which is known what it was trained on, and how often: each finds its place."""

from mnemoscope import lazily

_HOMES = {
    "Contest": "bench.cell",
    "Truth": "bench.truth",
    "run_bench": "bench.run",
}
__getattr__, __dir__ = lazily(__name__, _HOMES)
