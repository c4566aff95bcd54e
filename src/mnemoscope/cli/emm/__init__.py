"""Commands on how much a model can memorize."""

from mnemoscope.cli.emm import (  # noqa: F401  (each registers its command)
    data,
    generate,
    group,
    optimum,
    ratio,
    sweep,
    train,
)
