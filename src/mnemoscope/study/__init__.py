"""What experiments and sweeps of factors share: the words of a verdict, the machine that a size is meant for."""
