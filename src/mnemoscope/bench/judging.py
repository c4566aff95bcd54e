"""Whether images show what their prompt asks for, by the concepts that a truth names."""

from collections.abc import Sequence

from mnemoscope.bench.truth import TruePrompt
from mnemoscope.demo import concepts
from mnemoscope.features.alignment import NearestConcept


def judge(known: Sequence[TruePrompt]) -> NearestConcept | None:
    """Whether images show the concept that the truth names for their prompt; None where it names none."""
    found = concepts.load()
    own = {e.prompt.text: concepts.readable(e.concept) for e in known if e.concept}
    named = {text: concept for text, concept in own.items() if concept in found.index}
    return NearestConcept(named) if named else None
