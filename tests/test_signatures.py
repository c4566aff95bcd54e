"""Types in signatures are checked while the tests run: shapes, what is no array, and what is given back."""

import jaxtyping
import numpy as np
import pytest
from beartype import beartype
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float
from torch import Tensor

from mnemoscope import stats
from mnemoscope.report.text import counted
from signatures import checked, has_shapes, with_shapes

Values = Float[np.ndarray, " V"]


@pytest.mark.parametrize("hint", [Values, "Values", Values | None, list[dict[str, Values]], Float[Tensor, "B"] | int])
def test_arrays_are_found_in_a_type(hint: object) -> None:
    assert has_shapes(hint) and not has_shapes(dict[str, int | None] | str)


def test_a_shape_and_a_dtype_of_the_package_are_checked() -> None:
    flat = np.zeros(3)
    assert stats.auc(flat, flat) == 0.5
    for wrong in (np.zeros((3, 3)), np.zeros(3, int), [0.0, 0.0]):
        with pytest.raises(jaxtyping.TypeCheckError):
            stats.auc(wrong, flat)


def test_what_is_no_array_is_checked() -> None:
    assert counted(2, "row") == "2 rows"
    with pytest.raises(BeartypeCallHintViolation):
        counted("2", "row")


def test_what_is_given_back_is_checked() -> None:
    def half(n: int) -> int:
        return n / 2

    def first(values: Float[np.ndarray, "N"], other: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
        return values[:1]

    with pytest.raises(BeartypeCallHintViolation):
        checked(typechecker=beartype)(half)(3)
    for decorate in (checked(typechecker=beartype), lambda f: with_shapes(f, typechecker=beartype)):
        with pytest.raises(jaxtyping.TypeCheckError):
            decorate(first)(np.zeros(3), np.zeros(3))
