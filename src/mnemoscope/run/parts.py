"""The folders of an audit, each of which holds a run of its own."""

MITIGATED = "measure-mitigated"
OF_MODEL = ("detect", "generate", "measure", "mitigate", "explain")  # what a policy may be held against
PARTS = ("finetune", *OF_MODEL[:-1], MITIGATED, OF_MODEL[-1])  # in the order of a report
