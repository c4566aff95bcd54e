"""What the libraries warn about while a model is loaded."""

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

LIBRARIES = ("diffusers", "transformers", "peft")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
ASIDE = re.compile(  # said at import of what draws nothing, and of an empty list of modules
    r"requires torchvision \(not installed\); falling back to|should be kept in float32: \[\]"
)
LONGEST = 4000  # characters of one warning that are kept


class _Ear(logging.Handler):
    def __init__(self, messages: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.said = messages

    def emit(self, record: logging.LogRecord) -> None:
        keep(self.said, record.getMessage())


@contextmanager
def heard(messages: list[str]) -> Iterator[None]:
    """Add to a list what the libraries warn about in the block, each warning once, in place of printing it."""
    loggers = [logging.getLogger(name) for name in LIBRARIES]
    before = [(logger, logger.level, logger.handlers, logger.propagate) for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
            logger.handlers, logger.propagate = [_Ear(messages)], False
        with warnings.catch_warnings(record=True) as caught:
            yield
        for warning in caught:
            keep(messages, f"{warning.category.__name__}: {warning.message}")
    finally:
        for logger, level, handlers, propagate in before:
            logger.setLevel(level)
            logger.handlers, logger.propagate = handlers, propagate


def keep(messages: list[str], text: str) -> None:
    """Add a warning without its colours, if it is not there yet and concerns the model."""
    plain = COLOUR.sub("", text).strip()[:LONGEST]
    if plain and plain not in messages and not ASIDE.search(plain):
        messages.append(plain)


def in_one_line(messages: list[str]) -> str:
    """The warnings of a loading as one line of at most 240 characters; an empty text if there are none."""
    if not messages:
        return ""
    first = " ".join(messages[0].split())
    more = f" (and {len(messages) - 1} more, in the run's record)" if len(messages) > 1 else ""
    return f"{first[: 240 - len(more)]}{more}"
