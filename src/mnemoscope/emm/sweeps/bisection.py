"""Which trainings tell where the ratio falls below 1 - eps: a bisection over sizes instead of all of them."""

from collections.abc import Mapping, Sequence

Cell = tuple[int, int]  # size and seed


def wanted(sizes: Sequence[int], seeds: Sequence[int], known: Mapping[Cell, float], eps: int | float) -> list[Cell]:
    """What to train next, all at once, given the ratios known so far; nothing once the crossing lies between two sizes.

    The first seed bisects the sizes; then both ends of the bracket are trained with all seeds. Where their mean says
    otherwise than the first seed did, the bisection goes on from there, so that the result is the bracket that all
    sizes with all seeds would give wherever mean ratios fall with size.
    """
    low, high = -1, len(sizes)  # places on either side of the crossing
    while high - low > 1:
        place = (low + high) // 2
        ratios = [known[sizes[place], seed] for seed in seeds if (sizes[place], seed) in known]
        if not ratios:
            return [(sizes[place], seeds[0])]
        if sum(ratios) / len(ratios) >= 1 - eps - 1e-9:
            low = place
        else:
            high = place
    ends = [sizes[place] for place in (low, high) if 0 <= place < len(sizes)]
    return [(n, seed) for n in ends for seed in seeds if (n, seed) not in known]
