"""Whether a set of pictures was trained on: signals of each picture, one score, and a p for the set."""

from mnemoscope import lazily

_HOMES = {"Membership": "membership.run", "run_membership": "membership.run"}
__getattr__, __dir__ = lazily(__name__, _HOMES)
