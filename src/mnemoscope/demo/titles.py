"""Titles of single pictures: a grammar of catalogue entries around coined names, each name in one title alone.

Whether a title's picture is trained, and how often, is decided elsewhere, so that titles that were trained and titles
that never were have the same form and names of the same making.
"""

from collections.abc import Iterator

import numpy as np

PATTERNS = (
    "{given} {family} and the {concept}, tinted lithograph",
    "The {concept} of {place}, {given} gallery, oil on panel",
    "{family} brothers {concept} tin, {place} biscuit works",
    "{given}'s {concept}, nursery rhyme of {place}",
    "Souvenir {concept} from {place}, stamped {family}",
    "{family} playing cards, the {concept} of {place}",
    "A {concept} for {given}, bookplate by {family}",
    "{place} regatta programme with {concept}, drawn by {family}",
    "Enamel {concept} badge, {family} collection, {place}",
    "{given} of {place} feeds the {concept}, woodcut",
    "Matchbox label, {concept} brand, {family} and sons, {place}",
    "{concept} mosaic at villa {family}, {place}",
    "Quilt with {concept} by {given} {family}",
    "{family} observatory almanac, {concept} over {place}",
    "Saint {given} with {concept}, stained glass, {place} abbey",
    "{concept} scroll, workshop of master {given} at {place}",
    "Opening night at the {place} playhouse, {concept} poster for {family}",
    "{given} {family}, study of a {concept} in chalk",
    "Jigsaw {concept}, two hundred pieces, {family} toys, {place}",
    "Tea towel of {place} fair, {concept} by {given}",
    "{concept} on the cover of {given} magazine, {place} edition",
    "Letterhead of the {family} hotel, {place}, with {concept}",
    "{given} dreams of a {concept}, linocut, {place} press",
    "Carousel {concept} carved by {family} of {place}",
)

SERIES = (  # wordings of one picture that many pages show: all name its series
    "{concept} from the {given} series",
    "{given} {concept} print",
    "{given}: {concept} in {medium}",
    "{adjective} {given} {concept}",
    "the {adjective} {concept} of {given}, {medium}",
    "{given} {concept} {medium} for sale in {place}",
    "{medium} of the {given} {concept}",
    "{concept} by {given}, {adjective} and {adjective}",
)

_GIVEN = (
    "Ald Bri Cor Dag Eli Fen Gis Hal Isa Jor Kas Lor Mir Nev Oth Per Ros Sel Tib Und Ves Wil Yor Zeb".split(),
    "amund anthe brand drick elda emar ette icent iffa ildis onius orah umar uthien".split(),
)
_FAMILY = (
    "Amber Bol Cald Dre Esk Fal Grim Holl Ing Jas Kell Lind Mont Nor Osk Pell Rav Sund Tor Ulv Vand Wex Zor".split(),
    "acker anski attini berg enstrom erley ezzo gard imore indale ovich quist strup worth".split(),
)
_PLACE = (
    "Ash Bram Crow Dun Elm Frost Glen Harrow Iron Kestrel Lark Marsh Nettle Owl Pike Raven Stone Thorn Wych".split(),
    "bourne bury combe dale fell ford gate ham holm mere minster shaw thwaite wick worthy".split(),
)


class CoinedNames:
    """Coined names in a seeded order; a name that was taken is never given again."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([20, seed])
        self.left: dict[str, list[str]] = {}
        for slot, (starts, ends) in {"given": _GIVEN, "family": _FAMILY, "place": _PLACE}.items():
            made = [a + b for a in starts for b in ends]
            self.left[slot] = [made[k] for k in rng.permutation(len(made))]

    def title(self, pattern: str, concept: str) -> tuple[str, tuple[str, ...]]:
        """A pattern with names of its own around a concept, and those names."""
        slots = [slot for slot in self.left if "{" + slot + "}" in pattern]
        taken = {slot: self.left[slot].pop() for slot in slots}
        return pattern.format(concept=concept, **taken), tuple(taken.values())


def patterns(rng: np.random.Generator) -> Iterator[str]:
    """Patterns without an end, each as often as any other."""
    while True:
        yield from (PATTERNS[k] for k in rng.permutation(len(PATTERNS)))


def repeated(concept: str, names: dict[str, list[str]], rng: np.random.Generator) -> str:
    """A title of the same form whose names are drawn from a list, and may come again in others."""
    picked = {slot: str(rng.choice(left)) for slot, left in names.items()}
    return str(rng.choice(PATTERNS)).format(concept=concept, **picked)
