"""What a study may say of what was expected."""

AGREES, OPPOSITE, OPEN, LACKING = "as expected", "the opposite", "not told apart", "not measured"


def by_sign(sign: str, low: float, high: float) -> str:
    """Whether an interval lies whole on the side of 0 that a sign, "+" or "-", expects, on the other, or on neither."""
    if low > 0:
        return AGREES if sign == "+" else OPPOSITE
    if high < 0:
        return AGREES if sign == "-" else OPPOSITE
    return OPEN
