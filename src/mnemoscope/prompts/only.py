"""Which prompts of a run another command may be about."""

from typing import Literal

Only = Literal["flagged", "unflagged", "original", "both"]
