"""What the inputs of a run are recognised by when it goes on."""

import hashlib
from collections.abc import Iterable


def content_hash(ids: Iterable[str]) -> str:
    """A short hash of a list of prompts or pictures, in their order."""
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]
