"""The one error that is the user's to mend."""


class UsageError(ValueError):
    """What was given, what was expected, what to do: one sentence, shown without a traceback (exit code 2)."""
