"""The group of commands on how much a model can memorize."""

from mnemoscope.cli.application import group

emm = group("emm", "How many images a model can memorize: the optimum, training, the memorization ratio, sweeps.")
