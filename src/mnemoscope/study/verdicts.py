"""What a study may say of what was expected."""

AGREES, OPPOSITE, OPEN, LACKING = "as expected", "the opposite", "not told apart", "not measured"
